//! Every source writes any rectangle of itself, and nothing else.

use std::ops::Range;

use half::{bf16, f16};
use proptest::prelude::*;
use xgraft_cpu_gemm::{Bf16, Bf16Diff, Diff, F16, F32, Source};

const UNTOUCHED: f32 = -77.0;

/// Packs a rectangle and checks it against a function of row and column, and that the gaps stay as they are.
fn check(
    source: &dyn Source,
    rows: Range<usize>,
    cols: Range<usize>,
    value: impl Fn(usize, usize) -> f32,
) {
    let ld = cols.len() + 3;
    let mut packed = vec![UNTOUCHED; (rows.len() + 1) * ld];
    source.pack(rows.clone(), cols.clone(), &mut packed, ld);
    for (i, line) in packed.chunks_exact(ld).enumerate() {
        for (j, x) in line.iter().enumerate() {
            let inside = i < rows.len() && j < cols.len();
            let want = if inside {
                value(rows.start + i, cols.start + j)
            } else {
                UNTOUCHED
            };
            assert_eq!(
                x.to_bits(),
                want.to_bits(),
                "({i}, {j}) of {rows:?} x {cols:?}"
            );
        }
    }
}

proptest! {
    #[test]
    fn rectangles_are_packed_exactly(
        (rows, cols) in (1_usize..20, 1_usize..1500),
        (a, b) in (0.0_f64..1.0, 0.0_f64..1.0),
        (c, d) in (0.0_f64..1.0, 0.0_f64..1.0),
    ) {
        let span = |n: usize, a: f64, b: f64| {
            let at = |x: f64| (x * (n + 1) as f64) as usize;
            at(a.min(b))..at(a.max(b))
        };
        let (some_rows, some_cols) = (span(rows, a, b), span(cols, c, d));
        let left = |at: usize| (at % 251) as f32 * 0.25 - 30.0;
        let right = |at: usize| (at % 127) as f32 * 0.5 - 31.5;
        let make = |f: &dyn Fn(usize) -> f32| (0..rows * cols).map(f).collect::<Vec<f32>>();
        let (x, y) = (make(&left), make(&right));
        let narrow = |x: &[f32]| x.iter().map(|x| bf16::from_f32(*x)).collect::<Vec<_>>();
        let half = |x: &[f32]| x.iter().map(|x| f16::from_f32(*x)).collect::<Vec<_>>();
        let (x16, y16, xh) = (narrow(&x), narrow(&y), half(&x));
        let one = |i: usize, j: usize| left(i * cols + j);
        let difference = |i: usize, j: usize| one(i, j) - right(i * cols + j);
        let single: [Box<dyn Source>; 3] = [
            Box::new(F32::new(&x, rows, cols)), Box::new(Bf16::new(&x16, rows, cols)), Box::new(F16::new(&xh, rows, cols)),
        ];
        for source in &single {
            check(source, some_rows.clone(), some_cols.clone(), one);
        }
        let base = F32::new(&y, rows, cols);
        check(&Bf16Diff::new(&x16, &y16, rows, cols), some_rows.clone(), some_cols.clone(), difference);
        check(&Diff::new(&single[1], &base), some_rows, some_cols, difference);
    }
}

#[test]
#[should_panic(expected = "leaves a 2 x 3 matrix")]
fn a_rectangle_outside_panics() {
    F32::new(&[0.0; 6], 2, 3).pack(0..2, 1..4, &mut [0.0; 6], 3);
}

#[test]
#[should_panic(expected = "too short")]
fn a_destination_that_is_too_short_panics() {
    F32::new(&[0.0; 6], 2, 3).pack(0..2, 0..3, &mut [0.0; 5], 3);
}

#[test]
#[should_panic(expected = "one shape")]
fn a_difference_of_two_shapes_panics() {
    let _ = Diff::new(F32::new(&[0.0; 6], 2, 3), F32::new(&[0.0; 6], 3, 2));
}
