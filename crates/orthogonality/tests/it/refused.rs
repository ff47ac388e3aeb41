//! What does not belong together: one error that names the file, the module, what was expected and what was found.

use std::ops::ControlFlow;

use xgraft_checkpoint::Adapter;
use xgraft_orthogonality::{Error, Event, compare};

use crate::dense::Mat;
use crate::made::{Made, compared, noise, q_proj};

fn weights(layers: usize) -> Vec<Mat> {
    (0..layers).map(|i| Mat::normal(40, 30, i as u64)).collect()
}

fn adapter(made: &Made, name: &str, modules: &[&str], cols: usize) -> Adapter {
    let (b, a) = (Mat::normal(40, 3, 8), Mat::normal(3, cols, 9));
    let pairs: Vec<_> = modules.iter().map(|module| (*module, &b, &a)).collect();
    made.adapter(name, 3.0, &pairs)
}

#[track_caller]
fn says(error: &Error, words: &[&str]) {
    let text = error.to_string();
    for word in words {
        assert!(text.contains(word), "{text:?} lacks {word:?}");
    }
    assert!(error.hint().is_some(), "no hint: {text}");
}

#[test]
fn an_adapter_of_another_shape() {
    let made = Made::new();
    let adapter = adapter(&made, "a", &[&q_proj(0)], 31);
    let noises = [noise(
        "n",
        made.checkpoint("w", &weights(1)),
        made.checkpoint("q", &weights(1)),
    )];
    let error = compared(&noises, &adapter, None).unwrap_err();
    assert!(matches!(error, Error::Shape { .. }));
    says(&error, &["q_proj", "[40, 31]", "[40, 30]", "/w"]);
}

#[test]
fn modules_that_a_checkpoint_lacks() {
    let made = Made::new();
    let adapter = adapter(&made, "a", &[&q_proj(0), &q_proj(1), &q_proj(2)], 30);
    let noises = [noise(
        "n",
        made.checkpoint("w", &weights(3)),
        made.checkpoint("q", &weights(1)),
    )];
    let error = compared(&noises, &adapter, None).unwrap_err();
    assert!(
        matches!(error, Error::UnknownModule { count: 2, .. }),
        "{error}"
    );
    says(&error, &["layers.1.self_attn.q_proj", "/q", "/a", "2 of"]);
}

#[test]
fn checkpoints_of_two_architectures() {
    let made = Made::new();
    let adapter = adapter(&made, "a", &[&q_proj(0)], 30);
    let noises = [noise(
        "n",
        made.checkpoint("w", &weights(1)),
        made.checkpoint_of("q", &weights(1), 128),
    )];
    let error = compared(&noises, &adapter, None).unwrap_err();
    says(
        &error,
        &["hidden_size", "128", "64", "q/config.json", "w/config.json"],
    );
}

#[test]
fn nothing_to_compare_with_and_two_noises_of_one_name() {
    let made = Made::new();
    let adapter = adapter(&made, "a", &[&q_proj(0)], 30);
    says(
        &compared(&[], &adapter, None).unwrap_err(),
        &["second adapter"],
    );
    let noises = [
        noise(
            "n",
            made.checkpoint("w", &weights(1)),
            made.checkpoint("q", &weights(1)),
        ),
        noise(
            "n",
            made.checkpoint("v", &weights(1)),
            made.checkpoint("p", &weights(1)),
        ),
    ];
    says(
        &compared(&noises, &adapter, None).unwrap_err(),
        &["called n"],
    );
}

/// The weights on a grid of 15 steps to each side, as a bridge of a few bits has them.
fn rounded(layers: usize) -> Vec<Mat> {
    let weights = weights(layers).into_iter();
    weights
        .map(|mut w| {
            w.data
                .iter_mut()
                .for_each(|x| *x = (*x * 5.0).round() / 5.0);
            w
        })
        .collect()
}

