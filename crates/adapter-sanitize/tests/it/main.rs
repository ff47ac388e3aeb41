//! Adapters of PEFT and mergekit through the policies.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use serde_json::Value;
use xgraft_adapter_sanitize::{Config, Error, Policy, Result, Rules, Sanitized, sanitize};
use xgraft_checkpoint::{Adapter, Checkpoint, OutputDir};
use xgraft_results::Severity;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fixtures")
        .join(name)
}

fn config(policy: Policy, embeddings: bool) -> Config {
    Config {
        rules: Rules { policy, embeddings },
        max_dropped: 0.5,
    }
}

fn run(adapter: &str, base: Option<&str>, config: &Config, to: &Path) -> Result<Sanitized> {
    let adapter = Adapter::open(fixture(adapter))?;
    let base = base.map(|b| Checkpoint::open(fixture(b))).transpose()?;
    let out = OutputDir::create(to, false, &Value::Null)?;
    let report = sanitize(&adapter, base.as_ref(), config, &out)?;
    out.commit()?;
    Ok(report)
}

/// s·B·A of a module in f64, by the definition.
fn update(adapter: &Adapter, module: &str) -> Vec<f64> {
    let pair = adapter.module(module).unwrap();
    let (a, b) = (adapter.load_a(pair).unwrap(), adapter.load_b(pair).unwrap());
    let mut out = Vec::with_capacity(b.rows * a.cols);
    for o in 0..b.rows {
        for i in 0..a.cols {
            let sum: f64 = (0..pair.rank)
                .map(|r| f64::from(b.data[o * pair.rank + r]) * f64::from(a.data[r * a.cols + i]))
                .sum();
            out.push(pair.scale * sum);
        }
    }
    out
}

#[test]
fn mergekits_default_output_becomes_servable_and_says_what_it_cost() {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("a");
    let vllm = config(Policy::Vllm, false);
    let report = run(
        "golden/mergekit-default",
        Some("tiny-qwen3/base"),
        &vllm,
        &to,
    )
    .unwrap();
    assert_eq!(report.kept.len(), 21);
    let reasons = |tensor: &str| {
        let found = report.dropped.iter().find(|d| d.tensor.contains(tensor));
        found
            .unwrap_or_else(|| panic!("{tensor} is not listed"))
            .reason
            .clone()
    };
    assert_eq!(reasons("q_norm"), "norm");
    assert_eq!(reasons("input_layernorm"), "norm");
    assert_eq!(reasons("lm_head"), "full-rank");
    assert_eq!(reasons("embed_tokens"), "full-rank");
    assert!(
        report.dropped.iter().all(|d| d.share.is_some()),
        "the base measures every tensor"
    );
    assert!(report.dropped_share > 0.05, "{}", report.dropped_share);
    assert!(
        report
            .findings
            .iter()
            .any(|f| f.severity == Severity::Warning && f.code == "dropped-energy")
    );
    let sane = Adapter::open(&to).unwrap();
    assert_eq!(sane.others().count(), 0);
    assert_eq!(sane.config().modules_to_save, None);
    assert!(sane.modules().iter().all(|m| (m.scale - 1.0).abs() < 1e-15));
}

#[test]
fn without_the_base_the_weight_of_whole_tensors_is_said_to_be_unknown() {
    let folder = tempfile::tempdir().unwrap();
    let vllm = config(Policy::Vllm, false);
    let report = run(
        "golden/mergekit-default",
        None,
        &vllm,
        &folder.path().join("a"),
    )
    .unwrap();
    assert!(report.findings.iter().any(|f| f.code == "unknown-energy"));
    assert!(report.dropped.iter().any(|d| d.share.is_none()));
}

