//! `xgraft card`

mod contents;
mod metadata;
mod text;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;
use xgraft_checkpoint::write_atomic;
use xgraft_results::Manifest;

use self::contents::Contents;
use self::metadata::{License, Metadata, is_hub_name};
use self::text::Facts;
use crate::args::{Always, Card};
use crate::output::{note, say, say_json};

pub(crate) fn run(args: &Card, always: &Always) -> anyhow::Result<ExitCode> {
    let manifest = args.dir.join(Manifest::FILE);
    if !manifest.is_file() {
        bail!(
            "{}: expected the manifest of something that xgraft made, found none; a card says only what a manifest proves",
            manifest.display()
        );
    }
    let manifest = Manifest::read(&manifest)?;
    let to = args.dir.join("README.md");
    if to.exists() && !args.output.force {
        bail!(
            "{} is there already; pass --force to replace it",
            to.display()
        );
    }
    let contents = Contents::of(&args.dir)?;
    let license = License::of(args)?;
    let base = base_model(args, &contents)?;
    if base.is_none() {
        note(
            "note: no hub name of the base model is known, and the card has no `base_model`; pass --base-model ORG/NAME",
        );
    }
    if license.is_none() {
        note(
            "note: the card has no `license`, and the hub will show none; pass --license with that of the weights",
        );
    }
    let metadata = Metadata {
        base: base.as_deref(),
        license: license.as_ref(),
        contents: &contents,
        manifest: &manifest,
    };
    let facts = Facts {
        title: args.title.clone().unwrap_or_else(|| name_of(&args.dir)),
        base: base.as_deref(),
        report: json_of(&args.dir.join("report.json"))?.unwrap_or_default(),
        contents: &contents,
        manifest: &manifest,
    };
    let text = format!("{}{}", metadata.front_matter(), facts.text()?);
    write_atomic(&to, text.as_bytes())?;
    if always.json {
        say_json(&serde_json::json!({ "card": to }))?;
    } else {
        say(&format!("card: {}", to.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The base's name on the hub: what is given, or what the files say if it can be such a name. A directory's name is none.
fn base_model(args: &Card, contents: &Contents) -> anyhow::Result<Option<String>> {
    if let Some(given) = &args.base_model {
        ensure!(
            is_hub_name(given),
            "--base-model: expected a name on the hub such as Qwen/Qwen3-32B, found {given:?}"
        );
        return Ok(Some(given.clone()));
    }
    let named = contents.base_name().filter(|name| is_hub_name(name));
    Ok(named.map(str::to_owned))
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
