//! `xgraft eval`: one file a subcommand.

mod keys;
mod run;
mod show;

use std::process::ExitCode;

use crate::args::{Always, Eval, EvalVerb};

pub(crate) fn run(args: &Eval, always: &Always) -> anyhow::Result<ExitCode> {
    match &args.verb {
        EvalVerb::Run(verb) => run::run(verb, always),
    }
}