#[test]
fn a_limit_on_dropped_energy_fails_and_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("a");
    let strict = Config {
        max_dropped: 0.01,
        ..config(Policy::Vllm, false)
    };
    let error = run(
        "golden/mergekit-default",
        Some("tiny-qwen3/base"),
        &strict,
        &to,
    )
    .unwrap_err();
    assert!(matches!(error, Error::TooMuchDropped { .. }), "{error}");
    assert!(
        error
            .findings()
            .unwrap()
            .iter()
            .any(|f| f.severity == Severity::Error)
    );
    assert!(!to.exists());
}

#[test]
fn policy_peft_keeps_whole_tensors() {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("a");
    let report = run(
        "golden/mergekit-default",
        Some("tiny-qwen3/base"),
        &config(Policy::Peft, false),
        &to,
    )
    .unwrap();
    assert!(report.dropped.is_empty());
    let sane = Adapter::open(&to).unwrap();
    assert!(sane.others().count() > 0);
    assert!(
        sane.config()
            .modules_to_save
            .as_ref()
            .unwrap()
            .contains(&"q_norm".to_owned())
    );
}

#[test]
fn scales_and_patterns_are_folded_into_b_and_the_update_stays() {
    let folder = tempfile::tempdir().unwrap();
    for (adapter, embeddings) in [("golden/peft-plain", false), ("golden/peft-patterns", true)] {
        let to = folder.path().join(adapter.replace('/', "-"));
        let report = run(
            adapter,
            Some("tiny-qwen3/base"),
            &config(Policy::Vllm, embeddings),
            &to,
        )
        .unwrap();
        assert!(report.dropped.is_empty(), "{:?}", report.dropped);
        let (before, after) = (
            Adapter::open(fixture(adapter)).unwrap(),
            Adapter::open(&to).unwrap(),
        );
        assert_eq!(before.modules().len(), after.modules().len());
        for module in before.modules() {
            let (x, y) = (
                update(&before, &module.module),
                update(&after, &module.module),
            );
            let norm = x.iter().map(|v| v * v).sum::<f64>();
            let error = x.iter().zip(&y).map(|(a, b)| (a - b).powi(2)).sum::<f64>();
            assert!(
                error <= norm * 1e-12,
                "{}: {}",
                module.module,
                (error / norm).sqrt()
            );
            let told = report
                .kept
                .iter()
                .find(|k| k.module == module.module)
                .unwrap()
                .energy;
            assert!(
                (told / norm - 1.0).abs() < 1e-4,
                "{}: {told} {norm}",
                module.module
            );
            assert!((after.module(&module.module).unwrap().scale - 1.0).abs() < 1e-15);
        }
    }
}

#[test]
fn embeddings_are_dropped_unless_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("a");
    let report = run(
        "golden/peft-patterns",
        Some("tiny-qwen3/base"),
        &config(Policy::Vllm, false),
        &to,
    )
    .unwrap();
    let dropped: Vec<&str> = report.dropped.iter().map(|d| d.tensor.as_str()).collect();
    assert!(
        dropped.contains(&"lm_head") && dropped.contains(&"model.embed_tokens"),
        "{dropped:?}"
    );
    assert!(
        report
            .dropped
            .iter()
            .all(|d| d.reason == "embedding-not-asked")
    );
}

#[test]
fn the_output_is_a_fixed_point() {
    let folder = tempfile::tempdir().unwrap();
    let (once, twice) = (folder.path().join("1"), folder.path().join("2"));
    let vllm = config(Policy::Vllm, true);
    run(
        "golden/peft-patterns",
        Some("tiny-qwen3/base"),
        &vllm,
        &once,
    )
    .unwrap();
    let adapter = Adapter::open(&once).unwrap();
    let out = OutputDir::create(&twice, false, &Value::Null).unwrap();
    sanitize(&adapter, None, &vllm, &out).unwrap();
    out.commit().unwrap();
    for file in ["adapter_config.json", "adapter_model.safetensors"] {
        assert_eq!(
            std::fs::read(once.join(file)).unwrap(),
            std::fs::read(twice.join(file)).unwrap()
        );
    }
}
