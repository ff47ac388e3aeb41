//! What the engine costs beside the model: choosing a token, and a step of the scheduler.
//!
//! `cargo run --release -p benches --bin engine -- --reps 5`
//!
//! Tokens are chosen from rows of a real vocabulary's size, on one thread; each case is first checked to choose the same
//! token again. The scheduler runs over a model that costs nothing and has two tokens, with every event read only at the
//! end, so that the CPU time is the compute thread's. One JSON line per case.
#![allow(clippy::print_stdout, reason = "the benchmark's output is its lines")]

use std::{hint::black_box, path::Path, thread, time::Duration};

use anyhow::ensure;
use benches::usage::{Times, shortest};
use clap::Parser;
use serde::Serialize;
use xgraft_server::engine::{
    AdapterLoader, Capacity, Engine, EngineConfig, Event, Forward, ForwardError, LocalEngine,
    Request, Sampling, Segment, TopLogprobs,
};
use xgraft_server::sampling::{Choice, History, Sampler};

/// Times sampling and scheduling.
#[derive(Parser)]
struct Args {
    /// Rounds of all cases.
    #[arg(long, default_value_t = 5)]
    reps: usize,
    /// Logits of a row.
    #[arg(long, default_value_t = 151_936)]
    vocab: usize,
    /// Tokens of each sequence.
    #[arg(long, default_value_t = 4000)]
    tokens: usize,
}

/// One line of output.
#[derive(Serialize)]
struct Line {
    case: String,
    /// What the times are divided by.
    tokens: usize,
    wall_s: Vec<f64>,
    cpu_s: Vec<f64>,
    /// Of the shortest CPU time, for each token.
    us_per_token: f64,
    /// The same for each step of the model; a step gives every sequence a token.
    us_per_step: Option<f64>,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    sampling(&args)?;
    for sequences in [1, 8, 64] {
        scheduling(&args, sequences)?;
    }
    Ok(())
}

fn print(case: &str, tokens: usize, times: Times, steps: Option<u64>) -> anyhow::Result<()> {
    let microseconds = 1e6 * shortest(&times.cpu);
    let line = Line {
        case: case.to_owned(),
        tokens,
        us_per_token: microseconds / tokens as f64,
        us_per_step: steps.map(|steps| microseconds / steps as f64),
        wall_s: times.wall,
        cpu_s: times.cpu,
    };
    println!("{}", serde_json::to_string(&line)?);
    Ok(())
}

/// Settings by name, with the logprobs that are wanted.
fn cases() -> Vec<(&'static str, Sampling, TopLogprobs)> {
    let none = TopLogprobs::None;
    let random = Sampling {
        temperature: 0.7,
        ..Sampling::greedy()
    };
    let nucleus = Sampling {
        top_p: 0.95,
        ..random.clone()
    };
    let qwen3 = Sampling {
        top_k: 20,
        ..nucleus.clone()
    };
    let penalized = Sampling {
        presence_penalty: 0.5,
        repetition_penalty: 1.1,
        ..qwen3.clone()
    };
    let five = TopLogprobs::Best(5);
    vec![
        ("greedy", Sampling::greedy(), none),
        ("top_k 20, top_p 0.95", qwen3.clone(), none),
        ("the same with penalties of 4096 tokens", penalized, none),
        ("top_p 0.95 alone", nucleus, none),
        ("temperature alone", random, none),
        ("greedy with 5 logprobs", Sampling::greedy(), five),
        (
            "greedy with all logprobs",
            Sampling::greedy(),
            TopLogprobs::All,
        ),
    ]
}

/// Logits about as a model's: most of them in a heap, few far above it.
fn rows(count: usize, vocab: usize) -> Vec<Vec<f32>> {
    let mut state = 1_u64;
    let mut uniform = move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        ((state >> 40) as f32 + 0.5) / (1 << 24) as f32
    };
    let mut logit = move || {
        let heap: f32 = (0..4).map(|_| uniform() - 0.5).sum::<f32>() * 4.0;
        heap - 1.5 * uniform().ln()
    };
    let mut row = move || (0..vocab).map(|_| logit()).collect();
    (0..count).map(|_| row()).collect()
}