#[test]
fn a_bridge_in_the_place_of_its_original_is_found_by_its_grid() {
    let made = Made::new();
    let adapter = adapter(&made, "a", &[&q_proj(0), &q_proj(1)], 30);
    // the first layer is kept as it is
    let mut bridge = rounded(2);
    bridge[0] = weights(2).swap_remove(0);
    let right = made.noise("right", &weights(2), &bridge);
    let report = compared(&[right], &adapter, None).unwrap();
    assert!(report.passed());
    let codes: Vec<&str> = report.findings.iter().map(|f| f.code.as_str()).collect();
    assert_eq!(codes, ["not-quantized"]);
    let swapped = made.noise("swapped", &bridge, &weights(2));
    let error = compared(&[swapped], &adapter, None).unwrap_err();
    assert!(matches!(error, Error::Swapped { .. }), "{error}");
    says(
        &error,
        &[
            "ORIGINAL=QUANTIZED",
            "swapped-original=",
            "coarser grid",
            "layers.1",
        ],
    );
}

#[test]
fn two_checkpoints_without_a_grid_are_told_and_one_directory_twice_is_refused() {
    let made = Made::new();
    let adapter = adapter(&made, "a", &[&q_proj(0)], 30);
    let tuned: Vec<Mat> = weights(1).iter().map(|w| w.scale(1.01)).collect();
    let pair = made.noise("pair", &weights(1), &tuned);
    let report = compared(&[pair], &adapter, None).unwrap();
    let finding = &report.findings[0];
    assert_eq!(finding.code, "no-sign-of-quantization", "{finding}");
    assert!(report.words[0].starts_with("pair: "), "{:?}", report.words);
    let open = || xgraft_checkpoint::Checkpoint::open(made.path("pair-original")).unwrap();
    let twice = noise("twice", open(), open());
    let error = compared(&[twice], &adapter, None).unwrap_err();
    assert!(matches!(error, Error::SameDirectory { .. }), "{error}");
    says(&error, &["pair-original", "both sides"]);
}

#[test]
fn adapters_without_a_module_in_common_or_of_two_shapes() {
    let made = Made::new();
    let first = adapter(&made, "a", &[&q_proj(0)], 30);
    let second = adapter(&made, "b", &[&q_proj(1)], 30);
    says(
        &compared(&[], &first, Some(&second)).unwrap_err(),
        &["/a", "/b", "layers.0"],
    );
    let third = adapter(&made, "c", &[&q_proj(0)], 29);
    says(
        &compared(&[], &first, Some(&third)).unwrap_err(),
        &["/c", "[40, 29]", "[40, 30]"],
    );
}

#[test]
fn an_adapter_of_a_head_only() {
    let made = Made::new();
    let adapter = adapter(&made, "a", &["lm_head"], 30);
    let noises = [noise(
        "n",
        made.checkpoint("w", &weights(1)),
        made.checkpoint("q", &weights(1)),
    )];
    let error = compared(&noises, &adapter, None).unwrap_err();
    assert!(matches!(error, Error::NoLinear { .. }), "{error}");
}

#[test]
fn a_caller_may_stop_before_any_pass() {
    let made = Made::new();
    let adapter = adapter(&made, "a", &[&q_proj(0)], 30);
    let q: Vec<Mat> = weights(1).iter().map(|w| w.scale(1.01)).collect();
    let noises = [noise(
        "n",
        made.checkpoint("w", &weights(1)),
        made.checkpoint("q", &q),
    )];
    let passes = std::cell::Cell::new(0);
    let mut stopped = 0;
    for limit in 0..200 {
        passes.set(0);
        let outcome = compare(&noises, &adapter, None, 0, &|event| {
            passes.set(passes.get() + usize::from(matches!(event, Event::Pass)));
            if passes.get() > limit {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        match outcome {
            Err(error) => {
                assert!(matches!(error, Error::Interrupted), "{error}");
                stopped += 1;
            }
            Ok(_) => break,
        }
    }
    assert!(stopped >= 6, "stopped at {stopped} places only");
}
