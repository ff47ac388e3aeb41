//! Prefill and decoding of a bare model, beside the speed at which this machine reads memory.
//!
//! `cargo run --release -p benches --bin forward -- MODEL --threads 2 --batch 1,8 --lora ADAPTER`
//!
//! Before anything is timed, a decoding step is held against the same token in a prefill, to the bit, and the first logits are
//! printed, so that others' can be held against them. With `--lora` each repetition runs the base and then the adapters, with
//! `--server` the base and then as many streams from a server of the same model, with `--idle-lora` the base alone and then with them in memory, so that ratios are of the same minute; a reading of memory goes
//! before each. One JSON line a case: `open`, `adapter`, `logits`, `resident`, then `base-b8`, `lora-b8`, `idle-b8`, `served-b8` for a batch of 8.
#![allow(clippy::print_stdout, reason = "the benchmark's output is its lines")]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use benches::bandwidth::ReadProbe;
use benches::traffic::{on_one_thread, streams};
use benches::usage::{Times, peak_rss_mib, shortest};
use clap::Parser;
use serde_json::{Value, json};
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
    /// `HOST:PORT` of a server of the same model.
    #[arg(long)]
    server: Option<String>,
    /// Keeps keys and values in f32.
    #[arg(long)]
    kv_f32: bool,
}

/// Positions of a block of the cache.
const BLOCK: usize = 16;
/// Readings of memory before each run.
const PASSES: usize = 3;
/// How many logits are printed.
const SHOWN: usize = 64;

fn main() -> Result<()> {
    let args = Args::parse();
    let started = Instant::now();
    let options = Options {
        threads: args.threads,
        ..Options::default()
    };
    let model = Model::open(&args.model, &options)?;
    let seconds = started.elapsed().as_secs_f64();
    print(&json!({"case": "open", "bytes": model.bytes(), "seconds": seconds}));
    let logits = check(&model, &args, None)?;
    print(&json!({"case": "logits", "values": &logits[..SHOWN.min(logits.len())]}));
    resident(&model, &args);
    let adapters = open(&args.lora, &model, true)?;
    check(&model, &args, adapters.first())?;
    let probe = ReadProbe::new(args.threads);
    for batch in &args.batch {
        measure(&model, &args, *batch, &adapters, &probe)?;
    }
    Ok(())
}

fn print(line: &Value) {
    println!("{line}");
}

fn open(dirs: &[PathBuf], model: &Model, tell: bool) -> Result<Vec<LoraAdapter>> {
    let one = |dir: &PathBuf| -> Result<LoraAdapter> {
        let started = Instant::now();
        let adapter = LoraAdapter::open(dir, model.spec())?;
        let seconds = started.elapsed().as_secs_f64();
        if tell {
            let (rank, bytes) = (adapter.rank(), adapter.bytes());
            print(&json!({"case": "adapter", "rank": rank, "bytes": bytes, "seconds": seconds}));
        }
        Ok(adapter)
    };
    dirs.iter().map(one).collect()
}

/// The most memory of the process after a first run, while nothing but the model and its cache was in it.
fn resident(model: &Model, args: &Args) {
    let batch = args.batch.first().copied().unwrap_or(1);
    run(model, args, batch, &[]);
    let cache = cache(model, args, batch * blocks_each(args)).bytes();
    print(&json!({
        "case": "resident",
        "peak_rss_mib": peak_rss_mib(),
        "stored_mib": model.bytes() as f64 / 1048576.0,
        "cache_mib": cache as f64 / 1048576.0,
    }));
}

/// What one case took.
#[derive(Default)]
struct Case {
    prefill: Times,
    decode: Times,
    /// Seconds of a step, of each repetition.
    step: Vec<f64>,
    read_gb_s: Vec<f64>,
}

impl Case {
    fn run(
        &mut self,
        model: &Model,
        args: &Args,
        batch: usize,
        adapters: &[LoraAdapter],
        probe: &ReadProbe,
    ) {
        self.read_gb_s.extend((0..PASSES).map(|_| probe.pass()));
        let (prefill, decode) = run(model, args, batch, adapters);
        self.step
            .push(decode.wall.iter().sum::<f64>() / decode.wall.len() as f64);
        self.prefill.wall.extend(prefill.wall);
        self.prefill.cpu.extend(prefill.cpu);
        self.decode.wall.extend(decode.wall);
        self.decode.cpu.extend(decode.cpu);
    }

