//! Channel scales that AWQ has folded into the norms: moved back beside a reference, named without one.

use std::path::Path;

use half::f16;
use serde_json::json;
use xgraft_checkpoint::{
    Checkpoint, Dtype, Fate, NormKind, OutputDir, PlannedTensor, Rewrite, Role, Weight, rewrite,
};
use xgraft_cpu_gemm::Source as _;
use xgraft_quantize::{Config, Conversion, Error, Layout, Result, Scheme, dequantize, fingerprint};

use crate::{bytes_of, convert, fixture, json};

/// What AWQ multiplies input channel `i` of the layers after a norm by: from 1/2 to 2.
fn scale(channel: usize) -> f32 {
    (channel as f32 * 0.7).sin().exp2()
}

fn is_scaled(weight: &Weight) -> bool {
    matches!(
        weight.role,
        Role::Q | Role::K | Role::V | Role::Gate | Role::Up
    )
}

fn is_divided(weight: &Weight) -> bool {
    matches!(
        weight.role,
        Role::Norm(NormKind::Input | NormKind::PostAttention)
    )
}

/// The base with scales folded, as `AutoAWQ` does before it rounds: W·diag(s) in F32, norm / s in F16.
fn fold(to: &Path) {
    let source = Checkpoint::open(fixture("tiny-qwen3/base")).unwrap();
    let work = fingerprint("quantize", &source, None, &Config::default());
    let out = OutputDir::create(to, false, &work).unwrap();
    let planned = |weight: &Weight, dtype| {
        Fate::Replace(vec![PlannedTensor::new(
            weight.tensor.clone(),
            dtype,
            weight.shape.clone(),
        )])
    };
    let done: Result<Vec<_>> = rewrite(
        &source,
        &out,
        &Rewrite {
            fate: &|weight| match weight {
                w if is_scaled(w) => planned(w, Dtype::F32),
                w if is_divided(w) => planned(w, Dtype::F16),
                _ => Fate::Keep,
            },
            load: &|weight| source.load(weight),
            convert: &|weight, matrix, sink| {
                let cols = matrix.cols();
                let values = matrix.to_f32().into_iter().enumerate();
                let bytes: Vec<u8> = if is_scaled(weight) {
                    let scaled = values.map(|(i, x)| x * scale(i % cols));
                    scaled.flat_map(f32::to_le_bytes).collect()
                } else {
                    let divided = values.map(|(i, x)| f16::from_f32(x / scale(i)));
                    divided.flat_map(f16::to_le_bytes).collect()
                };
                Ok(sink.tensors(&[bytes])?)
            },
            on_event: &|_| Ok(()),
            config: &source.config().with_quantization(None),
            max_shard_bytes: u64::MAX,
        },
    );
    done.unwrap();
    out.commit().unwrap();
}

/// The folded base in AWQ's words, under AWQ's name.
fn awq(folder: &Path) -> std::path::PathBuf {
    let (folded, path) = (folder.join("folded"), folder.join("awq"));
    fold(&folded);
    let config = Config {
        layout: Layout::AwqOrder,
        symmetric: false,
        ..Config::of(Scheme::Int4)
    };
    convert(&folded, &path, &config);
    let file = path.join("config.json");
    let mut config = json(&file);
    let kept = config["quantization_config"]["modules_to_not_convert"].take();
    config["quantization_config"] = json!({
        "quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": true, "version": "gemm",
        "modules_to_not_convert": kept,
    });
    std::fs::write(file, config.to_string()).unwrap();
    path
}

fn bridge(awq: &Path, reference: Option<&Path>, to: &Path) -> Result<Conversion> {
    let source = Checkpoint::open(awq).unwrap();
    let reference = reference.map(|dir| Checkpoint::open(dir).unwrap());
    let config = Config::default();
    let work = fingerprint("dequantize", &source, reference.as_ref(), &config);
    let out = OutputDir::create(to, false, &work).unwrap();
    let done = dequantize(&source, reference.as_ref(), &config, &out, &|_| Ok(()))?;
    out.commit().unwrap();
    Ok(done)
}

/// The relative error of the scaled layers' weights against the base's.
fn error_of(dir: &Path) -> f64 {
    let base = Checkpoint::open(fixture("tiny-qwen3/base")).unwrap();
    let bridge = Checkpoint::open(dir).unwrap();
    let (mut error2, mut norm2) = (0.0, 0.0);
    for weight in base.weights().iter().filter(|w| is_scaled(w)) {
        let load = |from: &Checkpoint| {
            let weight = from.weight(&weight.module).unwrap();
            from.load(weight).unwrap().0.to_f32()
        };
        for (a, b) in load(&bridge).iter().zip(&load(&base)) {
            error2 += f64::from(a - b).powi(2);
            norm2 += f64::from(*b).powi(2);
        }
    }
    (error2 / norm2).sqrt()
}

/// Norm times weight is the same in both, but for two roundings to BF16: the model has not changed.
fn same_model(a: &Path, b: &Path) {
    let [a, b] = [a, b].map(|dir| Checkpoint::open(dir).unwrap());
    for (norm, layer) in [
        ("input_layernorm", "self_attn.v_proj"),
        ("post_attention_layernorm", "mlp.gate_proj"),
    ] {
        let product = |from: &Checkpoint| {
            let load = |module: &str| {
                let weight = from.weight(&format!("model.layers.2.{module}")).unwrap();
                from.load(weight).unwrap().0.to_f32()
            };
            let norm = load(norm);
            let weights = load(layer).into_iter().enumerate();
            weights
                .map(|(i, w)| w * norm[i % norm.len()])
                .collect::<Vec<f32>>()
        };
        for (x, y) in product(&a).iter().zip(&product(&b)) {
            assert!((x - y).abs() <= x.abs() / 120.0, "{layer}: {x} {y}");
        }
    }
}

