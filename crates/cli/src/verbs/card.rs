//! `xgraft card`

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use serde_json::Value;
use xgraft_checkpoint::write_atomic;
use xgraft_results::Manifest;

use crate::args::{Card, Global};
use crate::output::{say, say_json};
use crate::table::{bytes, percent};

pub(crate) fn run(args: &Card, global: &Global) -> anyhow::Result<ExitCode> {
    let manifest = args.dir.join(Manifest::FILE);
    if !manifest.is_file() {
        bail!(
            "{}: expected the manifest of something that xgraft made, found none; a card says only what a manifest proves",
            manifest.display()
        );
    }
    let manifest = Manifest::read(&manifest)?;
    let to = args.dir.join("README.md");
    if to.exists() && !global.force {
        bail!(
            "{} is there already; pass --force to replace it",
            to.display()
        );
    }
    let adapter = json_of(&args.dir.join("adapter_config.json"))?;
    let named = adapter
        .as_ref()
        .and_then(|a| a["base_model_name_or_path"].as_str());
    let card = Facts {
        title: match &args.title {
            Some(title) => title.clone(),
            None => name_of(&args.dir),
        },
        base: args.base_model.clone().or_else(|| named.map(str::to_owned)),
        report: json_of(&args.dir.join("report.json"))?.unwrap_or_default(),
        adapter: adapter.is_some(),
        manifest: &manifest,
    };
    let text = card.text()?;
    write_atomic(&to, text.as_bytes())?;
    if global.json {
        say_json(&serde_json::json!({ "card": to }))?;
    } else {
        say(&format!("card: {}", to.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn json_of(path: &Path) -> anyhow::Result<Option<Value>> {
    if !path.is_file() {
        return Ok(None);
    }
    let text = fs_err::read(path)?;
    let value = serde_json::from_slice(&text);
    value
        .map(Some)
        .with_context(|| format!("{}: expected JSON", path.display()))
}

fn name_of(dir: &Path) -> String {
    let full = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    full.file_name().map_or_else(
        || "model".to_owned(),
        |name| name.to_string_lossy().into_owned(),
    )
}

/// What a card is made of.
struct Facts<'a> {
    title: String,
    base: Option<String>,
    report: Value,
    adapter: bool,
    manifest: &'a Manifest,
}

impl Facts<'_> {
    fn text(&self) -> anyhow::Result<String> {
        let Manifest {
            tool,
            verb,
            config,
            seed,
            inputs,
        } = self.manifest;
        let mut text = self.front_matter();
        writeln!(text, "# {}\n\n{}\n", self.title, self.sentence())?;
        let facts = self.measured();
        if !facts.is_empty() {
            writeln!(text, "| measured | |\n|---|---|")?;
            for (what, value) in facts {
                writeln!(text, "| {what} | {value} |")?;
            }
            writeln!(text)?;
        }
        writeln!(
            text,
            "## How it was made\n\n`xgraft {verb}`, version {} ({}), with\n",
            tool.version, tool.git
        )?;
        writeln!(
            text,
            "```json\n{}\n```\n",
            serde_json::to_string_pretty(config)?
        )?;
        if let Some(seed) = seed {
            writeln!(text, "Seed {seed}.\n")?;
        }
        let mut roles: BTreeMap<&str, (usize, u64)> = BTreeMap::new();
        for input in inputs {
            let role = roles.entry(&input.role).or_default();
            *role = (role.0 + 1, role.1 + input.bytes);
        }
        for (role, (count, size)) in roles {
            writeln!(text, "- {role}: {count} tensors or files, {}", bytes(size))?;
        }
        writeln!(
            text,
            "\n`{}` holds the BLAKE3 of each of them.",
            Manifest::FILE
        )?;
        Ok(text)
    }

    /// The hub's metadata.
    fn front_matter(&self) -> String {
        let mut lines = vec!["---".to_owned()];
        if let Some(base) = &self.base {
            lines.push(format!("base_model: {}", Value::String(base.clone())));
            let relation = match (self.adapter, self.manifest.verb.as_str()) {
                (true, _) => Some("adapter"),
                (_, "quantize") => Some("quantized"),
                (_, "merge") => Some("merge"),
                _ => None,
            };
            lines.extend(relation.map(|relation| format!("base_model_relation: {relation}")));
        }
        let library = if self.adapter { "peft" } else { "transformers" };
        lines.push(format!("library_name: {library}"));
        lines.push("pipeline_tag: text-generation".to_owned());
        lines.push("tags:".to_owned());
        lines.push("- xgraft".to_owned());
        if self.adapter {
            lines.push("- lora".to_owned());
        }
        if let Some(scheme) = self.manifest.config["scheme"]
            .as_str()
            .filter(|_| self.manifest.verb == "quantize")
        {
            lines.push(format!("- {scheme}"));
        }
        lines.push("---\n\n".to_owned());
        lines.join("\n")
    }

    fn sentence(&self) -> String {
        let config = &self.manifest.config;
        match self.manifest.verb.as_str() {
            "extract" => "A LoRA adapter: the difference of a fine-tuned checkpoint and the base that it was extracted against, truncated by SVD.".to_owned(),
            "sanitize" => "A LoRA adapter, brought to the rules of the engine that its configuration names.".to_owned(),
            "quantize" => format!(
                "A checkpoint whose linear layers are rounded to nearest in the format `{}` (layout `{}`, scales by {}), without calibration.",
                config["scheme"].as_str().unwrap_or("?"),
                config["layout"].as_str().unwrap_or("?"),
                config["search"].as_str().unwrap_or("amax"),
            ),
            "dequantize" => format!("A bridge: the BF16 values of a quantized checkpoint. It is not the checkpoint that was quantized; what rounding took is gone.{}", self.scales()),
            "merge" => "A checkpoint with an adapter folded in; every weight keeps the format that it had.".to_owned(),
            other => format!("Made by `xgraft {other}`."),
        }
    }

    /// Whether channel scales are still in the weights of a bridge.
    fn scales(&self) -> String {
        let findings = self.report["findings"].as_array();
        let left = |f: &&Value| matches!(f["code"].as_str(), Some("scales-folded" | "scales-left"));
        match findings.map_or(0, |all| all.iter().filter(left).count()) {
            0 => String::new(),
            n => format!(
                " The input channels of {n} layers may still be multiplied by scales that the norms or layers before them are divided by: the model is the same, these weights are not comparable with the original's (`xgraft_channel_scales` in `config.json`)."
            ),
        }
    }

    /// Numbers of the report, as far as it has them.
    fn measured(&self) -> Vec<(&'static str, String)> {
        let report = &self.report;
        let share = |value: &Value| value.as_f64().map(percent);
        let size = |value: &Value| value.as_u64().map(bytes);
        let totals = &report["totals"];
        let modules = report["modules"].as_array().map(|m| m.len().to_string());
        let all = [
            ("modules", modules),
            ("energy of the delta kept", share(&totals["energy_kept"])),
            (
                "energy dropped by the engine's rules",
                share(&totals["dropped_share"]),
            ),
            (
                "rounding error of the weights",
                share(&report["relative_error"]),
            ),
            ("bytes of tensors", size(&report["bytes_out"])),
        ];
        all.into_iter()
            .filter_map(|(what, value)| Some((what, value?)))
            .collect()
    }
}
