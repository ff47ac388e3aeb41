//! What is to be done, and by whom.

use std::collections::{HashSet, VecDeque};

use super::RunError;
use super::claim::{Claim, Claims};
use super::ledger::{Key, Ledger, State};

/// The attempts of a run, as this process sees them.
#[derive(Debug)]
pub(crate) struct Board {
    pub(crate) ledger: Ledger,
    pub(crate) claims: Claims,
    /// Not looked at yet.
    fresh: VecDeque<Key>,
    /// In work elsewhere when they were looked at.
    elsewhere: Vec<Key>,
    /// The endpoint failed them in this run of the program.
    failed: HashSet<Key>,
    /// Failures of earlier programs, which are asked again.
    earlier: HashSet<Key>,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// This attempt, in this generation.
    Attempt(Key, u32),
    /// Others are at work on what is left.
    Wait,
    /// There is nothing left.
    Nothing,
}

impl Board {
    pub(crate) fn new(
        mut ledger: Ledger,
        claims: Claims,
        keys: Vec<Key>,
    ) -> Result<Self, RunError> {
        ledger.refresh()?;
        let is_open = |key: &Key| matches!(ledger.state(*key), Some(State::Open { .. }));
        let earlier = keys.iter().copied().filter(is_open).collect();
        Ok(Self {
            ledger,
            claims,
            fresh: keys.into(),
            elsewhere: Vec::new(),
            failed: HashSet::new(),
            earlier,
        })
    }

    /// Claims an attempt that nobody works on.
    pub(crate) fn next(&mut self) -> Result<Next, RunError> {
        while let Some(key) = self.fresh.pop_front() {
            match self.take(key)? {
                Some(generation) => return Ok(Next::Attempt(key, generation)),
                None => self.elsewhere.push(key),
            }
        }
        self.ledger.refresh()?;
        let mut left = Vec::new();
        let mut found = Next::Nothing;
        for key in std::mem::take(&mut self.elsewhere) {
            if self.is_over(key) {
                continue;
            }
            if found == Next::Nothing
                && let Some(generation) = self.take(key)?
            {
                found = Next::Attempt(key, generation);
                continue;
            }
            left.push(key);
        }
        self.elsewhere = left;
        Ok(match found {
            Next::Nothing if !self.elsewhere.is_empty() => Next::Wait,
            other => other,
        })
    }

    /// Notes that the endpoint failed an attempt.
    pub(crate) fn fail(&mut self, key: Key) {
        self.failed.insert(key);
    }

    /// Attempts that the endpoint failed, here or in another process that works now.
    pub(crate) fn failures(&self) -> u64 {
        let keys = self.ledger.opened().filter(|(key, failed)| {
            *failed && (self.failed.contains(key) || !self.earlier.contains(key))
        });
        let mut all: HashSet<Key> = keys.map(|(key, _)| key).collect();
        all.extend(&self.failed);
        all.retain(|key| !matches!(self.ledger.state(*key), Some(State::Done { .. })));
        all.len() as u64
    }

    fn take(&mut self, key: Key) -> Result<Option<u32>, RunError> {
        if self.is_over(key) {
            return Ok(None);
        }
        let open = match self.ledger.state(key) {
            Some(State::Open { generation, .. }) => Some(*generation),
            _ => None,
        };
        match self.claims.take(key, open)? {
            Claim::Ours(generation) => {
                self.earlier.remove(&key);
                Ok(Some(generation))
            }
            Claim::Theirs => Ok(None),
        }
    }

    /// Whether nobody has to work on it any more.
    fn is_over(&self, key: Key) -> bool {
        match self.ledger.state(key) {
            Some(State::Done { .. }) => true,
            Some(State::Open { failed: true, .. }) => {
                self.failed.contains(&key) || !self.earlier.contains(&key)
            }
            _ => self.failed.contains(&key),
        }
    }
}