fn count(done: &Conversion, code: &str) -> usize {
    let findings = done.report.findings.iter();
    findings.filter(|f| f.code == code).count()
}

#[test]
fn scales_are_moved_back_beside_the_original() {
    let folder = tempfile::tempdir().unwrap();
    let awq = awq(folder.path());
    let base = fixture("tiny-qwen3/base");
    let (with, without) = (folder.path().join("with"), folder.path().join("without"));
    let alone = bridge(&awq, None, &without).unwrap();
    let beside = bridge(&awq, Some(&base), &with).unwrap();
    // Alone the weights are W·diag(s), which is nothing like W.
    let (wrong, right) = (error_of(&without), error_of(&with));
    assert!((0.4..0.7).contains(&wrong), "{wrong}");
    assert!((0.1..0.2).contains(&right), "{right}");
    same_model(&without, &with);
    // Six of seven layers are named; o_proj has grouped queries before it, so AWQ leaves it alone.
    assert_eq!(count(&alone, "scales-folded"), 3 * 6);
    assert_eq!(count(&beside, "scales-unfolded"), 3 * 2);
    let left: Vec<&str> = beside
        .report
        .findings
        .iter()
        .filter(|f| f.code == "scales-left")
        .map(|f| f.subject.as_str())
        .collect();
    assert_eq!(
        left,
        [0, 1, 2].map(|layer| format!("model.layers.{layer}.mlp.down_proj"))
    );
    let norm = "model.layers.1.post_attention_layernorm.weight";
    let [base, with] = [&base, &with].map(|dir| Checkpoint::open(dir).unwrap());
    assert_eq!(bytes_of(&with, norm), bytes_of(&base, norm));
    let read = beside.inputs.iter().filter(|i| i.role == "reference");
    assert_eq!(read.count(), 3 * 2);
    assert_eq!(beside.report.modules.len(), 21);
}

#[test]
fn what_was_not_scaled_stays_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let (q, d) = (folder.path().join("q"), folder.path().join("d"));
    let base = fixture("tiny-qwen3/base");
    convert(&base, &q, &Config::of(Scheme::Int4));
    let done = bridge(&q, Some(&base), &d).unwrap();
    assert!(
        done.report.findings.is_empty(),
        "{:?}",
        done.report.findings
    );
}

#[test]
fn a_reference_of_another_model_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let awq = awq(folder.path());
    let to = folder.path().join("d");
    let error = bridge(&awq, Some(&fixture("golden/packed-awq")), &to).unwrap_err();
    assert!(matches!(error, Error::OtherModel { .. }), "{error}");
    // A norm of the other sign is divided by no scale.
    let turned = folder.path().join("turned");
    std::fs::create_dir(&turned).unwrap();
    for entry in std::fs::read_dir(fixture("tiny-qwen3/base")).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), turned.join(entry.file_name())).unwrap();
    }
    let checkpoint = Checkpoint::open(&turned).unwrap();
    let tensor = checkpoint
        .tensor("model.layers.0.input_layernorm.weight")
        .unwrap();
    let file = turned.join(&checkpoint.shards()[tensor.shard]);
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[tensor.offset as usize + 1] ^= 0x80;
    std::fs::write(file, bytes).unwrap();
    let error = bridge(&awq, Some(&turned), &to).unwrap_err();
    let text = error.to_string();
    for part in [
        "input_layernorm.weight",
        "positive scale at channel 0",
        "turned",
    ] {
        assert!(text.contains(part), "{text}");
    }
    assert!(error.hint().is_some());
}

#[test]
fn without_the_norms_it_is_said_that_scales_may_be_left() {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("d");
    // One layer as AutoAWQ wrote it, without any norm.
    let done = bridge(&fixture("golden/packed-awq"), None, &to).unwrap();
    let finding = done
        .report
        .findings
        .iter()
        .find(|f| f.code == "scales-folded");
    let finding = finding.expect("a warning");
    assert!(
        finding.message.contains("not in this checkpoint"),
        "{finding}"
    );
    assert!(finding.hint.is_some());
    let left = &json(&to.join("config.json"))["xgraft_channel_scales"];
    assert_eq!(left["folded"], true);
    let layer = finding.subject.rsplit('.').next().unwrap();
    let layers = left["layers"].as_array().unwrap();
    assert!(layers.iter().any(|l| l == layer), "{left}");
}

#[test]
fn the_configuration_says_which_layers_keep_scales() {
    let folder = tempfile::tempdir().unwrap();
    let awq = awq(folder.path());
    let base = fixture("tiny-qwen3/base");
    let layers =
        |to: &Path| json(&to.join("config.json"))["xgraft_channel_scales"]["layers"].clone();
    let (with, without) = (folder.path().join("with"), folder.path().join("without"));
    bridge(&awq, None, &without).unwrap();
    bridge(&awq, Some(&base), &with).unwrap();
    assert_eq!(
        layers(&without),
        json!([
            "down_proj",
            "gate_proj",
            "k_proj",
            "q_proj",
            "up_proj",
            "v_proj"
        ])
    );
    assert_eq!(layers(&with), json!(["down_proj"]));
    let plain = folder.path().join("plain");
    convert(&base, &folder.path().join("q"), &Config::of(Scheme::Int4));
    bridge(&folder.path().join("q"), None, &plain).unwrap();
    assert!(layers(&plain).is_null());
}
