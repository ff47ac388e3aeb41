//! [`draw`] against the definition: sort everything, walk.

use super::*;
use crate::sampling::passes::maximum;
use crate::sampling::tests::{noise, sampling};
use proptest::prelude::*;

/// The tokens that the filters keep with their probabilities, by number, with the C library's exp and a full sort.
fn reference(row: &[f32], sampling: &Sampling) -> Vec<(TokenId, f64)> {
    let mut all: Vec<(TokenId, f64)> = (0..).zip(row.iter().map(|&x| f64::from(x))).collect();
    all.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    let maximum = all[0].1;
    for (_, x) in &mut all {
        *x = ((*x - maximum) / f64::from(sampling.temperature)).exp();
    }
    all.retain(|&(_, weight)| weight >= f64::from(sampling.min_p));
    if sampling.top_k > 0 {
        all.truncate(sampling.top_k as usize);
    }
    let total: f64 = all.iter().map(|&(_, weight)| weight).sum();
    let mut sum = 0.0;
    let kept = all.iter().position(|&(_, weight)| {
        sum += weight;
        sum >= f64::from(sampling.top_p) * total
    });
    all.truncate(kept.map_or(all.len(), |i| i + 1));
    let total: f64 = all.iter().map(|&(_, weight)| weight).sum();
    all.sort_by_key(|&(token, _)| token);
    all.into_iter()
        .map(|(t, weight)| (t, weight / total))
        .collect()
}

/// Draws at the middle of every kept token's interval, and finds that token.
fn assert_draws_the_reference(row: &[f32], sampling: &Sampling) {
    let mut scratch = Scratch::default();
    let maximum = maximum(row).unwrap();
    let mut before = 0.0;
    for (token, probability) in reference(row, sampling) {
        // Narrower intervals may be missed by rounding.
        if probability > 1e-9 {
            let middle = before + probability / 2.0;
            let drawn = draw(row, maximum, sampling, middle, &mut scratch);
            assert_eq!(drawn, token, "at {middle} with {sampling:?}");
        }
        before += probability;
    }
}

fn settings() -> impl Strategy<Value = Sampling> {
    let top_k = prop_oneof![Just(0), Just(1), Just(20), Just(5000), 1..200_u32];
    let top_p = prop_oneof![Just(1.0_f32), Just(0.95), Just(1e-6), 0.01..1.0_f32];
    let min_p = prop_oneof![Just(0.0_f32), Just(0.05), 0.0..1.0_f32];
    (0.05..5.0_f32, top_k, top_p, min_p).prop_map(|(temperature, top_k, top_p, min_p)| Sampling {
        temperature,
        top_k,
        top_p,
        min_p,
        ..sampling()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn every_kept_token_is_drawn_in_its_interval(seed in any::<u64>(), n in 1_usize..3000, s in settings()) {
        assert_draws_the_reference(&noise(seed, n, 6.0), &s);
    }

    #[test]
    fn masked_tokens_are_never_drawn(seed in any::<u64>(), n in 2_usize..2000, s in settings(), u in 0.0..1.0_f64) {
        let mut row = noise(seed, n, 3.0);
        for (i, x) in row.iter_mut().enumerate() {
            if i % 3 != 1 {
                *x = f32::NEG_INFINITY;
            }
        }
        let token = draw(&row, maximum(&row).unwrap(), &s, u, &mut Scratch::default());
        prop_assert_eq!(token % 3, 1);
    }
}

#[test]
fn equal_logits_are_equally_likely_and_top_p_keeps_the_first() {
    let row = vec![1.5; 4096];
    assert_draws_the_reference(&row, &sampling());
    let half = Sampling {
        top_p: 0.5,
        ..sampling()
    };
    let drawn = draw(&row, 1.5, &half, 0.999_999, &mut Scratch::default());
    assert_eq!(drawn, 2047);
}

#[test]
fn the_ends_of_the_interval_give_the_first_and_last_token() {
    let row = noise(3, 5000, 2.0);
    let maximum = maximum(&row).unwrap();
    let below_one = 1.0 - f64::EPSILON / 2.0;
    let mut scratch = Scratch::default();
    assert_eq!(draw(&row, maximum, &sampling(), 0.0, &mut scratch), 0);
    assert_eq!(
        draw(&row, maximum, &sampling(), below_one, &mut scratch),
        4999
    );
}

#[test]
fn a_temperature_close_to_zero_takes_the_largest() {
    let row = noise(3, 5000, 2.0);
    let cold = Sampling {
        temperature: f32::MIN_POSITIVE,
        ..sampling()
    };
    let maximum = maximum(&row).unwrap();
    let drawn = draw(&row, maximum, &cold, 0.7, &mut Scratch::default());
    assert_eq!(row[drawn as usize], maximum);
}
