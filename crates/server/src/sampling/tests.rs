//! The order of what is done to a row.

use super::*;

/// Settings that do nothing: temperature 1 and no filter.
pub(super) fn sampling() -> Sampling {
    Sampling {
        temperature: 1.0,
        ..Sampling::greedy()
    }
}

/// Numbers between −scale and scale.
pub(super) fn noise(seed: u64, n: usize, scale: f32) -> Vec<f32> {
    let number = |i| 2.0 * random::uniform(seed, 0, i) as f32 - 1.0;
    (0..n).map(|i| number(i) * scale).collect()
}

fn choice(sampling: &Sampling) -> Choice<'_> {
    Choice {
        sampling,
        choice: 0,
        position: 0,
        history: None,
        forbidden: &[],
        allowed: None,
        logprobs: TopLogprobs::None,
    }
}

fn token(row: &[f32], choice: &Choice<'_>) -> Result<TokenId, NotFinite> {
    let (token, _) = Sampler::default().next(&mut row.to_vec(), choice)?;
    Ok(token)
}

#[test]
fn greedy_takes_the_lowest_of_equal_logits() {
    assert_eq!(
        token(&[1.0, 3.0, 2.0, 3.0], &choice(&Sampling::greedy())),
        Ok(1)
    );
    assert_eq!(token(&[-0.0, 0.0], &choice(&Sampling::greedy())), Ok(0));
}

#[test]
fn nan_and_infinity_are_errors() {
    for settings in [Sampling::greedy(), sampling()] {
        for bad in [f32::NAN, f32::INFINITY] {
            assert_eq!(token(&[1.0, bad], &choice(&settings)), Err(NotFinite));
        }
        let infinite = Sampling {
            logit_bias: vec![(0, f32::INFINITY)],
            ..settings
        };
        assert_eq!(token(&[1.0, 2.0], &choice(&infinite)), Err(NotFinite));
    }
    let settings = Sampling::greedy();
    let wanted = Choice {
        logprobs: TopLogprobs::Best(2),
        ..choice(&settings)
    };
    assert_eq!(token(&[1.0, f32::NAN], &wanted), Err(NotFinite));
}

#[test]
fn nothing_allowed_is_an_error() {
    let settings = sampling();
    let none = Choice {
        allowed: Some(&[0]),
        ..choice(&settings)
    };
    assert_eq!(token(&[1.0, 2.0], &none), Err(NotFinite));
    let all_stop = Choice {
        forbidden: &[0, 1, 900],
        ..choice(&settings)
    };
    assert_eq!(token(&[1.0, 2.0], &all_stop), Err(NotFinite));
}

#[test]
fn a_mask_outweighs_any_bias() {
    let biased = Sampling {
        logit_bias: vec![(1, 100.0), (7, 1.0)],
        ..Sampling::greedy()
    };
    let masked = Choice {
        allowed: Some(&[0b101]),
        ..choice(&biased)
    };
    assert_eq!(token(&[1.0, 0.0, 2.0], &choice(&biased)), Ok(1));
    assert_eq!(token(&[1.0, 0.0, 2.0], &masked), Ok(2));
}

#[test]
fn penalties_come_after_the_bias() {
    // 1 + 2 = 3 is halved to 1.5; were the penalty first, 1/2 + 2 = 2.5 would win over 2.
    let settings = Sampling {
        logit_bias: vec![(0, 2.0)],
        repetition_penalty: 2.0,
        ..Sampling::greedy()
    };
    let history = History::new(&[0]);
    let penalized = Choice {
        history: Some(&history),
        ..choice(&settings)
    };
    assert_eq!(token(&[1.0, 2.0], &penalized), Ok(1));
}

#[test]
fn repetition_counts_the_prompt_and_the_others_the_output_alone() {
    let settings = Sampling {
        presence_penalty: 1.0,
        frequency_penalty: 0.25,
        repetition_penalty: 2.0,
        ..Sampling::greedy()
    };
    let mut history = History::new(&[3, 0, 3]);
    for generated in [1, 1, 3] {
        history.push(generated);
    }
    let mut row = [4.0, 4.0, 4.0, -4.0];
    adjust::penalize(&mut row, &history, &settings);
    assert_eq!(row, [2.0, 4.0 / 2.0 - 0.5 - 1.0, 4.0, -8.0 - 0.25 - 1.0]);
}

#[test]
fn logprobs_are_of_the_raw_logits() {
    let settings = Sampling {
        logit_bias: vec![(0, 100.0)],
        temperature: 0.0,
        ..sampling()
    };
    let wanted = Choice {
        logprobs: TopLogprobs::Best(2),
        ..choice(&settings)
    };
    let mut row = vec![0.0, 1.0, 1.0];
    let (token, logprobs) = Sampler::default().next(&mut row, &wanted).unwrap();
    let logprobs = logprobs.unwrap();
    let log_sum = (1.0 + 2.0 * 1_f64.exp()).ln();
    assert_eq!(token, 0);
    assert_eq!(logprobs.rank, 2);
    assert_eq!(logprobs.logprob, -log_sum as f32);
    let best = (1.0 - log_sum) as f32;
    assert_eq!(logprobs.top, [(1, best), (2, best)]);
}

#[test]
fn all_logprobs_sum_to_one_and_fall() {
    let row = noise(5, 3001, 9.0);
    let logprobs = Sampler::default()
        .logprobs(&row, 17, TopLogprobs::All)
        .unwrap();
    let sum: f64 = logprobs.top.iter().map(|&(_, x)| f64::from(x).exp()).sum();
    assert!((sum - 1.0).abs() < 1e-6);
    assert!(logprobs.top.is_sorted_by(|a, b| a.1 >= b.1));
    let at = logprobs.top.iter().position(|&(token, _)| token == 17);
    assert_eq!(at, Some(logprobs.rank as usize));
}

#[test]
fn draws_follow_the_distribution_and_their_key() {
    let row = [0.0, 2_f32.ln(), 4_f32.ln(), 1_f32.ln()];
    let settings = sampling();
    let draw = |position, number| {
        let key = Choice {
            position,
            choice: number,
            ..choice(&settings)
        };
        token(&row, &key).unwrap()
    };
    let mut counts = [0_i32; 4];
    for position in 0..80_000 {
        counts[draw(position, 0) as usize] += 1;
    }
    for (count, expected) in counts.into_iter().zip([10_000, 20_000, 40_000, 10_000]) {
        assert!((count - expected).abs() < 800, "{counts:?}");
    }
    assert!((0..100).any(|i| draw(i, 0) != draw(i, 1)));
}
