//! `xgraft orthogonality` on the fixture: what it finds, what it refuses, what it leaves.

use std::path::Path;

use serde_json::Value;

use crate::support::{copy, extract, fixture, stderr, succeed, xgraft};

/// The fixture's base and tuned model with their FP8 copies, and adapters of both methods.
struct Models {
    folder: tempfile::TempDir,
    base: String,
    tuned: String,
}

impl Models {
    fn new() -> Self {
        let models = Self {
            folder: tempfile::tempdir().unwrap(),
            base: fixture("tiny-qwen3/base"),
            tuned: fixture("tiny-qwen3/tuned"),
        };
        for (from, to) in [(&models.base, "fp8"), (&models.tuned, "tuned-fp8")] {
            let to = models.at(to);
            succeed(&["quantize", from, "--scheme", "fp8-block", "--out", &to]);
        }
        models.extract(&models.base, "a");
        models
    }

    fn extract(&self, base: &str, to: &str) {
        let to = self.at(to);
        extract((base, &self.tuned), 8, &to, &[]);
    }

    fn at(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    fn noise(&self) -> String {
        format!("{}={}", self.base, self.at("fp8"))
    }

    /// The report of a run that succeeds.
    fn json(&self, args: &[&str]) -> Value {
        let mut all = vec!["orthogonality", "--json"];
        all.extend(args);
        serde_json::from_str(&succeed(&all)).unwrap()
    }

    /// The complaint of a run that fails, which leaves nothing behind.
    fn refused(&self, noise: &str, adapter: &str) -> String {
        let out = self.at("refused");
        let output = xgraft(&[
            "orthogonality",
            "--noise",
            noise,
            "--adapter",
            adapter,
            "--out",
            &out,
        ]);
        assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
        for left in [out.clone(), format!("{out}.partial")] {
            assert!(!Path::new(&left).exists(), "{left} was left");
        }
        let text = stderr(&output);
        assert!(
            text.contains("error: ") && text.contains("hint: "),
            "{text}"
        );
        text
    }
}

#[test]
fn fp8_noise_is_near_chance_and_its_bridge_is_nearly_the_same_noise() {
    let models = Models::new();
    let bridge = models.at("bridge");
    succeed(&["dequantize", &models.at("fp8"), "--out", &bridge]);
    let adapter = models.at("a");
    let second = format!("{}={bridge}", models.base);
    let report = models.json(&[
        "--noise",
        &models.noise(),
        "--noise",
        &second,
        "--adapter",
        &adapter,
    ]);
    assert_eq!(report["modules"].as_array().unwrap().len(), 21);
    let n = &report["whole"]["noises"][0];
    let get = |path: &[&str]| path.iter().fold(n, |v, key| &v[*key]).as_f64().unwrap();
    assert!((0.02..0.03).contains(&get(&["over_weight"])), "{n}");
    assert!(get(&["random", "max_abs_z"]) < 4.0);
    assert!(get(&["cosine", "mean_abs"]) < 2.0 * get(&["cosine", "chance"]));
    let times = get(&["left", "energy"]) / get(&["left", "energy_chance"]);
    assert!((0.9..1.1).contains(&times), "{times}");
    // rounding to BF16 adds next to nothing to FP8's noise
    let pair = &report["whole"]["pairs"][0];
    assert!(pair["cosine"]["mean"].as_f64().unwrap() > 0.99, "{pair}");
}

#[test]
fn an_adapter_that_corrects_the_noise_leans_against_it() {
    let models = Models::new();
    models.extract(&models.at("fp8"), "b");
    let (a, b) = (models.at("a"), models.at("b"));
    let report = models.json(&["--noise", &models.noise(), "--adapter", &b, "--adapter", &a]);
    let cosine = &report["whole"]["noises"][0]["cosine"];
    assert!(cosine["mean"].as_f64().unwrap() < -0.005, "{cosine}");
    let overlap = &report["whole"]["overlap"];
    assert!(
        overlap["cosine"]["mean"].as_f64().unwrap() > 0.9,
        "{overlap}"
    );
    assert!(overlap["left"].as_f64().unwrap() > 5.0 * overlap["left_chance"].as_f64().unwrap());
}

#[test]
fn an_output_holds_the_account_and_a_report_is_made_of_it() {
    let models = Models::new();
    let (adapter, tuned) = (models.at("a"), models.at("tuned-fp8"));
    let second = format!("{}={tuned}", models.tuned);
    let run = |threads: &str, to: &str| {
        let said = succeed(&[
            "orthogonality",
            "--noise",
            &models.noise(),
            "--noise",
            &second,
            "--adapter",
            &adapter,
            "--threads",
            threads,
            "--out",
            &models.at(to),
        ]);
        let read = |file| std::fs::read(models.folder.path().join(to).join(file)).unwrap();
        (
            said,
            [
                "report.json",
                "rows.jsonl",
                "findings.jsonl",
                "manifest.json",
            ]
            .map(read),
        )
    };
    let (said, files) = run("1", "o");
    assert!(
        said.contains("fp8 × tuned-fp8") && said.contains("proves nothing"),
        "{said}"
    );
    assert!(said.contains("dequantized - original"), "{said}");
    assert!((said, files) == run("2", "o2"), "threads change the result");
    succeed(&["report", &models.at("o"), "--out", &models.at("r")]);
    for figure in ["noise-over-adapter", "cosines", "leakage"] {
        let path = models.folder.path().join(format!("r/figures/{figure}.svg"));
        assert!(path.is_file(), "{figure}");
    }
}

#[test]
fn inputs_that_do_not_belong_together_are_refused_and_leave_nothing() {
    let models = Models::new();
    let adapter = models.at("a");
    // a model of another architecture
    let other = models.folder.path().join("other");
    copy(&models.base, &other);
    let config = other.join("config.json");
    let text = std::fs::read_to_string(&config).unwrap();
    let mut config_json: Value = serde_json::from_str(&text).unwrap();
    config_json["hidden_size"] = 4096.into();
    std::fs::write(&config, config_json.to_string()).unwrap();
    let text = models.refused(&format!("{}={}", models.base, other.display()), &adapter);
    assert!(text.contains("hidden_size is 4096, expected 256"), "{text}");
    // an adapter of a deeper model
    let deeper = models.folder.path().join("deeper");
    copy(&adapter, &deeper);
    let weights = deeper.join("adapter_model.safetensors");
    let mut bytes = std::fs::read(&weights).unwrap();
    let name = b".layers.2.";
    for at in 0..bytes.len() - name.len() {
        if bytes[at..].starts_with(name) {
            bytes[at + name.len() - 2] = b'9';
        }
    }
    std::fs::write(&weights, bytes).unwrap();
    let text = models.refused(&models.noise(), deeper.to_str().unwrap());
    for word in [
        "model.layers.9.mlp.down_proj",
        "tiny-qwen3/base",
        "deeper",
        "7 of",
    ] {
        assert!(text.contains(word), "{text}");
    }
}

#[test]
fn the_same_checkpoint_twice_is_no_noise() {
    let models = Models::new();
    let text = models.refused(&format!("{0}={0}", models.base), &models.at("a"));
    assert!(text.contains("both sides"), "{text}");
    let again = models.folder.path().join("again");
    copy(&models.base, &again);
    let noise = format!("{}={}", models.base, again.display());
    let output = xgraft(&[
        "orthogonality",
        "--noise",
        &noise,
        "--adapter",
        &models.at("a"),
    ]);
    assert_eq!(output.status.code(), Some(1));
    let text = stderr(&output);
    assert!(
        text.contains("error[no-noise]") && text.contains("all 21 modules"),
        "{text}"
    );
}

#[test]
fn a_pair_the_wrong_way_round_is_refused() {
    let models = Models::new();
    let (base, adapter) = (&models.base, models.at("a"));
    let text = models.refused(&format!("{}={base}", models.at("fp8")), &adapter);
    assert!(text.contains("swapped") && text.contains("codes"), "{text}");
    let bridge = models.at("bridge");
    succeed(&["dequantize", &models.at("fp8"), "--out", &bridge]);
    let text = models.refused(&format!("{bridge}={base}"), &adapter);
    assert!(
        text.contains("swapped") && text.contains("coarser grid"),
        "{text}"
    );
    let other = format!("{base}={}", models.tuned);
    let output = xgraft(&["orthogonality", "--noise", &other, "--adapter", &adapter]);
    let text = stderr(&output);
    assert!(text.contains("[no-sign-of-quantization]"), "{text}");
}

/// Every quantity that the issue of this comparison asks for, as rows of a matrix, a projection, a layer and the whole.
#[test]
fn every_quantity_is_a_row_and_a_cell() {
    let models = Models::new();
    let int4 = models.at("int4");
    succeed(&["quantize", &models.base, "--scheme", "int4", "--out", &int4]);
    models.extract(&models.at("fp8"), "b");
    let second = format!("{}={int4}", models.base);
    let said = succeed(&[
        "orthogonality",
        "--noise",
        &models.noise(),
        "--noise",
        &second,
        "--adapter",
        &models.at("a"),
        "--adapter",
        &models.at("b"),
        "--all",
        "--out",
        &models.at("o"),
    ]);
    let rows = std::fs::read_to_string(models.at("o") + "/rows.jsonl").unwrap();
    let rows: Vec<Value> = rows
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    let has = |metric: &str, module: &str, arm: &str| {
        let mut rows = rows.iter();
        rows.any(|r| r["metric"] == metric && r["module"] == module && r["arm"] == arm)
    };
    let q = "model.layers.0.self_attn.q_proj";
    let of_noise = [
        "noise_over_adapter",
        "noise_over_weight",
        "noise_stable_rank",
        "snr_inside",
        "cosine_noise_adapter",
        "leakage_left",
        "leakage_left_chance",
        "leakage_left_norm",
        "leakage_left_norm_chance",
        "leakage_right",
        "leakage_right_chance",
        "leakage_right_norm",
        "leakage_right_norm_chance",
    ];
    for arm in ["fp8", "int4"] {
        let of_matrix = [
            "cosine_noise_adapter_z",
            "cosine_noise_random_z",
            "cosine_noise_shuffled_z",
            "cosine_noise_other_layer_z",
            "noise_singular_value",
        ];
        for metric in of_noise.iter().chain(&of_matrix) {
            assert!(has(metric, q, arm), "{metric} of {arm}");
        }
        let of_groups = [
            "cosine_noise_adapter_max_abs_z",
            "adapter_stable_rank",
            "noise_spectrum",
            "adapter_spectrum",
        ];
        for metric in of_noise.iter().chain(&of_groups) {
            for group in ["*.q_proj", "layers.2.*", "*"] {
                assert!(
                    has(&format!("summary_{metric}"), group, arm),
                    "{metric} of {group}"
                );
            }
        }
    }
    for (metric, arm) in [
        ("adapter_stable_rank", "adapter"),
        ("adapter_singular_value", "adapter"),
        ("cosine_noise_noise_z", "fp8 × int4"),
        ("overlap_left", "adapters"),
        ("overlap_right_chance", "adapters"),
        ("angle_cosine_min_left", "adapters"),
        ("cosine_adapters_z", "adapters"),
    ] {
        assert!(has(metric, q, arm), "{metric} of {arm}");
    }
    for head in [
        "energy in U",
        "r/d",
        "norm in U",
        "√(r/d)",
        "norm in V",
        "leading σ/‖N‖",
        "leading σ/‖L‖",
        "z shuffled",
        "U angles' cos",
        "SNR inside",
        "stable rank L",
        "two noises",
    ] {
        assert!(said.contains(head), "{head}");
    }
    assert!(said.contains(q) && said.contains("down_proj"), "{said}");
}

#[test]
fn usage_errors_are_of_the_command_line() {
    let output = xgraft(&[
        "orthogonality",
        "--noise",
        "no-equals-sign",
        "--adapter",
        "a",
    ]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("ORIGINAL=QUANTIZED"));
}

#[test]
fn an_adapter_of_other_weights_is_told_apart() {
    let models = Models::new();
    let (other, fp8) = (fixture("tiny-qwen3-elicited/base"), models.at("other-fp8"));
    succeed(&["quantize", &other, "--scheme", "fp8-block", "--out", &fp8]);
    let said = |noise: &str| {
        let output = xgraft(&[
            "orthogonality",
            "--noise",
            noise,
            "--adapter",
            &models.at("a"),
        ]);
        stderr(&output)
    };
    let text = said(&format!("{other}={fp8}"));
    assert!(text.contains("warning[of-other-weights]"), "{text}");
    for own in [
        models.noise(),
        format!("{}={}", models.tuned, models.at("tuned-fp8")),
    ] {
        assert!(!said(&own).contains("of-other-weights"), "{own}");
    }

    let merged = |base: &str| {
        let out = models.at("merged");
        let adapter = models.at("a");
        stderr(&xgraft(&[
            "merge",
            "--base",
            base,
            "--adapter",
            &adapter,
            "--force",
            "--out",
            &out,
        ]))
    };
    assert!(merged(&other).contains("of-other-weights"));
    for own in [models.base.clone(), models.at("fp8")] {
        assert!(!merged(&own).contains("of-other-weights"), "{own}");
    }
}
