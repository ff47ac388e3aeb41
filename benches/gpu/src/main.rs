//! Whether the kernels are right on this GPU, and how long they take to load: one JSON line a case, appended, so that a run that
//! was cut goes on where it ended.
#![expect(clippy::print_stdout, reason = "the list of cases is the output")]

use std::{
    collections::HashMap,
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{Read as _, Seek as _, Write as _},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use clap::Parser;
use serde::{Deserialize, Serialize};
use xgraft_cuda_jit::{Cache, Device, Jit, Shipped, Target};
use xgraft_fp8_gemm::{
    cuda::Cuda,
    kernel,
    plan::{Gpu, Table},
    trial::{self, Trial},
};

/// Checks and loads our kernels on a GPU.
#[derive(Debug, PartialEq, Parser)]
enum Args {
    /// Runs every kernel on operands whose result is known.
    Check {
        /// The folder of images with its kernels.json.
        #[arg(long, default_value = "images")]
        images: PathBuf,
        /// Where the lines go; cases that are there are not run again.
        #[arg(long, default_value = "check.jsonl")]
        out: PathBuf,
        /// Begin no case after so many seconds.
        #[arg(long)]
        seconds: Option<u64>,
        /// Each kernel once, on small operands: for tools that watch every access.
        #[arg(long)]
        small: bool,
        /// Print the names of the cases, as an H100 has them, and run nothing.
        #[arg(long)]
        list: bool,
    },
    /// Loads every kernel and says how long it took.
    Load {
        /// The folder of images with its kernels.json.
        #[arg(long, default_value = "images")]
        images: PathBuf,
        /// Where the lines go; the file is written anew.
        #[arg(long, default_value = "load.jsonl")]
        out: PathBuf,
        /// Compile each with NVRTC into an empty cache, then load them from it, in place of the images.
        #[arg(long)]
        cold: bool,
    },
}

/// All is done, and some of it was wrong. An error of this program itself is 1.
const WRONG: u8 = 2;
/// The time ended first.
const UNFINISHED: u8 = 3;

/// What a case gave.
#[derive(Debug, Serialize, Deserialize)]
struct Line {
    case: String,
    kernel: String,
    /// To the bit, where bits are known.
    ok: bool,
    /// Near, and the same each time.
    usable: bool,
    compared: usize,
    wrong: usize,
    /// The largest error over what is allowed, or over the number whose bits were expected.
    worst: Option<f64>,
    /// How often it ran again for the same bits.
    repeats: u32,
    /// Repeats that gave others.
    unsteady: u32,
    /// What the GPU said.
    note: Option<String>,
}

fn main() -> Result<ExitCode> {
    match Args::parse() {
        Args::Check {
            small, list: true, ..
        } => {
            for trial in trials(Gpu::H100, small)? {
                println!("{}", trial.name());
            }
            Ok(ExitCode::SUCCESS)
        }
        Args::Check {
            images,
            out,
            seconds,
            small,
            ..
        } => check(&images, &out, seconds.map(Duration::from_secs), small),
        Args::Load { images, out, cold } => load(&images, &out, cold),
    }
}

fn trials(gpu: Gpu, small: bool) -> Result<Vec<Trial>> {
    if small {
        return Ok(trial::small(gpu));
    }
    Ok(trial::all(gpu, &Table::measured()?)?)
}

fn check(images: &Path, out: &Path, most: Option<Duration>, small: bool) -> Result<ExitCode> {
    let began = Instant::now();
    let (mut file, mut lines) = resume(out)?;
    let begun = out.with_extension("begun");
    let cuda = Cuda::new(
        Device::open(0)?,
        Jit::new(Some(Shipped::open(images)?), None),
    );
    let trials = trials(cuda.gpu(), small)?;
    // The case that ended this program the last time would end it again.
    if let Ok(case) = fs::read_to_string(&begun)
        && let Some(trial) = trials.iter().find(|trial| trial.name() == case)
        && !lines.contains_key(&case)
    {
        let note = "the program ended in this case".to_owned();
        let line = Line::of(trial, trial::Verdict::default(), Some(note));
        line.append(&mut file)?;
        lines.insert(case, false);
    }
    for trial in &trials {
        let case = trial.name();
        if lines.contains_key(&case) {
            continue;
        }
        if most.is_some_and(|most| began.elapsed() > most) {
            return Ok(ExitCode::from(UNFINISHED));
        }
        fs::write(&begun, &case)?;
        let line = judged(trial, &cuda);
        let failed = line.note.is_some();
        line.append(&mut file)?;
        lines.insert(case, line.ok);
        if failed {
            // What a kernel did wrong may stay in the context: go on in a new process.
            let again = std::env::current_exe().context("this program's own file")?;
            let left = most.map(|most| most.saturating_sub(began.elapsed()));
            let error = Command::new(again)
                .args(check_arguments(images, out, left, small))
                .exec();
            return Err(error).context("cannot start again after a failure");
        }
    }
    let right = trials.iter().all(|trial| lines[&trial.name()]);
    Ok(if right {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(WRONG)
    })
}

/// What asks for a check that goes on with the time that is left.
fn check_arguments(
    images: &Path,
    out: &Path,
    left: Option<Duration>,
    small: bool,
) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = vec!["check".into()];
    arguments.extend(["--images".into(), images.into()]);
    arguments.extend(["--out".into(), out.into()]);
    if let Some(left) = left {
        arguments.extend(["--seconds".into(), left.as_secs().to_string().into()]);
    }
    if small {
        arguments.push("--small".into());
    }
    arguments
}