    /// `bytes` are read in a step of decoding.
    fn print(self, case: &str, args: &Args, batch: usize, bytes: usize) {
        let rate = |tokens: usize, times: &Times| {
            (!times.wall.is_empty()).then(|| tokens as f64 / shortest(&times.wall))
        };
        let fastest = self.read_gb_s.iter().copied().fold(0.0, f64::max);
        let limit_s = bytes as f64 / 1e9 / fastest;
        print(&json!({
            "case": format!("{case}-b{batch}"), "batch": batch, "threads": args.threads, "prompt": args.prompt,
            "prefill_tok_s": rate(batch * args.prompt, &self.prefill), "decode_tok_s": rate(batch, &self.decode),
            "share_of_limit": rate(1, &self.decode).map(|steps| steps * limit_s),
            "prefill_wall": self.prefill.wall, "prefill_cpu": self.prefill.cpu,
            "decode_wall": self.decode.wall, "decode_cpu": self.decode.cpu, "step_wall": self.step,
            "bytes": bytes, "read_gb_s": self.read_gb_s,
        }));
    }
}

/// Runs the base, the adapters, the base beside idle ones and a server by turns, and prints a line for each.
fn measure(
    model: &Model,
    args: &Args,
    batch: usize,
    adapters: &[LoraAdapter],
    probe: &ReadProbe,
) -> Result<()> {
    let [mut base, mut lora, mut idle] = [(); 3].map(|()| Case::default());
    let mut served = Vec::new();
    for _ in 0..args.reps {
        base.run(model, args, batch, &[], probe);
        if !adapters.is_empty() {
            lora.run(model, args, batch, adapters, probe);
        }
        if !args.idle_lora.is_empty() {
            let resident = open(&args.idle_lora, model, false)?;
            idle.run(model, args, batch, &[], probe);
            drop(resident);
        }
        if let Some(address) = &args.server {
            served.push(step_of(address, args, batch)?.as_secs_f64());
        }
    }
    base.print("base", args, batch, model.bytes());
    if !adapters.is_empty() {
        let used = adapters.iter().take(batch).map(LoraAdapter::bytes);
        lora.print("lora", args, batch, model.bytes() + used.sum::<usize>());
    }
    if !args.idle_lora.is_empty() {
        idle.print("idle", args, batch, model.bytes());
    }
    if !served.is_empty() {
        let case = format!("served-b{batch}");
        print(&json!({"case": case, "batch": batch, "prompt": args.prompt, "step_wall": served}));
    }
    Ok(())
}

/// A step of the server with the same prompts, as clients see it.
fn step_of(address: &str, args: &Args, batch: usize) -> Result<Duration> {
    let prompt = |sequence| (0..args.prompt).map(|p| token(sequence, p)).collect();
    let streams = streams::Streams {
        address: address.to_owned(),
        prompts: (0..batch).map(prompt).collect(),
        // The prefill gives the first.
        tokens: args.steps + 1,
    };
    Ok(on_one_thread(streams::run(streams))?)
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

/// Blocks of a sequence.
fn blocks_each(args: &Args) -> usize {
    (args.prompt + args.steps).div_ceil(BLOCK)
}

/// Prefills and then decodes; the times of each prefill of all sequences and of each step.
fn run(model: &Model, args: &Args, batch: usize, adapters: &[LoraAdapter]) -> (Times, Times) {
    let per = blocks_each(args);
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

/// A token's logits in a decoding step and at the end of a prefill are the same bits: those after 33 tokens.
fn check(model: &Model, args: &Args, adapter: Option<&LoraAdapter>) -> Result<Vec<f32>> {
    let tokens: Vec<u32> = (0..33).map(|p| token(0, p)).collect();
    let blocks = [0, 1, 2];
    let piece = |range: std::ops::Range<usize>| Segment {
        tokens: &tokens[range.clone()],
        first_position: range.start,
        blocks: &blocks,
        adapter,
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
    Ok(whole)
}
