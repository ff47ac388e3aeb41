//! Who is there, who is next, and who waits.

mod queue;
mod table;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;

pub(crate) use self::queue::NoBackend;
use self::queue::Waiter;
pub(crate) use self::table::{Table, Wanted};
use crate::backend::Backend;
use crate::clock;
use crate::config::{BackendUrl, Config, Limits};

/// All backends. Choosing one takes no lock; a lock is taken when a request has to wait.
#[derive(Debug)]
pub(crate) struct Backends {
    table: ArcSwap<Table>,
    queue: Mutex<VecDeque<Waiter>>,
    /// The queue's length, for those who only want to know whether anybody waits.
    waiting: AtomicUsize,
    tickets: AtomicU64,
    limits: Limits,
    slow_start: Duration,
    edits: Mutex<()>,
}

/// One request in flight at a backend, until it is dropped.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) backend: Arc<Backend>,
    backends: Arc<Backends>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.backend.release();
        if self.backends.waiting.load(Ordering::SeqCst) > 0 {
            self.backends.dispatch();
        }
    }
}

impl Backends {
    pub(crate) fn new(config: &Config) -> Arc<Self> {
        Arc::new(Self {
            table: ArcSwap::default(),
            queue: Mutex::default(),
            waiting: AtomicUsize::new(0),
            tickets: AtomicU64::new(0),
            limits: config.limits,
            slow_start: config.health.slow_start,
            edits: Mutex::new(()),
        })
    }

    /// As they are now.
    pub(crate) fn table(&self) -> Arc<Table> {
        self.table.load_full()
    }

    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::SeqCst)
    }

    /// The one of this address.
    pub(crate) fn find(&self, url: &BackendUrl) -> Option<Arc<Backend>> {
        let table = self.table.load();
        table
            .all
            .iter()
            .find(|backend| backend.url == *url)
            .cloned()
    }

    /// Adds one, of which nothing is known yet; nothing if it is there.
    pub(crate) fn add(&self, url: BackendUrl) -> Option<Arc<Backend>> {
        let _edit = locked(&self.edits);
        if self.find(&url).is_some() {
            return None;
        }
        let backend = Arc::new(Backend::new(url, self.limits.in_flight, self.slow_start));
        let mut all = self.table.load().all.clone();
        all.push(backend.clone());
        self.table.store(Arc::new(Table::of(all)));
        Some(backend)
    }

    /// Takes one away; what it has in flight comes to its end. Says whether it was there.
    pub(crate) fn remove(&self, url: &BackendUrl) -> bool {
        let _edit = locked(&self.edits);
        let mut all = self.table.load().all.clone();
        let Some(at) = all.iter().position(|backend| backend.url == *url) else {
            return false;
        };
        all.remove(at).remove();
        self.table.store(Arc::new(Table::of(all)));
        true
    }

    /// The models of some backend are others than before.
    pub(crate) fn models_changed(self: &Arc<Self>) {
        let edit = locked(&self.edits);
        let all = self.table.load().all.clone();
        self.table.store(Arc::new(Table::of(all)));
        drop(edit);
        self.dispatch();
    }

    /// A backend with the least in flight of those that the request can go to; nothing if none has room.
    pub(crate) fn pick(self: &Arc<Self>, wanted: &Wanted) -> Option<Lease> {
        let table = self.table.load();
        let now = clock::now();
        loop {
            let (backend, offer) = table.least(wanted, now, self.random())?;
            if backend.accept(offer) {
                return Some(Lease {
                    backend: backend.clone(),
                    backends: self.clone(),
                });
            }
        }
    }

    /// The backend gets nothing for so long; then those that wait are looked at again.
    pub(crate) fn pause(self: &Arc<Self>, backend: &Backend, duration: Duration) {
        backend.pause(duration);
        let backends = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(duration).await;
            backends.dispatch();
        });
    }

    /// Whether somebody else could take it now.
    pub(crate) fn has_other(&self, wanted: &Wanted, than: u64) -> bool {
        let table = self.table.load();
        let now = clock::now();
        table.candidates(wanted).any(|backend| {
            backend.id != than
                && !wanted.avoid.contains(&backend.id)
                && backend.offer(now).is_some()
        })
    }

    /// Whether this is the only one that takes requests.
    pub(crate) fn is_last(&self, backend: &Backend) -> bool {
        let table = self.table.load();
        let now = clock::now();
        !table
            .all
            .iter()
            .any(|other| other.id != backend.id && other.takes_requests(now))
    }

    /// Whether at least half of those that are not drained take requests without this one.
    pub(crate) fn can_spare(&self, backend: &Backend) -> bool {
        let table = self.table.load();
        let now = clock::now();
        let all = table.all.iter().filter(|one| !one.is_drained()).count();
        let others = |one: &&Arc<Backend>| one.id != backend.id && one.takes_requests(now);
        2 * table.all.iter().filter(others).count() >= all
    }

    fn random(&self) -> u64 {
        mix(self.tickets.fetch_add(1, Ordering::Relaxed))
    }
}

/// A permutation of the numbers of 64 bits that looks like chance.
pub(crate) fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
