//! Activation statistics against hooks over transformers, and against themselves however they were made.

use std::ops::ControlFlow;
use std::path::PathBuf;

use xgraft_calibration::{
    Candidate, Collector, Divergence, Error, Observation, Positions, Rounding, TokenizedSet,
    compare, observe,
};
use xgraft_checkpoint::{ActivationStats, Observed};
use xgraft_fixtures::{TEXT, golden};
use xgraft_model::{Model, Options};
use xgraft_tokenizer::{ChatTemplate, Tokenizer};

fn model(threads: usize) -> Model {
    let options = Options {
        threads,
        ..Options::default()
    };
    Model::open(TEXT.tuned(), &options).unwrap()
}

fn samples() -> PathBuf {
    golden::path("activations").join("calibration.jsonl")
}

/// What is seen of at most `limit` tokens of each sample, in batches of `rows`, by `threads`, stopped after `stop` batches.
fn seen(limit: usize, rows: usize, threads: usize, stop: usize) -> ActivationStats {
    let (tokenizer, template) = (
        Tokenizer::open(TEXT.tuned()).unwrap(),
        ChatTemplate::open(TEXT.tuned()).unwrap(),
    );
    let set = TokenizedSet::open(&samples(), &tokenizer, Some(&template), limit).unwrap();
    let model = model(threads);
    let mut collector = Collector::new(&model, Observed::default());
    let how = Observation {
        batch_tokens: rows,
        longest: limit,
    };
    let mut batches = 0;
    let result = observe(&model, set, how, &mut collector, &mut |_| {
        batches += 1;
        Ok(match batches == stop {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        })
    });
    match result {
        Ok(()) => assert_eq!(stop, 0),
        Err(error) => assert!(matches!(error, Error::Interrupted), "{error}"),
    }
    collector.stats()
}

/// Sums in f64 of rows that differ in the order of f32 sums before them.
const TOLERANCE: f64 = 1e-4;

#[test]
fn statistics_are_those_of_hooks_over_transformers() {
    let expected = golden::tensors("activations/expected.safetensors").unwrap();
    let stats = seen(4096, 512, 2, 0);
    let numbers = |name: &str| -> Vec<f64> {
        let values = expected[name].to_f32().unwrap();
        values.into_iter().map(f64::from).collect()
    };
    let mut compared = 0;
    for name in expected
        .keys()
        .filter(|name| name.ends_with(".amax_channel"))
    {
        let module = name.strip_suffix(".amax_channel").unwrap();
        let ours = &stats.modules[module];
        let amax: Vec<f64> = ours.amax_channel.iter().map(|x| f64::from(*x)).collect();
        for (part, ours) in [
            ("amax_channel", amax),
            ("mean_abs", ours.mean_abs()),
            ("mean_square", ours.mean_square()),
            ("amax", vec![f64::from(ours.amax())]),
            ("mean_token_amax", vec![ours.mean_token_amax()]),
        ] {
            let theirs = numbers(&format!("{module}.{part}"));
            assert_eq!(ours.len(), theirs.len());
            for (channel, (x, y)) in ours.iter().zip(&theirs).enumerate() {
                let close = (x - y).abs() <= TOLERANCE * y.abs() + 1e-7;
                assert!(close, "{module}.{part} [{channel}]: {x} and {y}");
            }
            compared += 1;
        }
    }
    assert_eq!(compared, 8 * 5);
    assert_eq!(stats.observed.samples, 40);
}

