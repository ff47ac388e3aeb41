//! What an extraction gives.

use std::cell::Cell;
use std::ops::ControlFlow;

use xgraft_adapter_sanitize::{Policy, Rules};
use xgraft_checkpoint::{Adapter, Checkpoint, Dtype, OutputDir};
use xgraft_lora_extract::{Config, Error, Event, RankRule, extract, fingerprint};
use xgraft_results::{Finding, Severity};

use crate::support::{Pair, Tensor, check, fixture, is_linear, model, run, tuned};

fn fixed(rank: usize) -> Config {
    Config {
        rank: RankRule::Fixed(rank),
        ..Config::default()
    }
}

#[test]
fn a_planted_delta_of_rank_four_is_found_whole() {
    let pair = Pair::planted();
    let done = pair.extract(&fixed(4), "a").unwrap();
    assert_eq!(done.report.modules.len(), 14);
    for m in &done.report.modules {
        // what is left is the BF16 rounding of the tuned weights
        assert!(m.energy_kept > 0.99, "{} keeps {}", m.module, m.energy_kept);
        assert_eq!(m.rank, 4);
        let edge = m.noise_edge.unwrap();
        assert!(
            m.singular_values[3] > edge,
            "{}: {:?} {edge}",
            m.module,
            m.singular_values
        );
    }
    let check = pair.verify("a").unwrap();
    assert!(check.passed);
    assert!(check.relative_error < 0.004, "{}", check.relative_error);
}

#[test]
fn the_noise_edge_finds_the_planted_rank() {
    let pair = Pair::planted();
    let config = Config {
        rank: RankRule::Noise,
        ..Config::default()
    };
    let done = pair.extract(&config, "a").unwrap();
    for m in &done.report.modules {
        assert_eq!(m.above_noise, Some(4), "{}", m.module);
        assert_eq!(m.rank, 8, "snapped up to the ladder");
    }
    let capped = Config {
        max_rank: 3,
        ..config
    };
    let capped = pair.extract(&capped, "b").unwrap();
    let said = |findings: &[Finding]| findings.iter().any(|f| f.code == "noise-edge-not-reached");
    assert!(said(&capped.report.findings) && !said(&done.report.findings));
}

#[test]
fn energy_is_reached_by_the_smallest_ladder_rank() {
    let pair = Pair::planted();
    let config = Config {
        rank: RankRule::Energy(0.95),
        ..Config::default()
    };
    let done = pair.extract(&config, "a").unwrap();
    for m in &done.report.modules {
        assert!(m.energy_kept >= 0.95);
        let smaller: f64 = m.singular_values[..1].iter().map(|s| s * s).sum();
        assert!(
            m.rank == 8 && smaller < 0.95 * m.delta_norm.powi(2),
            "{}",
            m.rank
        );
    }
}

#[test]
fn a_budget_is_kept_and_spent_where_the_energy_is() {
    let mut strong = tuned();
    for (i, t) in strong.iter_mut().enumerate() {
        if t.name.contains("layers.1") && is_linear(t) {
            *t = t.plus(16, 0.5, 5000 + i as u64);
        }
    }
    let pair = Pair::of(&model(), &strong);
    let budget = 30_000;
    let config = Config {
        rank: RankRule::Budget(budget),
        ..Config::default()
    };
    let done = pair.extract(&config, "a").unwrap();
    let totals = &done.report.totals;
    assert!(
        totals.adapter_bytes <= budget && totals.adapter_bytes > budget * 8 / 10,
        "{}",
        totals.adapter_bytes
    );
    let ranks = |layer: &str| -> usize {
        done.report
            .modules
            .iter()
            .filter(|m| m.module.contains(layer))
            .map(|m| m.rank)
            .sum()
    };
    assert!(ranks("layers.1") > ranks("layers.0"));
    let uniform = pair.extract(&fixed(9), "b").unwrap().report.totals;
    assert!(uniform.adapter_bytes > totals.adapter_bytes / 2);
    let adapter = Adapter::open(pair.path("a")).unwrap();
    assert!(!adapter.config().rank_pattern.is_empty());
    assert!(
        adapter
            .modules()
            .iter()
            .all(|m| (m.scale - 1.0).abs() < 1e-15)
    );
}

