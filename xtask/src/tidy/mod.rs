//! `cargo xtask tidy`: what cargo and clippy cannot check. Each check is one file and returns its faults as lines.

mod architecture;
mod dependencies;
pub(crate) mod ignored;
mod links;
mod source;
mod text;
mod toolchain;
mod unsafe_code;

use crate::workspace;
use anyhow::{Result, bail};
use xshell::Shell;

pub(crate) fn run(sh: &Shell) -> Result<()> {
    let metadata = workspace::metadata(sh)?;
    let files = workspace::files(sh)?;
    let checks = [
        ("dependencies", dependencies::faults(&metadata)),
        ("toolchain", toolchain::faults(&metadata)?),
        ("architecture", architecture::faults(&metadata)?),
        ("unsafe code", unsafe_code::faults(&files)?),
        ("ignored tests", ignored::faults(&files)?),
        ("paths, hosts, sizes", text::faults(&files)?),
        ("links", links::faults(&files)?),
    ];
    let mut count = 0;
    for (name, faults) in &checks {
        println!("tidy: {name}: {}", verdict(faults.len()));
        for fault in faults {
            println!("  {fault}");
        }
        count += faults.len();
    }
    if count > 0 {
        bail!("tidy found {}", verdict(count));
    }
    let packages = metadata.packages.len();
    println!(
        "tidy: {packages} packages and {} files are tidy",
        files.len()
    );
    Ok(())
}

fn verdict(faults: usize) -> String {
    match faults {
        0 => "ok".to_owned(),
        1 => "1 fault".to_owned(),
        n => format!("{n} faults"),
    }
}
