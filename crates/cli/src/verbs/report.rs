//! `xgraft report`

use std::process::ExitCode;

use anyhow::Context as _;
use serde_json::json;
use xgraft_checkpoint::{Digest, OutputDir};
use xgraft_plot::{Rendered, Source, report};
use xgraft_results::{Input, Manifest};

use crate::args::{Always, Report};
use crate::output::say_page;

/// The files of a source that a report reads.
const READ: [&str; 3] = ["rows.jsonl", "findings.jsonl", Manifest::FILE];

pub(crate) fn run(args: &Report, always: &Always) -> anyhow::Result<ExitCode> {
    let whole = args.inputs.iter().map(|text| Source::parse(text));
    let totals = args.totals.iter().map(|text| Source::parse(text).totals());
    let sources: Vec<Source> = whole.chain(totals).collect();
    let config = json!({ "title": args.title, "inputs": args.inputs, "totals": args.totals });
    let rendered = report(&args.title, &sources)?;
    let out = OutputDir::create(
        &args.out,
        args.output.force,
        &json!({ "verb": "report", "config": config }),
    )?;
    for source in &sources {
        out.refuse_input(&source.dir)?;
    }
    rendered.write(out.path())?;
    let manifest = Manifest {
        tool: xgraft_results::tool!("xgraft"),
        verb: "report".to_owned(),
        config,
        seed: None,
        inputs: inputs(&sources)?,
    };
    out.write_atomic(Manifest::FILE, &manifest.to_bytes()?)?;
    out.commit()?;
    say_page(&args.out.join(Rendered::HTML), always)?;
    Ok(ExitCode::SUCCESS)
}

fn inputs(sources: &[Source]) -> anyhow::Result<Vec<Input>> {
    let mut inputs = Vec::new();
    for source in sources {
        for file in READ {
            let path = source.dir.join(file);
            if !path.is_file() {
                continue;
            }
            let bytes = fs_err::read(&path).context("cannot read a source of the report")?;
            inputs.push(Input {
                role: source.label.clone(),
                tensor: None,
                file: file.to_owned(),
                blake3: Digest::of(&bytes).to_hex(),
                bytes: bytes.len() as u64,
            });
        }
    }
    Ok(inputs)
}
