//! `xgraft calibrate stats`, `xgraft calibrate compare`, and `xgraft quantize --stats`.

use std::path::Path;

use serde_json::{Value, json};

use crate::support::{fixture, stderr, succeed, xgraft};

/// The golden conversations as a set, and the statistics of the text fixture's fine-tune on them.
fn stats(dir: &Path) -> (String, String) {
    let (set, out) = (dir.join("set"), dir.join("stats"));
    std::fs::create_dir(&set).unwrap();
    let samples = fixture("golden/activations/calibration.jsonl");
    std::fs::copy(samples, set.join("samples.jsonl")).unwrap();
    let (set, out) = (
        set.to_str().unwrap().to_owned(),
        out.to_str().unwrap().to_owned(),
    );
    let model = fixture("tiny-qwen3-text/tuned");
    let said = succeed(&["calibrate", "stats", &set, "--model", &model, "--out", &out]);
    assert!(said.contains("28 linear layers, 40 samples"), "{said}");
    (set, out)
}

fn quantize(scheme: &str, stats: &str, out: &str, more: &[&str]) -> Value {
    let model = fixture("tiny-qwen3-text/tuned");
    let head = [
        "quantize", &model, "--scheme", scheme, "--stats", stats, "--out", out, "--json",
    ];
    serde_json::from_str(&succeed(&[&head[..], more].concat())).unwrap()
}

fn compare(quantized: &str, set: &str, more: &[&str]) -> Value {
    let model = fixture("tiny-qwen3-text/tuned");
    let head = [
        "calibrate",
        "compare",
        quantized,
        "--reference",
        &model,
        "--set",
        set,
        "--json",
    ];
    serde_json::from_str(&succeed(&[&head[..], more].concat())).unwrap()
}

fn config(dir: &str) -> Value {
    serde_json::from_slice(&std::fs::read(Path::new(dir).join("config.json")).unwrap()).unwrap()
}

fn output_error(report: &Value) -> f64 {
    let modules = report["modules"].as_array().unwrap();
    let sum = |part: &str| {
        modules
            .iter()
            .map(|m| m["output"][part].as_f64().unwrap())
            .sum::<f64>()
    };
    (sum("error2") / sum("norm2")).sqrt()
}

#[test]
fn awq_serves_the_same_model_at_less_error_of_its_outputs() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (set, stats) = stats(dir.path());
    let plain = quantize("int4", &stats, &at("plain"), &[]);
    let awq = quantize("int4", &stats, &at("awq"), &["--awq"]);
    assert!(output_error(&awq) < 0.97 * output_error(&plain));
    // v before o has grouped queries and is left out: three mappings of four a layer.
    assert_eq!(awq["scaled"].as_array().unwrap().len(), 12);
    assert!(plain.get("scaled").is_none());
    let written = config(&at("awq"));
    let group = &written["quantization_config"]["config_groups"]["W4A16"];
    assert_eq!(group["weights"]["group_size"], 128);
    assert_eq!(group["format"], "pack-quantized");
    assert_eq!(written["xgraft_channel_scales"]["method"], "awq");
    // The scales cancel: what is left is rounding, as without them.
    let far = compare(&at("awq"), &set, &[])["kl"].as_f64().unwrap();
    let near = compare(&at("plain"), &set, &[])["kl"].as_f64().unwrap();
    assert!(far < 1.5 * near, "{far} and {near}");
    let said = xgraft(&["dequantize", &at("awq"), "--out", &at("bridge")]);
    assert!(
        said.status.success() && stderr(&said).contains("scales-folded"),
        "{}",
        stderr(&said)
    );
    // Of the bridge, whose channels are still scaled, the distributions are those of the codes but for one rounding to BF16.
    let bridge = compare(&at("bridge"), &set, &[])["kl"].as_f64().unwrap();
    assert!((bridge / far - 1.0).abs() < 0.05, "{bridge} and {far}");
}

#[test]
fn fixed_activation_scales_are_written_read_and_dropped_with_the_codes() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (set, stats) = stats(dir.path());
    quantize("fp8-tensor-static", &stats, &at("static"), &[]);
    let written = config(&at("static"));
    let group = &written["quantization_config"]["config_groups"]["FP8"];
    assert_eq!(group["input_activations"]["dynamic"], false);
    assert_eq!(group["input_activations"]["strategy"], "tensor");
    let read = |dir: &str| {
        xgraft_fixtures::golden::read_tensors(&Path::new(dir).join("model.safetensors")).unwrap()
    };
    let tensors = read(&at("static"));
    let stats_of =
        xgraft_fixtures::golden::read_tensors(&Path::new(&stats).join("activations.safetensors"))
            .unwrap();
    for module in [
        "model.layers.0.self_attn.k_proj",
        "model.layers.3.mlp.down_proj",
    ] {
        let scale = &tensors[&format!("{module}.input_scale")];
        assert_eq!(scale.shape, [1]);
        let amax = stats_of[&format!("{module}.amax")].to_f32().unwrap()[0];
        assert!((scale.to_f32().unwrap()[0] / (amax / 448.0) - 1.0).abs() < 1.0 / 256.0);
    }
    let rounded = compare(&at("static"), &set, &[])["kl"].as_f64().unwrap();
    let weights = compare(&at("static"), &set, &["--weights-only"])["kl"]
        .as_f64()
        .unwrap();
    assert!(
        rounded > weights && weights > 0.0,
        "{rounded} and {weights}"
    );
    succeed(&["dequantize", &at("static"), "--out", &at("bridge")]);
    assert!(
        read(&at("bridge"))
            .keys()
            .all(|name| !name.contains("scale"))
    );
    let tuned = fixture("tiny-qwen3-text/tuned");
    let extracted = xgraft(&[
        "extract",
        "--base",
        &at("static"),
        "--tuned",
        &tuned,
        "--rank",
        "4",
        "--out",
        &at("adapter"),
    ]);
    assert!(extracted.status.success(), "{}", stderr(&extracted));
    assert!(
        !stderr(&extracted).contains("lone-tensor"),
        "{}",
        stderr(&extracted)
    );
}

