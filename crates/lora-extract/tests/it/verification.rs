//! What the check finds in spoiled adapters.

use half::bf16;
use xgraft_checkpoint::{Adapter, AdapterPart, AdapterWriter, PlannedTensor, peft_name};
use xgraft_lora_extract::{
    Config, Error, JudgedBy, Optimum, RankRule, Verdict, Verification, VerifyConfig,
};

use crate::support::{
    Pair, beside, check, config_json, fixture, is_linear, model, noise, run, write,
};

fn adapter() -> Pair {
    let pair = Pair::planted();
    let config = Config {
        rank: RankRule::Fixed(4),
        ..Config::default()
    };
    pair.extract(&config, "a").unwrap();
    pair
}

const Q: &str = "model.layers.0.self_attn.q_proj";

/// Copies the adapter "a" to "b"; `spoil` gets every tensor's name and values.
fn spoiled(pair: &Pair, spoil: impl Fn(&str, &mut Vec<f32>)) {
    let from = Adapter::open(pair.path("a")).unwrap();
    let planned: Vec<PlannedTensor> = from
        .tensors()
        .iter()
        .map(|t| PlannedTensor::new(t.info.name.clone(), t.info.dtype, t.info.shape.clone()))
        .collect();
    let writer = AdapterWriter::create(&pair.path("b"), from.config().clone(), planned).unwrap();
    for tensor in from.tensors() {
        let mut values = from.load(&tensor.info).unwrap().0.to_f32();
        spoil(&tensor.info.name, &mut values);
        let mut to = writer.tensor(&tensor.info.name).unwrap();
        to.write_bf16(&values.into_iter().map(bf16::from_f32).collect::<Vec<_>>())
            .unwrap();
        to.finish().unwrap();
    }
    writer.finish().unwrap();
}

fn verdict(report: &Verification, module: &str) -> Verdict {
    report
        .modules
        .iter()
        .find(|m| m.module == module)
        .unwrap()
        .verdict
}

#[test]
fn the_optimum_is_met_and_exact_agrees_with_the_estimate() {
    let folder = tempfile::tempdir().unwrap();
    let (base, tuned, a) = (
        fixture("tiny-qwen3/base"),
        fixture("tiny-qwen3/tuned"),
        folder.path().join("a"),
    );
    let config = Config {
        rank: RankRule::Fixed(16),
        ..Config::default()
    };
    run(&base, &tuned, &config, &a).unwrap();
    let with = |optimum| {
        check(
            &base,
            &tuned,
            &a,
            &VerifyConfig {
                optimum,
                ..Default::default()
            },
        )
        .unwrap()
    };
    let (exact, randomized) = (with(Optimum::Exact), with(Optimum::Randomized));
    for (e, r) in exact.modules.iter().zip(&randomized.modules) {
        let excess = e.excess.unwrap();
        assert!((-1e-6..5e-4).contains(&excess), "{}: {excess}", e.module);
        assert!((e.optimum.unwrap() / r.optimum.unwrap() - 1.0).abs() < 1e-3);
        assert_eq!(e.optimum_kind.as_deref(), Some("exact"));
    }
}

#[test]
fn a_flipped_sign_is_found() {
    let pair = adapter();
    spoiled(&pair, |name, values| {
        if name == peft_name(Q, AdapterPart::LoraB) {
            values.iter_mut().for_each(|x| *x = -*x);
        }
    });
    let report = pair.verify("b").unwrap();
    assert_eq!(verdict(&report, Q), Verdict::FlippedSign);
    assert_eq!(
        report
            .modules
            .iter()
            .filter(|m| m.verdict != Verdict::Ok)
            .count(),
        1
    );
    assert!(!report.passed);
    assert!(
        report
            .findings
            .iter()
            .any(|f| f.subject == Q && f.message.contains("flipped"))
    );
}

#[test]
fn swapped_modules_are_found() {
    let pair = adapter();
    let from = Adapter::open(pair.path("a")).unwrap();
    let up = "model.layers.0.mlp.up_proj";
    let gate = "model.layers.0.mlp.gate_proj";
    let other = from.load_b(from.module(up).unwrap()).unwrap().data;
    spoiled(&pair, |name, values| {
        if name == peft_name(gate, AdapterPart::LoraB) {
            values.clone_from(&other);
        }
    });
    let report = pair.verify("b").unwrap();
    assert_ne!(verdict(&report, gate), Verdict::Ok);
    assert_eq!(verdict(&report, up), Verdict::Ok);
}

