//! Every format: written, read, and held against the files and values of the reference tools.

use std::path::Path;

use half::{bf16, f16};
use serde_json::Value;
use xgraft_checkpoint::{Checkpoint, OutputDir, WeightMatrix};
use xgraft_cpu_gemm::Source as _;
use xgraft_quantize::{
    Config, Error, Known, Layout, Scheme, Search, dequantize, fingerprint, quantize,
};

use crate::{bytes_of, convert, fixture, json};

/// The layer of the packed golden files.
const MODULE: &str = "model.layers.0.self_attn.q_proj";

/// The values that a tool reads from the file that it wrote, and how it rounds them.
fn expected(dir: &Path) -> (Vec<f32>, fn(f32) -> f32) {
    values_of(&dir.join("expected.safetensors"), "expected")
}

/// The only tensor of a file, and how its type rounds.
fn values_of(file: &Path, tensor: &str) -> (Vec<f32>, fn(f32) -> f32) {
    let bytes = std::fs::read(file).unwrap();
    let length = usize::try_from(u64::from_le_bytes(bytes[..8].try_into().unwrap())).unwrap();
    let header: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let data = &bytes[8 + length..];
    let halves = data.as_chunks().0.iter();
    match header[tensor]["dtype"].as_str().unwrap() {
        "BF16" => (
            halves.map(|b| bf16::from_le_bytes(*b).to_f32()).collect(),
            |x| bf16::from_f32(x).to_f32(),
        ),
        "F16" => (
            halves.map(|b| f16::from_le_bytes(*b).to_f32()).collect(),
            |x| f16::from_f32(x).to_f32(),
        ),
        other => panic!("{other}"),
    }
}

#[test]
fn what_the_tools_packed_is_read_as_they_read_it() {
    for name in [
        "packed-ct-int8",
        "packed-ct-int4",
        "packed-ct-int4-asym",
        "packed-bnb-nf4",
        "packed-bnb-nf4-double",
        "packed-awq",
        "packed-gptq-v1",
        "packed-gptq-v2",
        "packed-gptq-sorted-v1",
        "packed-gptq-sorted-v2",
    ] {
        let dir = fixture("golden").join(name);
        let checkpoint = Checkpoint::open(&dir).unwrap();
        let weight = checkpoint.weight(MODULE).unwrap();
        assert!(weight.is_quantized() && weight.role.is_linear());
        let values = checkpoint.load(weight).unwrap().0.to_f32();
        let (expected, round) = expected(&dir);
        assert_eq!(values.len(), expected.len(), "{name}");
        let differ = values
            .iter()
            .zip(&expected)
            .position(|(a, b)| round(*a) != *b);
        assert_eq!(differ.map(|at| (values[at], expected[at])), None, "{name}");
    }
}

#[test]
fn nf4_is_byte_equal_to_bitsandbytes() {
    let golden = fixture("golden").join("packed-bnb-nf4");
    // The same directory before it was quantized.
    let folder = tempfile::tempdir().unwrap();
    let (source, path) = (folder.path().join("source"), folder.path().join("q"));
    std::fs::create_dir(&source).unwrap();
    let mut config = json(&golden.join("config.json"));
    config
        .as_object_mut()
        .unwrap()
        .remove("quantization_config");
    std::fs::write(source.join("config.json"), config.to_string()).unwrap();
    let bytes = std::fs::read(golden.join("source.safetensors")).unwrap();
    let named = String::from_utf8_lossy(&bytes[8..]).find("source").unwrap() + 8;
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap());
    let more = format!("{MODULE}.weight");
    let mut renamed = (length + (more.len() - "source".len()) as u64)
        .to_le_bytes()
        .to_vec();
    renamed.extend(&bytes[8..named]);
    renamed.extend(more.as_bytes());
    renamed.extend(&bytes[named + "source".len()..]);
    std::fs::write(source.join("model.safetensors"), renamed).unwrap();

    convert(&source, &path, &Config::of(Scheme::Nf4));
    let (ours, theirs) = (
        Checkpoint::open(&path).unwrap(),
        Checkpoint::open(&golden).unwrap(),
    );
    let of_layer = theirs.tensors().filter(|t| t.name.starts_with(MODULE));
    let mut compared = 0;
    for tensor in of_layer {
        let name = tensor.name.as_str();
        let mine = ours.tensor(name).unwrap();
        assert_eq!(
            (mine.dtype, &mine.shape),
            (tensor.dtype, &tensor.shape),
            "{name}"
        );
        assert!(bytes_of(&ours, name) == bytes_of(&theirs, name), "{name}");
        compared += 1;
    }
    assert_eq!(compared, 4);
    let stated = &json(&path.join("config.json"))["quantization_config"];
    assert_eq!(stated["quant_method"], "bitsandbytes");
    assert_eq!(stated["bnb_4bit_quant_type"], "nf4");
}