#[test]
fn a_rank_above_the_matrix_is_clamped_and_said() {
    let pair = Pair::planted();
    let done = pair.extract(&fixed(40), "a").unwrap();
    let k = done
        .report
        .modules
        .iter()
        .find(|m| m.module.ends_with("k_proj"))
        .unwrap();
    assert_eq!(k.rank, 16);
    assert!(
        done.report
            .findings
            .iter()
            .any(|f| f.code == "rank-clamped")
    );
}

#[test]
fn rank_zero_is_refused_before_anything_is_read() {
    let error = fixed(0).validate().unwrap_err();
    assert!(
        matches!(error, Error::InvalidConfig { field: "rank", .. }),
        "{error}"
    );
}

#[test]
fn the_bytes_do_not_depend_on_the_number_of_threads() {
    let pair = Pair::planted();
    let file = |threads: usize| {
        let name = format!("t{threads}");
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| pair.extract(&fixed(8), &name).unwrap());
        let read = |file: &str| std::fs::read(pair.path(&name).join(file)).unwrap();
        (
            read("adapter_model.safetensors"),
            read("adapter_config.json"),
        )
    };
    let one = file(1);
    assert!(one == file(2) && one == file(3));
}

#[test]
fn an_interrupted_extraction_resumes_to_the_same_bytes() {
    let pair = Pair::planted();
    pair.extract(&fixed(8), "whole").unwrap();
    let (base, tuned) = (
        Checkpoint::open(pair.path("base")).unwrap(),
        Checkpoint::open(pair.path("tuned")).unwrap(),
    );
    let config = fixed(8);
    let mut factorized = 0;
    for attempt in 0.. {
        let out = OutputDir::create(
            &pair.path("parts"),
            false,
            &fingerprint(&base, &tuned, &config),
        )
        .unwrap();
        let done = Cell::new(0);
        let result = extract(&base, &tuned, &config, &out, &|event| {
            if let Event::Done { .. } = event {
                done.set(done.get() + 1);
            }
            if done.get() >= 4 {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        factorized += done.get();
        match result {
            Ok(_) => {
                out.commit().unwrap();
                assert!(attempt >= 3);
                break;
            }
            Err(error) => assert!(matches!(error, Error::Interrupted), "{error}"),
        }
        assert!(!pair.path("parts").exists());
    }
    assert_eq!(factorized, 14, "no module is factorized twice");
    let read =
        |name: &str| std::fs::read(pair.path(name).join("adapter_model.safetensors")).unwrap();
    assert!(read("whole") == read("parts"));
}

#[test]
fn dropped_tensors_are_listed_with_their_share_and_can_be_too_much() {
    let mut changed = tuned();
    changed[0] = changed[0].plus(3, 2.0, 77);
    changed[2].values.iter_mut().for_each(|x| *x += 0.25);
    let pair = Pair::of(&model(), &changed);
    let generous = Config {
        max_dropped: 0.999,
        ..fixed(4)
    };
    let report = pair.extract(&generous, "a").unwrap().report;
    let names: Vec<&str> = report.dropped.iter().map(|d| d.tensor.as_str()).collect();
    assert_eq!(names, ["model.embed_tokens.weight", "model.norm.weight"]);
    assert_eq!(report.dropped[1].reason, "norm");
    let energy: f64 = report.dropped.iter().map(|d| d.energy.unwrap()).sum();
    let kept: f64 = report.modules.iter().map(|m| m.delta_norm.powi(2)).sum();
    assert!((report.totals.dropped_share - energy / (energy + kept)).abs() < 1e-12);
    assert!(
        report
            .findings
            .iter()
            .any(|f| f.code == "dropped-energy" && f.severity == Severity::Warning)
    );
    let error = pair.extract(&fixed(4), "b").unwrap_err();
    let Error::TooMuchDropped { findings, .. } = &error else {
        panic!("{error}");
    };
    assert!(findings.iter().any(|f| f.severity == Severity::Error));
    assert!(!pair.path("b").exists());
    // a higher limit takes over the finished work
    pair.extract(&generous, "b").unwrap();
}

#[test]
fn embeddings_become_pairs_when_asked_for() {
    let mut changed = tuned();
    changed[0] = changed[0].plus(3, 0.2, 77);
    changed[1] = changed[1].plus(3, 0.2, 88);
    let pair = Pair::of(&model(), &changed);
    let config = Config {
        rules: Rules {
            policy: Policy::Vllm,
            embeddings: true,
        },
        ..fixed(4)
    };
    let report = pair.extract(&config, "a").unwrap().report;
    assert_eq!(report.modules.len(), 16);
    let adapter = Adapter::open(pair.path("a")).unwrap();
    let embedding = adapter.module("model.embed_tokens").unwrap();
    assert_eq!(
        (embedding.a.shape.as_slice(), embedding.b.shape.as_slice()),
        (&[4, 40][..], &[48, 4][..])
    );
    assert_eq!(
        embedding.a.name,
        "base_model.model.model.embed_tokens.lora_embedding_A"
    );
    let check = pair.verify("a").unwrap();
    assert!(check.passed, "{:?}", check.findings);
    assert!(check.uncovered.is_empty());
}

#[test]
fn policy_peft_carries_norms_whole() {
    let mut changed = tuned();
    changed[2].values.iter_mut().for_each(|x| *x += 0.25);
    let pair = Pair::of(&model(), &changed);
    let config = Config {
        rules: Rules {
            policy: Policy::Peft,
            embeddings: false,
        },
        ..fixed(4)
    };
    pair.extract(&config, "a").unwrap();
    let adapter = Adapter::open(pair.path("a")).unwrap();
    let whole: Vec<&str> = adapter.others().map(|t| t.info.name.as_str()).collect();
    assert!(
        whole.contains(&"base_model.model.model.norm.weight"),
        "{whole:?}"
    );
    assert!(
        adapter
            .config()
            .modules_to_save
            .as_ref()
            .unwrap()
            .contains(&"norm".to_owned())
    );
}

#[test]
fn an_f32_fine_tune_of_a_bf16_base_is_taken() {
    let base = model();
    let tuned: Vec<Tensor> = tuned()
        .into_iter()
        .map(|t| Tensor {
            dtype: Dtype::F32,
            ..t
        })
        .collect();
    let pair = Pair::of(&base, &tuned);
    let done = pair.extract(&fixed(8), "a").unwrap();
    assert!(done.report.totals.energy_kept > 0.9);
    assert!(pair.verify("a").unwrap().passed);
}

#[test]
fn a_quantized_base_gives_the_corrective_adapter_of_method_b() {
    let folder = tempfile::tempdir().unwrap();
    let (fp8, tuned) = (fixture("golden/ct-fp8-block"), fixture("tiny-qwen3/tuned"));
    let (a, b) = (folder.path().join("a"), folder.path().join("b"));
    run(&fixture("tiny-qwen3/base"), &tuned, &fixed(32), &a).unwrap();
    run(&fp8, &tuned, &fixed(32), &b).unwrap();
    let error = |adapter| {
        check(&fp8, &tuned, adapter, &Default::default())
            .unwrap()
            .relative_error
    };
    let (method_a, method_b) = (error(&a), error(&b));
    assert!(
        method_b < method_a,
        "B {method_b} is the optimum on the quantized base, A {method_a}"
    );
}

#[test]
fn equal_checkpoints_have_no_delta() {
    let pair = Pair::of(&model(), &model());
    let error = pair.extract(&fixed(4), "a").unwrap_err();
    assert!(matches!(error, Error::NoDelta { .. }), "{error}");
}