#[test]
fn a_wrong_alpha_is_found_in_every_module() {
    let pair = adapter();
    let path = pair.path("a").join("adapter_config.json");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(
        &path,
        text.replace("\"lora_alpha\": 4", "\"lora_alpha\": 8"),
    )
    .unwrap();
    let report = pair.verify("a").unwrap();
    assert!(
        report
            .modules
            .iter()
            .all(|m| m.verdict == Verdict::WrongScale),
        "{:?}",
        report.modules
    );
    assert!((report.modules[0].direction.projection - 0.5).abs() < 0.01);
}

#[test]
fn a_truncated_factor_shows_as_excess() {
    let pair = adapter();
    spoiled(&pair, |name, values| {
        if name == peft_name(Q, AdapterPart::LoraA) {
            let cols = values.len() / 4;
            values[..cols].iter_mut().for_each(|x| *x = 0.0); // the largest singular value
        }
    });
    let report = pair.verify("b").unwrap();
    let spoiled = report.modules.iter().find(|m| m.module == Q).unwrap();
    assert!(spoiled.excess.unwrap() > 1.0, "{spoiled:?}");
}

#[test]
fn a_limit_on_the_error_is_held() {
    let pair = adapter();
    let config = VerifyConfig {
        max_error: Some(1e-5),
        optimum: Optimum::Skip,
        ..Default::default()
    };
    let report = check(
        &pair.path("base"),
        &pair.path("tuned"),
        &pair.path("a"),
        &config,
    )
    .unwrap();
    assert!(
        report
            .modules
            .iter()
            .all(|m| m.verdict == Verdict::AboveLimit && m.optimum.is_none())
    );
}

#[test]
fn an_adapter_of_another_model_is_an_error() {
    let pair = adapter();
    let error = check(
        &pair.path("base"),
        &pair.path("tuned"),
        &fixture("golden/peft-plain"),
        &VerifyConfig::default(),
    )
    .unwrap_err();
    assert!(
        matches!(
            error,
            Error::UnknownModule { .. } | Error::AdapterShape { .. }
        ),
        "{error}"
    );
    assert!(error.hint().unwrap().contains("another model"));
}

#[test]
fn a_noisy_base_does_not_hide_a_good_adapter() {
    // FP8 noise of this base is about four times the delta
    let folder = tempfile::tempdir().unwrap();
    let (base, tuned, a) = (
        fixture("tiny-qwen3-elicited/base"),
        fixture("tiny-qwen3-elicited/tuned"),
        folder.path().join("a"),
    );
    let config = Config {
        rank: RankRule::Fixed(32),
        ..Config::default()
    };
    run(&base, &tuned, &config, &a).unwrap();
    let report = check(&base, &tuned, &a, &VerifyConfig::default()).unwrap();
    assert!(report.passed, "{:?}", report.findings);
}

/// A base of the planted pair under noise of `times` its delta's norm, which no fine-tune has anything to do with.
fn drowned(pair: &Pair, times: f32) {
    let mut tensors = model();
    // ‖delta‖ is about 0.1 · √4 · 1/3 an element, and noise has a standard deviation of 1/√3
    let size = times * 0.1 * 2.0 / 3.0 * 3f32.sqrt();
    for (seed, tensor) in tensors.iter_mut().enumerate().filter(|(_, t)| is_linear(t)) {
        let more = noise(9000 + seed as u64, tensor.values.len());
        tensor
            .values
            .iter_mut()
            .zip(more)
            .for_each(|(x, n)| *x += size * n);
    }
    write(&pair.path("drowned"), &tensors, &config_json());
}

fn against_drowned(pair: &Pair, adapter: &str) -> Verification {
    beside(
        &pair.path("drowned"),
        &pair.path("tuned"),
        Some(&pair.path("base")),
        &pair.path(adapter),
        &VerifyConfig {
            optimum: Optimum::Skip,
            ..Default::default()
        },
    )
    .unwrap()
}

