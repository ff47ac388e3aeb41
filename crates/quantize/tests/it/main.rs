//! Whole checkpoints into FP8 and back, against the reference implementations' files.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod formats;
mod size;
mod stats;
mod unfold;

use std::path::{Path, PathBuf};

use serde_json::Value;
use xgraft_checkpoint::{Checkpoint, OutputDir, Quantization};
use xgraft_cpu_gemm::Source as _;
use xgraft_quantize::{
    Config, Conversion, Error, Known, Layout, Scheme, dequantize, fingerprint, quantize,
};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fixtures")
        .join(name)
}

fn compressed_tensors(scheme: Scheme) -> Config {
    Config {
        layout: Layout::CompressedTensors,
        ..Config::of(scheme)
    }
}

fn convert(from: &Path, to: &Path, config: &Config) -> Conversion {
    let source = Checkpoint::open(from).unwrap();
    let out =
        OutputDir::create(to, false, &fingerprint("quantize", &source, None, config)).unwrap();
    let done = quantize(&source, Known::default(), config, &out, &|_| Ok(())).unwrap();
    out.commit().unwrap();
    done
}

fn bytes_of(checkpoint: &Checkpoint, name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let tensor = checkpoint
        .tensor(name)
        .unwrap_or_else(|| panic!("no tensor {name}"));
    checkpoint
        .stream(tensor, |chunk| {
            bytes.extend_from_slice(chunk);
            Ok(())
        })
        .unwrap();
    bytes
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn layout_compressed_tensors_is_byte_equal_to_llm_compressor() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("q");
    convert(
        &fixture("tiny-qwen3/base"),
        &path,
        &compressed_tensors(Scheme::Fp8Block),
    );
    let golden_path = fixture("golden/ct-fp8-block");
    let (ours, golden) = (
        Checkpoint::open(&path).unwrap(),
        Checkpoint::open(&golden_path).unwrap(),
    );
    let names = |c: &Checkpoint| {
        c.tensors()
            .map(|t| (t.name.clone(), t.dtype, t.shape.clone()))
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&ours), names(&golden));
    for tensor in golden.tensors() {
        assert!(
            bytes_of(&ours, &tensor.name) == bytes_of(&golden, &tensor.name),
            "{} differs",
            tensor.name
        );
    }
    let config = |dir: &Path| {
        let mut config = json(&dir.join("config.json"))["quantization_config"].clone();
        // written as null by the reference, for models without experts too
        config
            .as_object_mut()
            .unwrap()
            .remove("moe_sparsity_config");
        config
    };
    assert_eq!(config(&path), config(&golden_path));
}

#[test]
fn layout_hf_is_what_qwen_publishes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("q");
    convert(&fixture("tiny-qwen3/base"), &path, &Config::default());
    let config = json(&path.join("config.json"));
    let quantization = &config["quantization_config"];
    assert_eq!(quantization["quant_method"], "fp8");
    assert_eq!(
        quantization["weight_block_size"],
        serde_json::json!([128, 128])
    );
    assert_eq!(
        quantization["modules_to_not_convert"],
        serde_json::json!(["lm_head", "model.embed_tokens"])
    );
    let quantized = Checkpoint::open(&path).unwrap();
    let scale = quantized
        .tensor("model.layers.0.mlp.down_proj.weight_scale_inv")
        .unwrap();
    assert_eq!(
        (scale.dtype.name(), scale.shape.as_slice()),
        ("F32", &[2, 4][..])
    );
    for kept in [
        "lm_head.weight",
        "model.embed_tokens.weight",
        "model.norm.weight",
        "model.layers.0.self_attn.q_norm.weight",
    ] {
        assert_eq!(
            quantized.tensor(kept).unwrap().dtype.name(),
            "BF16",
            "{kept}"
        );
    }
    for side in [
        "tokenizer.json",
        "tokenizer_config.json",
        "generation_config.json",
    ] {
        assert!(path.join(side).exists(), "{side}");
    }
}

