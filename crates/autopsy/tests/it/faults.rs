//! Faults planted in 1 % of the blocks of a matrix, or less, and what is said of them.

use tempfile::TempDir;
use xgraft_autopsy::{Report, TensorReport, Verdict};

use crate::support::{QWEN3, bf16_tensor, examine, f32_tensor, lines, model, normals, of, raw};

const NAME: &str = "model.layers.0.mlp.up_proj.weight";
const ROWS: usize = 1280;
const COLS: usize = 1280;

/// One of the 100 blocks of the matrix: row 3, column 7 of their grid.
const BLOCK: (std::ops::Range<usize>, std::ops::Range<usize>) = (384..512, 896..1024);

fn healthy() -> Vec<f32> {
    normals(1, ROWS * COLS, 0.02)
}

fn in_block(row: usize, col: usize) -> bool {
    BLOCK.0.contains(&row) && BLOCK.1.contains(&col)
}

/// The healthy matrix with `change` done to some of its numbers.
fn changed(change: impl Fn(usize, usize, f32) -> f32) -> Vec<f32> {
    let number = |(at, x)| change(at / COLS, at % COLS, x);
    healthy().into_iter().enumerate().map(number).collect()
}

fn saved(numbers: &[f32]) -> TempDir {
    model(QWEN3, &[f32_tensor(NAME, &[ROWS, COLS], numbers)])
}

/// Without and with the healthy matrix as a reference.
fn both(numbers: &[f32]) -> [Report; 2] {
    let (dir, reference) = (saved(numbers), saved(&healthy()));
    [
        examine(dir.path(), None),
        examine(dir.path(), Some(reference.path())),
    ]
}

#[track_caller]
fn assert_block(report: &Report, verdict: Verdict) {
    let found: &TensorReport = of(report, NAME);
    assert_eq!(found.verdict, verdict, "{}", lines(report));
    let fault = &found.faults[0];
    assert_eq!(fault.blocks, 1, "{}", lines(report));
    assert_eq!(fault.rows, Some([BLOCK.0.start, BLOCK.0.end]));
    assert_eq!(fault.columns, Some([BLOCK.1.start, BLOCK.1.end]));
    let finding = found.finding().unwrap();
    assert!(finding.message.contains("rows 384..512"), "{finding}");
    assert!(finding.hint.is_some());
    assert!(!report.healthy);
}

#[test]
fn the_matrix_itself_is_healthy() {
    for report in both(&healthy()) {
        assert!(report.healthy, "{}", lines(&report));
    }
}

#[test]
fn one_block_times_a_thousand_is_found() {
    let [alone, beside] = both(&changed(|r, c, x| if in_block(r, c) { x * 1e3 } else { x }));
    assert_block(&alone, Verdict::Exploded);
    assert_block(&beside, Verdict::Exploded);
}

#[test]
fn one_block_times_thirty_or_a_thousandth_is_mis_scaled() {
    for factor in [30.0, 1e-3] {
        let numbers = changed(|r, c, x| if in_block(r, c) { x * factor } else { x });
        for report in both(&numbers) {
            assert_block(&report, Verdict::MisScaled);
        }
    }
}

#[test]
fn a_factor_of_one_point_one_shows_against_the_reference_only() {
    let numbers = changed(|r, c, x| if in_block(r, c) { x * 1.1 } else { x });
    let [alone, beside] = both(&numbers);
    assert!(alone.healthy, "{}", lines(&alone));
    assert_block(&beside, Verdict::MisScaled);
    assert!((of(&beside, NAME).faults[0].measured - 0.1).abs() < 1e-3);
}

#[test]
fn a_whole_row_of_blocks_of_another_level_does_not_hide_itself() {
    let numbers = changed(|r, _, x| if BLOCK.0.contains(&r) { x * 0.001 } else { x });
    for report in both(&numbers) {
        assert_eq!(
            of(&report, NAME).verdict,
            Verdict::MisScaled,
            "{}",
            lines(&report)
        );
    }
    assert!(lines(&both(&numbers)[0]).contains("rows 384 on"));
}

#[test]
fn a_block_of_zeros_is_flat() {
    let numbers = changed(|r, c, x| if in_block(r, c) { 0.0 } else { x });
    for report in both(&numbers) {
        assert_block(&report, Verdict::Flat);
    }
}

#[test]
fn a_single_row_of_zeros_is_flat() {
    let numbers = changed(|r, _, x| if r == 1000 { 0.0 } else { x });
    for report in both(&numbers) {
        assert_eq!(of(&report, NAME).verdict, Verdict::Flat);
        assert!(
            lines(&report).contains("first row 1000"),
            "{}",
            lines(&report)
        );
    }
}

#[test]
fn a_shifted_block_is_biased() {
    let shifted = |by: f32| changed(move |r, c, x| if in_block(r, c) { x + by } else { x });
    for report in both(&shifted(0.02)) {
        assert_block(&report, Verdict::Biased);
    }
    let [alone, beside] = both(&shifted(0.002));
    assert!(alone.healthy, "{}", lines(&alone));
    assert_block(&beside, Verdict::Biased);
}

