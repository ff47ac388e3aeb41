//! `inspect` on directories of every layout, whole and broken.

use std::path::{Path, PathBuf};

use xgraft_autopsy::{Inspection, Layout, inspect};
use xgraft_results::Severity;

use crate::support::{Tensor, bf16_tensor, f32_tensor, file, model, normals, raw};

fn fixture(name: &str) -> PathBuf {
    xgraft_fixtures::dir().join(name)
}

fn zeros(name: &str, dtype: &'static str, shape: &[usize]) -> Tensor {
    let size = match dtype {
        "I64" => 8,
        "I32" | "F32" => 4,
        "F16" | "BF16" => 2,
        _ => 1,
    };
    raw(
        name,
        dtype,
        shape,
        vec![0; size * shape.iter().product::<usize>()],
    )
}

fn codes(inspection: &Inspection) -> Vec<&str> {
    inspection
        .findings
        .iter()
        .filter(|f| f.severity == Severity::Error)
        .map(|f| f.code.as_str())
        .collect()
}

/// Last part of the name, type, shape.
type Described = (&'static str, &'static str, &'static [usize]);

const M: &str = "model.layers.0.mlp.up_proj";

/// The layout that these tensors show under this `quantization_config`, with its scales and errors.
fn layout(quantization: &str, tensors: &[Described]) -> (Layout, String, Vec<String>) {
    let tensors: Vec<Tensor> = tensors
        .iter()
        .map(|(leaf, dtype, shape)| zeros(&format!("{M}.{leaf}"), dtype, shape))
        .collect();
    let config = match quantization {
        "" => r#"{"model_type": "qwen3"}"#.to_owned(),
        q => format!(r#"{{"model_type": "qwen3", "quantization_config": {q}}}"#),
    };
    let dir = model(&config, &tensors);
    let inspection = inspect(dir.path()).unwrap();
    let errors = codes(&inspection).iter().map(|c| (*c).to_owned()).collect();
    let first = &inspection.found[0];
    (first.layout, first.scales.join(","), errors)
}

const FP8: &str = r#"{"quant_method": "fp8", "weight_block_size": [128, 128]}"#;
const PACKED: &str = r#"{"quant_method": "compressed-tensors", "format": "pack-quantized", "config_groups":
    {"group_0": {"targets": ["Linear"], "weights": {"type": "int", "num_bits": 4, "strategy": "group", "group_size": 128}}}}"#;
const INT8: &str = r#"{"quant_method": "compressed-tensors", "format": "int-quantized", "config_groups":
    {"group_0": {"targets": ["Linear"], "weights": {"type": "int", "num_bits": 8, "strategy": "channel"}}}}"#;
const AWQ: &str = r#"{"quant_method": "awq", "bits": 4, "group_size": 128}"#;
const GPTQ: &str = r#"{"quant_method": "gptq", "bits": 4, "group_size": 128}"#;
const BNB: &str = r#"{"quant_method": "bitsandbytes", "load_in_8bit": true}"#;

