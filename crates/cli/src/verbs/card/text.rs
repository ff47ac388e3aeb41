//! The text of a card: what the manifest, the report and the headers prove.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use xgraft_results::human::{bytes, percent};

use serde_json::Value;
use xgraft_results::Manifest;

use super::contents::Contents;

/// What a card is made of.
pub(super) struct Facts<'a> {
    pub(super) title: String,
    pub(super) base: Option<&'a str>,
    pub(super) report: Value,
    pub(super) contents: &'a Contents,
    pub(super) manifest: &'a Manifest,
}

impl Facts<'_> {
    pub(super) fn text(&self) -> anyhow::Result<String> {
        let mut text = format!("# {}\n\n{}\n\n", self.title, self.sentence());
        if !self.contents.simulated.is_empty() {
            writeln!(
                text,
                "**Simulated.** The weights are the values of {}, kept in another format: an experiment on what that rounding costs. \
                 Nothing is as small as that format, and no engine computes in it.\n",
                self.contents.simulated.join(", then ")
            )?;
        }
        writeln!(text, "| | |\n|---|---|")?;
        for (what, value) in self.contained().into_iter().chain(self.measured()) {
            writeln!(text, "| {what} | {value} |")?;
        }
        self.origin(&mut text)?;
        Ok(text)
    }

    fn origin(&self, text: &mut String) -> anyhow::Result<()> {
        let Manifest {
            tool,
            verb,
            config,
            seed,
            inputs,
        } = self.manifest;
        writeln!(
            text,
            "\n## How it was made\n\n`xgraft {verb}` of {tool}, with\n"
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
        Ok(())
    }

    fn sentence(&self) -> String {
        let config = &self.manifest.config;
        let name = |field: &str| config[field].as_str().unwrap_or("?").to_owned();
        match self.manifest.verb.as_str() {
            "extract" => "A LoRA adapter: the difference of a fine-tuned checkpoint and the base that it was extracted against, truncated by SVD.".to_owned(),
            "sanitize" => "A LoRA adapter, brought to the rules of the engine that its configuration names.".to_owned(),
            "quantize" if name("layout") == "simulated" => format!(
                "A checkpoint in BF16 whose linear layers hold the values of the format `{}`, rounded to nearest (scales by {}), without calibration.",
                name("scheme"),
                name("search"),
            ),
            "quantize" => format!(
                "A checkpoint whose linear layers are rounded to nearest in the format `{}` (layout `{}`, scales by {}), without calibration.",
                name("scheme"),
                name("layout"),
                name("search"),
            ),
            "dequantize" => format!("A bridge: the values of a quantized checkpoint, each rounded to BF16 once. It is not the checkpoint that was quantized; what rounding took is gone.{}", self.scales()),
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

    /// What the files hold.
    fn contained(&self) -> Vec<(&'static str, String)> {
        let all = [
            ("base model", self.base.map(str::to_owned)),
            ("rank", self.contents.rank()),
            ("scale before B·A (alpha over rank)", self.contents.scale()),
            ("adapted", self.contents.targets()),
            ("element types", Some(self.contents.dtypes())),
        ];
        all.into_iter()
            .filter_map(|(what, value)| Some((what, value?)))
            .collect()
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
            ("quantization error", share(&report["relative_error"])),
            ("bytes of tensors", size(&report["bytes_out"])),
        ];
        all.into_iter()
            .filter_map(|(what, value)| Some((what, value?)))
            .collect()
    }
}