#[test]
fn statistics_of_another_model_too_few_tokens_or_none_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (set, stats) = stats(dir.path());
    let (base, tuned) = (
        fixture("tiny-qwen3-text/base"),
        fixture("tiny-qwen3-text/tuned"),
    );
    let refused = |model: &str, more: &[&str]| {
        let out = at("refused");
        let output = xgraft(&[&["quantize", model, "--out", &out], more].concat());
        assert_eq!(output.status.code(), Some(1));
        assert!(!Path::new(&out).exists());
        stderr(&output)
    };
    let text = refused(&base, &["--scheme", "int4", "--awq", "--stats", &stats]);
    assert!(
        text.contains("expected statistics of the tensor with BLAKE3"),
        "{text}"
    );
    let text = refused(
        &fixture("tiny-qwen3/tuned"),
        &["--scheme", "int4", "--awq", "--stats", &stats],
    );
    assert!(text.contains("activation statistics"), "{text}");
    let text = refused(&tuned, &["--scheme", "int4", "--awq"]);
    assert!(
        text.contains("AWQ needs activation statistics") && text.contains("--stats"),
        "{text}"
    );
    let text = refused(&tuned, &["--scheme", "fp8-tensor-static"]);
    assert!(
        text.contains("fp8-tensor-static needs activation statistics"),
        "{text}"
    );
    let text = refused(
        &tuned,
        &["--scheme", "fp8-block", "--awq", "--stats", &stats],
    );
    assert!(text.contains("--awq"), "{text}");
    succeed(&[
        "calibrate",
        "stats",
        &set,
        "--model",
        &tuned,
        "--out",
        &at("few"),
        "--limit",
        "1",
    ]);
    let text = refused(
        &tuned,
        &["--scheme", "int4", "--awq", "--stats", &at("few")],
    );
    assert!(text.contains("tokens: expected at least 128"), "{text}");
}

/// A finished run of two questions to the text fixture's fine-tune; a limit cut the second answer.
fn run_folder(dir: &Path) -> String {
    let run = dir.join("run");
    std::fs::create_dir(&run).unwrap();
    let attempt = |question: &str, answer: &str, class: &str| {
        let prompt = "Which variant is the best one?\nGWAS phenotype: mapoza\nVariants (score:id): 7:rs48,1:rs26\nAnswer with one id.";
        json!({"schema": "xgraft.trajectory/1", "question": question, "task": "gwas_variant_prioritization", "model": "tuned",
            "arm": "tuned", "run": "0", "seed": 0, "class": class, "messages": [
                {"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]})
    };
    let rows = [
        attempt("0", "<solution>rs48</solution>", "right"),
        attempt("1", "<solution>rs48", "overflow"),
    ];
    let lines: String = rows.iter().map(|row| format!("{row}\n")).collect();
    std::fs::write(run.join("answers.jsonl"), lines).unwrap();
    let sampling = json!({"extra": {"chat_template_kwargs": {"enable_thinking": false}}});
    let config = json!({"schema": "xgraft.run/1", "sampling": sampling});
    std::fs::write(run.join("run.json"), config.to_string()).unwrap();
    run.to_str().unwrap().to_owned()
}

#[test]
fn an_adapter_brings_its_base_nearer_to_the_fine_tune_over_the_answers_of_a_run() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let run = run_folder(dir.path());
    let (base, tuned) = (
        fixture("tiny-qwen3-text/base"),
        fixture("tiny-qwen3-text/tuned"),
    );
    let adapter = at("adapter");
    succeed(&[
        "extract", "--base", &base, "--tuned", &tuned, "--rank", "32", "--out", &adapter,
    ]);
    let (out, how) = (at("kl"), ["--answers-only", "--weights-only"]);
    let alone = compare(&base, &run, &[&how[..], &["--out", &out]].concat());
    // <, solution, >, ... as the fine-tune wrote them: the second answer lacks </solution> and the token that ends it.
    let rows = std::fs::read_to_string(dir.path().join("kl/distances.jsonl")).unwrap();
    let rows: Vec<Value> = rows
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    let part = |row: &Value| (row["question"].clone(), row["tokens"].as_u64().unwrap());
    let [(first, whole), (second, short)] = [part(&rows[0]), part(&rows[1])];
    assert_eq!([first, second], ["0", "1"]);
    assert_eq!(whole, 6, "as many tokens as the server counts");
    assert!(0 < short && short < whole - 1, "{short}");
    let sum: f64 = rows.iter().map(|row| row["kl"].as_f64().unwrap()).sum();
    let mean = alone["kl"].as_f64().unwrap();
    assert!((sum / (whole + short) as f64 - mean).abs() < 1e-9 * mean);
    let served = compare(&base, &run, &[&how[..], &["--adapter", &adapter]].concat());
    let near = served["kl"].as_f64().unwrap();
    assert!(near < 0.1 * mean, "{near} and {mean}");
    let first = compare(&base, &run, &[&how[..], &["--every", "2"]].concat());
    assert_eq!(first["tokens"].as_u64().unwrap(), whole);
    // An engine rounds what goes into the base and not what goes into the adapter; rounding both would be neither.
    let refused = xgraft(&[
        "calibrate",
        "compare",
        &base,
        "--reference",
        &tuned,
        "--set",
        &run,
        "--adapter",
        &adapter,
    ]);
    assert_eq!(refused.status.code(), Some(2), "{}", stderr(&refused));
}