#[test]
fn layouts_are_told_by_their_tensors() {
    let fp8: &[Described] = &[
        ("weight", "F8_E4M3", &[256, 384]),
        ("weight_scale_inv", "F32", &[2, 3]),
    ];
    let packed: &[Described] = &[
        ("weight_packed", "I32", &[256, 48]),
        ("weight_scale", "BF16", &[256, 3]),
        ("weight_shape", "I64", &[2]),
    ];
    let int8: &[Described] = &[
        ("weight", "I8", &[256, 384]),
        ("weight_scale", "BF16", &[256, 1]),
    ];
    let awq: &[Described] = &[
        ("qweight", "I32", &[384, 32]),
        ("qzeros", "I32", &[3, 32]),
        ("scales", "F16", &[3, 256]),
    ];
    let gptq: &[Described] = &[
        ("qweight", "I32", &[48, 256]),
        ("qzeros", "I32", &[3, 32]),
        ("scales", "F16", &[3, 256]),
        ("g_idx", "I32", &[384]),
    ];
    let bnb: &[Described] = &[
        ("weight", "U8", &[49152, 1]),
        ("weight.absmax", "F32", &[1536]),
        ("weight.quant_map", "F32", &[16]),
    ];
    let plain: &[Described] = &[("weight", "BF16", &[256, 384])];
    for (quantization, tensors, expected, scales) in [
        ("", plain, Layout::Plain, ""),
        (FP8, fp8, Layout::HfFp8, "128x128"),
        (PACKED, packed, Layout::PackQuantized, "group 128"),
        (INT8, int8, Layout::IntQuantized, "row"),
        (AWQ, awq, Layout::Awq, "group 128"),
        (GPTQ, gptq, Layout::Gptq, "group 128"),
        (BNB, bnb, Layout::BitsAndBytes, "group 64"),
    ] {
        let (found, geometry, errors) = layout(quantization, tensors);
        assert_eq!((found, geometry.as_str()), (expected, scales));
        // 8 bits of bitsandbytes are refused by the other verbs; a contradiction they are not.
        assert_eq!(errors, Vec::<String>::new(), "{expected}");
    }
}

#[test]
fn contradictions_between_tensors_and_configuration_are_errors() {
    let fp8: &[Described] = &[
        ("weight", "F8_E4M3", &[256, 384]),
        ("weight_scale_inv", "F32", &[2, 3]),
    ];
    let fp8_64: &[Described] = &[
        ("weight", "F8_E4M3", &[256, 384]),
        ("weight_scale_inv", "F32", &[4, 6]),
    ];
    let alone: &[Described] = &[("weight", "F8_E4M3", &[256, 384])];
    let orphan: &[Described] = &[
        ("weight", "BF16", &[256, 384]),
        ("weight_scale_inv", "F32", &[2, 3]),
    ];
    let odd: &[Described] = &[
        ("weight", "F8_E4M3", &[256, 384]),
        ("weight_scale_inv", "F32", &[2, 3, 1]),
    ];
    let plain: &[Described] = &[("weight", "BF16", &[256, 384])];
    for (quantization, tensors, code) in [
        ("", fp8, "layout-mismatch"),
        (AWQ, fp8, "layout-mismatch"),
        (FP8, fp8_64, "scale-mismatch"),
        (FP8, alone, "missing-scales"),
        (FP8, orphan, "orphan-scales"),
        (FP8, odd, "bad-scale-shape"),
        (FP8, plain, "layout-mismatch"),
        (
            r#"{"quant_method": "fp8", "weight_block_size": [128, 128], "modules_to_not_convert": ["model.layers.0.mlp.up_proj"]}"#,
            fp8,
            "ignored-but-quantized",
        ),
    ] {
        let (_, _, errors) = layout(quantization, tensors);
        assert!(errors.iter().any(|e| e == code), "{code}: {errors:?}");
        assert!(
            !errors.iter().any(|e| e == "bad-quantization"),
            "said twice: {errors:?}"
        );
    }
}

#[test]
fn fixtures_contradict_nothing() {
    for name in ["tiny-qwen3/base", "tiny-qwen3/tuned", "golden/ct-fp8-block"] {
        let inspection = inspect(fixture(name)).unwrap();
        assert!(inspection.passed(), "{name}: {:?}", inspection.findings);
        assert!(
            inspection.findings.is_empty(),
            "{name}: {:?}",
            inspection.findings
        );
    }
    let fp8 = inspect(fixture("golden/ct-fp8-block")).unwrap();
    assert_eq!(fp8.found[0].layout, Layout::FloatQuantized);
    let declared = fp8.declared.unwrap();
    assert_eq!(
        (declared.layouts, declared.scales),
        (vec![Layout::FloatQuantized], Some("128x128".to_owned()))
    );
}

