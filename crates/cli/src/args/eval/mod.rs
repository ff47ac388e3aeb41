//! Arguments of `xgraft eval`: one file a subcommand.

mod annotate;
mod review;
mod run;
mod stats;

use clap::{Args as ClapArgs, Subcommand};

pub(crate) use self::annotate::Annotate;
pub(crate) use self::review::Review;
pub(crate) use self::run::{EvalRun, SandboxArg};
pub(crate) use self::stats::{Compared, EvalReport, NamedPath, Stats};

/// Ask an endpoint the questions of a benchmark, and say what the answers are worth.
#[derive(Debug, ClapArgs)]
pub(crate) struct Eval {
    #[command(subcommand)]
    pub(crate) verb: EvalVerb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum EvalVerb {
    /// Ask an endpoint every question, and log what happens.
    Run(Box<EvalRun>),
    /// Say of finished answers whether they are right beyond their form: by rules, by a judge, by people.
    Annotate(Annotate),
    /// Open a local page on which a person looks at answers.
    Review(Review),
    /// Count and compare arms, and say which claims hold.
    Stats(Stats),
    /// The same as one page that can be sent by mail, with every question and what the arms said to it.
    Report(EvalReport),
}

impl EvalVerb {
    /// The worker threads that were asked for.
    pub(super) fn threads(&self) -> Option<usize> {
        match self {
            Self::Stats(verb) => verb.pool.threads,
            Self::Report(verb) => verb.pool.threads,
            Self::Run(_) | Self::Annotate(_) | Self::Review(_) => None,
        }
    }
}
