//! Tells the binary which git revision it is built from, as `XGRAFT_GIT`; nothing where that cannot be known.
//!
//! The variable may be set from outside, for builds of an archive.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-env-changed=XGRAFT_GIT");
    // any source may have changed, or been committed
    for path in ["../../crates", "../../Cargo.lock"] {
        println!("cargo::rerun-if-changed={path}");
    }
    if std::env::var_os("XGRAFT_GIT").is_some() {
        return;
    }
    for file in ["HEAD", "logs/HEAD"] {
        if let Some(path) = git(&["rev-parse", "--git-path", file]) {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    // an archive that was unpacked inside another repository
    if git(&["ls-files", "--error-unmatch", "Cargo.toml"]).is_none() {
        return;
    }
    let Some(revision) = git(&["rev-parse", "--short=12", "HEAD"]) else {
        return;
    };
    let changes = git(&[
        "status",
        "--porcelain",
        "--untracked-files=no",
        "--",
        "../../crates",
        "../../Cargo.lock",
    ]);
    let mark = match changes.as_deref() {
        Some("") => "",
        _ => "+changes",
    };
    println!("cargo::rustc-env=XGRAFT_GIT={revision}{mark}");
}

/// What git answers, if it is there and this is a repository.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
