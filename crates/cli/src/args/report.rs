//! The arguments of `xgraft report`.

use super::Overwrite;
use std::path::PathBuf;

/// Make one HTML and Markdown report of the rows of several steps.
#[derive(Debug, clap::Args)]
pub(crate) struct Report {
    /// Output directories of other verbs, as `DIR` or `LABEL=DIR`.
    #[arg(value_name = "DIR", required_unless_present = "totals")]
    pub(crate) inputs: Vec<String>,
    /// The same, of which only the totals over all modules are read: for many arms beside each other.
    #[arg(long, value_name = "DIR")]
    pub(crate) totals: Vec<String>,
    /// Where the report goes.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Title of the report.
    #[arg(long, default_value = "xgraft report")]
    pub(crate) title: String,
    #[command(flatten)]
    pub(crate) output: Overwrite,
}
