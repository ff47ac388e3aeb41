//! The adapters by name, each name with one immutable version of its weights.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{AdapterCard, AdapterError};

/// What stands for the base in a [`Prefix`](super::blocks::Prefix); adapters start at 1.
pub(crate) const BASE: u64 = 0;

/// One version of an adapter's weights. It lives until the last request that runs on it ends.
#[derive(Debug)]
pub(crate) struct AdapterVersion<A> {
    pub(crate) generation: u64,
    pub(crate) weights: A,
    /// No name leads here any more, so what is computed with it is not worth keeping.
    retired: AtomicBool,
}

impl<A> AdapterVersion<A> {
    pub(crate) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
    }
}

/// The names. A request holds the version itself, so that nothing here matters to it once it was taken.
#[derive(Debug)]
pub(crate) struct Registry<A> {
    named: Vec<Named<A>>,
    generations: u64,
}

#[derive(Debug)]
struct Named<A> {
    card: AdapterCard,
    version: Arc<AdapterVersion<A>>,
}

impl<A> Registry<A> {
    pub(crate) fn new() -> Self {
        Self {
            named: Vec::new(),
            generations: BASE,
        }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Arc<AdapterVersion<A>>> {
        let named = self.named.iter().find(|named| named.card.name == name);
        named.map(|named| &named.version)
    }

    /// Gives weights a name; a replaced name keeps its place in the order. Returns the generation that lost the name.
    pub(crate) fn insert(
        &mut self,
        name: &str,
        dir: &Path,
        (weights, rank): (A, usize),
        replace: bool,
    ) -> Result<(AdapterCard, Option<u64>), AdapterError> {
        let at = self.named.iter().position(|named| named.card.name == name);
        if at.is_some() && !replace {
            return Err(AdapterError::Exists(name.to_owned()));
        }
        self.generations += 1;
        let card = AdapterCard {
            name: name.to_owned(),
            dir: dir.to_owned(),
            rank,
            generation: self.generations,
            requests: 0,
        };
        let named = Named {
            card: card.clone(),
            version: Arc::new(AdapterVersion {
                generation: self.generations,
                weights,
                retired: AtomicBool::new(false),
            }),
        };
        let old = match at {
            Some(at) => Some(std::mem::replace(&mut self.named[at], named)),
            None => {
                self.named.push(named);
                None
            }
        };
        Ok((card, old.map(|old| retire(&old))))
    }

    /// Takes a name away. Returns the generation that lost it.
    pub(crate) fn remove(&mut self, name: &str) -> Result<u64, AdapterError> {
        let at = self.named.iter().position(|named| named.card.name == name);
        let at = at.ok_or_else(|| AdapterError::Unknown(name.to_owned()))?;
        Ok(retire(&self.named.remove(at)))
    }

    pub(crate) fn cards(&self) -> Vec<AdapterCard> {
        let card = |named: &Named<A>| AdapterCard {
            // The registry holds one, each request another.
            requests: Arc::strong_count(&named.version) - 1,
            ..named.card.clone()
        };
        self.named.iter().map(card).collect()
    }
}

fn retire<A>(named: &Named<A>) -> u64 {
    named.version.retired.store(true, Ordering::Release);
    named.version.generation
}
