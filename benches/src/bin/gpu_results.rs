//! Takes what the GPU bundle's driver wrote into the benchmarks: `cargo xtask bench gpu --take DIR`.
#![expect(clippy::print_stdout, reason = "the table is the output")]

use anyhow::Result;
use benches::harness::gpu;
use clap::Parser;
use std::path::PathBuf;

/// Takes a run on a GPU.
#[derive(Debug, Parser)]
struct Args {
    /// The folder that the driver wrote.
    #[arg(long, value_name = "DIR")]
    results: PathBuf,
    /// Where the run's folder goes.
    #[arg(long, value_name = "DIR")]
    runs: PathBuf,
    /// Take a run of the driver's device that pretends.
    #[arg(long)]
    rehearsal: bool,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let (folder, table) = gpu::take(&args.results, &args.runs, args.rehearsal)?;
    println!("{}", table.markdown());
    if args.rehearsal {
        println!("this was a rehearsal: it tries the driver and measures nothing");
    } else {
        println!("{} numbers are not what they must be", table.missed());
    }
    println!("every sample is in {}", folder.display());
    Ok(())
}