#[test]
fn rows_of_a_packed_weight_are_rows_of_the_whole() {
    for name in [
        "packed-ct-int4-asym",
        "packed-awq",
        "packed-gptq-sorted-v1",
        "packed-bnb-nf4-double",
    ] {
        let checkpoint = Checkpoint::open(fixture("golden").join(name)).unwrap();
        let weight = checkpoint.weight(MODULE).unwrap();
        let whole = checkpoint.load(weight).unwrap().0;
        let part = checkpoint.load_rows(weight, 5..18).unwrap();
        let cols = whole.cols();
        assert_eq!(part.to_f32(), whole.to_f32()[5 * cols..18 * cols], "{name}");
    }
}

#[test]
fn two_s_complement_is_27_times_the_noise() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("q");
    convert(
        &fixture("tiny-qwen3/base"),
        &path,
        &Config::of(Scheme::Int4),
    );
    let (source, packed) = (
        Checkpoint::open(fixture("tiny-qwen3/base")).unwrap(),
        Checkpoint::open(&path).unwrap(),
    );
    let (mut right, mut wrong, mut norm) = (0.0, 0.0, 0.0);
    for weight in packed.weights().iter().filter(|w| w.is_quantized()) {
        let original = source
            .load(source.weight(&weight.module).unwrap())
            .unwrap()
            .0
            .to_f32();
        let WeightMatrix::Grouped(mut matrix) = packed.load(weight).unwrap().0 else {
            panic!("{} is not grouped", weight.module)
        };
        let error2 = |values: Vec<f32>| -> f64 {
            let pairs = values.iter().zip(&original);
            pairs.map(|(a, b)| f64::from(a - b).powi(2)).sum()
        };
        right += error2(matrix.to_f32());
        // A nibble read as two's complement is the offset binary of the number eight away.
        matrix.codes.iter_mut().for_each(|code| *code ^= 8);
        wrong += error2(matrix.to_f32());
        norm += original.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>();
    }
    let (right, wrong) = ((right / norm).sqrt(), (wrong / norm).sqrt());
    assert!((0.10..0.12).contains(&right), "{right}");
    assert!((24.0..30.0).contains(&(wrong / right)), "{wrong} / {right}");
}

/// Every format that stores codes.
fn packed() -> Vec<Config> {
    let int4 = |layout, symmetric| Config {
        layout,
        symmetric,
        ..Config::of(Scheme::Int4)
    };
    let mut all: Vec<Config> = [
        Scheme::Fp8Block,
        Scheme::Fp8Channel,
        Scheme::Fp8Tensor,
        Scheme::Int8,
        Scheme::Nf4,
    ]
    .map(Config::of)
    .to_vec();
    for layout in [
        Layout::CompressedTensors,
        Layout::AwqOrder,
        Layout::GptqOrder,
    ] {
        all.extend([true, false].map(|symmetric| int4(layout, symmetric)));
    }
    all
}

