//! `xgraft dequantize`

use std::process::ExitCode;

use xgraft_checkpoint::{Checkpoint, OutputDir};
use xgraft_quantize::{Config, dequantize, fingerprint};

use super::quantize::{finish, finished};
use crate::args::{Always, Dequantize};
use crate::progress::{Progress, rewriting};

pub(crate) fn run(args: &Dequantize, always: &Always) -> anyhow::Result<ExitCode> {
    let config = Config {
        max_shard_bytes: args.shards.max_shard_size,
        ..Config::default()
    };
    let source = Checkpoint::open(&args.dir)?;
    let reference = args.reference.as_ref().map(Checkpoint::open).transpose()?;
    let reference = reference.as_ref();
    let work = fingerprint("dequantize", &source, reference, &config);
    let out = OutputDir::create(&args.out, args.output.force, &work)?;
    out.refuse_input(&args.dir)?;
    if let Some(reference) = &args.reference {
        out.refuse_input(reference)?;
    }
    let progress = Progress::new("dequantize", "byte");
    let result = dequantize(&source, reference, &config, &out, &|event| {
        rewriting(&progress, &event).map_err(|()| xgraft_quantize::Error::Interrupted)
    });
    progress.finish();
    let (done, out) = finished(result, out)?;
    finish(&done, "dequantize", work, out, &args.out, always)
}
