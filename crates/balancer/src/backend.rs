//! One server behind the balancer: what it has to do, and how it is.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::clock;
use crate::config::BackendUrl;
use crate::models::ModelList;

/// A backend of full weight.
const FULL: u32 = 256;

/// The least weight of one that has just come back.
const FIRST: u32 = FULL / 8;

/// What an answer of 5xx counts against good ones, which count 1, and where a backend is out: after three in a row, or when
/// more than one of five is bad for a while.
const STRIKE: u32 = 4;
const OUT: u32 = 3 * STRIKE;

/// How a backend is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum State {
    /// Nothing is known of it yet; it gets nothing.
    Unknown = 0,
    /// It gets its share.
    Up = 1,
    /// It answers about its health again, and gets one request to prove it: by its answer, or by being well meanwhile.
    HalfOpen = 2,
    /// It gets nothing.
    Down = 3,
}

/// What was counted since it was added.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Requests that were given to it.
    pub(crate) requests: AtomicU64,
    /// Those that it answered to the end.
    pub(crate) completed: AtomicU64,
    /// Those that it failed.
    pub(crate) errors: AtomicU64,
    /// Times that it was taken out.
    pub(crate) ejections: AtomicU64,
    /// Microseconds to the head of an answer, smoothed over about eight answers.
    pub(crate) head_micros: AtomicU64,
}

/// One backend. Everything that a request touches is an atomic.
#[derive(Debug)]
pub(crate) struct Backend {
    /// Never given twice in a process.
    pub(crate) id: u64,
    pub(crate) url: BackendUrl,
    pub(crate) counts: Counts,
    in_flight: AtomicU32,
    state: AtomicU8,
    drained: AtomicBool,
    removed: AtomicBool,
    /// Raised when what it has in flight will not be answered.
    epoch: AtomicU32,
    /// It asked for peace until then.
    paused_until: AtomicU64,
    /// When it came back, while it has less than its share.
    back_since: AtomicU64,
    /// It was taken out, and has to prove itself. One that had not begun yet has nothing to prove.
    suspect: AtomicBool,
    slow_start: u64,
    limit: u32,
    /// Answers of 5xx that another backend gave better, [`STRIKE`] each, less the good ones since.
    strikes: AtomicU32,
    /// In words, for people.
    status: Mutex<Arc<str>>,
    models: Mutex<ModelList>,
    /// Somebody wants to know how it is.
    pub(crate) doubt: Notify,
}

