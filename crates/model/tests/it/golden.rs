use xgraft_fixtures::{TINY, golden};
use xgraft_model::{KvType, LoraAdapter, Model, Options};

use crate::sequence::{all_logits, greedy};

/// Logits of these models reach 6; both sides sum in f32, in other orders, and at position 40,000 an angle's last digit
/// is 0.004.
const TOLERANCE: f32 = 1e-4;

fn largest_difference(ours: &[f32], theirs: &[f32]) -> f32 {
    assert_eq!(ours.len(), theirs.len());
    let differences = ours.iter().zip(theirs).map(|(a, b)| (a - b).abs());
    differences.fold(0.0, f32::max)
}

#[test]
fn logits_and_greedy_tokens_are_those_of_transformers() {
    for name in ["qwen3-tied-yarn", "qwen3-untied", "llama3"] {
        let dir = golden::path(&format!("forward-{name}"));
        let expected = golden::read_tensors(&dir.join("expected.safetensors")).unwrap();
        let position_offset = expected["offset"].to_u32().unwrap()[0] as usize;
        let options = Options {
            threads: 1,
            position_offset,
        };
        let model = Model::open(&dir, &options).unwrap();
        for prompt in 0..3 {
            let of = |what: &str| &expected[&format!("p{prompt}.{what}")];
            let ids = of("ids").to_u32().unwrap();
            let theirs = of("logits").to_f32().unwrap();
            let ours = all_logits(&model, KvType::F32, &ids, None);
            let difference = largest_difference(&ours, &theirs);
            assert!(
                difference < TOLERANCE,
                "{name}, prompt {prompt}: {difference}"
            );
            let tokens = of("greedy").to_u32().unwrap();
            assert_eq!(
                greedy(&model, KvType::F32, &ids, tokens.len()),
                tokens,
                "{name}"
            );
        }
    }
}

#[test]
fn a_cache_in_bf16_changes_logits_by_little() {
    let dir = golden::path("forward-qwen3-untied");
    let expected = golden::read_tensors(&dir.join("expected.safetensors")).unwrap();
    let model = Model::open(&dir, &Options::default()).unwrap();
    let ids = expected["p2.ids"].to_u32().unwrap();
    let ours = all_logits(&model, KvType::Bf16, &ids, None);
    let difference = largest_difference(&ours, &expected["p2.logits"].to_f32().unwrap());
    assert!(difference > TOLERANCE && difference < 0.05, "{difference}");
}

#[test]
fn logits_with_an_adapter_are_those_of_peft() {
    let expected = golden::tensors("peft_logits.safetensors").unwrap();
    let model = Model::open(TINY.base(), &Options::default()).unwrap();
    let adapter = LoraAdapter::open(golden::path("peft-plain"), model.spec()).unwrap();
    for prompt in 0..4 {
        let of = |what: &str| &expected[&format!("prompt{prompt}.{what}")];
        let ids = of("ids").to_u32().unwrap();
        for (what, adapter) in [("base", None), ("plain", Some(&adapter))] {
            let ours = all_logits(&model, KvType::F32, &ids, adapter);
            let difference = largest_difference(&ours, &of(what).to_f32().unwrap());
            assert!(difference < 5e-5, "{what}, prompt {prompt}: {difference}");
        }
    }
}

#[test]
fn angles_are_those_of_transformers_up_to_the_last_position() {
    let expected = golden::tensors("rope.safetensors").unwrap();
    for (name, positions) in [
        ("qwen3-tied-yarn", 65536),
        ("qwen3-untied", 512),
        ("llama3", 131_072),
    ] {
        let dir = golden::path(&format!("forward-{name}"));
        let model = Model::open(&dir, &Options::default()).unwrap();
        assert_eq!(model.spec().max_positions, positions, "{name}");
        let of = |what: &str| &expected[&format!("{name}.{what}")];
        let (mut cos, mut sin) = (Vec::new(), Vec::new());
        for position in of("positions").to_u32().unwrap() {
            model
                .spec()
                .rope
                .angles(position as usize, &mut cos, &mut sin);
        }
        // One unit in the last place of a frequency is 0.004 radians at position 65,535.
        let worst = largest_difference(&cos, &of("cos").to_f32().unwrap())
            .max(largest_difference(&sin, &of("sin").to_f32().unwrap()));
        assert!(worst < 5e-3, "{name}: {worst}");
    }
}
