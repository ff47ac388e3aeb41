//! `xgraft report`

use std::process::ExitCode;

use serde_json::json;
use xgraft_checkpoint::OutputDir;
use xgraft_plot::{Rendered, Source, report};

use crate::args::{Global, Report};
use crate::output::{say, say_json};

pub(crate) fn run(args: &Report, global: &Global) -> anyhow::Result<ExitCode> {
    let sources: Vec<Source> = args.inputs.iter().map(|text| Source::parse(text)).collect();
    let work = json!({ "verb": "report", "title": args.title, "inputs": args.inputs });
    let rendered = report(&args.title, &sources)?;
    let out = OutputDir::create(&args.out, global.force, &work)?;
    for source in &sources {
        out.refuse_input(&source.dir)?;
    }
    rendered.write(out.path())?;
    out.commit()?;
    let page = args.out.join(Rendered::HTML);
    if global.json {
        say_json(&json!({ "report": page }))?;
    } else {
        say(&format!("report: {}", page.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}
