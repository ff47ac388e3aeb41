//! What every request can reach.

use std::sync::Arc;

use crate::access::AccessLog;
use crate::backends::Backends;
use crate::budget::Budget;
use crate::config::Config;
use crate::metrics::Metrics;

/// One balancer.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) backends: Arc<Backends>,
    pub(crate) budget: Budget,
    pub(crate) metrics: Metrics,
    pub(crate) log: Option<AccessLog>,
}

impl Shared {
    pub(crate) fn new(config: Config, log: Option<AccessLog>) -> Self {
        Self {
            backends: Backends::new(&config),
            budget: Budget::new(&config.retries),
            metrics: Metrics::default(),
            log,
            config,
        }
    }
}
