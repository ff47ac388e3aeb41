//! PEFT adapters: every name they come under, and what is refused.

use serde_json::{Value, json};
use xgraft_checkpoint::{
    Adapter, AdapterConfig, AdapterPart, AdapterWriter, Dtype, Error, LoraKind, PlannedTensor,
    TargetModules, peft_name, planned_pair,
};

use crate::support::{Model, Tensor, assert_says, bf16, contents, f32, safetensors_bytes};

const Q: &str = "model.layers.0.self_attn.q_proj";

fn adapter(config: &Value, tensors: &[Tensor]) -> Model {
    let model = Model {
        temp: tempfile::tempdir().unwrap(),
    };
    model.file("adapter_config.json", config.to_string().as_bytes());
    model.file("adapter_model.safetensors", &safetensors_bytes(tensors));
    model
}

fn config() -> Value {
    json!({"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"]})
}

/// A pair of rank `rank` for a weight [3, 5].
fn pair(module: &str, rank: usize) -> [Tensor; 2] {
    [
        bf16(&peft_name(module, AdapterPart::LoraA), &[rank, 5]),
        bf16(&peft_name(module, AdapterPart::LoraB), &[3, rank]),
    ]
}

fn error(config: &Value, tensors: &[Tensor]) -> Error {
    let model = adapter(config, tensors);
    let error = Adapter::open(model.dir()).unwrap_err();
    assert!(
        error
            .to_string()
            .contains(&model.dir().display().to_string()),
        "{error}"
    );
    error
}

#[test]
fn a_pair_is_read_with_rank_scale_and_factors() {
    let model = adapter(&config(), &pair(Q, 2));
    let adapter = Adapter::open(model.dir()).unwrap();
    let module = adapter.module(Q).unwrap();
    assert_eq!(
        (module.kind, module.rank, module.scale),
        (LoraKind::Linear, 2, 2.0)
    );
    assert_eq!(module.weight_shape(), (3, 5));
    let (a, b) = (
        adapter.load_a(module).unwrap(),
        adapter.load_b(module).unwrap(),
    );
    assert_eq!(((a.rows, a.cols), (b.rows, b.cols)), ((2, 5), (3, 2)));
    assert_eq!(a.data[..3], [0.0, 1.0, 2.0]);
    assert_eq!(adapter.others().count(), 0);
}

#[test]
fn names_without_prefix_or_with_an_adapter_name_are_the_same_module() {
    for (a, b) in [
        (format!("{Q}.lora_A.weight"), format!("{Q}.lora_B.weight")),
        (
            format!("base_model.model.{Q}.lora_A.default.weight"),
            format!("base_model.model.{Q}.lora_B.default.weight"),
        ),
        (
            format!("{Q}.lora_A.mine.weight"),
            format!("base_model.model.{Q}.lora_B.weight"),
        ),
    ] {
        let model = adapter(&config(), &[bf16(&a, &[2, 5]), bf16(&b, &[3, 2])]);
        assert_eq!(Adapter::open(model.dir()).unwrap().modules()[0].module, Q);
    }
}

#[test]
fn one_factor_under_two_names_is_refused() {
    let mut tensors = pair(Q, 2).to_vec();
    tensors.push(bf16(&format!("{Q}.lora_A.weight"), &[2, 5]));
    assert_says(
        &error(&config(), &tensors),
        &["lora_A.weight", "once", "too"],
    );
}

#[test]
fn an_embedding_has_its_own_kind_and_shape() {
    let name = |part| peft_name("model.embed_tokens", part);
    let tensors = [
        bf16(&name(AdapterPart::EmbeddingA), &[2, 7]),
        bf16(&name(AdapterPart::EmbeddingB), &[4, 2]),
    ];
    let model = adapter(&config(), &tensors);
    let adapter = Adapter::open(model.dir()).unwrap();
    let module = &adapter.modules()[0];
    assert_eq!(
        (module.kind, module.weight_shape()),
        (LoraKind::Embedding, (7, 4))
    );
}

#[test]
fn modules_saved_whole_biases_and_magnitudes_are_listed() {
    let mut tensors = pair(Q, 2).to_vec();
    for name in [
        "lm_head.weight",
        "model.norm.weight",
        &format!("{Q}.lora_B.bias"),
        &format!("{Q}.lora_magnitude_vector"),
    ] {
        tensors.push(bf16(&format!("base_model.model.{name}"), &[3]));
    }
    let model = adapter(&config(), &tensors);
    let adapter = Adapter::open(model.dir()).unwrap();
    let others: Vec<_> = adapter.others().map(|t| t.module.as_str()).collect();
    assert_eq!(others, ["lm_head", Q, Q, "model.norm"]);
    assert_eq!(adapter.tensors().len(), 6);
    let (matrix, _) = adapter
        .load(&adapter.others().next().unwrap().info)
        .unwrap();
    assert_eq!(matrix.to_f32(), [0.0, 1.0, 2.0]);
}

