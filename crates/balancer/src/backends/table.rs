//! Which of the backends is next.

use std::collections::HashMap;
use std::sync::Arc;

use super::mix;
use crate::backend::{Backend, Offer};
use crate::models::ModelList;

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

impl Table {
    pub(super) fn of(all: Vec<Arc<Backend>>) -> Self {
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

    pub(super) fn least(
        &self,
        wanted: &Wanted,
        now: u64,
        random: u64,
    ) -> Option<(&Arc<Backend>, Offer)> {
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