#[test]
fn what_is_written_is_read_back_and_dequantized() {
    for config in packed() {
        let dir = tempfile::tempdir().unwrap();
        let (q, d) = (dir.path().join("q"), dir.path().join("d"));
        let done = convert(&fixture("tiny-qwen3/tuned"), &q, &config);
        let packed = Checkpoint::open(&q).unwrap();
        let out = OutputDir::create(
            &d,
            false,
            &fingerprint("dequantize", &packed, None, &config),
        )
        .unwrap();
        dequantize(&packed, None, &config, &out, &|_| Ok(())).unwrap();
        out.commit().unwrap();
        let (bridge, source) = (
            Checkpoint::open(&d).unwrap(),
            Checkpoint::open(fixture("tiny-qwen3/tuned")).unwrap(),
        );
        for report in &done.report.modules {
            let load = |from: &Checkpoint| {
                from.load(from.weight(&report.module).unwrap())
                    .unwrap()
                    .0
                    .to_f32()
            };
            let (bridge, source) = (load(&bridge), load(&source));
            let sum = |f: &dyn Fn(f32, f32) -> f64| {
                bridge
                    .iter()
                    .zip(&source)
                    .map(|(a, b)| f(*a, *b))
                    .sum::<f64>()
            };
            let error =
                (sum(&|a, b| f64::from(a - b).powi(2)) / sum(&|_, b| f64::from(b).powi(2))).sqrt();
            // The bridge is rounded to BF16 as well.
            assert!(
                (error - report.loss.unwrap().relative_error).abs() < 0.02 * error + 1e-3,
                "{config:?} {}: {error}",
                report.module
            );
        }
        assert!(bridge.tensors().all(|t| {
            !["scale", "qzeros", ".weight."]
                .iter()
                .any(|part| t.name.contains(part))
        }));
    }
}

#[test]
fn a_file_that_was_rounded_to_nearest_bears_no_other_name() {
    for layout in [Layout::AwqOrder, Layout::GptqOrder] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("q");
        let config = Config {
            layout,
            ..Config::of(Scheme::Int4)
        };
        convert(&fixture("tiny-qwen3/base"), &path, &config);
        let text = std::fs::read_to_string(path.join("config.json"))
            .unwrap()
            .to_lowercase();
        assert!(!text.contains("awq") && !text.contains("gptq"), "{text}");
        assert_eq!(
            json(&path.join("config.json"))["quantization_config"]["quant_method"],
            "rtn"
        );
    }
}

#[test]
fn simulated_formats_are_on_their_grid_and_say_so() {
    for scheme in [
        Scheme::Int3,
        Scheme::Int2,
        Scheme::Nf4,
        Scheme::Mxfp4,
        Scheme::Nvfp4,
    ] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("q");
        let config = Config {
            layout: Layout::Simulated,
            ..Config::of(scheme)
        };
        let done = convert(&fixture("tiny-qwen3/base"), &path, &config);
        let config = json(&path.join("config.json"));
        assert_eq!(
            config["xgraft_simulated_quantization"]["scheme"],
            scheme.name()
        );
        assert!(config.get("quantization_config").is_none());
        let (low, high) = match scheme {
            Scheme::Int2 => (0.40, 0.55),
            Scheme::Int3 => (0.20, 0.28),
            _ => (0.08, 0.13),
        };
        let error = done.report.relative_error.unwrap();
        assert!((low..high).contains(&error), "{scheme:?}: {error}");
        let checkpoint = Checkpoint::open(&path).unwrap();
        let weight = checkpoint.weight("model.layers.1.mlp.up_proj").unwrap();
        let values = checkpoint.load(weight).unwrap().0.to_f32();
        let mut of_a_group: Vec<u32> = values[..16].iter().map(|x| x.to_bits()).collect();
        of_a_group.sort_unstable();
        of_a_group.dedup();
        assert!(of_a_group.len() <= 16, "{scheme:?}");
    }
}

