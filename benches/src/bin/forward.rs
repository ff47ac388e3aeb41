//! Prefill and decoding of a bare model, beside the speed at which this machine reads memory.
//!
//! `cargo run --release -p benches --bin forward -- MODEL --threads 2 --batch 1,8 --lora ADAPTER`
//!
//! One JSON line per case. Before anything is timed, a decoding step is held against the same token in a prefill, to the bit.
#![allow(clippy::print_stdout, reason = "the benchmark's output is its lines")]

use std::hint::black_box;
use std::path::PathBuf;
use std::thread;
use std::time::Instant;

use anyhow::ensure;
use benches::usage::{Times, peak_rss_mib, shortest};
use clap::Parser;
use serde_json::json;
use xgraft_model::{KvCache, KvType, LoraAdapter, Model, Options, Segment};

/// Times a model's forward pass.
#[derive(Parser)]
struct Args {
    /// A model directory.
    model: PathBuf,
    /// Threads.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Sequences at once.
    #[arg(long, value_delimiter = ',', default_value = "1,8")]
    batch: Vec<usize>,
    /// Tokens of a prompt.
    #[arg(long, default_value_t = 128)]
    prompt: usize,
    /// Decoding steps.
    #[arg(long, default_value_t = 24)]
    steps: usize,
    /// Repetitions.
    #[arg(long, default_value_t = 3)]
    reps: usize,
    /// Adapters; sequence `i` runs on the `i mod n`-th.
    #[arg(long)]
    lora: Vec<PathBuf>,
    /// Adapters that are resident and not used.
    #[arg(long)]
    idle_lora: Vec<PathBuf>,
    /// Keeps keys and values in f32.
    #[arg(long)]
    kv_f32: bool,
}

const BLOCK: usize = 16;

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let started = Instant::now();
    let options = Options {
        threads: args.threads,
        ..Options::default()
    };
    let model = Model::open(&args.model, &options)?;
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "{}",
        json!({"case": "open", "bytes": model.bytes(), "seconds": seconds})
    );
    let open = |dirs: &[PathBuf]| -> anyhow::Result<Vec<LoraAdapter>> {
        let started = Instant::now();
        let adapters = dirs.iter().map(|dir| LoraAdapter::open(dir, model.spec()));
        let adapters = adapters.collect::<Result<Vec<_>, _>>()?;
        for adapter in &adapters {
            let seconds = started.elapsed().as_secs_f64();
            println!(
                "{}",
                json!({"case": "adapter", "rank": adapter.rank(), "bytes": adapter.bytes(), "seconds": seconds})
            );
        }
        Ok(adapters)
    };
    let (adapters, _idle) = (open(&args.lora)?, open(&args.idle_lora)?);
    check(&model, &args, &adapters)?;
    for batch in &args.batch {
        let bandwidth = read_bandwidth(args.threads);
        let (prefill, decode) = (0..args.reps)
            .map(|_| run(&model, &args, *batch, &adapters))
            .fold((Times::default(), Times::default()), |mut all, (p, d)| {
                all.0.wall.extend(p.wall);
                all.0.cpu.extend(p.cpu);
                all.1.wall.extend(d.wall);
                all.1.cpu.extend(d.cpu);
                all
            });
        let rate = |tokens: usize, times: &Times| tokens as f64 / shortest(&times.wall);
        println!(
            "{}",
            json!({
                "case": "forward", "batch": batch, "threads": args.threads, "prompt": args.prompt,
                "prefill_tok_s": rate(batch * args.prompt, &prefill),
                "decode_tok_s": rate(*batch, &decode),
                "decode_wall": decode.wall, "decode_cpu": decode.cpu, "prefill_wall": prefill.wall, "prefill_cpu": prefill.cpu,
                "read_gb_s": bandwidth.max(read_bandwidth(args.threads)), "bytes": model.bytes(),
                "peak_rss_mib": peak_rss_mib(),
            })
        );
    }
    Ok(())
}