#[test]
fn a_factor_without_the_other_is_refused() {
    let [a, b] = pair(Q, 2);
    assert_says(
        &error(&config(), &[a]),
        &["lora_A.weight", "factor B", "only A"],
    );
    assert_says(
        &error(&config(), &[b]),
        &["lora_B.weight", "factor A", "only B"],
    );
}

#[test]
fn a_rank_that_is_not_the_configured_one_is_refused() {
    assert_says(
        &error(&config(), &pair(Q, 3)),
        &[Q, "rank 2", "rank 3 in the tensors"],
    );
    let no_rank = json!({"peft_type": "LORA", "target_modules": ["q_proj"]});
    assert_says(&error(&no_rank, &pair(Q, 3)), &["rank 8"]);
}

#[test]
fn factors_whose_shapes_contradict_each_other_are_refused() {
    let [a, _] = pair(Q, 2);
    let b = bf16(&peft_name(Q, AdapterPart::LoraB), &[3, 4]);
    assert_says(
        &error(&config(), &[a.clone(), b]),
        &["lora_B", "2 columns", "[3, 4]"],
    );
    let b = bf16(&peft_name(Q, AdapterPart::LoraB), &[3, 2, 1, 1]);
    assert_says(
        &error(&config(), &[a, b]),
        &["lora_B", "a matrix", "[3, 2, 1, 1]"],
    );
}

#[test]
fn patterns_govern_single_modules() {
    let mut config = config();
    config["rank_pattern"] = json!({"layers.0.self_attn.q_proj": 3, "q_proj": 1});
    config["alpha_pattern"] = json!({r"layers\.[0-4]\.self_attn\.q_proj": 12.0});
    let second = "model.layers.7.self_attn.q_proj";
    let tensors = [pair(Q, 3), pair(second, 1)].concat();
    let model = adapter(&config, &tensors);
    let adapter = Adapter::open(model.dir()).unwrap();
    let of = |module: &str| {
        adapter
            .module(module)
            .map(|m| (m.rank, m.alpha, m.scale))
            .unwrap()
    };
    assert_eq!(of(Q), (3, 12.0, 4.0));
    assert_eq!(of(second), (1, 4.0, 4.0));
}

#[test]
fn rslora_divides_by_the_root_of_the_rank() {
    let mut config = config();
    config["r"] = json!(4);
    config["use_rslora"] = json!(true);
    let model = adapter(&config, &pair(Q, 4));
    assert_eq!(Adapter::open(model.dir()).unwrap().modules()[0].scale, 2.0);
}

#[test]
fn a_configuration_that_cannot_be_meant_is_refused() {
    for (field, value) in [
        ("r", json!(0)),
        ("r", json!(-1)),
        ("r", json!("8")),
        ("lora_alpha", json!("16")),
        ("rank_pattern", json!({"q_proj": 0})),
        ("rank_pattern", json!({"(": 1})),
        ("alpha_pattern", json!({"q_proj": "x"})),
        ("target_modules", json!(3)),
        ("use_rslora", json!("yes")),
        ("modules_to_save", json!("lm_head")),
    ] {
        let mut config = config();
        config[field] = value;
        assert_says(
            &error(&config, &pair(Q, 2)),
            &["adapter_config.json", field],
        );
    }
    let mut prompt = config();
    prompt["peft_type"] = json!("PROMPT_TUNING");
    assert_says(
        &error(&prompt, &[]),
        &["peft_type", "LORA", "PROMPT_TUNING"],
    );
}

#[test]
fn what_is_no_adapter_directory_is_told_with_a_hint() {
    let model = Model {
        temp: tempfile::tempdir().unwrap(),
    };
    let says = |words: &[&str]| {
        let error = Adapter::open(model.dir()).unwrap_err();
        assert_says(&error, words);
        error.hint().unwrap()
    };
    says(&["adapter_config.json", "neither"]);
    model.file("config.json", b"{}");
    says(&["adapter_config.json", "a whole model"]);
    model.file("adapter_config.json", config().to_string().as_bytes());
    says(&["adapter_model.safetensors", "no weights"]);
    model.file("adapter_model.bin", b"");
    assert!(says(&["adapter_model.bin"]).contains("save_pretrained"));
    assert!(
        Adapter::open(model.path("none"))
            .unwrap_err()
            .to_string()
            .contains("nothing")
    );
}