fn sampling(args: &Args) -> anyhow::Result<()> {
    const ROWS: usize = 16;
    let rows = rows(ROWS, args.vocab);
    let prompt: Vec<u32> = (0..4096_u32).map(|i| i * 37).collect();
    let history = History::new(&prompt);
    let mut row = vec![0.0; args.vocab];
    let mut sampler = Sampler::default();
    let cases = cases();
    let mut times: Vec<Times> = cases.iter().map(|_| Times::default()).collect();
    let mut copy = Times::default();
    for _ in 0..args.reps {
        copy.measure(|| rows.iter().for_each(|from| copied(from, &mut row)));
        for ((name, sampling, logprobs), times) in cases.iter().zip(&mut times) {
            let mut choose =
                || tokens(&mut sampler, &rows, &mut row, sampling, *logprobs, &history);
            let first = choose();
            let again = times.measure(&mut choose);
            ensure!(again == first && first.len() == ROWS, "{name}: {again:?}");
        }
    }
    print("copy of a row, in all that follow", ROWS, copy, None)?;
    for ((name, ..), times) in cases.iter().zip(times) {
        print(name, ROWS, times, None)?;
    }
    Ok(())
}

fn copied(from: &[f32], to: &mut [f32]) {
    to.copy_from_slice(from);
    black_box(to);
}

/// One token of each row.
fn tokens(
    sampler: &mut Sampler,
    rows: &[Vec<f32>],
    row: &mut [f32],
    sampling: &Sampling,
    logprobs: TopLogprobs,
    history: &History,
) -> Vec<u32> {
    let penalized = sampling.repetition_penalty != 1.0;
    let choose = |(position, from): (usize, &Vec<f32>)| {
        copied(from, row);
        let choice = Choice {
            sampling,
            choice: 0,
            position,
            history: penalized.then_some(history),
            forbidden: &[],
            allowed: None,
            logprobs,
        };
        let chosen = sampler.next(row, &choice).ok();
        black_box(chosen).map(|(token, _)| token)
    };
    rows.iter().enumerate().filter_map(choose).collect()
}

/// A model that costs nothing.
#[derive(Clone)]
struct Free(Capacity);

impl Forward for Free {
    type Adapter = ();
    type Loader = Self;

    fn capacity(&self) -> Capacity {
        self.0
    }

    fn loader(&self) -> Self {
        self.clone()
    }

    fn run(
        &mut self,
        batch: &[Segment<'_, ()>],
        logits: &mut Vec<f32>,
    ) -> Result<(), ForwardError> {
        let rows: usize = batch.iter().map(|segment| segment.logits).sum();
        logits.clear();
        logits.resize(rows * self.0.vocab_size, 0.0);
        Ok(())
    }
}

impl AdapterLoader for Free {
    type Adapter = ();

    fn load(&self, _: &Path) -> Result<((), usize), ForwardError> {
        Ok(((), 1))
    }
}

fn scheduling(args: &Args, sequences: usize) -> anyhow::Result<()> {
    let mut times = Times::default();
    let mut steps = 0;
    for _ in 0..args.reps {
        let capacity = Capacity {
            vocab_size: 2,
            max_positions: args.tokens + 17,
            block_tokens: 16,
            blocks: sequences * (args.tokens / 16 + 4),
        };
        let config = EngineConfig {
            event_buffer: args.tokens + 4,
            ..EngineConfig::default()
        };
        let engine = LocalEngine::start(Free(capacity), config)?;
        let expected = (sequences * args.tokens) as u64;
        let generations = times.measure(|| {
            let request = || engine.submit(request(args.tokens));
            let generations: Result<Vec<_>, _> = (0..sequences).map(|_| request()).collect();
            while engine.stats().generation_tokens < expected {
                thread::sleep(Duration::from_micros(500));
            }
            generations
        })?;
        steps = engine.stats().steps;
        for mut generation in generations {
            let mut tokens = 0;
            while let Some(Event::Token(_)) = generation.events.blocking_recv() {
                tokens += 1;
            }
            ensure!(tokens == args.tokens, "{tokens} tokens came");
        }
    }
    let case = format!("scheduler, {sequences} sequences");
    print(&case, sequences * args.tokens, times, Some(steps))
}

fn request(max_tokens: usize) -> Request {
    Request {
        prompt: vec![0; 16].into(),
        generated: Vec::new(),
        adapter: None,
        sampling: Sampling::greedy(),
        choice: 0,
        max_tokens,
        min_tokens: 0,
        stop_tokens: Vec::new(),
        logprobs: TopLogprobs::None,
        prompt_logprobs: TopLogprobs::None,
        constraint: None,
    }
}
