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
                    let gain = if arm == "B" { gain / size.sqrt() } else { gain };
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
    // two pairs, two quantities of seven series, and the ratio of B to A at three ranks; the legend has as many lines as series
    // and does not move
    let lines = 2 * (2 * 7 + 3);
    assert_eq!(differ(&one, &other, "methods-by-noise", lines + 7), lines);
}

#[test]
fn spectra_are_drawn_from_rows_one_panel_a_projection() {
    let rendered = |fall: f64| {
        let dir = tempfile::tempdir().expect("a directory");
        let mut rows = Vec::new();
        for projection in ["*.up_proj", "*.q_proj"] {
            for place in 1..=8_u64 {
                let value = |fall: f64| fall.powi(i32::try_from(place).expect("small"));
                let row = |metric, value| {
                    let row = Row::new(metric, value).arm("fp8").module(projection);
                    row.n(place)
                };
                rows.push(row("summary_noise_spectrum", value(0.99)));
                rows.push(row("summary_adapter_spectrum", value(fall)));
            }
        }
        // a row of the chapter, without which there is none
        let module = "model.layers.0.self_attn.q_proj";
        rows.push(
            Row::new("noise_over_adapter", 1.0)
                .arm("fp8")
                .module(module),
        );
        jsonl::write_file(&dir.path().join("rows.jsonl"), &rows).expect("writes");
        report("x", &[Source::parse(&dir.path().display().to_string())]).expect("renders")
    };
    let (one, other) = (rendered(0.7), rendered(0.6));
    let (one, other) = (figure(&one, "spectra"), figure(&other, "spectra"));
    let [q, up] = ["q_proj", "up_proj"].map(|name| one.find(name).expect("a panel"));
    assert!(q < up, "in the order of the data's way");
    assert!(one.contains("adapter") && one.contains("fp8"));
    let (one, other) = (curves(one), curves(other));
    // two panels of two curves, and the legend
    assert_eq!((one.len(), other.len()), (2 * 2 + 2, 2 * 2 + 2));
    let moved = one.iter().zip(&other).filter(|(a, b)| a != b).count();
    assert!(moved >= 2, "the update's curves at least");
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

/// Two arms and two tasks; `right` of 40 questions are right by the second arm.
fn answers(right: f64) -> Rendered {
    let dir = tempfile::tempdir().expect("a directory");
    let of = |arm: &str, right: f64| {
        let share = |metric: &str, value: f64| {
            let row = Row::new(metric, value).arm(arm);
            row.interval(value - 0.05, value + 0.05)
        };
        let value = right / 40.0;
        [
            share("accuracy_micro", value),
            share("accuracy_macro", 0.9 * value),
            Row::new("accuracy", 0.5 * value).arm(arm).task("one_task"),
            Row::new("accuracy", 0.7 * value).arm(arm).task("other"),
            Row::new("questions_right", right).arm(arm),
            Row::new("questions_wrong", 40.0 - right).arm(arm),
            Row::new("memory", 1e9 * right).arm(arm),
        ]
    };
    let compared = |metric: &str, value: f64| Row::new(metric, value).arm("A-r8").model("tuned");
    let mut rows: Vec<Row> = [of("tuned", 30.0), of("A-r8", right)]
        .into_iter()
        .flatten()
        .collect();
    rows.push(compared("difference_micro", right / 40.0 - 0.75).interval(-0.3, 0.1));
    rows.push(compared("p", 0.25));
    rows.push(
        Row::new("kl", 0.001 * right)
            .arm("A-r8")
            .interval(0.001, 0.1),
    );
    let pair = |metric: &str, value: f64| Row::new(metric, value).arm("A-r8").model("B-r8");
    rows.push(pair("pair_difference", 0.125).interval(0.025, 0.225));
    rows.push(pair("pair_kl_difference", -0.001 * right).interval(-0.03, -0.01));
    rows.push(pair("pair_kl_p_holm", 0.004));
    rows.push(Row::new("interval_level", 0.9));
    jsonl::write_file(&dir.path().join("rows.jsonl"), &rows).expect("writes");
    let source = format!("run={}", dir.path().display());
    report("x", &[Source::parse(&source)]).expect("renders")
}

#[test]
fn what_arms_answered_is_in_every_figure_and_the_table() {
    let (one, other) = (answers(20.0), answers(12.0));
    for (name, texts, absent) in [
        ("accuracy-run", ["75.0 %", "50.0 %", "45.0 %"], "30.0 %"),
        ("tasks-run", ["25 %", "35 %", "38 %"], "15 %"),
        ("endings-run", ["30", "20", "40"], "28"),
    ] {
        let svg = figure(&one, name);
        for text in texts {
            assert!(svg.contains(&format!("\n{text}\n")), "{name}: {text}");
        }
        let absent = format!("\n{absent}\n");
        assert!(
            !svg.contains(&absent) && figure(&other, name).contains(&absent),
            "{name}"
        );
    }
    assert_ne!(figure(&one, "memory-run"), figure(&other, "memory-run"));
    let page = |rendered: &Rendered| rendered.report.markdown();
    assert!(
        page(&one).contains("| A-r8 | 20 | -25.0 | -30.0 to +10.0 | 0.250 |"),
        "{}",
        page(&one)
    );
    assert!(
        page(&one).contains("intervals of 90.0\u{a0}% of one arm alone"),
        "{}",
        page(&one)
    );
    assert!(page(&other).contains("| A-r8 | 12 | -45.0 |"));
    let divergence = figure(&one, "divergence-run");
    assert!(divergence.contains("\n0.0200\n"), "{divergence}");
    assert!(
        !divergence.contains("tuned"),
        "the reference is at no distance"
    );
    let pair = "| A-r8 against B-r8 | +12.5 | +2.5 to +22.5 | – | -0.0200 | -0.0300 to -0.0100 | 0.00400 |";
    assert!(page(&one).contains(pair), "{}", page(&one));
}

/// Products on a GPU whose times are `slow` times as long.
fn kernels(slow: f64) -> Rendered {
    let mut rows = vec![Row::new("peak_bytes", 3e12), Row::new("peak_flops", 2e15)];
    for (arm, tokens, us) in [
        ("xgraft", 16, 44.0),
        ("xgraft", 1, 42.0),
        ("deepgemm", 1, 60.0),
        ("xgraft-lora r64", 1, 43.0),
    ] {
        let row = Row::new("kernel_us", slow * us).arm(arm).module("down");
        rows.push(row.task(format!("m={tokens}")));
    }
    for tokens in [1, 16] {
        for (metric, value) in [
            ("kernel_floor_us", 40.0),
            ("kernel_bytes", 1.3e8),
            ("kernel_flops", 2.6e8 * f64::from(tokens)),
        ] {
            let row = Row::new(metric, value).module("down");
            rows.push(row.task(format!("m={tokens}")));
        }
    }
    let dir = tempfile::tempdir().expect("a directory");
    jsonl::write_file(&dir.path().join("rows.jsonl"), &rows).expect("writes");
    let source = format!("run={}", dir.path().display());
    report("x", &[Source::parse(&source)]).expect("renders")
}

#[test]
fn times_of_kernels_stand_over_their_floor_and_under_their_roof() {
    let (one, other) = (kernels(1.0), kernels(2.0));
    let page = |rendered: &Rendered| rendered.report.markdown();
    let row = "| down | 16 | xgraft | 44.0 | 44.0 to 44.0 | 1.10 | 95 | 2.95 |";
    assert!(page(&one).contains(row), "{}", page(&one));
    assert!(
        page(&other).contains("| down | 16 | xgraft | 88.0 | 88.0 to 88.0 | 2.20 | 47 | 1.48 |")
    );
    for name in ["kernels-floor-run", "kernels-roofline-run"] {
        let (one, other) = (figure(&one, name), figure(&other, name));
        assert_ne!(one, other, "{name}");
        // The product with an adapter is in the table alone.
        assert!(one.contains("deepgemm") && !one.contains("lora"), "{one}");
    }
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
        for (number, line) in text.lines().enumerate() {
            let typed = typed_numbers(line);
            assert!(
                typed.is_empty(),
                "{}:{}: {typed:?} in {line:?}",
                path.display(),
                number + 1
            );
        }
    }
}

