//! How much may be asked again, so that a service in trouble is not asked for more.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::config::Retries;

/// Thousandths of a replay.
const UNIT: u64 = 1000;

/// A bucket that every request fills a little and every replay empties by one.
#[derive(Debug)]
pub(crate) struct Budget {
    left: AtomicU64,
    share: u64,
    full: u64,
}

impl Budget {
    pub(crate) fn new(retries: &Retries) -> Self {
        let full = u64::from(retries.reserve) * UNIT;
        Self {
            left: AtomicU64::new(full),
            share: (retries.share.clamp(0.0, 1000.0) * UNIT as f64) as u64,
            full,
        }
    }

    /// A request came.
    pub(crate) fn earn(&self) {
        let left = self.left.load(Ordering::Relaxed);
        // A full bucket is the usual case, and costs no write.
        if left < self.full {
            let more = (left + self.share).min(self.full);
            let _ = self
                .left
                .compare_exchange(left, more, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// Whether one may be asked again.
    pub(crate) fn spend(&self) -> bool {
        self.left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(UNIT)
            })
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_is_spent_and_a_share_of_the_requests_comes_back() {
        let budget = Budget::new(&Retries {
            reserve: 2,
            share: 0.25,
            ..Retries::default()
        });
        assert!(budget.spend() && budget.spend() && !budget.spend());
        (0..3).for_each(|_| budget.earn());
        assert!(!budget.spend());
        budget.earn();
        assert!(budget.spend() && !budget.spend());
        (0..100).for_each(|_| budget.earn());
        assert!(budget.spend() && budget.spend() && !budget.spend());
    }
}
