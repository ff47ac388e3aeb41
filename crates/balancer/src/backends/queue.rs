//! Who waits for a backend, in which order.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{Backends, Lease, Wanted, locked};

/// Why a request got no backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoBackend {
    /// As many wait as may.
    QueueFull,
    /// It waited as long as it may.
    Timeout,
}

#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) ticket: u64,
    pub(super) wanted: Wanted,
    pub(super) sender: oneshot::Sender<Lease>,
}

impl Backends {
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
