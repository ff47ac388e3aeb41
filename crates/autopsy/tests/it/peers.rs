//! Tensors that are wrong as a whole, told by the others of the same checkpoint, and none of healthy ones.

use tempfile::TempDir;
use xgraft_autopsy::{Report, Verdict};
use xgraft_fixtures::TINY;

use crate::support::{
    QWEN3, Tensor, base, bf16_tensor, examine, f32_tensor, lines, model, normals, of,
};

/// The fixture's base, `change` done to the tensor of this name.
fn changed(name: &str, change: impl Fn(usize, f32) -> f32) -> TempDir {
    let tensors: Vec<Tensor> = base()
        .into_iter()
        .map(|(own, shape, numbers)| {
            let change = |(i, x)| if own == name { change(i, x) } else { x };
            let numbers: Vec<f32> = numbers.into_iter().enumerate().map(change).collect();
            f32_tensor(&own, &shape, &numbers)
        })
        .collect();
    let config = std::fs::read_to_string(TINY.base().join("config.json")).unwrap();
    model(&config, &tensors)
}

/// The tensor of this name and no other is sick, by this limit.
#[track_caller]
fn assert_only(report: &Report, name: &str, verdict: Verdict, limit: &str) {
    let sick: Vec<&str> = report
        .tensors
        .iter()
        .filter(|t| t.verdict != Verdict::Healthy)
        .map(|t| t.tensor.as_str())
        .collect();
    assert_eq!(sick, [name], "{}", lines(report));
    let tensor = of(report, name);
    assert_eq!(tensor.verdict, verdict, "{}", lines(report));
    assert_eq!(tensor.faults[0].limit, Some(limit), "{}", lines(report));
    assert!(tensor.finding().unwrap().hint.is_some());
}

const NORMS: [&str; 5] = [
    "model.layers.0.input_layernorm.weight",
    "model.layers.2.post_attention_layernorm.weight",
    "model.layers.1.self_attn.q_norm.weight",
    "model.layers.0.self_attn.k_norm.weight",
    "model.norm.weight",
];

#[test]
fn a_norm_times_a_hundred_or_a_hundredth_is_mis_scaled() {
    for name in NORMS {
        for factor in [100.0, 0.01] {
            let dir = changed(name, |_, x| x * factor);
            let report = examine(dir.path(), None);
            let tensor = of(&report, name);
            assert_ne!(
                tensor.verdict,
                Verdict::Healthy,
                "{name} {factor}: {}",
                lines(&report)
            );
            let limits: Vec<_> = tensor.faults.iter().filter_map(|f| f.limit).collect();
            assert!(
                limits.contains(&"peer_ratio_max"),
                "{name} {factor}: {limits:?}"
            );
            assert_eq!(report.findings.len(), 1, "{}", lines(&report));
        }
    }
}

#[test]
fn norms_that_are_all_far_from_one_are_mis_scaled() {
    for factor in [1e-4, 1e4] {
        let tensors: Vec<Tensor> = base()
            .into_iter()
            .map(|(name, shape, mut numbers)| {
                if shape.len() == 1 {
                    numbers.iter_mut().for_each(|x| *x *= factor);
                }
                f32_tensor(&name, &shape, &numbers)
            })
            .collect();
        let config = std::fs::read_to_string(TINY.base().join("config.json")).unwrap();
        let report = examine(model(&config, &tensors).path(), None);
        for name in NORMS {
            let limits = of(&report, name).faults.iter().filter_map(|f| f.limit);
            let limits: Vec<_> = limits.collect();
            let expected = if factor < 1.0 {
                "level_min"
            } else {
                "level_max"
            };
            assert!(limits.contains(&expected), "{name} {factor}: {limits:?}");
        }
    }
}

#[test]
fn a_norm_of_the_other_sign_is_biased() {
    for name in NORMS {
        let report = examine(changed(name, |_, x| -x).path(), None);
        assert_only(&report, name, Verdict::Biased, "mean_min");
    }
}

#[test]
fn a_norm_half_of_zeros_is_flat() {
    for name in NORMS {
        let dir = changed(name, |i, x| if i % 2 == 0 { 0.0 } else { x });
        assert_only(
            &examine(dir.path(), None),
            name,
            Verdict::Flat,
            "zero_share_max",
        );
    }
}