#[test]
fn statistics_do_not_depend_on_batches_threads_or_an_interruption() {
    let whole = seen(4096, 4096, 1, 0);
    for (rows, threads) in [(64, 2), (17, 2), (300, 1)] {
        assert_eq!(seen(4096, rows, threads, 0), whole, "{rows} rows");
    }
    // Stopped after three batches, written, read, and gone on with.
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("part.safetensors");
    let part = seen(4096, 300, 2, 3);
    part.write(&path).unwrap();
    let (tokenizer, template) = (
        Tokenizer::open(TEXT.tuned()).unwrap(),
        ChatTemplate::open(TEXT.tuned()).unwrap(),
    );
    let set = TokenizedSet::open(&samples(), &tokenizer, Some(&template), 4096).unwrap();
    let model = model(2);
    let mut rest = Collector::resume(&model, &ActivationStats::open(&path).unwrap()).unwrap();
    assert!((1..40).contains(&rest.samples()));
    let how = Observation {
        batch_tokens: 128,
        longest: 4096,
    };
    observe(&model, set, how, &mut rest, &mut |_| {
        Ok(ControlFlow::Continue(()))
    })
    .unwrap();
    assert_eq!(rest.stats(), whole);
}

#[test]
fn what_is_cut_is_counted() {
    let stats = seen(20, 512, 2, 0).observed;
    let whole = seen(4096, 512, 2, 0).observed;
    assert_eq!((stats.samples, stats.cut_samples), (40, 40));
    assert_eq!(stats.tokens, 40 * 20);
    assert_eq!(stats.tokens + stats.cut_tokens, whole.tokens);
    assert_eq!((whole.cut_samples, whole.cut_tokens), (0, 0));
}

#[test]
fn a_half_line_and_an_empty_set_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("samples.jsonl");
    let tokenizer = Tokenizer::open(TEXT.tuned()).unwrap();
    let run = |text: &str| {
        std::fs::write(&path, text).unwrap();
        let set = TokenizedSet::open(&path, &tokenizer, None, 64).unwrap();
        let model = model(1);
        let mut collector = Collector::new(&model, Observed::default());
        let how = Observation {
            batch_tokens: 64,
            longest: 64,
        };
        observe(&model, set, how, &mut collector, &mut |_| {
            Ok(ControlFlow::Continue(()))
        })
        .unwrap_err()
    };
    let good = r#"{"messages": [{"role": "user", "content": "a"}]}"#;
    let error = run(&format!("{good}\n{}", &good[..20]));
    assert!(matches!(error, Error::Samples { line: 2, .. }), "{error}");
    assert!(matches!(run(""), Error::NoTokens));
}

#[test]
fn a_model_is_at_no_distance_from_itself_and_at_some_from_its_base() {
    let tokenizer = Tokenizer::open(TEXT.tuned()).unwrap();
    let template = ChatTemplate::open(TEXT.tuned()).unwrap();
    let model = model(2);
    let distance = |candidate: &Model, rows, positions| -> Divergence {
        let set = TokenizedSet::open(&samples(), &tokenizer, Some(&template), 4096).unwrap();
        let how = Observation {
            batch_tokens: rows,
            longest: 4096,
        };
        let mut as_it_is = Rounding::none(candidate.spec());
        let (set, how) = (set.with_answers(), (how, positions));
        let candidate = Candidate {
            model: candidate,
            adapter: None,
            rounding: &mut as_it_is,
        };
        compare(&model, candidate, set, how, &mut |_| Ok(())).unwrap()
    };
    let same = distance(&model, 200, Positions::All);
    assert_eq!((same.kl, same.same_best, same.samples), (0.0, 1.0, 40));
    assert_eq!(same.reference_nll, same.candidate_nll);
    let base = Model::open(TEXT.base(), &Options::default()).unwrap();
    let other = distance(&base, 200, Positions::All);
    assert!(other.kl > 0.01 && other.same_best < 1.0, "{other:?}");
    assert_eq!(distance(&base, 17, Positions::All), other);
    // The fine-tune knows its answers; it was never taught the questions.
    let answers = distance(&model, 200, Positions::Answers);
    assert_eq!(answers.tokens, answers.predicted);
    assert!(
        answers.tokens > 40 * 3 && answers.tokens < same.tokens / 3,
        "{answers:?}"
    );
    assert!(
        answers.reference_nll < 0.3 * same.reference_nll,
        "{answers:?} {same:?}"
    );
}
