//! Merging into BF16 and FP8 checkpoints, and what is refused.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use half::bf16;
use xgraft_checkpoint::{Adapter, Checkpoint, OutputDir};
use xgraft_lora_merge::{Config, Error, Merged, Result, fingerprint, merge};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fixtures")
        .join(name)
}

fn merged(base: &Path, adapter: &Path, to: &Path) -> Result<Merged> {
    let base = Checkpoint::open(base)?;
    let adapter = Adapter::open(adapter)?;
    let config = Config::default();
    let out = OutputDir::create(to, false, &fingerprint(&base, &adapter, &config))?;
    let done = merge(&base, &adapter, &config, &out, &|_| Ok(()))?;
    out.commit()?;
    Ok(done)
}

/// W + s·B·A in f64, by the definition.
fn by_definition(base: &Checkpoint, adapter: &Adapter, module: &str) -> Vec<f64> {
    let pair = adapter.module(module).unwrap();
    let (a, b) = (adapter.load_a(pair).unwrap(), adapter.load_b(pair).unwrap());
    let mut w: Vec<f64> = base
        .load(base.weight(module).unwrap())
        .unwrap()
        .0
        .to_f32()
        .into_iter()
        .map(f64::from)
        .collect();
    for o in 0..b.rows {
        for i in 0..a.cols {
            let sum: f64 = (0..pair.rank)
                .map(|r| f64::from(b.data[o * pair.rank + r]) * f64::from(a.data[r * a.cols + i]))
                .sum();
            w[o * a.cols + i] += pair.scale * sum;
        }
    }
    w
}

#[test]
fn a_merge_into_bf16_is_the_definition_rounded_once() {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("m");
    let (base_dir, adapter_dir) = (fixture("tiny-qwen3/base"), fixture("golden/peft-plain"));
    merged(&base_dir, &adapter_dir, &to).unwrap();
    let base = Checkpoint::open(base_dir).unwrap();
    let adapter = Adapter::open(adapter_dir).unwrap();
    let result = Checkpoint::open(&to).unwrap();
    for module in [
        "model.layers.0.self_attn.q_proj",
        "model.layers.2.mlp.down_proj",
    ] {
        let expected = by_definition(&base, &adapter, module);
        let found = result
            .load(result.weight(module).unwrap())
            .unwrap()
            .0
            .to_f32();
        let mut off = 0;
        for (x, y) in expected.iter().zip(&found) {
            // f32 sums may fall on the other side of a tie of BF16: never more than one step
            let exact = bf16::from_f64(*x).to_f32();
            off += usize::from(exact.to_bits() != y.to_bits());
            assert!(
                (f64::from(exact) - f64::from(*y)).abs() <= x.abs().max(1e-30) / 128.0,
                "{x} {y}"
            );
        }
        assert!(off * 1000 < found.len(), "{off} of {} differ", found.len());
    }
    for same in ["model.norm", "lm_head", "model.embed_tokens"] {
        let load = |c: &Checkpoint| c.load(c.weight(same).unwrap()).unwrap().1;
        assert_eq!(load(&base), load(&result), "{same}");
    }
}

#[test]
fn a_merge_into_fp8_stays_fp8_and_never_adds_to_codes() {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("m");
    let (base_dir, adapter_dir) = (fixture("golden/ct-fp8-block"), fixture("golden/peft-plain"));
    let done = merged(&base_dir, &adapter_dir, &to).unwrap();
    let base = Checkpoint::open(&base_dir).unwrap();
    let adapter = Adapter::open(adapter_dir).unwrap();
    let result = Checkpoint::open(&to).unwrap();
    assert_eq!(result.quantization(), base.quantization());
    for pair in adapter.modules() {
        let expected = by_definition(&base, &adapter, &pair.module);
        let found = result
            .load(result.weight(&pair.module).unwrap())
            .unwrap()
            .0
            .to_f32();
        let (mut error2, mut norm2) = (0.0, 0.0);
        for (x, y) in expected.iter().zip(&found) {
            error2 += (x - f64::from(*y)).powi(2);
            norm2 += x * x;
        }
        let relative = (error2 / norm2).sqrt();
        assert!(relative < 0.03, "{}: {relative}", pair.module);
        let told = done
            .report
            .modules
            .iter()
            .find(|m| m.module == pair.module)
            .unwrap();
        let told = told.rounding * told.update_norm / told.merged_norm;
        assert!((told / relative - 1.0).abs() < 1e-3, "{told} {relative}");
    }
}

#[test]
fn embeddings_and_patterns_are_applied() {
    let folder = tempfile::tempdir().unwrap();
    let sane = folder.path().join("sane");
    // PEFT stores the base's own embedding beside an embedding adapter; merging wants pairs only
    let error = merged(
        &fixture("tiny-qwen3/base"),
        &fixture("golden/peft-patterns"),
        &sane,
    )
    .unwrap_err();
    assert!(matches!(error, Error::NotAPair { .. }), "{error}");
}

#[test]
fn an_adapter_with_whole_tensors_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("m");
    let error = merged(
        &fixture("tiny-qwen3/base"),
        &fixture("golden/mergekit-default"),
        &to,
    )
    .unwrap_err();
    assert!(matches!(error, Error::NotAPair { .. }), "{error}");
    assert!(error.hint().unwrap().contains("sanitize"));
    assert!(!to.exists());
}
