//! The largest of a row of logits, without sorting the row.
//!
//! One order everywhere: falling by value, equal ones rising by token. It is the order of [`key`]s.

use crate::engine::TokenId;

/// Values that are looked at together.
const LANES: usize = 32;

/// What comes first in the order has the smaller key: the value's bits, turned so that they fall, above the token.
///
/// −0 counts as 0.
pub(crate) fn key(token: TokenId, value: f32) -> u64 {
    let bits = (value + 0.0).to_bits();
    let sign = bits >> 31;
    let rising = bits ^ (sign.wrapping_neg() | 0x8000_0000);
    (u64::from(!rising) << 32) | u64::from(token)
}

/// The token of a [`key`].
pub(crate) fn token(key: u64) -> TokenId {
    key as TokenId
}

/// The keys of the `n` largest values, in order.
pub(crate) fn largest(row: &[f32], n: usize, keys: &mut Vec<u64>) {
    keys.clear();
    let n = n.min(row.len());
    if n == 0 {
        return;
    }
    let full = (2 * n).max(256).min(row.len());
    let mut least = f32::NEG_INFINITY;
    for (at, values) in row.chunks(LANES).enumerate() {
        // An equal value of a later token comes after the n that are held already.
        let all_less = values
            .iter()
            .fold(true, |all, &value| all & (value <= least));
        if keys.len() >= n && all_less {
            continue;
        }
        for (token, &value) in (at * LANES..).zip(values) {
            if keys.len() >= n && value <= least {
                continue;
            }
            keys.push(key(token as TokenId, value));
            if keys.len() == full && full > n {
                keys.select_nth_unstable(n - 1);
                keys.truncate(n);
                least = row[token_index(keys[n - 1])];
            }
        }
    }
    keys.sort_unstable();
    keys.truncate(n);
}

fn token_index(key: u64) -> usize {
    token(key) as usize
}

#[cfg(test)]
mod tests {
    use super::super::passes::{first, larger, maximum};
    use super::*;
    use proptest::prelude::*;

    fn sorted(row: &[f32]) -> Vec<TokenId> {
        let mut all: Vec<usize> = (0..row.len()).collect();
        all.sort_by(|&a, &b| row[b].partial_cmp(&row[a]).unwrap().then(a.cmp(&b)));
        all.into_iter().map(|i| i as TokenId).collect()
    }

    fn rows() -> impl Strategy<Value = Vec<f32>> {
        // Few different values, so that there are many ties.
        let value = prop_oneof![
            (-4_i32..4).prop_map(|i| i as f32),
            Just(-0.0),
            Just(f32::NEG_INFINITY),
            -1e30_f32..1e30,
        ];
        prop::collection::vec(value, 1..1500)
    }

    proptest! {
        #[test]
        fn the_largest_are_the_first_of_a_stable_sort(row in rows(), n in 0_usize..600) {
            let mut keys = Vec::new();
            largest(&row, n, &mut keys);
            let tokens: Vec<_> = keys.iter().map(|&k| token(k)).collect();
            prop_assert_eq!(&tokens, &sorted(&row)[..n.min(row.len())]);
        }

        #[test]
        fn maximum_first_and_larger_are_what_they_say(row in rows()) {
            let best = sorted(&row)[0];
            match maximum(&row) {
                None => prop_assert!(row.iter().all(|x| *x == f32::NEG_INFINITY)),
                Some(maximum) => {
                    prop_assert_eq!(first(&row, maximum), Some(best));
                    prop_assert_eq!(larger(&row, maximum), 0);
                }
            }
        }
    }

    #[test]
    fn nan_and_plus_infinity_have_no_maximum_wherever_they_are() {
        for bad in [f32::NAN, f32::INFINITY] {
            for i in 0..50 {
                let mut row = vec![1.0; 50];
                row[i] = bad;
                assert_eq!(maximum(&row), None);
            }
        }
        assert_eq!(maximum(&[f32::NEG_INFINITY; 20]), None);
        assert_eq!(maximum(&[]), None);
    }
}
