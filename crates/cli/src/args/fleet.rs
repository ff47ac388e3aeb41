//! Arguments of `xgraft fleet` and `xgraft diagnose`.

use std::path::PathBuf;

use clap::Args as ClapArgs;

/// Start several servers and the balancer before them, and keep them alive.
///
/// The file says which servers there are; see docs/balancing.md. Relative paths in it are relative to it.
/// One that ends or hangs is started again after a pause. Ctrl-C, SIGTERM and SIGHUP let running requests come
/// to their end and then end all servers; a second one ends them at once.
/// Keys are those of `xgraft balance`; servers want the backends' key, or the clients' if there is no other.
#[derive(Debug, ClapArgs)]
pub(crate) struct Fleet {
    /// What is to run.
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
}

/// Say what a person asks when a fleet does not work.
///
/// Ports, health, models, adapters, the end of each log, memory of processes, GPUs. Exits 1 when a server does
/// not answer.
#[derive(Debug, ClapArgs)]
pub(crate) struct Diagnose {
    /// The file of `xgraft fleet`.
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Where the balancer is; by default where the file says.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) host: Option<String>,
    /// The key that the balancer wants; by default as for `xgraft fleet`.
    #[arg(long, value_name = "KEY")]
    pub(crate) api_key: Option<String>,
    /// Lines of each log.
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub(crate) lines: usize,
}