#[test]
fn a_shifted_matrix_is_biased() {
    for report in both(&changed(|_, _, x| x + 0.02)) {
        assert_eq!(
            of(&report, NAME).verdict,
            Verdict::Biased,
            "{}",
            lines(&report)
        );
    }
}

#[test]
fn nan_and_infinity_are_counted_with_their_block() {
    let numbers = changed(|r, c, x| match (r, c) {
        (400, 900..903) => f32::NAN,
        (401, 900) => f32::NEG_INFINITY,
        _ => x,
    });
    for report in both(&numbers) {
        assert_block(&report, Verdict::NotFinite);
        let stats = of(&report, NAME).stats.as_ref().unwrap();
        assert_eq!((stats.nan, stats.infinite), (3, 1));
        assert!((stats.std - 0.02).abs() < 1e-3);
    }
}

#[test]
fn a_block_of_int4_with_wrong_signs_is_mis_decoded() {
    // 7 steps are three standard deviations; a number moves by 8 steps towards the other side.
    let step = 0.06 / 7.0;
    let wrong = |x: f32| {
        if x >= 0.0 {
            x - 8.0 * step
        } else {
            x + 8.0 * step
        }
    };
    for report in both(&changed(
        |r, c, x| if in_block(r, c) { wrong(x) } else { x },
    )) {
        assert_block(&report, Verdict::MisDecoded);
    }
}

#[test]
fn a_block_of_other_numbers_shows_against_the_reference() {
    let other = normals(2, ROWS * COLS, 0.02);
    let [alone, beside] = both(&changed(|r, c, x| {
        if in_block(r, c) {
            other[r * COLS + c]
        } else {
            x
        }
    }));
    assert!(alone.healthy);
    assert_block(&beside, Verdict::MisDecoded);
}

/// FP8 codes with scales of 128 × 128, of which some are spoiled.
fn fp8(spoil: impl Fn(&mut [u8], &mut [f32])) -> Report {
    let (rows, cols) = (256, 384);
    let mut codes: Vec<u8> = normals(3, rows * cols, 100.0)
        .iter()
        .map(|x| xgraft_block_scale::Format::E4m3.encode(*x, xgraft_fp8_codec::Overflow::Saturate))
        .collect();
    let mut scales = vec![1e-4f32; 6];
    spoil(&mut codes, &mut scales);
    let config = r#"{"model_type": "qwen3", "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}}"#;
    let dir = model(
        config,
        &[
            raw(NAME, "F8_E4M3", &[rows, cols], codes),
            f32_tensor(&format!("{NAME}_scale_inv"), &[2, 3], &scales),
        ],
    );
    examine(dir.path(), None)
}

#[test]
fn scales_that_cannot_be_meant_are_named() {
    assert!(fp8(|_, _| {}).healthy);
    for (scale, verdict, word) in [
        (f32::NAN, Verdict::NotFinite, "1 not finite"),
        (f32::INFINITY, Verdict::NotFinite, "1 not finite"),
        (-1e-4, Verdict::NotFinite, "1 negative"),
        (0.0, Verdict::Flat, "128..256"),
    ] {
        let report = fp8(|_, scales| scales[4] = scale);
        let tensor = of(&report, NAME);
        assert_eq!(tensor.verdict, verdict, "{}", lines(&report));
        assert_eq!(tensor.stats.as_ref().unwrap().bad_scales, Some(1));
        let messages: Vec<&str> = tensor.faults.iter().map(|f| f.message.as_str()).collect();
        assert!(messages.join("\n").contains(word), "{scale}: {messages:?}");
    }
}

#[test]
fn codes_that_are_nan_or_clipped_are_counted() {
    let report = fp8(|codes, _| codes[5] = 0x7f);
    assert_eq!(of(&report, NAME).verdict, Verdict::NotFinite);
    assert_eq!(of(&report, NAME).stats.as_ref().unwrap().nan, 1);

    let report = fp8(|codes, _| {
        for row in codes.chunks_mut(384).take(128) {
            row[..16].fill(0xfe);
        }
    });
    let tensor = of(&report, NAME);
    assert_eq!(
        tensor.faults[0].limit,
        Some("saturated_max"),
        "{}",
        lines(&report)
    );
    assert!(tensor.stats.as_ref().unwrap().saturated_share.unwrap() > 0.01);
}

#[test]
fn a_tensor_that_the_reference_lacks_or_shapes_differently_is_a_finding() {
    let numbers = normals(4, 64 * 64, 0.02);
    let (a, b) = (
        "model.layers.0.mlp.up_proj.weight",
        "model.layers.0.mlp.gate_proj.weight",
    );
    let dir = model(QWEN3, &[bf16_tensor(a, &[64, 64], &numbers)]);
    let reference = model(
        QWEN3,
        &[
            bf16_tensor(a, &[32, 128], &numbers),
            bf16_tensor(b, &[64, 64], &numbers),
        ],
    );
    let report = examine(dir.path(), Some(reference.path()));
    let codes: Vec<&str> = report.findings.iter().map(|f| f.code.as_str()).collect();
    assert_eq!(codes, ["missing-tensor", "shape-mismatch"]);
    assert!(!report.healthy);
}
