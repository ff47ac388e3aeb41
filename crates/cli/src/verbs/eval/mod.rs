//! `xgraft eval`: one file a subcommand.

mod annotate;
mod keys;
mod report;
mod review;
mod run;
mod show;
mod stats;
mod stats_text;

use std::process::ExitCode;

use crate::args::{Always, Eval, EvalVerb};

pub(crate) fn run(args: &Eval, always: &Always) -> anyhow::Result<ExitCode> {
    match &args.verb {
        EvalVerb::Run(verb) => run::run(verb, always),
        EvalVerb::Annotate(verb) => annotate::run(verb, always),
        EvalVerb::Review(verb) => review::run(verb, always),
        EvalVerb::Stats(verb) => stats::run(verb, always),
        EvalVerb::Report(verb) => report::run(verb, always),
    }
}
