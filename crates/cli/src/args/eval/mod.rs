//! The arguments of `xgraft eval`.

mod annotate;
mod review;
mod stats;

use clap::Subcommand;

pub(crate) use self::annotate::Annotate;
pub(crate) use self::review::Review;
pub(crate) use self::stats::{NamedPath, Stats};

/// Measure what models answer.
#[derive(Debug, clap::Args)]
pub(crate) struct Eval {
    #[command(subcommand)]
    pub(crate) verb: EvalVerb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum EvalVerb {
    /// Say of finished answers whether they are right beyond their form: by rules, by a judge, by people.
    Annotate(Annotate),
    /// Open a local page on which a person looks at answers.
    Review(Review),
    /// Count and compare arms, and say which claims hold.
    Stats(Stats),
}

impl EvalVerb {
    /// The worker threads that were asked for.
    pub(super) fn threads(&self) -> Option<usize> {
        match self {
            Self::Stats(verb) => verb.pool.threads,
            Self::Annotate(_) | Self::Review(_) => None,
        }
    }
}
