//! The checkpoints and adapters of the suite, made once and kept.

use anyhow::Result;
use std::{
    path::{Path, PathBuf},
    process::Command,
};

use super::super::{Programs, Whose};

/// Adapters of rank 64: as many as a batch has sequences.
const ADAPTERS: usize = 8;

/// Where they are.
pub(super) struct Data {
    /// BF16.
    pub(super) bf16: PathBuf,
    /// The same with half of the layers.
    pub(super) half: PathBuf,
    /// E4M3 in blocks of 128 × 128.
    pub(super) fp8: PathBuf,
    /// INT8 with a scale for each row.
    pub(super) int8: PathBuf,
    /// INT4 in groups.
    pub(super) int4: PathBuf,
    /// Adapters of rank 64.
    pub(super) rank_64: Vec<PathBuf>,
    /// One of rank 256.
    pub(super) rank_256: PathBuf,
    /// The BF16 numbers as llama.cpp reads them, if it is there.
    pub(super) gguf: Option<PathBuf>,
}

/// Makes what is not there yet: the shape of Qwen3-0.6B, or four of its layers with a small vocabulary in a quick run.
pub(super) fn make(programs: &Programs) -> Result<Data> {
    let layers = if programs.quick { 4 } else { 28 };
    let folder = programs.scratch.join(format!("qwen3-0.6b-{layers}"));
    std::fs::create_dir_all(&folder)?;
    let maker = Maker { programs, folder };
    let bf16 = maker.base("bf16", layers)?;
    Ok(Data {
        half: maker.base("half", layers / 2)?,
        fp8: maker.quantized("fp8", &bf16, "fp8-block")?,
        int8: maker.quantized("int8", &bf16, "int8")?,
        int4: maker.quantized("int4", &bf16, "int4")?,
        rank_64: (0..ADAPTERS)
            .map(|seed| maker.adapter(&format!("r64-{seed}"), &bf16, "64", seed))
            .collect::<Result<_>>()?,
        rank_256: maker.adapter("r256", &bf16, "256", ADAPTERS)?,
        gguf: maker.gguf(&bf16)?,
        bf16,
    })
}

struct Maker<'a> {
    programs: &'a Programs,
    folder: PathBuf,
}

impl Maker<'_> {
    fn base(&self, name: &str, layers: usize) -> Result<PathBuf> {
        let mut make = Command::new(self.programs.binary("synth"));
        make.args(["--like", "qwen3-0.6b", "--base-only"]);
        make.arg(format!("--layers={layers}"));
        if self.programs.quick {
            make.arg("--vocab=16384");
        }
        self.made(name, make.arg("--out"))
    }

    fn quantized(&self, name: &str, base: &Path, scheme: &str) -> Result<PathBuf> {
        let mut make = Command::new(self.programs.binary("xgraft"));
        make.arg("quantize").arg(base).args(["--scheme", scheme]);
        self.made(name, make.arg("--out"))
    }

    fn adapter(&self, name: &str, base: &Path, rank: &str, seed: usize) -> Result<PathBuf> {
        let mut make = Command::new(self.programs.binary("synth_adapter"));
        make.arg(base).args(["--rank", rank]);
        make.arg(format!("--seed={seed}"));
        self.made(name, make.arg("--out"))
    }

    fn gguf(&self, base: &Path) -> Result<Option<PathBuf>> {
        let script = self.programs.script(Whose::Llama, "serve/make_gguf.py");
        let make = script.map(|mut make| self.made("bf16.gguf", make.arg(base)));
        make.transpose()
    }

    /// Runs the command, whose last argument is the path that it makes.
    fn made(&self, name: &str, make: &mut Command) -> Result<PathBuf> {
        let path = self.folder.join(name);
        self.programs.make(&path, make.arg(&path))?;
        Ok(path)
    }
}