#[test]
fn dequantizing_gives_code_times_scale_and_a_clean_config() {
    let folder = tempfile::tempdir().unwrap();
    let (q, d) = (folder.path().join("q"), folder.path().join("d"));
    convert(&fixture("tiny-qwen3/base"), &q, &Config::default());
    let source = Checkpoint::open(&q).unwrap();
    let out = OutputDir::create(
        &d,
        false,
        &fingerprint("dequantize", &source, None, &Config::default()),
    )
    .unwrap();
    dequantize(&source, None, &Config::default(), &out, &|_| Ok(())).unwrap();
    out.commit().unwrap();
    let back = Checkpoint::open(&d).unwrap();
    assert_eq!(*back.quantization(), Quantization::None);
    assert!(
        json(&d.join("config.json"))
            .get("quantization_config")
            .is_none()
    );
    let original = Checkpoint::open(fixture("tiny-qwen3/base")).unwrap();
    assert_eq!(back.tensors().count(), original.tensors().count());
    for weight in source.weights().iter().filter(|w| w.is_quantized()) {
        let exact = source.load(weight).unwrap().0.to_f32();
        let (bf16, _) = back.load(back.weight(&weight.module).unwrap()).unwrap();
        for (x, y) in exact.iter().zip(bf16.to_f32()) {
            assert_eq!(half::bf16::from_f32(*x).to_f32().to_bits(), y.to_bits());
        }
        assert_eq!(bf16.cols(), weight.shape[1]);
    }
}

#[test]
fn a_quantized_checkpoint_is_not_quantized_again() {
    let source = Checkpoint::open(fixture("golden/ct-fp8-block")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let out = OutputDir::create(&folder.path().join("q"), false, &Value::Null).unwrap();
    let error = quantize(&source, Known::default(), &Config::default(), &out, &|_| {
        Ok(())
    })
    .unwrap_err();
    assert!(matches!(error, Error::AlreadyQuantized { .. }), "{error}");
    assert!(error.hint().unwrap().contains("dequantize"));
}

#[test]
fn an_unquantized_checkpoint_is_not_dequantized() {
    let source = Checkpoint::open(fixture("tiny-qwen3/base")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let out = OutputDir::create(&folder.path().join("d"), false, &Value::Null).unwrap();
    let error = dequantize(&source, None, &Config::default(), &out, &|_| Ok(())).unwrap_err();
    assert!(matches!(error, Error::NotQuantized { .. }), "{error}");
}

#[test]
fn interrupted_work_is_resumed_to_the_same_bytes_and_account() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, parts) = (folder.path().join("whole"), folder.path().join("parts"));
    let config = Config {
        max_shard_bytes: 600_000,
        ..Config::default()
    };
    let expected = convert(&fixture("tiny-qwen3/tuned"), &whole, &config);

    let source = Checkpoint::open(fixture("tiny-qwen3/tuned")).unwrap();
    let work = fingerprint("quantize", &source, None, &config);
    let mut redone = 0;
    let result = loop {
        let out = OutputDir::create(&parts, false, &work).unwrap();
        let begun = std::cell::Cell::new(0);
        let stop_after_seven = |event: xgraft_checkpoint::RewriteEvent<'_>| {
            if matches!(event, xgraft_checkpoint::RewriteEvent::Begin { .. }) {
                begun.set(begun.get() + 1);
            }
            if begun.get() > 7 {
                Err(Error::Interrupted)
            } else {
                Ok(())
            }
        };
        match quantize(&source, Known::default(), &config, &out, &stop_after_seven) {
            Ok(done) => {
                out.commit().unwrap();
                break done;
            }
            Err(error) => {
                assert!(matches!(error, Error::Interrupted), "{error}");
                assert!(
                    !parts.exists(),
                    "nothing under the final name while unfinished"
                );
                redone += 1;
            }
        }
    };
    assert!(redone >= 3, "it was interrupted {redone} times");
    assert_eq!(result, expected);
    let mut files: Vec<String> = std::fs::read_dir(&whole)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    assert!(
        files.iter().filter(|f| f.ends_with(".safetensors")).count() >= 3,
        "{files:?}"
    );
    for file in files {
        assert!(
            std::fs::read(whole.join(&file)).unwrap() == std::fs::read(parts.join(&file)).unwrap(),
            "{file}"
        );
    }
}

#[test]
fn rounding_costs_what_e4m3_costs_on_trained_weights() {
    let folder = tempfile::tempdir().unwrap();
    let done = convert(
        &fixture("tiny-qwen3/base"),
        &folder.path().join("q"),
        &Config::default(),
    );
    assert_eq!(done.report.modules.len(), 21);
    let error = done.report.relative_error.unwrap();
    assert!((0.024..0.029).contains(&error), "{error}");
}
