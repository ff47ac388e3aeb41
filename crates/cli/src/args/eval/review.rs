//! The arguments of `xgraft eval review`.

use std::path::PathBuf;

/// Open a local page on which a person looks at answers.
///
/// It shows question, reference, answer, signals and the judge's reason, and not the arm. Keys: 1 right, 0 wrong, n cannot say.
/// Every decision is on the disk, with who and when, before the page goes on. Ctrl-C ends it.
#[derive(Debug, clap::Args)]
pub(crate) struct Review {
    /// The folder of an annotated run.
    #[arg(value_name = "RUN")]
    pub(crate) run: PathBuf,
    /// Who decides.
    #[arg(long, value_name = "NAME", env = "USER")]
    pub(crate) reviewer: String,
    /// The port on 127.0.0.1; any free one for 0.
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    pub(crate) port: u16,
    /// Also show what rules have settled.
    #[arg(long)]
    pub(crate) all: bool,
    /// Show so many answers at most.
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<usize>,
}
