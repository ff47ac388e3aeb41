//! Where a verb listens, and whom it lets in.

/// The arguments that `serve` and `balance` share. Their ports differ.
#[derive(Debug, clap::Args)]
pub(crate) struct Listen {
    /// The address to listen on.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    pub(crate) host: String,
    /// A key that requests must carry, once for each. The environment keeps it out of the process list.
    #[arg(
        long,
        value_name = "KEY",
        env = "XGRAFT_API_KEY",
        hide_env_values = true
    )]
    pub(crate) api_key: Vec<String>,
    /// A key for loading and unloading adapters, in place of the others, and for the backends of a balancer.
    #[arg(
        long,
        value_name = "KEY",
        env = "XGRAFT_ADMIN_KEY",
        hide_env_values = true
    )]
    pub(crate) admin_key: Vec<String>,
}
