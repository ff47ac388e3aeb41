//! Independent matrices look independent, and what is no noise is said to be none.

use xgraft_results::Severity;

use crate::dense::{Mat, near};
use crate::made::{Made, compared, q_proj};

const LAYERS: usize = 12;

/// Layers of W, one adapter over all of them.
fn model(made: &Made, rows: usize, cols: usize) -> (Vec<Mat>, xgraft_checkpoint::Adapter) {
    let weights = (0..LAYERS)
        .map(|i| Mat::normal(rows, cols, 100 + i as u64))
        .collect();
    let pairs: Vec<(String, Mat, Mat)> = (0..LAYERS)
        .map(|i| {
            (
                q_proj(i),
                Mat::normal(rows, 4, 200 + i as u64),
                Mat::normal(4, cols, 300 + i as u64),
            )
        })
        .collect();
    let pairs: Vec<(&str, &Mat, &Mat)> = pairs.iter().map(|(m, b, a)| (m.as_str(), b, a)).collect();
    (weights, made.adapter("a", 4.0, &pairs))
}

fn rounded(weights: &[Mat], step: f64) -> Vec<Mat> {
    weights
        .iter()
        .map(|w| w.map(|x| (x / step).round() * step))
        .collect()
}

#[test]
fn rounding_noise_and_all_controls_lie_within_four_standard_deviations() {
    let made = Made::new();
    let (weights, adapter) = model(&made, 90, 70);
    let noises = [
        made.noise("coarse", &weights, &rounded(&weights, 0.2)),
        made.noise("fine", &weights, &rounded(&weights, 0.07)),
    ];
    let report = compared(&noises, &adapter, None).unwrap();
    assert!(report.findings.is_empty(), "{:?}", report.findings);
    for module in &report.modules {
        for n in &module.noises {
            let other = n.other_layer.as_ref().unwrap();
            assert_ne!(other.module, module.module);
            for c in [n.cosine, n.random, n.shuffled, other.cosine] {
                assert!(c.z.abs() < 4.0, "{} {c:?}", module.module);
            }
            assert!(
                (0.8..1.2).contains(&n.over_white_edge),
                "{}",
                n.over_white_edge
            );
        }
        assert!(module.pairs[0].cosine.z.abs() < 4.0, "{:?}", module.pairs);
    }
    let whole = &report.whole.noises[0];
    assert_eq!(whole.modules, LAYERS);
    let times = whole.cosine.mean_abs / whole.cosine.chance;
    assert!((0.5..1.5).contains(&times), "{times}");
    assert!(
        report.words.iter().any(|w| w.contains("proves nothing")),
        "{:?}",
        report.words
    );
}

#[test]
fn another_layers_update_is_held_against_this_layers_noise() {
    let made = Made::new();
    let (b, a) = (Mat::normal(40, 3, 1), Mat::normal(3, 30, 2));
    let (b2, a2) = (Mat::normal(40, 3, 3), Mat::normal(3, 30, 4));
    let w = [Mat::normal(40, 30, 5), Mat::normal(40, 30, 6)];
    // the noise of layer 0 is the update of layer 1
    let l1 = b2.times(&a2).scale(0.05);
    let q = [
        w[0].plus(&l1),
        w[1].plus(&Mat::normal(40, 30, 7).scale(0.1)),
    ];
    let adapter = made.adapter("a", -6.0, &[(&q_proj(0), &b, &a), (&q_proj(1), &b2, &a2)]);
    let noises = [made.noise("n", &w, &q)];
    let report = compared(&noises, &adapter, None).unwrap();
    let other = report.modules[0].noises[0].other_layer.clone().unwrap();
    assert_eq!(other.module, q_proj(1));
    // the adapter's scale is -2
    near(other.cosine.value, -1.0, 1e-5);
    assert!(report.modules[0].noises[0].cosine.value.abs() < 0.2);
}