fn judged(trial: &Trial, cuda: &Cuda) -> Line {
    match cuda.judge(trial) {
        Ok(verdict) => Line::of(trial, verdict, None),
        Err(error) => Line::of(trial, trial::Verdict::default(), Some(error)),
    }
}

impl Line {
    fn of(trial: &Trial, verdict: trial::Verdict, note: Option<String>) -> Self {
        Self {
            case: trial.name(),
            kernel: trial.kernel().name(),
            ok: verdict.is_right(),
            usable: verdict.is_usable(),
            compared: verdict.compared,
            wrong: verdict.wrong,
            worst: verdict.worst.is_finite().then_some(verdict.worst),
            repeats: trial.repeats(),
            unsteady: verdict.unsteady,
            note,
        }
    }

    /// It is on the disk when this returns.
    fn append(&self, file: &mut File) -> Result<()> {
        writeln!(file, "{}", serde_json::to_string(self)?)?;
        file.sync_data()?;
        Ok(())
    }
}

/// The file, behind its last whole line, and what its cases gave.
fn resume(out: &Path) -> Result<(File, HashMap<String, bool>)> {
    let name = || format!("cannot open {}", out.display());
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(out)
        .with_context(name)?;
    let mut text = String::new();
    file.read_to_string(&mut text).with_context(name)?;
    let whole = text.rfind('\n').map_or(0, |end| end + 1);
    file.set_len(whole as u64)?;
    file.seek(std::io::SeekFrom::End(0))?;
    let mut lines = HashMap::new();
    for (at, line) in text[..whole].lines().enumerate() {
        let line: Line = serde_json::from_str(line)
            .with_context(|| format!("{}:{}: not a line of this program", out.display(), at + 1))?;
        lines.insert(line.case, line.ok);
    }
    Ok((file, lines))
}

fn load(images: &Path, out: &Path, cold: bool) -> Result<ExitCode> {
    let mut text = String::new();
    if cold {
        let folder = tempfile::tempdir()?;
        for origin in ["compiled", "cache"] {
            let jit = Jit::new(None, Some(Cache::at(folder.path())));
            text += &timed(jit, origin)?;
        }
    } else {
        text = timed(Jit::new(Some(Shipped::open(images)?), None), "shipped")?;
    }
    fs::write(out, text).with_context(|| format!("cannot write {}", out.display()))?;
    Ok(ExitCode::SUCCESS)
}

/// A line a kernel, and one for all.
fn timed(jit: Jit, origin: &str) -> Result<String> {
    let cuda = Cuda::new(Device::open(0)?, jit);
    let hopper = cuda.gpu().capability == (9, 0);
    let kernels = kernel::all().into_iter();
    let mut text = String::new();
    let mut all = Duration::ZERO;
    let mut line = |kernel: &str, took: Duration| {
        let ms = 1e3 * took.as_secs_f64();
        text += &serde_json::json!({"kernel": kernel, "origin": origin, "ms": ms}).to_string();
        text.push('\n');
    };
    for kernel in kernels.filter(|kernel| hopper || matches!(kernel.target(), Target::Ptx(_))) {
        let began = Instant::now();
        cuda.load(kernel)?;
        let took = began.elapsed();
        all += took;
        line(&kernel.name(), took);
    }
    line("all", all);
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_that_starts_again_has_the_time_that_is_left_and_what_it_was_asked_for() {
        let (images, out) = (Path::new("some images"), Path::new("check.jsonl"));
        for (left, small, seconds) in [
            (Some(Duration::from_millis(6900)), true, Some(6)),
            (Some(Duration::ZERO), false, Some(0)),
            (None, false, None),
        ] {
            let again = check_arguments(images, out, left, small);
            let again = Args::try_parse_from([OsString::from("gpu")].into_iter().chain(again));
            let expected = Args::Check {
                images: images.into(),
                out: out.into(),
                seconds,
                small,
                list: false,
            };
            assert_eq!(again.expect("its own arguments"), expected);
        }
    }

    #[test]
    fn a_cut_file_is_gone_on_with_behind_its_last_whole_line() {
        let folder = tempfile::tempdir().expect("a folder");
        let out = folder.path().join("check.jsonl");
        let line = Line {
            case: "a".to_owned(),
            kernel: "plain".to_owned(),
            ok: false,
            usable: false,
            compared: 1,
            wrong: 1,
            worst: None,
            repeats: 0,
            unsteady: 0,
            note: None,
        };
        let whole = serde_json::to_string(&line).expect("written") + "\n";
        fs::write(&out, format!("{whole}{}", &whole[..20])).expect("written");
        let (mut file, lines) = resume(&out).expect("resumed");
        assert_eq!(lines, HashMap::from([("a".to_owned(), false)]));
        file.write_all(b"next\n").expect("written");
        let text = fs::read_to_string(&out).expect("read");
        assert_eq!(text, format!("{whole}next\n"));
    }

    #[test]
    fn a_file_of_something_else_is_refused_with_its_line() {
        let folder = tempfile::tempdir().expect("a folder");
        let out = folder.path().join("check.jsonl");
        fs::write(&out, "{}\n").expect("written");
        let error = resume(&out).expect_err("no line");
        assert!(format!("{error:#}").contains("check.jsonl:1"), "{error:#}");
    }
}