fn token(sequence: usize, position: usize) -> u32 {
    ((sequence * 7919 + position * 104_729) % 255) as u32
}

fn cache(model: &Model, args: &Args, blocks: usize) -> KvCache {
    let kind = if args.kv_f32 {
        KvType::F32
    } else {
        KvType::Bf16
    };
    KvCache::new(model.spec(), kind, blocks, BLOCK)
}

/// Prefills and then decodes; the times of each prefill of all sequences and of each step.
fn run(model: &Model, args: &Args, batch: usize, adapters: &[LoraAdapter]) -> (Times, Times) {
    let per = (args.prompt + args.steps).div_ceil(BLOCK);
    let mut cache = cache(model, args, batch * per);
    let blocks: Vec<Vec<u32>> = (0..batch)
        .map(|s| (s * per..(s + 1) * per).map(|b| b as u32).collect())
        .collect();
    let adapter = |s: usize| (!adapters.is_empty()).then(|| &adapters[s % adapters.len()]);
    let (mut prefill, mut decode, mut logits) = (Times::default(), Times::default(), Vec::new());
    prefill.measure(|| {
        for (s, blocks) in blocks.iter().enumerate() {
            let tokens: Vec<u32> = (0..args.prompt).map(|p| token(s, p)).collect();
            let segment = Segment {
                tokens: &tokens,
                first_position: 0,
                blocks,
                adapter: adapter(s),
                logits: 1,
            };
            model.forward(&mut cache, &[segment], &mut logits);
        }
    });
    for step in 0..args.steps {
        let position = args.prompt + step;
        let tokens: Vec<[u32; 1]> = (0..batch).map(|s| [token(s, position)]).collect();
        let segments: Vec<Segment<'_>> = (0..batch)
            .map(|s| Segment {
                tokens: &tokens[s],
                first_position: position,
                blocks: &blocks[s],
                adapter: adapter(s),
                logits: 1,
            })
            .collect();
        decode.measure(|| model.forward(&mut cache, &segments, &mut logits));
    }
    (prefill, decode)
}

/// A token's logits in a decoding step and at the end of a prefill are the same bits.
fn check(model: &Model, args: &Args, adapters: &[LoraAdapter]) -> anyhow::Result<()> {
    let tokens: Vec<u32> = (0..33).map(|p| token(0, p)).collect();
    let blocks = [0, 1, 2];
    let piece = |range: std::ops::Range<usize>| Segment {
        tokens: &tokens[range.clone()],
        first_position: range.start,
        blocks: &blocks,
        adapter: adapters.first(),
        logits: 1,
    };
    let (mut whole, mut last, mut cache) = (Vec::new(), Vec::new(), cache(model, args, 3));
    model.forward(&mut cache, &[piece(0..33)], &mut whole);
    model.forward(&mut cache, &[piece(0..32)], &mut last);
    model.forward(&mut cache, &[piece(32..33)], &mut last);
    ensure!(whole == last, "a decoding step and a prefill differ");
    ensure!(
        whole.iter().all(|x| x.is_finite()),
        "logits that are no numbers"
    );
    Ok(())
}

/// GB/s at which so many threads sum memory of their own, 256 MiB each; the best of five.
fn read_bandwidth(threads: usize) -> f64 {
    const WORDS: usize = 32 << 20;
    let buffers: Vec<Vec<u64>> = (0..threads).map(|t| vec![t as u64 + 1; WORDS]).collect();
    let once = || {
        let started = Instant::now();
        thread::scope(|scope| {
            for buffer in &buffers {
                scope.spawn(|| black_box(buffer.iter().fold(0_u64, |sum, x| sum.wrapping_add(*x))));
            }
        });
        (threads * WORDS * 8) as f64 / started.elapsed().as_secs_f64() / 1e9
    };
    (0..5).map(|_| once()).fold(0.0, f64::max)
}
