//! What must not pass: adapters and models with one thing wrong each.

use super::{Pair, Serving, serving};
use crate::reproduce::steps::{Arguments, Kind, Step};
use std::path::{Path, PathBuf};

/// With which the names of all begin.
pub(super) const PREFIX: &str = "control-";
/// The ending of the step that holds them against what they were made of.
pub(super) const STATS: &str = "controls";
/// How adapters are spoiled.
const ADAPTERS: [&str; 3] = ["shuffled", "random", "scaled"];
/// The scheme whose codes are read wrongly.
const INT4: &str = "int4";

/// The steps that make them.
pub(super) fn made(pair: &Pair<'_>) -> Vec<Step> {
    let Some(rank) = largest_rank(pair) else {
        return Vec::new();
    };
    let mut steps: Vec<Step> = ADAPTERS
        .iter()
        .map(|how| {
            let adapter = pair.folder(&format!("adapter-A-r{rank}"));
            spoil(pair, how, &adapter)
        })
        .collect();
    if int4(pair) {
        let model = pair.folder(&format!("base-{INT4}"));
        steps.push(spoil(pair, "undecoded", &model));
        let arguments = Arguments::new("autopsy").path(&pair.folder("control-undecoded"));
        steps.push(pair.step("control-undecoded-autopsy", Kind::MustFail, arguments));
    }
    let arguments = Arguments::new("extract")
        .input("--base", pair.base)
        .input("--tuned", pair.tuned)
        .option("--rank", &rank.to_string())
        .option("--policy", "peft");
    let unsanitized = pair.step("control-unsanitized", Kind::Control, arguments);
    let lora = format!("unsanitized={}", unsanitized.out.display());
    let mut arguments = Arguments::new("serve")
        .path(pair.base)
        .option("--port", "0");
    arguments.texts.extend(["--lora".to_owned(), lora]);
    arguments.inputs.push(unsanitized.out.clone());
    steps.push(unsanitized);
    steps.push(pair.step("control-unsanitized-serve", Kind::MustFail, arguments));
    steps
}

/// The arm that the spoiled ones were made of.
pub(super) fn right(pair: &Pair<'_>) -> Option<String> {
    let scheme = pair.schemes().next()?;
    Some(format!("A-{scheme}-r{}", largest_rank(pair)?))
}

/// Spoiled adapters for the first quantized base.
pub(super) fn adapters(pair: &Pair<'_>) -> Vec<(String, PathBuf)> {
    let hows = ADAPTERS.iter().filter(|_| pair.evaluate.controls);
    hows.map(|how| {
        let name = format!("control-{how}");
        let folder = pair.folder(&name);
        (name, folder)
    })
    .collect()
}

/// Spoiled models, with the adapter that would be right.
pub(super) fn models(pair: &Pair<'_>) -> Vec<Serving> {
    let Some(rank) = largest_rank(pair).filter(|_| int4(pair)) else {
        return Vec::new();
    };
    let adapter = pair.folder(&format!("adapter-A-r{rank}"));
    let model = pair.folder("control-undecoded");
    vec![serving(
        "undecoded",
        &model,
        vec![("control-undecoded".to_owned(), adapter)],
    )]
}

fn largest_rank(pair: &Pair<'_>) -> Option<u32> {
    let ranks = pair.methods.ranks.iter().copied();
    ranks.max().filter(|_| pair.evaluate.controls)
}

fn int4(pair: &Pair<'_>) -> bool {
    pair.schemes().any(|scheme| scheme == INT4)
}

fn spoil(pair: &Pair<'_>, how: &str, from: &Path) -> Step {
    let arguments = Arguments::new(how).path(from);
    pair.step(&format!("control-{how}"), Kind::Spoil, arguments)
}
