//! The chapter on noise and adapter, and that its figures hold nothing but rows.

use crate::svg::{figure, marks, rectangles, values};
use std::path::{Path, PathBuf};
use xgraft_plot::{Rendered, Source, report};
use xgraft_results::{Row, jsonl};

const ROLES: [&str; 3] = ["self_attn.q_proj", "mlp.up_proj", "mlp.down_proj"];
const FIGURES: [&str; 4] = ["noise-over-adapter", "cosines", "noise-by-layer", "leakage"];

/// Every metric of a layer's weight; `size` scales what is measured.
fn rows(layers: usize, size: f64) -> Vec<Row> {
    let mut rows = Vec::new();
    for layer in 0..layers {
        for (role, name) in ROLES.iter().enumerate() {
            let module = format!("model.layers.{layer}.{name}");
            let wave = 1.0 + 0.3 * (1.3 * layer as f64 + role as f64).sin();
            let mut push = |arm: &str, metric: &str, value: f64| {
                rows.push(Row::new(metric, value).arm(arm).module(&module));
            };
            for (arm, more) in [("base-fp8", 1.0), ("tuned-fp8", 1.2)] {
                push(arm, "noise_over_adapter", 3.1 * size * more * wave);
                push(arm, "noise_over_weight", 0.026 * size);
                push(arm, "cosine_noise_adapter", -0.0021 * size * wave);
                push(arm, "cosine_noise_adapter_chance", 0.0017 * size.sqrt());
                push(arm, "cosine_noise_random", 0.0016 * size * wave);
                push(arm, "cosine_noise_shuffled", 0.0019 * size * wave);
                push(arm, "leakage_left", 0.053 * size * more);
                push(arm, "leakage_left_chance", 0.051 * size);
                push(arm, "leakage_right", 0.011 * size * wave);
                push(arm, "leakage_right_chance", 0.0102 * size);
            }
            let pair = "base-fp8 × tuned-fp8";
            push(pair, "cosine_noise_noise", 0.034 * size);
            push(pair, "cosine_noise_noise_chance", 0.0017 * size);
        }
    }
    rows
}

fn rendered(layers: usize, size: f64) -> Rendered {
    let dir = tempfile::tempdir().expect("a directory");
    let source = dir.path().join("orthogonality");
    std::fs::create_dir_all(&source).expect("creates");
    jsonl::write_file(&source.join("rows.jsonl"), &rows(layers, size)).expect("writes");
    let sources = [Source::parse(&source.display().to_string())];
    let rendered = report("A report", &sources).expect("renders");
    // Look at them: XGRAFT_PLOT_OUT=dir cargo test -p xgraft-plot
    if let Some(out) = std::env::var_os("XGRAFT_PLOT_OUT") {
        let name = format!("orthogonality-{layers}");
        rendered
            .write(&PathBuf::from(out).join(name))
            .expect("writes");
    }
    rendered
}

#[test]
fn every_weight_and_every_mean_has_its_mark() {
    let rendered = rendered(64, 1.0);
    let dots = |name: &str| marks(figure(&rendered, name));
    // two noises and their two marks in the legend
    assert_eq!(dots("noise-over-adapter"), 2 * 64 * ROLES.len() + 2);
    // update, random, shuffled of two noises, and the noises with each other; the legend
    assert_eq!(dots("cosines"), 3 * 2 + 1 + 2);
    assert_eq!(dots("leakage"), 2 * 2 * ROLES.len() + 2);
    // size and cosine of two noises, each with a colour bar, on one sheet of paper
    let cells = rectangles(figure(&rendered, "noise-by-layer"));
    assert_eq!(cells, 2 * 2 * (64 * ROLES.len() + 48) + 1);
    let cosines = figure(&rendered, "cosines");
    for row in [
        "base-fp8 · adapter",
        "base-fp8 × tuned-fp8",
        "tuned-fp8 · random matrix",
    ] {
        assert!(cosines.contains(row), "{row}");
    }
    // cosines are shown without sign: 0.034 against 0.0017 is twenty times chance
    assert!(cosines.contains("\n0.0340\n") && cosines.contains("\n20.0\n"));
}

#[test]
fn all_numbers_of_a_figure_come_from_the_rows() {
    let (one, other) = (rendered(4, 1.0), rendered(4, 1.7));
    for name in FIGURES {
        let (one, other) = (values(figure(&one, name)), values(figure(&other, name)));
        assert_eq!(one.len(), other.len());
        assert!(one.len() >= 2 * ROLES.len(), "{name}: {one:?}");
        for (one, other) in one.iter().zip(&other) {
            assert_ne!(one, other, "{name} shows a number that is not measured");
        }
    }
}

#[test]
fn without_such_rows_there_is_no_such_section() {
    let dir = tempfile::tempdir().expect("a directory");
    let rows = [Row::new("energy_kept", 0.9).module("model.layers.0.mlp.up_proj")];
    jsonl::write_file(&dir.path().join("rows.jsonl"), &rows).expect("writes");
    let sources = [Source::parse(&dir.path().display().to_string())];
    let rendered = report("A report", &sources).expect("renders");
    assert!(
        rendered
            .files
            .iter()
            .all(|(path, _)| path != Path::new("figures/cosines.svg"))
    );
}
