//! Arguments of `xgraft eval`: one file a subcommand.

mod run;

use clap::{Args as ClapArgs, Subcommand};

pub(crate) use self::run::{EvalRun, SandboxArg};

/// Ask an endpoint the questions of a benchmark, and score what comes back.
#[derive(Debug, ClapArgs)]
pub(crate) struct Eval {
    #[command(subcommand)]
    pub(crate) verb: EvalVerb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum EvalVerb {
    /// Ask an endpoint every question, and log what happens.
    Run(Box<EvalRun>),
}
