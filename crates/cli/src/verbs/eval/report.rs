//! `xgraft eval report`

use std::process::ExitCode;

use serde_json::json;
use xgraft_checkpoint::OutputDir;
use xgraft_eval::browse::{self, Run};
use xgraft_plot::{Rendered, Source};

use super::stats;
use crate::args::{Always, Compared, EvalReport};
use crate::output::say_page;

pub(crate) fn run(args: &EvalReport, always: &Always) -> anyhow::Result<ExitCode> {
    let report = stats::compare(&args.compared)?;
    let runs = runs(&args.compared);
    let questions = match &runs[..] {
        [] => String::new(),
        runs => browse::section(runs)?,
    };
    let config = stats::config(&args.compared, &report);
    let work = json!({"verb": "eval report", "config": config, "title": args.title});
    let out = OutputDir::create(&args.out, args.output.force, &work)?;
    for path in stats::paths(&args.compared) {
        out.refuse_input(path)?;
    }
    let rows = report.rows();
    stats::account("eval report", &args.compared, &report, &rows)?.write(out.path())?;
    let source = Source {
        label: "answers".to_owned(),
        dir: out.path().to_owned(),
        totals: false,
    };
    xgraft_plot::report(&args.title, &[source])?
        .with_appendix(&questions)
        .write(out.path())?;
    out.commit()?;
    say_page(&args.out.join(Rendered::HTML), always)?;
    Ok(ExitCode::SUCCESS)
}

/// The inputs that have questions.
fn runs(args: &Compared) -> Vec<Run> {
    let tables = |path: &std::path::Path| path.extension().is_some_and(|e| e == "json");
    let with_questions = args.inputs.iter().filter(|input| !tables(&input.path));
    let run = |input: &crate::args::NamedPath| Run {
        name: input.name.clone(),
        path: input.path.clone(),
    };
    with_questions.map(run).collect()
}
