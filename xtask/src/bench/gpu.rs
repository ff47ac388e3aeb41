//! `cargo xtask bench gpu`: one file for a machine with a GPU, Python and neither Rust nor a network; its rehearsal without a GPU;
//! and what it brought back.

use crate::workspace;
use anyhow::{Context, Result, ensure};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};
use xshell::{Shell, cmd};

const DRIVER: &str = "benches/gpu/driver";
const NAME: &str = "xgraft-gpu";

/// What to do with the bundle.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Run the bundle's driver on a device that pretends, cut it in the middle, let it go on, and make the pages: nothing is measured.
    #[arg(long, conflicts_with = "take")]
    dry_run: bool,
    /// Take the folder that the driver wrote on a GPU into `benches/runs`, with its table and its figures.
    #[arg(long, value_name = "DIR")]
    take: Option<PathBuf>,
}

pub(crate) fn run(sh: &Shell, args: &Args) -> Result<()> {
    if let Some(results) = &args.take {
        let results = workspace::from_callers_folder(results)?;
        return take(sh, &results, "benches/runs", false);
    }
    let changed = cmd!(sh, "git status --porcelain --untracked-files=no").read()?;
    ensure!(
        args.dry_run || changed.is_empty(),
        "there are changes that no commit has: what the bundle measures must have a name; commit them, or use --dry-run"
    );
    let folder = bundle(sh)?;
    if args.dry_run {
        rehearse(sh, &folder)?;
    }
    Ok(())
}

/// The folder of the bundle, packed beside it.
fn bundle(sh: &Shell) -> Result<PathBuf> {
    let out = workspace::root().join("out/bench/gpu");
    let folder = out.join(NAME);
    if folder.exists() {
        sh.remove_path(&folder)?;
    }
    sh.create_dir(&folder)?;
    cmd!(sh, "cargo build --release --locked --package gpu-bench").run()?;
    let release = workspace::metadata(sh)?.target_directory.join("release");
    let images = folder.join("images");
    cmd!(
        sh,
        "cargo run --quiet --locked --package xgraft-fp8-gemm --example kernels -- --ship {images}"
    )
    .run()?;
    for name in ["gpu", "libxgraft_gpu.so"] {
        sh.copy_file(release.join(name), folder.join(name))?;
    }
    for script in sh.read_dir(DRIVER)? {
        let name = script.file_name().unwrap_or_default().to_string_lossy();
        if name.ends_with(".py") && !name.starts_with("test_") {
            sh.copy_file(&script, &folder)?;
        }
    }
    describe(sh, &folder)?;
    let packed = out.join(format!("{NAME}.tar.gz"));
    cmd!(sh, "tar --sort=name -C {out} -czf {packed} {NAME}").run()?;
    let bytes = fs::metadata(&packed)?.len();
    println!(
        "{}: {:.1} MB. On the machine with the GPU: tar xf {NAME}.tar.gz && python3 {NAME}/run.py --out results; \
         then here: cargo xtask bench gpu --take results",
        packed.display(),
        1e-6 * bytes as f64
    );
    Ok(folder)
}

/// `bundle.json`: what it was made of, and the digest of every file.
fn describe(sh: &Shell, folder: &Path) -> Result<()> {
    let manifest = sh.read_file(folder.join("images/kernels.json"))?;
    let manifest: serde_json::Value = serde_json::from_str(&manifest)?;
    let revision = cmd!(sh, "git describe --always --dirty --abbrev=12").read()?;
    let _guard = sh.push_dir(folder);
    let each = "{}";
    let sums = cmd!(sh, "find . -type f -exec sha256sum {each} +").read()?;
    let mut files = serde_json::Map::new();
    for line in sums.lines() {
        let (sum, name) = line.split_once("  ./").context("a line of sha256sum")?;
        files.insert(name.to_owned(), sum.into());
    }
    let bundle = serde_json::json!({
        "revision": revision,
        "compiler": manifest["compiler"],
        "images": files["images/kernels.json"],
        "files": files,
    });
    sh.write_file("bundle.json", serde_json::to_string_pretty(&bundle)? + "\n")?;
    Ok(())
}

/// The whole way without a GPU: the driver's own tests, a run that is killed, the rest of it, and the pages.
fn rehearse(sh: &Shell, folder: &Path) -> Result<()> {
    test_driver(sh)?;
    let results = workspace::root().join("out/bench/gpu/rehearsal");
    if results.exists() {
        sh.remove_path(&results)?;
    }
    let drive = |more: &[&str]| -> Result<Option<i32>> {
        let mut command = Command::new("python3");
        command
            .arg(folder.join("run.py"))
            .arg("--out")
            .arg(&results);
        let status = command.args(["--mock", "1"]).args(more).status();
        Ok(status.context("python3 cannot be started")?.code())
    };
    let cut = drive(&["--faults", "kill=400"])?;
    ensure!(cut != Some(0), "the driver was to be killed, and was not");
    println!("\nthe driver was killed at its 400th sample; it goes on:\n");
    let code = drive(&[])?;
    ensure!(code == Some(0), "the driver ended with {code:?}");
    take(sh, &results, "out/bench/gpu/runs", true)
}

/// The driver's tests, which need a Python and no GPU.
pub(crate) fn test_driver(sh: &Shell) -> Result<()> {
    let _guard = sh.push_dir(DRIVER);
    cmd!(sh, "python3 -m unittest --quiet test_driver").run()?;
    Ok(())
}

fn take(sh: &Shell, results: &Path, runs: &str, rehearsal: bool) -> Result<()> {
    let rehearsal = rehearsal.then_some("--rehearsal");
    cmd!(
        sh,
        "cargo run --quiet --locked --package benches --bin gpu_results -- --results {results} --runs {runs} {rehearsal...}"
    )
    .run()?;
    Ok(())
}
