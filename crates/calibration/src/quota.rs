//! How many samples each task gives.

use std::collections::BTreeMap;

use serde::Serialize;

/// What one task should give, has, and gives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Share {
    /// Its even share.
    pub quota: usize,
    /// What there is to choose from.
    pub available: usize,
    /// What is taken.
    pub taken: usize,
}

impl Share {
    /// What is missing of the even share.
    #[must_use]
    pub fn shortfall(&self) -> usize {
        self.quota.saturating_sub(self.available)
    }
}

/// Splits `total` evenly over the tasks, the remainder to the first ones by name; what a task lacks goes to those that have more,
/// one at a time to the task that gives least.
#[must_use]
pub fn quotas(available: &BTreeMap<String, usize>, total: usize) -> BTreeMap<String, Share> {
    let tasks = available.len().max(1);
    let mut shares: BTreeMap<String, Share> = BTreeMap::new();
    for (index, (task, &available)) in available.iter().enumerate() {
        let quota = total / tasks + usize::from(index < total % tasks);
        let taken = quota.min(available);
        let share = Share {
            quota,
            available,
            taken,
        };
        shares.insert(task.clone(), share);
    }
    let taken: usize = shares.values().map(|share| share.taken).sum();
    for _ in taken..total {
        let open = shares.values_mut().filter(|s| s.taken < s.available);
        match open.min_by_key(|share| share.taken) {
            Some(share) => share.taken += 1,
            None => break,
        }
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(available: &[(&str, usize)], total: usize) -> Vec<usize> {
        let available = available
            .iter()
            .map(|(k, n)| ((*k).to_owned(), *n))
            .collect();
        quotas(&available, total)
            .values()
            .map(|s| s.taken)
            .collect()
    }

    #[test]
    fn shares_are_even_and_what_is_missing_goes_to_others() {
        assert_eq!(taken(&[("a", 50), ("b", 50), ("c", 50)], 8), [3, 3, 2]);
        assert_eq!(taken(&[("a", 1), ("b", 50), ("c", 3)], 9), [1, 5, 3]);
        assert_eq!(taken(&[("a", 1), ("b", 2)], 9), [1, 2]);
        assert_eq!(taken(&[], 9), [0; 0]);
    }

    #[test]
    fn a_shortfall_is_what_the_even_share_lacks() {
        let available = [("a".to_owned(), 1), ("b".to_owned(), 50)].into();
        let shares = quotas(&available, 10);
        assert_eq!((shares["a"].shortfall(), shares["b"].shortfall()), (4, 0));
        assert_eq!(shares["b"].taken, 9);
    }
}
