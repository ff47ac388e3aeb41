//! Bad quantized input: one error that names the tensor or field, what was expected and what was found; exit 1, and
//! nothing under the output's name nor in its way.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::{copy, fixture, stderr, succeed, xgraft};

const MODULE: &str = "model.layers.1.mlp.up_proj";

struct Case {
    folder: tempfile::TempDir,
    dir: PathBuf,
}

impl Case {
    /// The small base, quantized.
    fn quantized(options: &[&str]) -> Case {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("q");
        let base = fixture("tiny-qwen3/base");
        let args = ["quantize", &base, "--out", dir.to_str().unwrap()];
        succeed(&[&args[..], options].concat());
        Case { folder, dir }
    }

    fn path(&self) -> &str {
        self.dir.to_str().unwrap()
    }

    /// The error of a verb, which must leave nothing.
    fn error(&self, args: &[&str]) -> String {
        let out = self.folder.path().join("out");
        let output = xgraft(&[args, &["--out", out.to_str().unwrap()]].concat());
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(
            text.contains("error: ") && text.contains("hint: "),
            "{text}"
        );
        assert!(!out.exists(), "an output was left");
        assert!(
            !out.with_extension("partial").exists(),
            "a part was left: {text}"
        );
        text
    }

    fn dequantize(&self, expected: &[&str]) {
        let text = self.error(&["dequantize", self.path()]);
        for part in expected {
            assert!(text.contains(part), "{part:?} is not in: {text}");
        }
    }

    fn config(&self, edit: impl Fn(&mut Value)) {
        let path = self.dir.join("config.json");
        let mut config: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        edit(&mut config);
        std::fs::write(path, config.to_string()).unwrap();
    }

    /// Edits the header and the bytes after it.
    fn weights(&self, edit: impl Fn(&mut Value, &mut [u8])) {
        edit_file(&self.dir.join("model.safetensors"), edit);
    }
}

fn edit_file(path: &Path, edit: impl Fn(&mut Value, &mut [u8])) {
    let bytes = std::fs::read(path).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let (header, data) = bytes[8..].split_at(length);
    let (mut header, mut data) = (serde_json::from_slice(header).unwrap(), data.to_vec());
    edit(&mut header, &mut data);
    let text = header.to_string().into_bytes();
    let mut out = (text.len() as u64).to_le_bytes().to_vec();
    out.extend(text);
    out.extend(data);
    std::fs::write(path, out).unwrap();
}

/// Another name, type and shape for a tensor's bytes.
fn rename(header: &mut Value, from: &str, to: &str, dtype: &str, shape: [usize; 2]) {
    let mut tensor = header.as_object_mut().unwrap().remove(from).unwrap();
    tensor["dtype"] = dtype.into();
    tensor["shape"] = json!(shape);
    header[to] = tensor;
}