/// The numbers of a line of code, in its strings too, that could be a measurement: all but 0, 1, 2 and 100, those of a named
/// count or array (`const COLUMNS: usize = 4;`), and parts of names (`f64`, `series-1`, `σ₁`).
fn typed_numbers(line: &str) -> Vec<&str> {
    let code = line.split("//").next().unwrap_or_default().trim();
    let counts = ["usize", "u64", "u32"];
    if code.starts_with("const ") && counts.iter().any(|t| code.contains(&format!(": {t} ="))) {
        return Vec::new();
    }
    let words = code.split(|c: char| !(c.is_alphanumeric() || ".-+_".contains(c)));
    let mut numbers: Vec<&str> = Vec::new();
    for word in words {
        let word = word.trim_matches(['.', '-', '+']);
        let bare = word.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let suffix = ["_u64", "_usize", "_f64", "f64", "u64", "usize", "u32"];
        let bare = suffix
            .iter()
            .find_map(|s| word.strip_suffix(s))
            .unwrap_or(bare);
        let number = bare
            .starts_with(|c: char| c.is_ascii_digit())
            .then(|| bare.replace('_', ""));
        let Some(Ok(value)) = number.map(|n| n.parse::<f64>()) else {
            continue;
        };
        // a length of an array type, `[f64; 2]`, is no value
        let allowed = [0.0, 1.0, 2.0, 100.0]
            .iter()
            .any(|a| (value - a).abs() < 1e-12);
        if !allowed && !code.contains(&format!("; {bare}]")) {
            numbers.push(bare);
        }
    }
    numbers
}

#[test]
fn typed_numbers_are_seen_in_every_spelling() {
    for (line, expected) in [
        ("let x = 0.0027;", vec!["0.0027"]),
        ("let x = 611;", vec!["611"]),
        ("let x = 4_348_f64;", vec!["4_348"]),
        ("let x = 1e-5;", vec!["1e-5"]),
        ("points.push((64.0, 27));", vec!["64.0", "27"]),
        ("caption: \"the noise is 22 times the adapter\"", vec!["22"]),
        ("let [a, b]: [f64; 2] = [0.0, 1.0]; // 611", vec![]),
        ("const COLUMNS: usize = 4;", vec![]),
        ("const NOISE: f64 = 611.0;", vec!["611.0"]),
        ("100.0 * x.powi(2)", vec![]),
        ("a_1, f64, series-1", vec![]),
    ] {
        assert_eq!(typed_numbers(line), expected, "{line}");
    }
}