#[test]
fn with_the_original_a_pair_is_judged_by_the_fine_tune_however_noisy_the_base() {
    let pair = adapter();
    drowned(&pair, 60.0);
    let report = against_drowned(&pair, "a");
    // what the verdict was judged by before the fine-tune was looked at: a cosine above 0.02 with tuned − base
    let hidden = report
        .modules
        .iter()
        .filter(|m| m.direction.cosine.abs() <= 0.02);
    assert!(hidden.count() > 3, "{:?}", report.modules);
    for m in &report.modules {
        assert_eq!(m.verdict, Verdict::Ok, "{m:?}");
        assert_eq!(m.judged_by, JudgedBy::FineTune);
        assert!(m.direction.cosine.abs() < 0.06, "the noise hides it: {m:?}");
        assert!((m.judged().projection - 1.0).abs() < 0.01);
    }
}

#[test]
fn the_original_does_not_make_a_bad_pair_good() {
    let pair = adapter();
    drowned(&pair, 60.0);
    let b_of_q = peft_name(Q, AdapterPart::LoraB);
    for (factor, expected) in [(-1.0, Verdict::FlippedSign), (2.0, Verdict::WrongScale)] {
        spoiled(&pair, |name, values| {
            if name == b_of_q {
                values.iter_mut().for_each(|x| *x *= factor);
            }
        });
        let report = against_drowned(&pair, "b");
        assert_eq!(verdict(&report, Q), expected);
        let finding = report.findings.iter().find(|f| f.subject == Q).unwrap();
        assert!(finding.message.contains("tuned − original"), "{finding}");
        std::fs::remove_dir_all(pair.path("b")).unwrap();
    }
    spoiled(&pair, |name, values| {
        if name == b_of_q {
            values.clone_from(&noise(5, values.len()));
        }
    });
    assert_eq!(verdict(&against_drowned(&pair, "b"), Q), Verdict::Unrelated);
}

#[test]
fn a_pair_that_corrects_the_noise_is_judged_by_what_it_bridges() {
    let pair = adapter();
    drowned(&pair, 60.0);
    let config = Config {
        rank: RankRule::Fixed(8),
        ..Config::default()
    };
    run(
        &pair.path("drowned"),
        &pair.path("tuned"),
        &config,
        &pair.path("m"),
    )
    .unwrap();
    let report = against_drowned(&pair, "m");
    for m in &report.modules {
        assert_eq!(
            (m.verdict, m.judged_by),
            (Verdict::Ok, JudgedBy::Delta),
            "{m:?}"
        );
    }
}

#[test]
fn the_stated_residual_is_that_of_the_stored_factors() {
    let pair = Pair::planted();
    let whole = Config {
        rank: RankRule::Fixed(16),
        ..Config::default()
    };
    let stated = pair.extract(&whole, "a").unwrap().report;
    let measured = pair.verify("a").unwrap();
    for (s, m) in stated.modules.iter().zip(&measured.modules) {
        let ratio = s.residual / m.update_residual;
        assert!((ratio - 1.0).abs() < 0.05, "{}: {ratio}", s.module);
    }
}

#[test]
fn an_adapter_that_leaves_out_most_of_the_update_does_not_pass() {
    let pair = adapter();
    spoiled_to_one_module(&pair);
    let report = pair.verify("b").unwrap();
    assert!(report.modules.iter().all(|m| m.verdict == Verdict::Ok));
    assert!(report.uncovered_share > 0.5 && !report.passed);
}

fn spoiled_to_one_module(pair: &Pair) {
    let from = Adapter::open(pair.path("a")).unwrap();
    let kept: Vec<_> = from.tensors().iter().filter(|t| t.module == Q).collect();
    let planned = kept
        .iter()
        .map(|t| PlannedTensor::new(t.info.name.clone(), t.info.dtype, t.info.shape.clone()))
        .collect();
    let writer = AdapterWriter::create(&pair.path("b"), from.config().clone(), planned).unwrap();
    for tensor in kept {
        let mut to = writer.tensor(&tensor.info.name).unwrap();
        from.stream(&tensor.info, |chunk| to.write(chunk)).unwrap();
        to.finish().unwrap();
    }
    writer.finish().unwrap();
}

#[test]
fn an_adapter_that_is_no_plain_lora_is_refused() {
    let pair = adapter();
    let path = pair.path("a").join("adapter_config.json");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(
        &path,
        text.replace("\"use_dora\": false", "\"use_dora\": true"),
    )
    .unwrap();
    let error = pair.verify("a").unwrap_err();
    assert!(error.to_string().contains("use_dora"), "{error}");
}