#[test]
fn a_group_size_that_does_not_divide() {
    let case = Case::quantized(&["--scheme", "int4"]);
    let base = fixture("tiny-qwen3/base");
    let text = case.error(&["quantize", &base, "--scheme", "int4", "--group-size", "100"]);
    for part in [
        "proj.weight has 512 columns",
        "a multiple of the group size 100",
        "that divides them is 64",
        "hint: choose a --group-size",
    ] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn a_group_of_nothing_and_groups_of_a_scheme_that_has_its_own() {
    let case = Case::quantized(&["--scheme", "int4"]);
    let base = fixture("tiny-qwen3/base");
    let text = case.error(&["quantize", &base, "--scheme", "int4", "--group-size", "0"]);
    for part in [
        "--group-size: expected at least 1, found 0",
        "hint: leave --group-size out",
    ] {
        assert!(text.contains(part), "{text}");
    }
    let text = case.error(&["quantize", &base, "--scheme", "int8", "--group-size", "64"]);
    for part in [
        "--group-size: scheme int8",
        "its groups are fixed",
        "hint: ",
    ] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn fixed_groups_that_do_not_divide_are_no_matter_of_an_option() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("odd");
    std::fs::create_dir(&dir).unwrap();
    let config = json!({"architectures": ["LlamaForCausalLM"], "hidden_size": 40});
    std::fs::write(dir.join("config.json"), config.to_string()).unwrap();
    let name = "model.layers.0.self_attn.q_proj.weight";
    let header = json!({name: {"dtype": "BF16", "shape": [8, 40], "data_offsets": [0, 640]}});
    let header = header.to_string();
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len() + 640, 0);
    std::fs::write(dir.join("model.safetensors"), bytes).unwrap();
    for (scheme, group) in [("nf4", "64"), ("mxfp4", "32")] {
        let out = folder.path().join("out");
        let arguments = [
            "quantize",
            dir.to_str().unwrap(),
            "--scheme",
            scheme,
            "--out",
        ];
        let output = xgraft(&[&arguments[..], &[out.to_str().unwrap()]].concat());
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{text}");
        let expected =
            format!("has 40 columns, expected a multiple of {group}, the group size of {scheme}");
        assert!(
            text.contains(&expected) && !text.contains("--group-size"),
            "{text}"
        );
        assert!(!out.exists(), "an output was left");
    }
}

#[test]
fn an_unknown_method() {
    let case = Case::quantized(&["--scheme", "int4"]);
    case.config(|config| config["quantization_config"]["quant_method"] = "hqq".into());
    case.dequantize(&[
        "config.json",
        "quantization_config",
        "found hqq",
        "can be read",
    ]);
}

#[test]
fn a_configuration_of_another_format() {
    let [fp8, int4, nf4] = ["fp8-block", "int4", "nf4"].map(|s| Case::quantized(&["--scheme", s]));
    let swap = |holds: &Case, says: &Case, expected: &[&str]| {
        let other = Case {
            folder: tempfile::tempdir().unwrap(),
            dir: tempfile::tempdir().unwrap().keep(),
        };
        copy(holds.path(), &other.dir);
        std::fs::copy(says.dir.join("config.json"), other.dir.join("config.json")).unwrap();
        other.dequantize(expected);
        std::fs::remove_dir_all(&other.dir).unwrap();
    };
    swap(
        &fp8,
        &int4,
        &[
            "down_proj.weight`",
            "fits quant_method `compressed-tensors`",
            "F8_E4M3 codes",
        ],
    );
    swap(
        &int4,
        &fp8,
        &[
            "weight_packed`",
            "fits quant_method `fp8`",
            "packed integers",
        ],
    );
    swap(
        &nf4,
        &int4,
        &[
            "bitsandbytes__nf4`",
            "fits quant_method `compressed-tensors`",
            "NF4",
        ],
    );
    swap(
        &fp8,
        &nf4,
        &[
            "down_proj.weight`",
            "fits quant_method `bitsandbytes`",
            "F8_E4M3 codes",
        ],
    );
}

#[test]
fn two_layouts_in_one_checkpoint() {
    let case = Case::quantized(&["--scheme", "fp8-block"]);
    case.weights(|header, _| {
        let (from, to) = (
            format!("{MODULE}.weight"),
            format!("{MODULE}.weight_packed"),
        );
        rename(header, &from, &to, "I32", [512, 64]);
    });
    case.dequantize(&[
        "up_proj.weight_packed`",
        "quant_method `fp8`",
        "packed integers",
    ]);
}

