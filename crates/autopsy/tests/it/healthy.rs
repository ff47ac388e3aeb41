//! No false alarm on what real models hold, and the same report whatever the threads.

use xgraft_autopsy::{Thresholds, Verdict};
use xgraft_fixtures::{ELICITED, SMALL_DELTA, TINY};

use crate::support::{
    QWEN3, Tensor, bf16_tensor, examine, examine_with, f32_tensor, lines, model, normals, of, raw,
};

#[test]
fn trained_models_are_healthy() {
    for dir in [
        TINY.base(),
        TINY.tuned(),
        SMALL_DELTA.tuned(),
        ELICITED.base(),
        ELICITED.tuned(),
    ] {
        let report = examine(&dir, None);
        assert!(report.healthy, "{}: {}", dir.display(), lines(&report));
    }
    let report = examine(&ELICITED.tuned(), Some(&ELICITED.base()));
    assert!(report.healthy, "{}", lines(&report));
}

/// What trained models of tens of billions of weights hold, at a width that keeps the test quick.
fn odd_but_healthy() -> Vec<Tensor> {
    let at = |name: &str| format!("model.layers.0.{name}.weight");
    let (wide, narrow) = (2560, 640);
    let mut tensors = Vec::new();
    let mut add = |name: &str, shape: [usize; 2], f: &dyn Fn(usize, usize, f32) -> f32| {
        let numbers = normals(tensors.len() as u64 + 10, shape[0] * shape[1], 0.02);
        let numbers: Vec<f32> = numbers
            .into_iter()
            .enumerate()
            .map(|(at, x)| f(at / shape[1], at % shape[1], x))
            .collect();
        tensors.push(bf16_tensor(name, &shape, &numbers));
    };
    // Heads of very different sizes.
    add(&at("self_attn.q_proj"), [narrow, wide], &|row, _, x| {
        x * [1.0, 0.05, 3.0, 1.0, 8.0][row / 128]
    });
    // Outlier channels: single columns fifty times as large.
    add(&at("self_attn.o_proj"), [wide, narrow], &|_, col, x| {
        if col == 77 || col == 400 { x * 50.0 } else { x }
    });
    // A super weight.
    add(&at("mlp.down_proj"), [narrow, wide], &|row, col, x| {
        if (row, col) == (300, 1500) { -2.5 } else { x }
    });
    // A column that is constant, as massive activations need it.
    add(&at("mlp.up_proj"), [wide, narrow], &|_, col, x| {
        if col == 5 { 0.3 } else { x }
    });
    // Heavy tails: kurtosis of hundreds.
    add(&at("mlp.gate_proj"), [wide, narrow], &|_, _, x| {
        (x * 50.0).powi(5) * 1e-3
    });
    // Half of the tokens were never seen.
    add(
        "model.embed_tokens.weight",
        [wide, narrow],
        &|row, col, x| match row {
            2000.. => 0.0,
            1500..2000 => x * 1e-3,
            _ => x + f32::from(u8::from(col % 7 == 0)) * 0.05,
        },
    );
    let vector = |name: String, count: usize, f: &dyn Fn(usize) -> f32| {
        let numbers: Vec<f32> = (0..count).map(f).collect();
        bf16_tensor(&name, &[count], &numbers)
    };
    tensors.extend([
        vector(at("input_layernorm"), narrow, &|i| {
            if i == 9 { 40.0 } else { 0.05 }
        }),
        vector(at("post_attention_layernorm"), narrow, &|_| 1.0),
        vector(at("self_attn.q_norm"), 128, &|i| 0.1 * i as f32),
        vector("model.norm.weight".into(), narrow, &|i| {
            5.0 + (i as f32).sin()
        }),
        vector("model.layers.0.self_attn.k_proj.bias".into(), 128, &|i| {
            if i % 16 == 0 { 250.0 } else { -1.0 }
        }),
        vector("model.layers.0.self_attn.v_proj.bias".into(), 128, &|_| 0.0),
        raw("model.positions", "I64", &[4], vec![0; 32]),
    ]);
    tensors
}

#[test]
fn oddities_of_real_models_are_no_faults() {
    let dir = model(QWEN3, &odd_but_healthy());
    for reference in [None, Some(dir.path())] {
        let report = examine(dir.path(), reference);
        assert!(report.healthy, "{}", lines(&report));
        assert_eq!(report.skipped, ["model.positions"]);
        assert!(report.tensors.iter().all(|t| t.verdict == Verdict::Healthy));
    }
    let report = examine(dir.path(), None);
    let gate = of(&report, "model.layers.0.mlp.gate_proj.weight");
    assert!(gate.stats.as_ref().unwrap().kurtosis.unwrap() > 100.0);
}

#[test]
fn the_statistics_are_those_of_the_definition() {
    let numbers = normals(7, 300 * 200, 0.05);
    let dir = model(
        QWEN3,
        &[f32_tensor(
            "model.layers.0.mlp.up_proj.weight",
            &[300, 200],
            &numbers,
        )],
    );
    let report = examine(dir.path(), None);
    let stats = report.tensors[0].stats.as_ref().unwrap();
    let xs = || numbers.iter().map(|x| f64::from(*x));
    let n = xs().count() as f64;
    let mean = xs().sum::<f64>() / n;
    let moment = |p: i32| xs().map(|x| (x - mean).powi(p)).sum::<f64>() / n;
    let close = |a: f64, b: f64| assert!((a - b).abs() <= 1e-5 * b.abs().max(1e-3), "{a} {b}");
    close(stats.mean, mean);
    close(stats.std, moment(2).sqrt());
    close(stats.kurtosis.unwrap(), moment(4) / moment(2).powi(2));
    close(stats.max, xs().fold(f64::MIN, f64::max));
    close(stats.min, xs().fold(f64::MAX, f64::min));
    assert_eq!((stats.count, report.tensors[0].blocks), (60_000, 6));
}

#[test]
fn threads_do_not_change_a_report() {
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        let mut report = pool.install(|| examine(&TINY.tuned(), Some(&TINY.base())));
        report.seconds = 0.0;
        serde_json::to_string(&report).unwrap()
    };
    assert_eq!(run(1), run(3));
}

#[test]
fn a_threshold_that_is_changed_governs_and_is_in_the_report() {
    let mut thresholds = Thresholds::default();
    thresholds.set("linear.rms_max=0.01").unwrap();
    let report = examine_with(&TINY.base(), None, &thresholds);
    assert_eq!(report.roles[0].sick, 21);
    assert_eq!(report.thresholds["linear"]["rms_max"], 0.01);
    assert!(report.thresholds["norm"]["mean_max"].is_null());
}

#[test]
fn rows_are_finite_and_name_their_module() {
    let mut numbers = normals(8, 256 * 256, 0.02);
    numbers[0] = f32::NAN;
    let dir = model(
        QWEN3,
        &[f32_tensor(
            "model.layers.0.mlp.up_proj.weight",
            &[256, 256],
            &numbers,
        )],
    );
    let rows = examine(dir.path(), None).rows("x");
    assert!(rows.iter().all(|r| r.value.is_finite()));
    let sick = rows.iter().find(|r| r.metric == "sick").unwrap();
    assert_eq!(
        (sick.value, sick.module.as_deref()),
        (1.0, Some("model.layers.0.mlp.up_proj"))
    );
}