#[test]
fn what_bitsandbytes_wrote_contradicts_nothing() {
    for name in ["packed-bnb-nf4", "packed-bnb-nf4-double"] {
        let inspection = inspect(fixture("golden").join(name)).unwrap();
        assert!(inspection.passed(), "{name}: {:?}", inspection.findings);
        let count = inspection
            .found
            .iter()
            .find(|c| c.layout == Layout::BitsAndBytes);
        assert_eq!(count.unwrap().scales, ["group 64"], "{name}");
        assert_eq!(inspection.declared.unwrap().layouts, [Layout::BitsAndBytes]);
    }
}

fn copy(from: &Path) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), dir.path().join(entry.file_name())).unwrap();
    }
    dir
}

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let dir = copy(&fixture("tiny-qwen3/tuned"));
    let path = dir.path();
    let first = std::fs::read(path.join("model-00001-of-00002.safetensors")).unwrap();
    std::fs::write(
        path.join("model-00001-of-00002.safetensors"),
        &first[..first.len() - 1000],
    )
    .unwrap();
    std::fs::remove_file(path.join("model-00002-of-00002.safetensors")).unwrap();
    std::fs::write(path.join("left-over.safetensors"), file(&[])).unwrap();
    let config = std::fs::read_to_string(path.join("config.json")).unwrap();
    std::fs::write(
        path.join("config.json"),
        config.replace("\"hidden_size\": 256", "\"hidden_size\": 128"),
    )
    .unwrap();
    let inspection = inspect(path).unwrap();
    assert!(!inspection.passed());
    let found = codes(&inspection);
    for code in ["bad-tensor", "bad-index", "shape-mismatch"] {
        assert!(found.contains(&code), "{code}: {found:?}");
    }
    assert_eq!(inspection.unused, ["left-over.safetensors"]);
    assert!(
        inspection.tensors.len() > 10,
        "tensors of the cut shard are listed"
    );
    assert!(inspection.findings.iter().all(|f| !f.message.is_empty()));
}

#[test]
fn a_missing_layer_and_a_missing_tensor_are_named() {
    let numbers = normals(1, 64, 0.02);
    let tensors: Vec<Tensor> = [0, 1, 2, 4]
        .iter()
        .flat_map(|layer| ["gate_proj", "up_proj"].map(|m| (*layer, m)))
        .filter(|named| *named != (2, "up_proj"))
        .map(|(layer, m)| {
            bf16_tensor(
                &format!("model.layers.{layer}.mlp.{m}.weight"),
                &[8, 8],
                &numbers,
            )
        })
        .collect();
    let dir = model(
        r#"{"model_type": "qwen3", "num_hidden_layers": 6}"#,
        &tensors,
    );
    let inspection = inspect(dir.path()).unwrap();
    let said: Vec<String> = inspection
        .findings
        .iter()
        .map(ToString::to_string)
        .collect();
    let said = said.join("\n");
    for words in [
        "says 6 layers, found 5",
        "layer 2: expected `mlp.up_proj.weight`",
        "layer 3: expected `mlp.gate_proj.weight`",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
}

#[test]
fn a_directory_without_anything_is_findings_and_a_file_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let inspection = inspect(dir.path()).unwrap();
    assert_eq!(codes(&inspection), ["missing-file", "missing-file"]);
    let file = dir.path().join("x");
    std::fs::write(&file, "x").unwrap();
    assert!(inspect(&file).is_err() && inspect(dir.path().join("none")).is_err());
}

#[test]
fn garbage_is_a_finding_of_its_file() {
    let dir = model("{", &[f32_tensor("a.weight", &[2, 2], &[1.0; 4])]);
    std::fs::write(dir.path().join("model.safetensors"), [255; 64]).unwrap();
    let inspection = inspect(dir.path()).unwrap();
    let found = codes(&inspection);
    assert!(
        found.contains(&"bad-json") && found.contains(&"bad-header"),
        "{found:?}"
    );
    assert!(inspection.declared.is_none() && inspection.tensors.is_empty());
}