#[test]
fn packed_codes_of_the_wrong_length() {
    for (options, leaf, dtype, shape, expected) in [
        (
            &["--scheme", "int4"][..],
            "weight_packed",
            "I32",
            [1024, 16],
            &["weight_packed`", "[1024, 32]", "found shape [1024, 16]"][..],
        ),
        (
            &["--scheme", "int4", "--layout", "gptq-order"],
            "qweight",
            "I32",
            [16, 1024],
            &["up_proj.", "expected", "found shape"],
        ),
        (
            &["--scheme", "nf4"],
            "weight",
            "U8",
            [65536, 1],
            &["up_proj.weight`", "65536 bytes of codes", "found 65535"],
        ),
    ] {
        let case = Case::quantized(options);
        case.weights(|header, _| {
            let name = format!("{MODULE}.{leaf}");
            rename(header, &name, &name, dtype, shape);
            if dtype == "U8" {
                // One byte short, which belongs to nothing then.
                let end = header[&name]["data_offsets"][1].as_u64().unwrap();
                header[&name]["shape"] = json!([65535, 1]);
                header[&name]["data_offsets"][1] = (end - 1).into();
                header["rest"] =
                    json!({"dtype": "U8", "shape": [1], "data_offsets": [end - 1, end]});
            }
        });
        case.dequantize(expected);
    }
}

#[test]
fn a_scale_of_zero() {
    for (options, leaf) in [
        (&["--scheme", "int4"][..], "weight_scale"),
        (&["--scheme", "fp8-block"], "weight_scale_inv"),
        (&["--scheme", "int4", "--layout", "awq-order"], "scales"),
    ] {
        let case = Case::quantized(options);
        case.weights(|header, data| {
            let tensor = &header[format!("{MODULE}.{leaf}")];
            let start = tensor["data_offsets"][0].as_u64().unwrap() as usize;
            data[start..start + 4].fill(0);
        });
        case.dequantize(&[
            leaf,
            "model.safetensors",
            "a scale above 0",
            "found 0 at row 0",
        ]);
    }
}

#[test]
fn an_adapter_of_another_model() {
    let case = Case::quantized(&["--scheme", "int4"]);
    let adapter = case.folder.path().join("adapter");
    copy(&fixture("golden/peft-plain"), &adapter);
    edit_file(&adapter.join("adapter_model.safetensors"), |header, _| {
        let text = header.to_string().replace("layers.2.", "layers.7.");
        *header = serde_json::from_str(&text).unwrap();
    });
    let merge = |base: &str| {
        case.error(&[
            "merge",
            "--base",
            base,
            "--adapter",
            adapter.to_str().unwrap(),
        ])
    };
    let text = merge(case.path());
    for part in [
        "model.layers.7",
        "is not a weight of",
        "made for another model",
    ] {
        assert!(text.contains(part), "{text}");
    }
    // The same names in another width.
    let narrow = Case {
        folder: tempfile::tempdir().unwrap(),
        dir: tempfile::tempdir().unwrap().keep(),
    };
    copy(&fixture("golden/peft-plain"), &narrow.dir);
    edit_file(
        &narrow.dir.join("adapter_model.safetensors"),
        |header, _| {
            for (name, tensor) in header.as_object_mut().unwrap() {
                if name.ends_with("q_proj.lora_B.weight") {
                    tensor["shape"] = json!([128, 16]);
                } else if name.ends_with("q_proj.lora_A.weight") {
                    tensor["shape"] = json!([16, 128]);
                }
            }
        },
    );
    let text = case.error(&["merge", "--base", case.path(), "--adapter", narrow.path()]);
    std::fs::remove_dir_all(&narrow.dir).unwrap();
    assert!(text.contains("q_proj") && text.contains("hint: "), "{text}");
}

#[test]
fn a_reference_of_another_architecture() {
    let case = Case::quantized(&["--scheme", "int4"]);
    let other = case.folder.path().join("other");
    copy(&fixture("tiny-qwen3/base"), &other);
    let config = other.join("config.json");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(
        &config,
        text.replace("Qwen3ForCausalLM", "LlamaForCausalLM"),
    )
    .unwrap();
    let other = other.to_str().unwrap();
    let base = fixture("tiny-qwen3/tuned");
    for args in [
        &["dequantize", case.path(), "--reference", other][..],
        &["quantize", &base, "--scheme", "int4", "--base", other],
    ] {
        let text = case.error(args);
        for part in ["architectures", "LlamaForCausalLM", "Qwen3ForCausalLM"] {
            assert!(text.contains(part), "{text}");
        }
    }
}
