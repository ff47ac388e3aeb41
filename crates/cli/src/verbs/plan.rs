//! `xgraft plan`

use std::path::Path;
use std::process::ExitCode;
use xgraft_results::human::bytes;

use anyhow::{bail, ensure};
use serde::Serialize;
use xgraft_checkpoint::{Checkpoint, Dtype, Quantization, Weight};
use xgraft_quantize::{Config, Layout, Scheme, adapter_bytes, cache_bytes_per_token, stored_bytes};

use crate::args::{Always, Plan};
use crate::output::{say, say_json};
use crate::table::Table;

/// One format.
#[derive(Debug, Serialize)]
struct Line {
    format: String,
    weight_bytes: u64,
    /// Of the GPU memory that may be used, after weights and adapters; negative if they do not fit.
    left_bytes: i64,
    cache_tokens: u64,
    /// Whether the sequences fit with their whole context.
    fits: bool,
}

/// What the files of the checkpoint take on disk; only the tensors go to the GPU.
#[derive(Debug, Serialize)]
struct Directory {
    tensor_bytes: u64,
    /// Headers of the shards.
    header_bytes: u64,
    /// Tokenizer, configurations, index, and whatever else lies there.
    other_bytes: u64,
}

impl Directory {
    fn of(dir: &Path, tensor_bytes: u64) -> anyhow::Result<Self> {
        let (mut shards, mut other_bytes) = (0, 0);
        for entry in fs_err::read_dir(dir)? {
            let path = entry?.path();
            // the hub's cache holds links
            let meta = fs_err::metadata(&path)?;
            if !meta.is_file() {
                continue;
            }
            match path.extension() {
                Some(end) if end == "safetensors" => shards += meta.len(),
                _ => other_bytes += meta.len(),
            }
        }
        Ok(Self {
            tensor_bytes,
            header_bytes: shards.saturating_sub(tensor_bytes),
            other_bytes,
        })
    }
}

#[derive(Debug, Serialize)]
struct Report {
    schema: &'static str,
    directory: Directory,
    usable_bytes: u64,
    adapter_bytes: Vec<u64>,
    cache_bytes_per_token: u64,
    context: u64,
    sequences: u64,
    formats: Vec<Line>,
    /// Formats that the checkpoint cannot take.
    refused: Vec<Refused>,
}

#[derive(Debug, Serialize)]
struct Refused {
    format: String,
    why: String,
}

pub(crate) fn run(args: &Plan, always: &Always) -> anyhow::Result<ExitCode> {
    ensure!(
        args.utilization > 0.0 && args.utilization <= 1.0,
        "--utilization: expected a share above 0 and up to 1, found {}",
        args.utilization
    );
    ensure!(
        !args.adapter.contains(&0),
        "--adapter: a rank is at least 1, found 0"
    );
    let source = Checkpoint::open(&args.dir)?;
    let Some(cache) = cache_bytes_per_token(&source, Dtype::Bf16) else {
        bail!(
            "{}: num_hidden_layers and num_attention_heads are not both there, so the cache cannot be sized",
            args.dir.join("config.json").display()
        );
    };
    let adapters: Vec<u64> = args
        .adapter
        .iter()
        .map(|r| adapter_bytes(&source, *r, Dtype::Bf16))
        .collect();
    let usable = (args.gpu as f64 * args.utilization) as u64;
    let line = |format: String, weight_bytes: u64| {
        let taken = weight_bytes + adapters.iter().sum::<u64>();
        let cache_tokens = usable.saturating_sub(taken) / cache;
        Line {
            format,
            weight_bytes,
            left_bytes: usable as i64 - taken as i64,
            cache_tokens,
            fits: cache_tokens >= args.context.saturating_mul(args.sequences) && taken <= usable,
        }
    };
    let mut formats = vec![line("as stored".to_owned(), source.total_bytes())];
    formats.push(line("bf16".to_owned(), bf16_bytes(&source)));
    let mut refused = Vec::new();
    if matches!(source.quantization(), Quantization::None) {
        for (format, config) in configs() {
            match stored_bytes(&source, &config) {
                Ok(bytes) => formats.push(line(format, bytes)),
                Err(why) => refused.push(Refused {
                    format,
                    why: why.to_string(),
                }),
            }
        }
    }
    let report = Report {
        schema: "xgraft.plan/1",
        directory: Directory::of(&args.dir, source.total_bytes())?,
        usable_bytes: usable,
        adapter_bytes: adapters,
        cache_bytes_per_token: cache,
        context: args.context,
        sequences: args.sequences,
        formats,
        refused,
    };
    if always.json {
        say_json(&report)?;
    } else {
        print(&report)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Every format that is stored, with its name; int3, int2, mxfp4 and nvfp4 are simulated in BF16.
fn configs() -> impl Iterator<Item = (String, Config)> {
    let usual = Scheme::ALL.into_iter().map(Config::of);
    let stored = usual.filter(|config| config.layout != Layout::Simulated);
    stored.flat_map(|config| {
        let name = config.scheme.name();
        let asymmetric = Config {
            symmetric: false,
            ..config.clone()
        };
        let asymmetric =
            (config.scheme == Scheme::Int4).then(|| (format!("{name} asymmetric"), asymmetric));
        [(name.to_owned(), config)].into_iter().chain(asymmetric)
    })
}

/// Every weight in two bytes.
fn bf16_bytes(source: &Checkpoint) -> u64 {
    let elements = |weight: &Weight| weight.shape.iter().map(|n| *n as u64).product::<u64>();
    2 * source.weights().iter().map(elements).sum::<u64>()
}

fn print(report: &Report) -> anyhow::Result<()> {
    let wanted = format!("{} × {} tokens", report.sequences, report.context);
    let mut table = Table::new(&[
        "format",
        "weights",
        "left for the cache",
        "tokens",
        wanted.as_str(),
    ]);
    for line in &report.formats {
        let left = u64::try_from(line.left_bytes);
        table.row(vec![
            line.format.clone(),
            bytes(line.weight_bytes),
            left.map_or_else(
                |_| format!("{} short", bytes(line.left_bytes.unsigned_abs())),
                bytes,
            ),
            line.cache_tokens.to_string(),
            if line.fits { "fits" } else { "does not fit" }.to_owned(),
        ]);
    }
    say(&table.render())?;
    for refused in &report.refused {
        say(&format!("{} does not fit: {}", refused.format, refused.why))?;
    }
    let directory = &report.directory;
    say(&format!(
        "directory as stored: tensors {}, headers {}, tokenizer and other files {}",
        bytes(directory.tensor_bytes),
        bytes(directory.header_bytes),
        bytes(directory.other_bytes)
    ))?;
    let adapters: Vec<String> = report.adapter_bytes.iter().map(|b| bytes(*b)).collect();
    say(&format!(
        "usable: {}; adapters: {}; cache: {} a token in BF16",
        bytes(report.usable_bytes),
        if adapters.is_empty() {
            "none".to_owned()
        } else {
            adapters.join(" + ")
        },
        bytes(report.cache_bytes_per_token)
    ))
}
