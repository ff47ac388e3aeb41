//! Merging into BF16 and FP8 checkpoints, and what is refused.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use half::bf16;
use xgraft_checkpoint::{
    Adapter, AdapterConfig, AdapterPart, AdapterWriter, Checkpoint, Dtype, OutputDir,
    PlannedTensor, peft_name,
};
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
fn a_merge_into_nf4_is_rounded_again_in_its_own_groups() {
    for name in ["packed-bnb-nf4", "packed-bnb-nf4-double"] {
        let folder = tempfile::tempdir().unwrap();
        let (adapter_dir, to) = (folder.path().join("a"), folder.path().join("m"));
        let base_dir = fixture("golden").join(name);
        let module = "model.layers.0.self_attn.q_proj";
        write_pair(&adapter_dir, module, (40, 256));
        merged(&base_dir, &adapter_dir, &to).unwrap();
        let base = Checkpoint::open(&base_dir).unwrap();
        let result = Checkpoint::open(&to).unwrap();
        assert_eq!(result.quantization(), base.quantization());
        // Scales are stored as they are, whatever the base does.
        let scales = result.tensor(&format!("{module}.weight.absmax")).unwrap();
        assert_eq!(scales.dtype, Dtype::F32);
        assert!(result.tensors().all(|t| !t.name.contains("nested")));
        let adapter = Adapter::open(&adapter_dir).unwrap();
        let expected = by_definition(&base, &adapter, module);
        let found = result
            .load(result.weight(module).unwrap())
            .unwrap()
            .0
            .to_f32();
        let (mut error2, mut norm2) = (0.0, 0.0);
        for (x, y) in expected.iter().zip(&found) {
            error2 += (x - f64::from(*y)).powi(2);
            norm2 += x * x;
        }
        let relative = (error2 / norm2).sqrt();
        assert!((0.02..0.11).contains(&relative), "{name}: {relative}");
    }
}

/// An adapter of rank 1 whose update is 0.02 times a wave.
fn write_pair(dir: &Path, module: &str, (rows, cols): (usize, usize)) {
    std::fs::create_dir(dir).unwrap();
    let mut config = AdapterConfig::new("base", 1, vec!["q_proj".to_owned()]);
    config.lora_alpha = 1.0;
    let wave = |n: usize, step: f32| (0..n).map(move |i| (i as f32 * step).sin());
    let (a, b): (Vec<f32>, Vec<f32>) = (wave(cols, 0.3).collect(), wave(rows, 0.7).collect());
    let tensors = [
        (AdapterPart::LoraA, vec![1, cols], a),
        (
            AdapterPart::LoraB,
            vec![rows, 1],
            b.iter().map(|x| x * 0.02).collect(),
        ),
    ];
    let planned = tensors.iter().map(|(part, shape, _)| {
        PlannedTensor::new(peft_name(module, *part), Dtype::F32, shape.clone())
    });
    let writer = AdapterWriter::create(dir, config, planned.collect()).unwrap();
    for (part, _, values) in &tensors {
        let mut tensor = writer.tensor(&peft_name(module, *part)).unwrap();
        let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        tensor.write(&bytes).unwrap();
        tensor.finish().unwrap();
    }
    writer.finish().unwrap();
}

/// An adapter of the fixtures' own, merged, with every whole tensor found in the result as it was in the adapter.
fn whole_tensors_replace(name: &str) -> (Merged, usize) {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("m");
    let done = merged(&fixture("tiny-qwen3/base"), &fixture(name), &to).unwrap();
    let (result, adapter) = (
        Checkpoint::open(&to).unwrap(),
        Adapter::open(fixture(name)).unwrap(),
    );
    let whole: Vec<_> = adapter
        .others()
        .filter(|t| !t.info.name.contains("base_layer"))
        .collect();
    for tensor in &whole {
        let weight = result.weight(&tensor.module).unwrap();
        let expected = adapter.load(&tensor.info).unwrap().0.to_f32();
        let found = result.load(weight).unwrap().0.to_f32();
        let rounded = expected.iter().map(|x| bf16::from_f32(*x).to_f32());
        assert!(rounded.eq(found.iter().copied()), "{}", tensor.info.name);
    }
    (done, whole.len())
}

#[test]
fn a_copy_of_the_bases_own_weights_beside_an_embedding_is_no_change() {
    let (done, whole) = whole_tensors_replace("golden/peft-patterns");
    assert_eq!(whole, 0);
    assert!(done.report.modules.iter().all(|m| m.rank.is_some()));
}

#[test]
fn whole_tensors_take_the_place_of_the_bases() {
    let (done, whole) = whole_tensors_replace("golden/mergekit-default");
    assert!(whole > 0);
    let replaced = done.report.modules.iter().filter(|m| m.rank.is_none());
    assert_eq!(replaced.count(), whole);
}

#[test]
fn a_whole_tensor_of_another_shape_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (adapter, to) = (folder.path().join("a"), folder.path().join("m"));
    let config = AdapterConfig::new("base", 1, Vec::new());
    let name = peft_name("model.norm", AdapterPart::Other);
    let planned = PlannedTensor::new(name.clone(), Dtype::F32, vec![3]);
    std::fs::create_dir(&adapter).unwrap();
    let writer = AdapterWriter::create(&adapter, config, vec![planned]).unwrap();
    let mut tensor = writer.tensor(&name).unwrap();
    tensor.write(&[0; 12]).unwrap();
    tensor.finish().unwrap();
    writer.finish().unwrap();
    let error = merged(&fixture("tiny-qwen3/base"), &adapter, &to).unwrap_err();
    assert!(matches!(error, Error::WholeShape { .. }), "{error}");
    assert!(error.to_string().contains("model.norm"), "{error}");
    assert!(!to.exists());
}
