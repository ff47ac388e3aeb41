//! Arguments of `xgraft fleet` and `xgraft diagnose`.

use std::path::PathBuf;

use clap::Args as ClapArgs;

/// Start several servers and the balancer before them, and keep them alive.
///
/// The file says which servers there are; see docs/balancing.md. One that ends is started again after a
/// pause. Ctrl-C lets running requests come to their end and then ends all of them.
#[derive(Debug, ClapArgs)]
pub(crate) struct Fleet {
    /// What is to run.
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
}

/// Say what a person asks when a fleet does not work.
///
/// Ports, health, models, the end of each log, memory, GPUs. Exits 1 when a server does not answer.
#[derive(Debug, ClapArgs)]
pub(crate) struct Diagnose {
    /// The file of `xgraft fleet`.
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Lines of each log.
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub(crate) lines: usize,
}