#[test]
fn a_search_is_never_worse_by_its_own_measure() {
    let run = |scheme, search| {
        let dir = tempfile::tempdir().unwrap();
        let config = Config {
            search,
            ..Config::of(scheme)
        };
        let (source, base) = (
            Checkpoint::open(fixture("tiny-qwen3/tuned")).unwrap(),
            Checkpoint::open(fixture("tiny-qwen3/base")).unwrap(),
        );
        let work = fingerprint("quantize", &source, Some(&base), &config);
        let out = OutputDir::create(&dir.path().join("q"), false, &work).unwrap();
        quantize(
            &source,
            Known {
                base: Some(&base),
                ..Known::default()
            },
            &config,
            &out,
            &|_| Ok(()),
        )
        .unwrap()
        .report
    };
    for scheme in [Scheme::Fp8Block, Scheme::Int4, Scheme::Int2] {
        let [amax, mse, delta] = [Search::Amax, Search::Mse, Search::Delta].map(|s| run(scheme, s));
        assert!(mse.relative_error < amax.relative_error, "{scheme:?}");
        let cosine = |report: &xgraft_quantize::Report| report.delta().unwrap().cosine();
        assert!(cosine(&delta) > cosine(&amax), "{scheme:?}");
    }
}

#[test]
fn kept_modules_stay_and_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("q");
    let config = Config {
        keep: vec!["layers.0".into(), "re:.*down_proj".into()],
        ..Config::of(Scheme::Int4)
    };
    let done = convert(&fixture("tiny-qwen3/base"), &path, &config);
    assert_eq!(done.report.modules.len(), 12);
    let ignore = json(&path.join("config.json"))["quantization_config"]["ignore"].clone();
    let ignored: Vec<&str> = ignore
        .as_array()
        .unwrap()
        .iter()
        .map(|v| v.as_str().unwrap())
        .collect();
    assert!(ignored.contains(&"model.layers.0.self_attn.q_proj") && ignored.contains(&"lm_head"));
    let (q, source) = (
        Checkpoint::open(&path).unwrap(),
        Checkpoint::open(fixture("tiny-qwen3/base")).unwrap(),
    );
    let name = "model.layers.2.mlp.down_proj.weight";
    assert_eq!(bytes_of(&q, name), bytes_of(&source, name));
}

#[test]
fn what_makes_no_sense_is_refused_before_anything_is_read() {
    let refused = |config: Config| config.validate().unwrap_err();
    let hf_int4 = Config {
        layout: Layout::Hf,
        ..Config::of(Scheme::Int4)
    };
    assert!(matches!(
        refused(hf_int4),
        Error::Combination { scheme: "int4", .. }
    ));
    let packed_int3 = Config {
        layout: Layout::CompressedTensors,
        ..Config::of(Scheme::Int3)
    };
    assert!(refused(packed_int3).hint().unwrap().contains("simulated"));
    let groups_of_fp8 = Config {
        group: Some(64),
        ..Config::of(Scheme::Fp8Block)
    };
    assert!(matches!(
        refused(groups_of_fp8),
        Error::Option {
            option: "--group-size",
            ..
        }
    ));
    let source = Checkpoint::open(fixture("tiny-qwen3/base")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let run = |config: &Config| {
        let work = fingerprint("quantize", &source, None, config);
        let out = OutputDir::create(&dir.path().join("q"), true, &work).unwrap();
        quantize(&source, Known::default(), config, &out, &|_| Ok(())).unwrap_err()
    };
    let odd = Config {
        group: Some(100),
        ..Config::of(Scheme::Int4)
    };
    let error = run(&odd);
    assert!(
        matches!(
            error,
            Error::GroupSize {
                group: 100,
                fits: 64,
                ..
            }
        ),
        "{error}"
    );
    let delta = Config {
        search: Search::Delta,
        ..Config::of(Scheme::Int4)
    };
    assert!(matches!(run(&delta), Error::NeedsBase));
}
