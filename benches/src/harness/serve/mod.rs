//! The bare model on the CPU against llama.cpp and against the speed of reading its weights.
//!
//! Every round runs each case of ours and then the peer's of the same size, so that what is compared is minutes apart;
//! our program reads memory before every run. Ratios are of the shortest wall times of a round, and of the rounds the median:
//! with two threads on two cores wall time is what counts, and the share of the CPU that a case got is told beside it.

mod data;
mod line;
mod lines;
mod rounds;

use super::{Programs, Table, Whose, rounds::Rounds, server::Server};
use anyhow::{Result, ensure};
use data::Data;
use std::{path::Path, process::Command};

/// With which the names of its groups begin.
const SUITE: &str = "serve";

/// How alike the logits of two programs must be that compute the same model; the second rounds its activations.
const ALIKE: f64 = 0.995;

/// Measures, and adds lines to the table.
///
/// # Errors
/// A program fails, or llama.cpp computes another model.
pub fn run(programs: &mut Programs, table: &mut Table) -> Result<()> {
    let data = data::make(programs)?;
    for round in 0..programs.rounds() {
        let mut turn = Turn { programs, round };
        turn.formats(&data)?;
        turn.adapters(&data)?;
        turn.server(&data)?;
    }
    let rounds = Rounds {
        suite: SUITE,
        samples: &programs.samples,
    };
    if let Some(cosine) = rounds.logits("bf16", "llama-bf16") {
        ensure!(
            cosine >= ALIKE,
            "the logits of llama.cpp and ours have a cosine of {cosine}, expected {ALIKE}: they compute different models"
        );
    }
    lines::add(&rounds, table);
    Ok(())
}

/// One round of all cases.
struct Turn<'a> {
    programs: &'a mut Programs,
    round: u32,
}

impl Turn<'_> {
    /// Every format alone, each beside the peer's nearest.
    fn formats(&mut self, data: &Data) -> Result<()> {
        let gguf = data.gguf.as_deref();
        for (name, model, peer) in [("bf16", &data.bf16, "bf16"), ("fp8", &data.fp8, "q8_0")] {
            self.ours(name, model, "1,2,4,8", "128", &[])?;
            self.llama(gguf, peer, "", "1,8", "128")?;
            self.prefill(name, model, "512")?;
            self.llama(gguf, peer, "-512", "1", "512")?;
        }
        self.llama(gguf, "f32", "", "1,8", "128")?;
        self.ours("int8", &data.int8, "1,8", "128", &[])?;
        self.ours("int4", &data.int4, "1,8", "128", &[])?;
        self.ours("half", &data.half, "1", "128", &[])
    }

    fn adapters(&mut self, data: &Data) -> Result<()> {
        let one = with("--lora", &data.rank_64[..1]);
        self.ours("bf16-r64", &data.bf16, "1", "128", &one)?;
        self.ours("fp8-r64", &data.fp8, "1", "128", &one)?;
        let large = with("--lora", std::slice::from_ref(&data.rank_256));
        self.ours("fp8-r256", &data.fp8, "1", "128", &large)?;
        let all = with("--lora", &data.rank_64);
        self.ours("fp8-r64-all", &data.fp8, "8", "128", &all)?;
        let idle = with("--idle-lora", &data.rank_64);
        self.ours("fp8-idle", &data.fp8, "1", "128", &idle)
    }

    /// The bare model beside a server of it, without a cache of prompts, because every repetition sends the same ones.
    fn server(&mut self, data: &Data) -> Result<()> {
        let mut command = Command::new(self.programs.binary("xgraft"));
        command.args(["--json", "serve"]).arg(&data.fp8);
        command.args(["--port", "0", "--threads", "2", "--kv-memory", "512MiB"]);
        command.arg("--no-prefix-cache");
        let server = Server::announced("xgraft", &mut command)?;
        let more = ["--server".to_owned(), server.address()];
        let steps = if self.programs.quick { "16" } else { "48" };
        self.forward("served", &data.fp8, ["1,8", "128", steps], &more)
    }

    fn ours(
        &mut self,
        name: &str,
        model: &Path,
        batch: &str,
        prompt: &str,
        more: &[String],
    ) -> Result<()> {
        let steps = if self.programs.quick { "4" } else { "24" };
        self.forward(name, model, [batch, prompt, steps], more)
    }

    /// A prompt and no decoding, under `name-prompt`.
    fn prefill(&mut self, name: &str, model: &Path, prompt: &str) -> Result<()> {
        self.forward(&format!("{name}-{prompt}"), model, ["1", prompt, "0"], &[])
    }

    fn forward(
        &mut self,
        name: &str,
        model: &Path,
        sizes: [&str; 3],
        more: &[String],
    ) -> Result<()> {
        let mut arguments = vec![model.display().to_string()];
        arguments.extend(self.sizes(sizes));
        arguments.extend_from_slice(more);
        let group = group(name);
        self.programs
            .ours(&group, self.round, "forward", &arguments)
    }

    /// The peer in a format of its own, under `llama-format` and the ending.
    fn llama(
        &mut self,
        gguf: Option<&Path>,
        format: &str,
        ending: &str,
        batch: &str,
        prompt: &str,
    ) -> Result<()> {
        let Some(gguf) = gguf else {
            return Ok(());
        };
        let steps = match (ending, self.programs.quick) {
            ("", true) => "4",
            ("", false) => "24",
            _ => "0",
        };
        let mut arguments = vec![gguf.display().to_string(), format.to_owned()];
        arguments.extend(self.sizes([batch, prompt, steps]));
        let group = group(&format!("llama-{format}{ending}"));
        self.programs.theirs(
            Whose::Llama,
            &group,
            self.round,
            "serve/llama_cases.py",
            &arguments,
        )
    }

    fn sizes(&self, [batch, prompt, steps]: [&str; 3]) -> Vec<String> {
        let reps = if self.programs.quick { "1" } else { "2" };
        [
            "--threads",
            "2",
            "--batch",
            batch,
            "--prompt",
            prompt,
            "--steps",
            steps,
            "--reps",
            reps,
        ]
        .map(str::to_owned)
        .to_vec()
    }
}

fn group(name: &str) -> String {
    format!("{SUITE}-{name}")
}

fn with(flag: &str, adapters: &[impl AsRef<Path>]) -> Vec<String> {
    let each = adapters
        .iter()
        .map(|dir| [flag.to_owned(), dir.as_ref().display().to_string()]);
    each.flatten().collect()
}
