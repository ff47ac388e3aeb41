//! `cargo xtask synth`: a synthetic pair of checkpoints, made by a binary of `fixtures`.

use crate::workspace;
use anyhow::Result;
use std::path::PathBuf;
use xshell::{Shell, cmd};

/// Which pair.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// The model whose shapes it has: `qwen3-32b`, `qwen3-0.6b`, or `small`, with a width of 256.
    #[arg(long, value_name = "MODEL", required_unless_present = "tiny")]
    like: Option<String>,
    /// The two layers of 1024 that mergekit is measured on, instead of a large model's.
    #[arg(long, conflicts_with_all = ["like", "layers"])]
    tiny: bool,
    /// How many layers.
    #[arg(long, value_name = "N", default_value_t = 1)]
    layers: u16,
    /// Rows of the embedding and the head; as the original by default.
    #[arg(long, value_name = "ROWS")]
    vocab: Option<u32>,
    /// Only this module of each layer, such as `mlp.down_proj`: no model, but a checkpoint.
    #[arg(long, value_name = "MODULE", conflicts_with = "vocab")]
    only: Option<String>,
    /// Seed of everything random.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Where `base` and `tuned` go; below `out/synth` by default.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Replace directories that exist.
    #[arg(long)]
    force: bool,
}

impl Args {
    /// This many layers of a model, below `out`.
    pub(crate) fn of(model: &str, layers: u16, out: PathBuf) -> Self {
        Self {
            like: Some(model.to_owned()),
            tiny: false,
            layers,
            vocab: None,
            only: None,
            seed: 0,
            out: Some(out),
            force: false,
        }
    }
}

pub(crate) fn run(sh: &Shell, args: &Args) -> Result<()> {
    let like = args.like.as_deref().unwrap_or("tiny");
    let (layers, seed) = (args.layers.to_string(), args.seed.to_string());
    let out = match &args.out {
        Some(out) => workspace::from_callers_folder(out)?,
        None => match (&args.only, args.tiny) {
            (Some(module), _) => format!("out/synth/{like}-{layers}-{module}").into(),
            (None, true) => "out/synth/tiny".into(),
            (None, false) => format!("out/synth/{like}-{layers}").into(),
        },
    };
    let only = args.only.as_ref().map(|module| format!("--only={module}"));
    let vocab = args.vocab.map(|rows| format!("--vocab={rows}"));
    let force = args.force.then_some("--force");
    cmd!(
        sh,
        "cargo run --quiet --locked --package xgraft-fixtures --bin synth --
         --like {like} --layers {layers} --seed {seed} --out {out} {vocab...} {only...} {force...}"
    )
    .run()?;
    Ok(())
}
