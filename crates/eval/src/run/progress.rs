//! How far a run is: counters that whoever shows them may read at any time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use xgraft_dataset::{Class, Usage};

/// Counters of a run.
#[derive(Clone, Debug, Default)]
pub struct Progress(Arc<Counters>);

#[derive(Debug, Default)]
struct Counters {
    total: AtomicU64,
    before: AtomicU64,
    classes: [AtomicU64; 5],
    retries: AtomicU64,
    waiting: AtomicU64,
    sent: AtomicU64,
    answers: AtomicU64,
    prompt_tokens: AtomicU64,
    completion_tokens: AtomicU64,
}

/// The counters at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Attempts in the whole run.
    pub total: u64,
    /// Those that were done when this process began.
    pub before: u64,
    /// Attempts that have ended, by class, in the order of [`Class::ALL`].
    pub classes: [u64; 5],
    /// Requests of this process that were sent again.
    pub retries: u64,
    /// Tokens of this process's requests.
    pub usage: Usage,
}

impl Snapshot {
    /// Attempts with a score.
    #[must_use]
    pub fn done(&self) -> u64 {
        self.classes[..4].iter().sum()
    }

    /// Attempts of one class.
    #[must_use]
    pub fn of(&self, class: Class) -> u64 {
        self.classes[class as usize]
    }
}

impl Progress {
    /// The counters at this moment.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Snapshot {
            total: get(&self.0.total),
            before: get(&self.0.before),
            classes: std::array::from_fn(|i| get(&self.0.classes[i])),
            retries: get(&self.0.retries),
            usage: Usage {
                prompt_tokens: get(&self.0.prompt_tokens),
                completion_tokens: get(&self.0.completion_tokens),
            },
        }
    }

    pub(crate) fn begin(&self, total: u64, before: u64) {
        self.0.total.store(total, Ordering::Relaxed);
        self.0.before.store(before, Ordering::Relaxed);
    }

    pub(crate) fn count(&self, classes: [u64; 5]) {
        for (counter, count) in self.0.classes.iter().zip(classes) {
            counter.store(count, Ordering::Relaxed);
        }
    }

    pub(crate) fn retried(&self) {
        self.0.retries.fetch_add(1, Ordering::Relaxed);
    }

    /// A request is sent.
    pub(crate) fn sent(&self) -> Waiting<'_> {
        Waiting {
            counters: &self.0,
            others: self.0.waiting.fetch_add(1, Ordering::Relaxed),
            number: self.0.sent.fetch_add(1, Ordering::Relaxed) + 1,
            answers: self.0.answers.load(Ordering::Relaxed),
        }
    }

    pub(crate) fn tokens(&self, usage: Usage) {
        let Counters {
            prompt_tokens,
            completion_tokens,
            ..
        } = &*self.0;
        prompt_tokens.fetch_add(usage.prompt_tokens, Ordering::Relaxed);
        completion_tokens.fetch_add(usage.completion_tokens, Ordering::Relaxed);
    }
}

/// A request that waits for its answer.
pub(crate) struct Waiting<'a> {
    counters: &'a Counters,
    /// Others that waited when it was sent.
    others: u64,
    /// Requests of this process up to it.
    number: u64,
    /// Answers of this process when it was sent.
    answers: u64,
}

impl Waiting<'_> {
    /// Its answer is there.
    pub(crate) fn answered(&self) {
        self.counters.answers.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether others were answered while it waited; none if nobody else has waited.
    pub(crate) fn others_answered(&self) -> Option<bool> {
        let answers = self.counters.answers.load(Ordering::Relaxed);
        let alone = self.others == 0 && self.counters.sent.load(Ordering::Relaxed) == self.number;
        match answers > self.answers {
            true => Some(true),
            false if alone => None,
            false => Some(false),
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.counters.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}