#[test]
fn opposite_noises_have_cosine_minus_one_and_are_said_to_cancel() {
    let made = Made::new();
    let (weights, adapter) = model(&made, 50, 40);
    let step: Vec<Mat> = (0..LAYERS)
        .map(|i| Mat::normal(50, 40, 400 + i as u64).scale(0.01))
        .collect();
    let plus: Vec<Mat> = weights.iter().zip(&step).map(|(w, s)| w.plus(s)).collect();
    let minus: Vec<Mat> = weights.iter().zip(&step).map(|(w, s)| w.minus(s)).collect();
    let noises = [
        made.noise("up", &weights, &plus),
        made.noise("down", &weights, &minus),
    ];
    let report = compared(&noises, &adapter, None).unwrap();
    let pair = &report.whole.pairs[0];
    assert_eq!(pair.pair, "up × down");
    near(pair.cosine.mean, -1.0, 1e-4);
    assert!(
        report
            .rows()
            .iter()
            .any(|r| r.metric == "cosine_noise_noise" && r.arm.as_deref() == Some("up × down"))
    );
}

#[test]
fn a_layer_that_is_not_quantized_is_told_and_left_out() {
    let made = Made::new();
    let (weights, adapter) = model(&made, 50, 40);
    let mut q = rounded(&weights, 0.1);
    q[3] = weights[3].clone();
    let noises = [made.noise("n", &weights, &q)];
    let report = compared(&noises, &adapter, None).unwrap();
    assert!(report.passed());
    assert_eq!(report.modules[3].not_quantized, ["n"]);
    assert!(report.modules[3].noises.is_empty());
    assert_eq!(report.whole.noises[0].modules, LAYERS - 1);
    assert_eq!(report.findings[0].code, "not-quantized");
    assert!(report.rows().iter().all(|row| row.value.is_finite()));
}

#[test]
fn equal_checkpoints_and_unrelated_ones_do_not_pass() {
    let made = Made::new();
    let (weights, adapter) = model(&made, 50, 40);
    let others: Vec<Mat> = (0..LAYERS)
        .map(|i| Mat::normal(50, 40, 500 + i as u64))
        .collect();
    let noises = [
        made.noise("same", &weights, &weights),
        made.noise("other", &weights, &others),
    ];
    let report = compared(&noises, &adapter, None).unwrap();
    assert!(!report.passed());
    let errors = report.findings.iter();
    let errors: Vec<_> = errors.filter(|f| f.severity == Severity::Error).collect();
    let codes: Vec<&str> = errors.iter().map(|f| f.code.as_str()).collect();
    assert_eq!(codes, ["no-noise", "not-its-copy"]);
    assert!(errors.iter().all(|f| f.hint.is_some()));
    let text = &errors[1].message;
    assert!(
        text.contains("q_proj") && text.contains("below 0.5"),
        "{text}"
    );
}

#[test]
fn an_adapter_of_zeros_alone_does_not_pass() {
    let made = Made::new();
    let w = [Mat::normal(40, 30, 1)];
    let (b, a) = (Mat::normal(40, 3, 3), Mat::normal(3, 30, 4));
    let zero = made.adapter("z", 3.0, &[(&q_proj(0), &b.scale(0.0), &a)]);
    let full = made.adapter("a", 3.0, &[(&q_proj(0), &b, &a)]);
    let noises = [made.noise("n", &w, &rounded(&w, 0.1))];
    let report = compared(&noises, &zero, None).unwrap();
    assert!(!report.passed());
    assert_eq!(report.findings.last().unwrap().code, "zero-adapter");

    let report = compared(&[], &full, Some(&zero)).unwrap();
    assert_eq!(report.modules[0].overlap, None);
    assert!(
        report.findings[0].subject.contains("second adapter"),
        "{:?}",
        report.findings
    );
}

#[test]
fn a_pair_of_zeros_is_told_and_left_out() {
    let made = Made::new();
    let w = [Mat::normal(40, 30, 1), Mat::normal(40, 30, 2)];
    let (b, a) = (Mat::normal(40, 3, 3), Mat::normal(3, 30, 4));
    let adapter = made.adapter(
        "a",
        3.0,
        &[(&q_proj(0), &b.scale(0.0), &a), (&q_proj(1), &b, &a)],
    );
    let noises = [made.noise("n", &w, &rounded(&w, 0.1))];
    let report = compared(&noises, &adapter, None).unwrap();
    assert_eq!(report.modules.len(), 1);
    assert_eq!(
        (
            report.findings[0].code.as_str(),
            report.findings[0].subject.clone()
        ),
        ("zero-pair", q_proj(0))
    );
    // the control of the other layer is that pair of zeros
    near(
        report.modules[0].noises[0]
            .other_layer
            .as_ref()
            .unwrap()
            .cosine
            .value,
        0.0,
        0.0,
    );
}