#[test]
fn a_weight_times_a_thousand_or_a_thousandth_is_found() {
    for name in [
        "model.layers.0.mlp.up_proj.weight",
        "model.layers.1.self_attn.k_proj.weight",
        "model.layers.2.mlp.down_proj.weight",
    ] {
        let small = examine(changed(name, |_, x| x * 1e-3).path(), None);
        assert_only(&small, name, Verdict::MisScaled, "peer_ratio_max");
        let large = examine(changed(name, |_, x| x * 1e3).path(), None);
        assert_only(&large, name, Verdict::Exploded, "rms_max");
        // Beside the checkpoint it was made from, that says it.
        let beside = examine(changed(name, |_, x| x * 1e-3).path(), Some(&TINY.base()));
        assert_ne!(of(&beside, name).faults[0].limit, Some("peer_ratio_max"));
    }
}

/// A model of so many layers whose norms and weights differ as those of trained models may: norms of the residual stream grow
/// up to 600 times, the last one is larger still, a layer at each end stands out.
fn grown(layers: usize) -> Vec<Tensor> {
    let mut tensors = Vec::new();
    let mut seed = 0;
    let mut normal = |count: usize, std: f32| {
        seed += 1;
        normals(seed, count, std)
    };
    let norm = |numbers: Vec<f32>, level: f32| -> Vec<f32> {
        numbers.into_iter().map(|x| level * (1.0 + x)).collect()
    };
    for layer in 0..layers {
        let at = |name: &str| format!("model.layers.{layer}.{name}.weight");
        let depth = layer as f32 / layers.max(12) as f32;
        let edge = if layer == 0 || layer + 1 == layers {
            4.0
        } else {
            1.0
        };
        let level = 0.02 * 600f32.powf(depth);
        for (name, level, size) in [
            ("input_layernorm", level * edge, 256),
            ("post_attention_layernorm", level / edge + 0.3, 256),
            ("self_attn.q_norm", 1.0 + 3.0 * depth, 128),
            ("self_attn.k_norm", 8.0 / (1.0 + 3.0 * depth), 128),
        ] {
            let numbers = norm(normal(size, 0.3), level);
            tensors.push(bf16_tensor(&at(name), &[size], &numbers));
        }
        for (name, shape, std) in [
            ("self_attn.q_proj", [256, 256], 0.05),
            ("self_attn.k_proj", [128, 256], 0.06),
            ("self_attn.v_proj", [128, 256], 0.01 + 0.03 * depth),
            ("mlp.up_proj", [384, 256], 0.02 * edge),
            ("mlp.down_proj", [256, 384], 0.02 / edge),
        ] {
            let numbers = normal(shape[0] * shape[1], std);
            tensors.push(bf16_tensor(&at(name), &shape, &numbers));
        }
    }
    let last = 0.15 * 600f32.powf((layers - 1) as f32 / layers.max(12) as f32);
    let last = norm(normal(256, 0.3), last);
    tensors.push(bf16_tensor("model.norm.weight", &[256], &last));
    tensors
}

#[test]
fn layers_that_differ_as_trained_ones_do_are_healthy() {
    for layers in [1, 2, 3, 5, 12, 40] {
        let dir = model(QWEN3, &grown(layers));
        let report = examine(dir.path(), None);
        assert!(report.healthy, "{layers}: {}", lines(&report));
    }
}

#[test]
fn among_many_layers_and_in_a_model_of_two_a_small_weight_is_found() {
    for layers in [2, 12] {
        let mut tensors = grown(layers);
        let name = "model.layers.1.mlp.up_proj.weight";
        let tensor = tensors.iter_mut().find(|t| t.name == name).unwrap();
        let numbers = normals(99, 384 * 256, 2e-5);
        *tensor = bf16_tensor(name, &[384, 256], &numbers);
        let report = examine(model(QWEN3, &tensors).path(), None);
        assert_only(&report, name, Verdict::MisScaled, "peer_ratio_max");
    }
}

#[test]
fn a_fault_of_every_layer_is_told_once_and_stays_in_every_row() {
    let mut tensors = grown(12);
    for tensor in tensors
        .iter_mut()
        .filter(|t| t.name.ends_with("up_proj.weight"))
    {
        let numbers: Vec<f32> = normals(5, 384 * 256, 0.02)
            .iter()
            .map(|x| x + 0.05)
            .collect();
        *tensor = bf16_tensor(&tensor.name, &[384, 256], &numbers);
    }
    let report = examine(model(QWEN3, &tensors).path(), None);
    assert_eq!(report.findings.len(), 12, "{}", lines(&report));
    let gathered = report.gathered();
    assert_eq!(gathered.len(), 1);
    assert_eq!(gathered[0].subject, "model.layers.*.mlp.up_proj.weight");
    assert!(
        gathered[0].message.starts_with("12 tensors alike"),
        "{}",
        gathered[0]
    );
    let rows = report.rows("x");
    let sick = rows.iter().filter(|r| r.metric == "sick" && r.value == 1.0);
    assert_eq!(sick.count(), 12);
}
