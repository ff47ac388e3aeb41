//! What the callers' threads and the compute thread know of each other.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use super::{Refused, Stats};

/// Lets requests in, and keeps the latest numbers of the compute thread.
#[derive(Debug)]
pub(crate) struct Gate {
    max_waiting: usize,
    waiting: AtomicUsize,
    /// Sequences that could be admitted at once.
    idle: AtomicUsize,
    draining: AtomicBool,
    failure: OnceLock<String>,
    stats: Mutex<Stats>,
    /// Mean nanoseconds between two ends of requests.
    interval: AtomicU64,
}

/// A place among the waiting, given back when dropped.
#[derive(Debug)]
pub(crate) struct Ticket(Arc<Gate>);

impl Drop for Ticket {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Gate {
    pub(crate) fn new(max_waiting: usize, idle: usize, stats: Stats) -> Self {
        Self {
            max_waiting,
            waiting: AtomicUsize::new(0),
            idle: AtomicUsize::new(idle),
            draining: AtomicBool::new(false),
            failure: OnceLock::new(),
            stats: Mutex::new(stats),
            interval: AtomicU64::new(0),
        }
    }

    /// A place among the waiting: as many as may wait, and as many as need not.
    pub(crate) fn enter(self: &Arc<Self>) -> Result<Ticket, Refused> {
        if let Some(failure) = self.failure() {
            return Err(Refused::Failed(failure));
        }
        if self.draining.load(Ordering::Acquire) {
            return Err(Refused::Draining);
        }
        let most = self.max_waiting + self.idle.load(Ordering::Acquire);
        let entered = self
            .waiting
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |waiting| {
                (waiting < most).then_some(waiting + 1)
            });
        match entered {
            Ok(_) => Ok(Ticket(Arc::clone(self))),
            Err(waiting) => Err(Refused::QueueFull {
                waiting,
                retry_after: self.retry_after(),
            }),
        }
    }

    /// A place among the waiting becomes free about as often as a request ends.
    fn retry_after(&self) -> Duration {
        let interval = Duration::from_nanos(self.interval.load(Ordering::Relaxed));
        interval.clamp(Duration::from_secs(1), Duration::from_secs(60))
    }

    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    pub(crate) fn fail(&self, message: &str) {
        // The first reason stays.
        let _ = self.failure.set(message.to_owned());
    }

    pub(crate) fn failure(&self) -> Option<String> {
        self.failure.get().cloned()
    }

    /// A request ended so long after the one before it.
    pub(crate) fn ended_after(&self, interval: Duration) {
        let now = u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX);
        let mean = self.interval.load(Ordering::Relaxed);
        let mean = if mean == 0 {
            now
        } else {
            mean / 8 * 7 + now / 8
        };
        self.interval.store(mean, Ordering::Relaxed);
    }

    /// The compute thread's numbers; [`Stats::waiting`] without those that hold a ticket.
    pub(crate) fn publish(&self, stats: Stats, idle: usize) {
        self.idle.store(idle, Ordering::Release);
        *self.stats.lock().unwrap_or_else(PoisonError::into_inner) = stats;
    }

    pub(crate) fn stats(&self) -> Stats {
        let mut stats = *self.stats.lock().unwrap_or_else(PoisonError::into_inner);
        stats.waiting += self.waiting.load(Ordering::Acquire);
        stats
    }
}