impl Backend {
    pub(crate) fn new(url: BackendUrl, limit: u32, slow_start: Duration) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            url,
            counts: Counts::default(),
            in_flight: AtomicU32::new(0),
            state: AtomicU8::new(State::Unknown as u8),
            drained: AtomicBool::new(false),
            removed: AtomicBool::new(false),
            epoch: AtomicU32::new(0),
            paused_until: AtomicU64::new(0),
            back_since: AtomicU64::new(0),
            suspect: AtomicBool::new(false),
            slow_start: clock::millis(slow_start),
            limit,
            strikes: AtomicU32::new(0),
            status: Mutex::new("unknown".into()),
            models: Mutex::new(ModelList::default()),
            doubt: Notify::new(),
        }
    }

    pub(crate) fn state(&self) -> State {
        match self.state.load(Ordering::Acquire) {
            0 => State::Unknown,
            1 => State::Up,
            2 => State::HalfOpen,
            _ => State::Down,
        }
    }

    pub(crate) fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::SeqCst)
    }

    pub(crate) fn is_drained(&self) -> bool {
        self.drained.load(Ordering::Acquire)
    }

    pub(crate) fn is_removed(&self) -> bool {
        self.removed.load(Ordering::Acquire)
    }

    /// Whether it may get requests at all, be there room or not.
    pub(crate) fn takes_requests(&self, now: u64) -> bool {
        matches!(self.state(), State::Up | State::HalfOpen)
            && !self.is_drained()
            && self.paused(now) == 0
    }

    /// What it has in flight, and that as its load in `1/FULL` of a request, if there is room for one more.
    pub(crate) fn offer(&self, now: u64) -> Option<Offer> {
        if !self.takes_requests(now) {
            return None;
        }
        let in_flight = self.in_flight();
        let limit = match self.state() {
            State::HalfOpen => 1,
            _ => self.limit,
        };
        (in_flight < limit).then(|| Offer {
            in_flight,
            load: u64::from(in_flight + 1) * u64::from(FULL * FULL) / u64::from(self.weight(now)),
        })
    }

    /// One request more, if it still has as many as the offer says.
    pub(crate) fn accept(&self, offer: Offer) -> bool {
        let taken = self.in_flight.compare_exchange(
            offer.in_flight,
            offer.in_flight + 1,
            Ordering::SeqCst,
            Ordering::SeqCst,
        );
        if taken.is_ok() {
            self.counts.requests.fetch_add(1, Ordering::Relaxed);
        }
        taken.is_ok()
    }

    /// One request less.
    pub(crate) fn release(&self) {
        self.in_flight.fetch_sub(1, Ordering::SeqCst);
    }

    fn weight(&self, now: u64) -> u32 {
        let since = self.back_since.load(Ordering::Relaxed);
        if since == 0 {
            return FULL;
        }
        let age = now.saturating_sub(since);
        if age >= self.slow_start {
            self.back_since.store(0, Ordering::Relaxed);
            return FULL;
        }
        let grown = u64::from(FULL) * age / self.slow_start;
        FIRST.max(u32::try_from(grown).unwrap_or(FULL))
    }

    /// It answered a request as it should, or was well while it had one. Says whether that changed something.
    pub(crate) fn proved(&self) -> bool {
        let proved = self.state.load(Ordering::Relaxed) == State::HalfOpen as u8
            && self.change(State::HalfOpen, State::Up);
        if proved {
            self.suspect.store(false, Ordering::Relaxed);
            self.back_since.store(clock::now(), Ordering::Relaxed);
        }
        proved
    }

    /// It failed a request that another answered. Says whether it has done so too often; one that has just come back, at once.
    pub(crate) fn strike(&self) -> bool {
        let strikes = self.strikes.fetch_add(STRIKE, Ordering::Relaxed) + STRIKE;
        strikes >= OUT || self.state() == State::HalfOpen
    }

    /// It answered a request as it should.
    pub(crate) fn absolve(&self) {
        // No strikes are the usual case, and cost no write.
        if self.strikes.load(Ordering::Relaxed) > 0 {
            let less = |strikes: u32| Some(strikes.saturating_sub(1).min(OUT));
            let _ = self
                .strikes
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        }
    }

    /// Takes it out, and says whether it was in.
    pub(crate) fn eject(&self, why: &str) -> bool {
        let was_in =
            self.change(State::Up, State::Down) || self.change(State::HalfOpen, State::Down);
        if was_in {
            self.suspect.store(true, Ordering::Relaxed);
            self.counts.ejections.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(backend = self.url.as_str(), why, "taken out");
        } else {
            self.change(State::Unknown, State::Down);
        }
        self.say(why);
        if was_in {
            self.doubt.notify_one();
        }
        was_in
    }

    /// What it has in flight will not be answered, so that whoever waits for it goes elsewhere.
    pub(crate) fn give_up(&self) {
        self.epoch.fetch_add(1, Ordering::Release);
    }

    pub(crate) fn epoch(&self) -> u32 {
        self.epoch.load(Ordering::Acquire)
    }

    /// It answers about its health. Says whether that changed something.
    pub(crate) fn bring_back(&self) -> bool {
        if self.change(State::Unknown, State::Up) {
            self.say("healthy");
            return true;
        }
        let to = match self.suspect.load(Ordering::Relaxed) {
            true => State::HalfOpen,
            false => State::Up,
        };
        let back = self.change(State::Down, to);
        if back {
            self.strikes.store(0, Ordering::Relaxed);
            self.say("healthy");
            tracing::info!(backend = self.url.as_str(), "back");
        }
        back
    }

    /// It gets nothing for a while, because it said so.
    pub(crate) fn pause(&self, duration: Duration) {
        let until = clock::now() + clock::millis(duration);
        self.paused_until.fetch_max(until, Ordering::Relaxed);
    }

    /// How many milliseconds of its pause are left.
    pub(crate) fn paused(&self, now: u64) -> u64 {
        self.paused_until
            .load(Ordering::Relaxed)
            .saturating_sub(now)
    }

    pub(crate) fn set_drained(&self, drained: bool) {
        self.drained.store(drained, Ordering::Release);
    }

    pub(crate) fn remove(&self) {
        self.set_drained(true);
        self.removed.store(true, Ordering::Release);
        self.doubt.notify_one();
    }

    pub(crate) fn status(&self) -> Arc<str> {
        self.status
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(crate) fn models(&self) -> ModelList {
        self.models
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Says whether they are others than before.
    pub(crate) fn set_models(&self, models: ModelList) -> bool {
        let mut known = self.models.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = *known != models;
        *known = models;
        changed
    }

    /// The head of an answer came after so long.
    pub(crate) fn saw_head(&self, after: Duration) {
        let micros = u64::try_from(after.as_micros()).unwrap_or(u64::MAX / 8);
        let old = self.counts.head_micros.load(Ordering::Relaxed);
        let new = if old == 0 {
            micros
        } else {
            old - old / 8 + micros / 8
        };
        self.counts.head_micros.store(new, Ordering::Relaxed);
    }

    pub(crate) fn count_completed(&self) {
        self.counts.completed.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_error(&self) {
        self.counts.errors.fetch_add(1, Ordering::Relaxed);
    }

    fn say(&self, status: &str) {
        *self.status.lock().unwrap_or_else(PoisonError::into_inner) = status.into();
    }

    fn change(&self, from: State, to: State) -> bool {
        self.state
            .compare_exchange(from as u8, to as u8, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    }
}

/// Room for one request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Offer {
    /// What it has.
    in_flight: u32,
    /// By which backends are compared: what it would have, over its weight.
    pub(crate) load: u64,
}

#[cfg(test)]
mod tests;