#[test]
fn a_factor_that_is_not_finite_is_refused_when_it_is_read() {
    let name = |part| peft_name(Q, part);
    let a = f32(
        &name(AdapterPart::LoraA),
        &[2, 2],
        &[1.0, 2.0, f32::NAN, 1.0],
    );
    let b = f32(&name(AdapterPart::LoraB), &[1, 2], &[1.0, 2.0]);
    let model = adapter(&config(), &[a, b]);
    let adapter = Adapter::open(model.dir()).unwrap();
    let error = adapter.load_a(&adapter.modules()[0]).unwrap_err();
    assert_says(&error, &["lora_A", "NaN", "row 1, column 0"]);
}

#[test]
fn a_written_adapter_has_the_bytes_of_peft() {
    let temp = tempfile::tempdir().unwrap();
    let modules = ["model.layers.1.mlp.up_proj", Q];
    let planned: Vec<PlannedTensor> = modules
        .iter()
        .flat_map(|m| planned_pair(m, LoraKind::Linear, 2, (3, 5), Dtype::Bf16))
        .collect();
    let tensors: Vec<Tensor> = planned.iter().map(|p| bf16(&p.name, &p.shape)).collect();
    let config = AdapterConfig::new("base", 2, vec!["q_proj".to_owned(), "up_proj".to_owned()]);
    let writer = AdapterWriter::create(&temp.path().join("a"), config.clone(), planned).unwrap();
    for t in &tensors {
        let mut one = writer.tensor(&t.name).unwrap();
        one.write(&t.bytes).unwrap();
        one.finish().unwrap();
    }
    writer.finish().unwrap();
    let files = contents(&temp.path().join("a"));
    assert_eq!(files.len(), 2);
    assert_eq!(files[1].1, safetensors_bytes(&tensors));
    let adapter = Adapter::open(temp.path().join("a")).unwrap();
    assert_eq!(*adapter.config(), config);
    assert_eq!(
        adapter
            .modules()
            .iter()
            .map(|m| m.module.as_str())
            .collect::<Vec<_>>(),
        [Q, modules[0]]
    );
}

#[test]
fn an_adapter_that_is_not_finished_is_not_there() {
    let temp = tempfile::tempdir().unwrap();
    let config = AdapterConfig::new("base", 2, vec!["q_proj".to_owned()]);
    let planned = planned_pair(Q, LoraKind::Linear, 2, (3, 5), Dtype::F32).to_vec();
    let writer = AdapterWriter::create(temp.path(), config, planned).unwrap();
    let mut a = writer.tensor(&peft_name(Q, AdapterPart::LoraA)).unwrap();
    a.write_f32(&[0.0; 10]).unwrap();
    a.finish().unwrap();
    assert_says(&writer.finish().unwrap_err(), &["lora_B.weight"]);
    assert_eq!(contents(temp.path()), []);
}

#[test]
fn the_configuration_is_written_as_peft_writes_it() {
    let mut config = AdapterConfig::new("org/base", 8, vec!["q_proj".to_owned()]);
    config.rank_pattern = vec![("model.layers.0.self_attn.q_proj".to_owned(), 4)];
    config.alpha_pattern = vec![("model.layers.0.self_attn.q_proj".to_owned(), 4.5)];
    let text = config.to_json();
    let keys: Vec<&str> = text
        .lines()
        .filter_map(|l| l.strip_prefix("  \"")?.split('"').next())
        .collect();
    assert!(keys.is_sorted(), "{keys:?}");
    assert!(
        text.contains("\"lora_alpha\": 8,") && text.contains("\"lora_dropout\": 0.0,"),
        "{text}"
    );
    assert!(
        text.contains(": 4.5") && text.contains("\"modules_to_save\": null"),
        "{text}"
    );
    assert!(!text.ends_with('\n'));
    let back = AdapterConfig::parse(text.as_bytes(), "adapter_config.json".as_ref()).unwrap();
    assert_eq!(back, config);
}

#[test]
fn target_modules_may_be_a_pattern() {
    let text = br#"{"peft_type": "LORA", "target_modules": "all-linear"}"#;
    let config = AdapterConfig::parse(text, "adapter_config.json".as_ref()).unwrap();
    assert_eq!(
        config.target_modules,
        TargetModules::Pattern("all-linear".to_owned())
    );
    assert!(
        config
            .to_json()
            .contains("\"target_modules\": \"all-linear\"")
    );
}
