//! Methods A and B beside each other on a base with quantization noise.

use std::ops::ControlFlow;

use proptest::prelude::*;
use xgraft_checkpoint::{Adapter, Checkpoint, Dtype};
use xgraft_lora_extract::{Config, Error, Optimum, RankRule, Verification, VerifyConfig, verify};

use crate::support::{Pair, Tensor, config_json, is_linear, model, noise, run, write};

/// The base with white noise of `size` times its weights in every linear, as a format of few levels would leave it.
fn noisy(size: f32, seed: u64) -> Vec<Tensor> {
    let add = |(i, mut tensor): (u64, Tensor)| {
        if is_linear(&tensor) {
            let noise = noise(seed + i, tensor.values.len());
            for (x, n) in tensor.values.iter_mut().zip(noise) {
                *x += size * n;
            }
        }
        tensor
    };
    (0..).zip(model()).map(add).collect()
}

fn checked(pair: &Pair, served: &str, adapter: &str) -> Verification {
    let open = |name: &str| Checkpoint::open(pair.path(name)).unwrap();
    let config = VerifyConfig {
        optimum: Optimum::Exact,
        max_uncovered: 1.0,
        ..VerifyConfig::default()
    };
    let original = open("base");
    let adapter = Adapter::open(pair.path(adapter)).unwrap();
    let go_on = |_: xgraft_lora_extract::VerifyEvent<'_>| ControlFlow::Continue(());
    verify(
        &open(served),
        &open("tuned"),
        Some(&original),
        &adapter,
        &config,
        &go_on,
    )
    .unwrap()
    .0
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10))]

    #[test]
    fn b_is_never_worse_than_a_in_weights(
        size in 0.001_f32..2.0,
        rank in 1_usize..20,
        seed in 0_u64..1000,
    ) {
        let pair = Pair::planted();
        write(&pair.path("q"), &noisy(size, seed), &config_json());
        let config = Config {
            rank: RankRule::Fixed(rank),
            dtype: Dtype::F32,
            ..Config::default()
        };
        pair.extract(&config, "a").unwrap();
        run(&pair.path("q"), &pair.path("tuned"), &config, &pair.path("b")).unwrap();
        let (a, b) = (checked(&pair, "q", "a"), checked(&pair, "q", "b"));
        let slack = 1.0 + 1e-4;
        prop_assert!(b.relative_error <= a.relative_error * slack, "{} {}", b.relative_error, a.relative_error);
        prop_assert!(b.bound.unwrap() <= b.relative_error * slack);
        prop_assert!(b.relative_error <= b.bound.unwrap() * 1.01 + 1e-6, "{} {:?}", b.relative_error, b.bound);
        for (a, b) in a.modules.iter().zip(&b.modules) {
            prop_assert!(b.relative_error <= a.relative_error * slack, "{}", b.module);
        }
        let (a, b) = (a.against_original.unwrap(), b.against_original.unwrap());
        prop_assert_eq!(a.noise_ratio, b.noise_ratio);
    }
}

#[test]
fn what_is_served_of_the_fine_tune_is_all_on_the_base_itself() {
    let pair = Pair::planted();
    let config = Config {
        rank: RankRule::Fixed(40),
        dtype: Dtype::F32,
        ..Config::default()
    };
    pair.extract(&config, "a").unwrap();
    let served = checked(&pair, "base", "a").against_original.unwrap();
    assert_eq!(served.noise_ratio, 0.0);
    assert!(served.delta_cosine > 0.999_99, "{served:?}");
    assert!(served.sign_agreement > 0.99, "{served:?}");
}

#[test]
fn an_original_of_another_shape_is_refused() {
    let pair = Pair::planted();
    let config = Config {
        rank: RankRule::Fixed(4),
        ..Config::default()
    };
    pair.extract(&config, "a").unwrap();
    let mut other = model();
    other.retain(|t| !t.name.contains("layers.0.mlp.up"));
    write(&pair.path("other"), &other, &config_json());
    let open = |name: &str| Checkpoint::open(pair.path(name)).unwrap();
    let adapter = Adapter::open(pair.path("a")).unwrap();
    let error = verify(
        &open("base"),
        &open("tuned"),
        Some(&open("other")),
        &adapter,
        &VerifyConfig::default(),
        &|_| ControlFlow::Continue(()),
    )
    .unwrap_err();
    assert!(matches!(error, Error::ShapeMismatch { .. }), "{error}");
}
