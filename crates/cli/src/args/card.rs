//! The arguments of `xgraft card`.

use super::Overwrite;
use std::path::PathBuf;

/// Write the model card of something that xgraft made, from its manifest.
///
/// `README.md` in the directory itself, with the metadata that the hub reads. It says what the manifest and the report
/// prove, and nothing of accuracy.
#[derive(Debug, clap::Args)]
pub(crate) struct Card {
    /// The adapter or checkpoint.
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// The base model's name on the hub; by default what the configuration says, if that is such a name.
    #[arg(long, value_name = "ORG/NAME")]
    pub(crate) base_model: Option<String>,
    /// The licence of the weights, as the hub's list calls it (`apache-2.0`); or `other`.
    #[arg(long, value_name = "ID")]
    pub(crate) license: Option<String>,
    /// The name of a licence that is `other`.
    #[arg(long, value_name = "NAME", requires = "license")]
    pub(crate) license_name: Option<String>,
    /// Where a licence that is `other` can be read: a file of the repository, or a URL.
    #[arg(long, value_name = "LINK", requires = "license")]
    pub(crate) license_link: Option<String>,
    /// The heading; the directory's name by default.
    #[arg(long)]
    pub(crate) title: Option<String>,
    #[command(flatten)]
    pub(crate) output: Overwrite,
}
