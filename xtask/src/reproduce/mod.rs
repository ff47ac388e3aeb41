//! `cargo xtask reproduce`: the pipeline of a recipe, step by step, to one report.
//!
//! A step is one call of `xgraft` that reads directories and writes one. It is skipped when its stamp says that the tool, the
//! arguments and the inputs are those of the last time. To add a step: its verb in `cli`, and a function in `steps`.

mod evaluate;
mod headers;
mod methods;
mod model;
mod modules;
mod plan;
mod recipe;
mod runner;
mod space;
mod stamp;
mod steps;
mod units;

use crate::{synth, workspace};
use anyhow::Result;
use recipe::Recipe;
use std::{
    path::{Path, PathBuf},
    process::Command,
};
use xshell::Shell;

/// Which pipeline, and how.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// What to do; the tiny pair in `fixtures` by default.
    #[arg(value_name = "RECIPE.toml")]
    recipe: Option<PathBuf>,
    /// Check the inputs and the space, say what each step will read, write and compute, and do nothing.
    #[arg(long)]
    dry_run: bool,
    /// The base model, in place of the recipe's.
    #[arg(long, value_name = "DIR")]
    base: Option<PathBuf>,
    /// The fine-tuned model, in place of the recipe's.
    #[arg(long, value_name = "DIR")]
    tuned: Option<PathBuf>,
    /// The quantized base, in place of the recipe's or of making one.
    #[arg(long, value_name = "DIR")]
    quantized: Option<PathBuf>,
    /// Measure everything that the recipe has, where it says how to do with less.
    #[arg(long)]
    full: bool,
    /// Where the steps' directories go, in a folder of the recipe's name; `out/reproduce` by default.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Worker threads; all cores by default. Results do not depend on it.
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

pub(crate) fn run(sh: &Shell, args: &Args) -> Result<()> {
    let mut recipe = recipe_of(args)?;
    let out = match &args.out {
        Some(out) => workspace::from_callers_folder(out)?,
        None => PathBuf::from("out/reproduce"),
    };
    leave_agents_out_without_python(&mut recipe);
    let steps = steps::all(&recipe, &out.join(&recipe.name));
    if args.dry_run {
        return plan::show(sh, &recipe, &steps, args.threads);
    }
    recipe.check_inputs()?;
    make_synthetic_pair(sh, &recipe)?;
    runner::run(sh, &recipe, &steps, args.threads)?;
    modules::show(&steps)?;
    evaluate::show(&steps)?;
    announce(&steps);
    Ok(())
}

/// Agents run programs in Python, which nothing else needs.
fn leave_agents_out_without_python(recipe: &mut Recipe) {
    let mut agents = recipe.evaluate.iter_mut();
    let wanted = agents.any(|evaluate| !evaluate.agent_arms.is_empty());
    let python = || Command::new("python3").arg("--version").output();
    if wanted && !python().is_ok_and(|output| output.status.success()) {
        println!("no python3 here: the questions to agents are left out");
        for evaluate in &mut recipe.evaluate {
            evaluate.agent_arms.clear();
        }
    }
}

/// Makes what the recipe says is synthetic and is not there yet.
fn make_synthetic_pair(sh: &Shell, recipe: &Recipe) -> Result<()> {
    let Some((synth, folder)) = recipe.synth.as_ref().zip(recipe.synth_folder()) else {
        return Ok(());
    };
    let there = [&recipe.base, &recipe.tuned].map(|dir| workspace::root().join(dir).exists());
    if there == [true, true] {
        return Ok(());
    }
    let out = workspace::root().join(folder);
    let pair = synth::Args::of(&synth.like, synth.layers, out);
    synth::run(sh, &pair)
}

fn recipe_of(args: &Args) -> Result<Recipe> {
    let file = match &args.recipe {
        Some(file) => workspace::from_callers_folder(file)?,
        None => workspace::root().join("recipes/fixture.toml"),
    };
    let mut recipe = Recipe::read(&file)?;
    let given = |path: &PathBuf| workspace::from_callers_folder(path);
    if args.full {
        recipe.fill();
    }
    if let Some(base) = &args.base {
        recipe.base = given(base)?;
    }
    if let Some(tuned) = &args.tuned {
        recipe.tuned = given(tuned)?;
    }
    if let Some(quantized) = &args.quantized {
        recipe.quantized = Some(given(quantized)?);
    }
    Ok(recipe)
}

fn announce(steps: &[steps::Step]) {
    let page = |step: &steps::Step| shown(&workspace::root().join(&step.out).join("report.html"));
    let pages = steps.iter().filter(|step| step.kind == steps::Kind::Page);
    for step in pages {
        println!("\nanswers: {}", page(step));
    }
    let Some(report) = steps.iter().find(|step| step.kind == steps::Kind::Report) else {
        return;
    };
    let show = |file: &str| workspace::root().join(&report.out).join(file);
    println!("\nreport: {}", shown(&show("report.html")));
    println!("        {}", shown(&show("report.md")));
}

/// A path as short as it can be from where the developer stands.
fn shown(path: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(here)
        .unwrap_or(path)
        .display()
        .to_string()
}
