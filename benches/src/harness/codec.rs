//! FP8, INT8 and INT4 quantize and dequantize against torch, compressed-tensors and a copy of the same bytes, one core.

use super::{Goal, Line, Programs, Table, Whose, table::times};
use anyhow::Result;
use xgraft_results::human::percent;

const GROUP: &str = "codec";

/// Measures, and adds lines to the table.
///
/// # Errors
/// A program fails.
pub fn run(programs: &mut Programs, table: &mut Table) -> Result<()> {
    let (rows, columns) = if programs.quick {
        ("512", "1024")
    } else {
        ("25600", "5120")
    };
    let repetitions = if programs.quick { "2" } else { "5" };
    for round in 0..programs.rounds() {
        let ours = [
            "--rows",
            rows,
            "--cols",
            columns,
            "--threads",
            "1",
            "--reps",
            repetitions,
        ];
        programs.ours(GROUP, round, "codec", &ours)?;
        let cases = [
            "fp8_quantize_torch",
            "fp8_dequantize_torch",
            "fp8_quantize_ct",
            "fp8_dequantize_ct",
            "int8_quantize_ct",
            "int8_dequantize_ct",
            "int4_quantize_ct",
            "int4_dequantize_ct",
        ];
        for case in cases {
            let theirs = [
                case,
                "--rows",
                rows,
                "--columns",
                columns,
                "--threads",
                "1",
                "--repeats",
                "2",
            ];
            programs.theirs(
                Whose::Peers,
                GROUP,
                round,
                "extract/torch_cases.py",
                &theirs,
            )?;
        }
    }
    table.0.extend([
        against(
            programs,
            "quantize_vs_torch",
            "FP8 block quantize over plain torch",
            "fp8_block_quantize",
            "fp8_quantize_torch",
            Some(8.0),
        ),
        against(
            programs,
            "quantize_vs_ct",
            "FP8 block quantize over compressed-tensors, same bytes",
            "fp8_block_quantize_compressed_tensors",
            "fp8_quantize_ct",
            Some(15.0),
        ),
        of_copy(
            programs,
            "quantize_vs_copy",
            "FP8 block quantize, share of a copy's speed",
            "fp8_block_quantize",
            0.6,
        ),
        against(
            programs,
            "dequantize_vs_torch",
            "FP8 block dequantize over plain torch",
            "fp8_block_dequantize",
            "fp8_dequantize_torch",
            None,
        ),
        against(
            programs,
            "dequantize_vs_ct",
            "FP8 block dequantize over compressed-tensors",
            "fp8_block_dequantize",
            "fp8_dequantize_ct",
            Some(10.0),
        ),
        of_copy(
            programs,
            "dequantize_vs_copy",
            "FP8 block dequantize, share of a copy's speed",
            "fp8_block_dequantize",
            0.7,
        ),
    ]);
    for (metric, what, ours, theirs) in [
        (
            "int8_quantize_vs_ct",
            "INT8 quantize over compressed-tensors, same bytes",
            "int8_quantize",
            "int8_quantize_ct",
        ),
        (
            "int8_dequantize_vs_ct",
            "INT8 dequantize over compressed-tensors",
            "int8_dequantize",
            "int8_dequantize_ct",
        ),
        (
            "int4_quantize_vs_ct",
            "INT4 quantize and pack over compressed-tensors, same bytes",
            "int4_quantize",
            "int4_quantize_ct",
        ),
        (
            "int4_dequantize_vs_ct",
            "INT4 unpack and dequantize over compressed-tensors",
            "int4_dequantize",
            "int4_dequantize_ct",
        ),
    ] {
        table
            .0
            .push(against(programs, metric, what, ours, theirs, Some(10.0)));
    }
    Ok(())
}

/// Their CPU time over ours.
fn against(
    programs: &Programs,
    metric: &'static str,
    what: &str,
    ours: &str,
    theirs: &str,
    must: Option<f64>,
) -> Line {
    let mine = programs.samples.smallest(GROUP, ours, "cpu_s");
    let other = programs.samples.smallest(GROUP, theirs, "cpu_s");
    Line {
        metric,
        what: what.to_owned(),
        from: from(mine, other),
        value: mine.zip(other).map(|(mine, other)| other / mine),
        show: times,
        must: must.map(Goal::AtLeast),
        aim: None,
    }
}

fn from(mine: Option<f64>, other: Option<f64>) -> String {
    let show =
        |seconds: Option<f64>| seconds.map_or_else(|| "missing".to_owned(), |s| format!("{s:.4}"));
    format!("{} and {} CPU s", show(mine), show(other))
}

/// The copy's time over ours, both in the same turn; the median of the turns.
fn of_copy(programs: &Programs, metric: &'static str, what: &str, case: &str, aim: f64) -> Line {
    let rate = programs.samples.largest(GROUP, case, "gbps_rw");
    Line {
        metric,
        what: what.to_owned(),
        from: rate.map_or_else(String::new, |rate| format!("{rate:.1} GB/s read + written")),
        value: programs.samples.median(GROUP, case, "ratio_to_copy"),
        show: percent,
        must: None,
        aim: Some(Goal::AtLeast(aim)),
    }
}
