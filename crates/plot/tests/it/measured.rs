//! Figures hold nothing but rows: other rows give other figures, in every number and every curve.

use crate::made_up;
use crate::svg::{curves, figure, values};
use std::path::Path;
use xgraft_plot::{Rendered, Source, report};
use xgraft_results::{Row, jsonl};

fn extraction(lost: f64) -> Rendered {
    let dir = tempfile::tempdir().expect("a directory");
    report("x", &made_up::steps(dir.path(), 3, "r32", lost)).expect("renders")
}

/// Two pairs of models on three formats; `size` scales the noise.
fn methods(size: f64) -> Rendered {
    let dir = tempfile::tempdir().expect("a directory");
    let mut sources = Vec::new();
    for (pair, more) in [("small", 1.0), ("elicited", 11.0)] {
        for (scheme, noise) in [("int8", 0.1), ("int4", 1.4), ("int2", 7.4)] {
            for (arm, gain) in [("A", 1.0), ("B", 0.9), ("C", 0.95)] {
                let ranks: &[u32] = if arm == "C" { &[0] } else { &[4, 8, 32] };
                for rank in ranks {
                    let name = match rank {
                        0 => format!("{pair}.{arm}-{scheme}"),
                        _ => format!("{pair}.{arm}-{scheme}-r{rank}"),
                    };
                    let noise = noise * more * size;
                    let error = 0.07 * gain * noise / (1.0 + f64::from(*rank));
                    let rows = [
                        Row::new("total_noise_ratio", noise),
                        Row::new("total_relative_error", error),
                        Row::new("total_bound", 0.9 * error),
                        Row::new("total_delta_cosine", gain / (1.0 + noise)),
                    ];
                    let out = dir.path().join(&name);
                    std::fs::create_dir_all(&out).expect("creates");
                    jsonl::write_file(&out.join("rows.jsonl"), &rows).expect("writes");
                    sources.push(Source::parse(&format!("{name}={}", out.display())).totals());
                }
            }
        }
    }
    report("x", &sources).expect("renders")
}

#[test]
fn every_number_of_a_heatmap_is_a_row() {
    let (one, other) = (extraction(0.0), extraction(0.11));
    let cells = 7 * 3;
    // The size of the update is the same in both.
    for (name, allowed) in [("update-by-layer", cells), ("error-by-layer", 0)] {
        let (one, other) = (values(figure(&one, name)), values(figure(&other, name)));
        assert_eq!((one.len(), other.len()), (2 * cells, 2 * cells));
        let same = one.iter().zip(&other).filter(|(a, b)| a == b).count();
        assert_eq!(same, allowed, "{name}: {one:?}");
    }
}

#[test]
fn every_curve_moves_with_its_rows() {
    let differ = |one: &Rendered, other: &Rendered, name: &str, count: usize| {
        let (one, other) = (figure(one, name), figure(other, name));
        let (one, other) = (curves(one), curves(other));
        assert_eq!((one.len(), other.len()), (count, count), "{name}");
        one.iter().zip(&other).filter(|(a, b)| a != b).count()
    };
    let (one, other) = (extraction(0.0), extraction(0.11));
    assert_eq!(differ(&one, &other, "energy-by-rank", 7 + 1), 7);
    let (one, other) = (methods(1.0), methods(1.3));
    // two pairs, two quantities, seven series; the legend has as many lines and does not move
    let lines = 4 * 7;
    assert_eq!(differ(&one, &other, "methods-by-noise", lines + 7), lines);
}

#[test]
fn each_pair_of_models_has_its_own_formats() {
    let rendered = methods(1.0);
    let svg = figure(&rendered, "methods-by-noise");
    assert!(svg.contains("Delta cosine, small") && svg.contains("Weight error, elicited"));
    let (_, page) = &rendered.files[0];
    assert!(page.contains("small: int8 0.100, int4 1.40, int2 7.40"));
    assert!(page.contains("elicited: int8 1.10, int4 15.4, int2 81.4"));
}

#[test]
fn no_chapter_has_a_number_typed_in() {
    no_numbers_below(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/chapters"));
}

fn no_numbers_below(dir: &Path) {
    for entry in std::fs::read_dir(dir).expect("lists") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            no_numbers_below(&path);
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("reads");
        for line in text.lines().filter(|line| !line.trim().starts_with("//")) {
            let words = line.split(|c: char| !(c.is_ascii_alphanumeric() || ".-_".contains(c)));
            let typed = |word: &&str| {
                let is_float = word.contains('.') && word.parse::<f64>().is_ok();
                is_float && !["0.0", "1.0", "100.0"].contains(word)
            };
            let typed: Vec<&str> = words.filter(typed).collect();
            assert!(
                typed.is_empty(),
                "{}: {typed:?} in {line:?}",
                path.display()
            );
        }
    }
}
