//! How fast the bytes of a file can be looked at: what a program that streams a checkpoint is measured against.
//!
//! `cargo run --release -p benches --bin read_bytes -- --file model.safetensors --threads 1`
//!
//! Every byte is brought into registers and added, as 64-bit words, and nothing else is done. `read` copies parts of 256 KiB
//! into a buffer that stays in the second-level cache, as `xgraft` does where it hashes what it reads; `map` adds straight from
//! the page cache, which saves the copy and pays for the page table, as `xgraft autopsy` does. The faster of the two is the limit of a program that must look at each byte.
//! `cat` to nowhere is not: it never brings the bytes to a register. The file should be in the page cache; the first pass,
//! which is not timed, brings it there, and checks that both ways find one sum. One JSON line a case.
#![expect(unsafe_code, reason = "a memory map has no safe wrapper here")]
#![expect(clippy::print_stdout, reason = "the benchmark's output is its lines")]

use anyhow::{Context, Result, ensure};
use benches::usage::{Times, peak_rss_mib};
use clap::Parser;
use serde::Serialize;
use std::{
    fs::File,
    os::{fd::AsRawFd, unix::fs::FileExt},
    path::PathBuf,
    thread,
};

const PART: usize = 256 << 10;

/// Times two ways to read a file.
#[derive(Parser)]
struct Args {
    /// The file.
    #[arg(long)]
    file: PathBuf,
    /// Threads.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Repetitions.
    #[arg(long, default_value_t = 3)]
    reps: usize,
}

/// The sum of so many bytes of a file, by so many threads.
type Way = fn(&File, usize, usize) -> Result<u64>;

#[derive(Serialize)]
struct Line {
    case: &'static str,
    threads: usize,
    bytes: usize,
    wall_s: Vec<f64>,
    cpu_s: Vec<f64>,
    peak_rss_mib: f64,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let file = File::open(&args.file).with_context(|| args.file.display().to_string())?;
    // Whole parts only; what is left at the end is less than one of them.
    let bytes = usize::try_from(file.metadata()?.len())? / PART * PART;
    ensure!(bytes > 0, "the file is shorter than {PART} bytes");
    let ways: [(&str, Way); 2] = [("read", read), ("map", map)];
    let (once, again) = (
        read(&file, bytes, args.threads)?,
        map(&file, bytes, args.threads)?,
    );
    ensure!(once == again, "two ways to read a file, two sums");
    for (case, sum) in ways {
        let mut times = Times::default();
        for _ in 0..args.reps {
            std::hint::black_box(times.measure(|| sum(&file, bytes, args.threads))?);
        }
        let line = Line {
            case,
            threads: args.threads,
            bytes,
            wall_s: times.wall,
            cpu_s: times.cpu,
            peak_rss_mib: peak_rss_mib(),
        };
        println!("{}", serde_json::to_string(&line)?);
    }
    Ok(())
}

/// Each thread copies a run of parts, one after the other.
fn read(file: &File, bytes: usize, threads: usize) -> Result<u64> {
    on_threads(bytes / PART, threads, |parts| {
        let mut buffer = vec![0; PART];
        let mut total = 0u64;
        for part in parts {
            file.read_exact_at(&mut buffer, (part * PART) as u64)?;
            total = total.wrapping_add(sum(&buffer));
        }
        Ok(total)
    })
}

fn map(file: &File, bytes: usize, threads: usize) -> Result<u64> {
    let map = Map::new(file, bytes)?;
    on_threads(bytes / PART, threads, |parts| {
        Ok(sum(&map.bytes()[parts.start * PART..parts.end * PART]))
    })
}

fn on_threads(
    parts: usize,
    threads: usize,
    work: impl Fn(std::ops::Range<usize>) -> Result<u64> + Sync,
) -> Result<u64> {
    let share = parts.div_ceil(threads.max(1));
    thread::scope(|scope| {
        let work = &work;
        let workers: Vec<_> = (0..parts)
            .step_by(share)
            .map(|from| scope.spawn(move || work(from..parts.min(from + share))))
            .collect();
        workers.into_iter().try_fold(0u64, |total, worker| {
            let sum = worker
                .join()
                .map_err(|_| anyhow::anyhow!("a thread panicked"))?;
            Ok(total.wrapping_add(sum?))
        })
    })
}

/// The sum of the 64-bit words, in lanes enough for any vector unit.
fn sum(bytes: &[u8]) -> u64 {
    let mut lanes = [0u64; 32];
    for chunk in bytes.as_chunks::<256>().0 {
        for (lane, word) in lanes.iter_mut().zip(chunk.as_chunks().0) {
            *lane = lane.wrapping_add(u64::from_le_bytes(*word));
        }
    }
    lanes.iter().fold(0, |sum, lane| sum.wrapping_add(*lane))
}

/// A file's bytes in the address space, until it is dropped.
struct Map {
    start: *mut libc::c_void,
    bytes: usize,
}

// SAFETY: the pages are read only, and nobody writes to the file while the benchmark runs.
unsafe impl Sync for Map {}

impl Map {
    fn new(file: &File, bytes: usize) -> Result<Self> {
        // SAFETY: a new private mapping, at an address of the kernel's choice, of a file that is open and long enough.
        let start = unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_POPULATE;
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ,
                flags,
                file.as_raw_fd(),
                0,
            )
        };
        ensure!(
            start != libc::MAP_FAILED,
            "{}",
            std::io::Error::last_os_error()
        );
        Ok(Self { start, bytes })
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: so many bytes are mapped there for as long as `self` lives, and nobody writes to the file.
        unsafe { std::slice::from_raw_parts(self.start.cast(), self.bytes) }
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: the mapping is this one's own, and every borrow of its bytes has ended.
        unsafe { libc::munmap(self.start, self.bytes) };
    }
}
