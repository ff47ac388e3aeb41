//! What every request can reach.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::Handle;

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
    runtimes: Mutex<Vec<Handle>>,
}

impl Shared {
    pub(crate) fn new(config: Config, log: Option<AccessLog>) -> Self {
        Self {
            backends: Backends::new(&config),
            budget: Budget::new(&config.retries),
            metrics: Metrics::default(),
            log,
            config,
            runtimes: Mutex::default(),
        }
    }

    /// Counts what runs here from now on.
    pub(crate) fn runs_on(&self, runtime: &Handle) {
        let mut all = self.runtimes.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(runtime.clone());
    }

    /// Tasks that are alive: connections of clients and to backends, and those that watch backends.
    pub(crate) fn tasks(&self) -> usize {
        let all = self.runtimes.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter()
            .map(|runtime| runtime.metrics().num_alive_tasks())
            .sum()
    }
}
