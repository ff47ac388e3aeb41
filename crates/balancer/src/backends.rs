//! Who is there, who is next, and who waits.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::backend::{Backend, Offer};
use crate::clock;
use crate::config::{BackendUrl, Config, Limits};
use crate::models::ModelList;

/// All backends. Choosing one takes no lock; a lock is taken when a request has to wait.
#[derive(Debug)]
pub(crate) struct Backends {
    table: ArcSwap<Table>,
    queue: Mutex<VecDeque<Waiter>>,
    /// The queue's length, for those who only want to know whether anybody waits.
    waiting: AtomicUsize,
    tickets: AtomicU64,
    limits: Limits,
    slow_start: std::time::Duration,
    edits: Mutex<()>,
}

/// The backends at one time.
#[derive(Debug, Default)]
pub(crate) struct Table {
    pub(crate) all: Vec<Arc<Backend>>,
    /// For every model that somebody has, those that have it and those of which it is not known.
    models: HashMap<Box<str>, Vec<usize>>,
}

/// What a request wants of a backend.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wanted {
    /// The model or adapter.
    pub(crate) model: Option<Box<str>>,
    /// Backends that failed it already, by id. They are asked again only if nobody else is there.
    pub(crate) avoid: Vec<u64>,
    /// Only such that go on after given token ids.
    pub(crate) continues: bool,
    /// Among equals, the one that this number chooses.
    pub(crate) affinity: Option<u64>,
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

/// Why a request got no backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoBackend {
    /// As many wait as may.
    QueueFull,
    /// It waited as long as it may.
    Timeout,
}

#[derive(Debug)]
struct Waiter {
    ticket: u64,
    wanted: Wanted,
    sender: oneshot::Sender<Lease>,
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

    /// As [`pick`](Self::pick), but waits for its turn. Dropping the future leaves the queue.
    pub(crate) async fn acquire(
        self: &Arc<Self>,
        wanted: &Wanted,
        deadline: Instant,
    ) -> Result<Lease, NoBackend> {
        if self.waiting() == 0
            && let Some(lease) = self.pick(wanted)
        {
            return Ok(lease);
        }
        let mut place = self.enqueue(wanted)?;
        self.dispatch();
        match tokio::time::timeout_at(deadline, &mut place.receiver).await {
            Ok(Ok(lease)) => Ok(lease),
            Ok(Err(_)) | Err(_) => Err(NoBackend::Timeout),
        }
    }

    fn enqueue(self: &Arc<Self>, wanted: &Wanted) -> Result<Place, NoBackend> {
        let mut queue = locked(&self.queue);
        if queue.len() >= self.limits.queue {
            return Err(NoBackend::QueueFull);
        }
        let (sender, receiver) = oneshot::channel();
        let ticket = self.tickets.fetch_add(1, Ordering::Relaxed);
        queue.push_back(Waiter {
            ticket,
            wanted: wanted.clone(),
            sender,
        });
        self.waiting.store(queue.len(), Ordering::SeqCst);
        Ok(Place {
            ticket,
            receiver,
            backends: self.clone(),
        })
    }

    /// Gives room to those who wait, in their order, as far as there is some for them.
    pub(crate) fn dispatch(self: &Arc<Self>) {
        // What a waiter that left gave back; dropped after the lock.
        let mut returned = Vec::new();
        let mut queue = locked(&self.queue);
        let mut stuck: Vec<Option<Box<str>>> = Vec::new();
        let mut at = 0;
        while at < queue.len() {
            let wanted = &queue[at].wanted;
            if stuck.contains(&wanted.model) {
                at += 1;
                continue;
            }
            let Some(lease) = self.pick(wanted) else {
                // Who avoids somebody may be stuck where others of his model are not.
                if wanted.avoid.is_empty() {
                    stuck.push(wanted.model.clone());
                }
                at += 1;
                continue;
            };
            if let Some(waiter) = queue.remove(at)
                && let Err(lease) = waiter.sender.send(lease)
            {
                returned.push(lease);
            }
        }
        self.waiting.store(queue.len(), Ordering::SeqCst);
        drop(queue);
        drop(returned);
    }

    fn random(&self) -> u64 {
        mix(self.tickets.fetch_add(1, Ordering::Relaxed))
    }
}

/// A place in the queue, left when it is dropped.
#[derive(Debug)]
struct Place {
    ticket: u64,
    receiver: oneshot::Receiver<Lease>,
    backends: Arc<Backends>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut queue = locked(&self.backends.queue);
        if let Some(at) = queue.iter().position(|waiter| waiter.ticket == self.ticket) {
            queue.remove(at);
            self.backends.waiting.store(queue.len(), Ordering::SeqCst);
        }
    }
}

impl Table {
    fn of(all: Vec<Arc<Backend>>) -> Self {
        let lists: Vec<ModelList> = all.iter().map(|backend| backend.models()).collect();
        let mut models: HashMap<Box<str>, Vec<usize>> = HashMap::new();
        for name in lists.iter().flat_map(ModelList::names) {
            models.entry(name.into()).or_default();
        }
        for (name, holders) in &mut models {
            let may_have =
                |(index, list): (usize, &ModelList)| list.may_have(name).then_some(index);
            holders.extend(lists.iter().enumerate().filter_map(may_have));
        }
        Self { all, models }
    }

    /// Those that can have what is wanted; all, if nobody says that he has it, so that its refusal is a backend's own.
    pub(crate) fn candidates(&self, wanted: &Wanted) -> impl Iterator<Item = &Arc<Backend>> {
        let listed = wanted
            .model
            .as_deref()
            .and_then(|model| self.models.get(model));
        let (some, every) = match listed {
            Some(indices) => (indices.as_slice(), &[][..]),
            None => (&[][..], self.all.as_slice()),
        };
        let fits = |backend: &&Arc<Backend>| !wanted.continues || backend.models().continues();
        some.iter()
            .map(|index| &self.all[*index])
            .chain(every)
            .filter(fits)
    }

    fn least(&self, wanted: &Wanted, now: u64, random: u64) -> Option<(&Arc<Backend>, Offer)> {
        let fresh = |backend: &&Arc<Backend>| !wanted.avoid.contains(&backend.id);
        let avoids = !wanted.avoid.is_empty();
        let somebody_else = avoids
            && self
                .candidates(wanted)
                .any(|backend| fresh(&backend) && backend.takes_requests(now));
        let mut best: Option<(&Arc<Backend>, Offer, u64)> = None;
        let mut ties = 0;
        for backend in self.candidates(wanted) {
            if somebody_else && !fresh(&backend) {
                continue;
            }
            let Some(offer) = backend.offer(now) else {
                continue;
            };
            // Each of k equals comes out with a chance of 1/k; with affinity, the one of the highest score does.
            let score = |id: u64| wanted.affinity.map_or(0, |key| mix(key ^ mix(id)));
            let better = match &best {
                None => true,
                Some((_, least, _)) if offer.load != least.load => offer.load < least.load,
                Some((_, _, highest)) if wanted.affinity.is_some() => score(backend.id) > *highest,
                Some(_) => {
                    ties += 1;
                    mix(random ^ ties).is_multiple_of(ties + 1)
                }
            };
            if better {
                if best
                    .as_ref()
                    .is_some_and(|(_, least, _)| offer.load < least.load)
                {
                    ties = 0;
                }
                best = Some((backend, offer, score(backend.id)));
            }
        }
        best.map(|(backend, offer, _)| (backend, offer))
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
