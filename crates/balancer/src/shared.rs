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

    /// A socket could not be opened for want of something of this machine's own. Said less and less often.
    pub(crate) fn lacks_something(&self) {
        self.metrics.local_errors.add();
        let times = self.metrics.local_errors.get();
        if times.is_power_of_two() {
            tracing::warn!(
                times,
                "no socket could be opened: this machine lacks descriptors, ports or memory; \
                 the backends are not to blame. Raise the limit of open files (ulimit -Hn), or lower --max-connections"
            );
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
