//! The bytes of a product depend on its operands alone.

use half::bf16;
use proptest::prelude::*;
use xgraft_cpu_gemm::{
    Bf16Diff, F32, Side, cross_f64, gram, gram_f64, inner_products, matmul, matmul_sub, matmul_tn,
    reference, squared_norm,
};

/// Numbers between -1 and 1 from a counter.
fn noise(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1_u64 << 23) as f32 - 1.0
    };
    std::iter::repeat_with(next).take(len).collect()
}

fn with_threads<R: Send>(threads: usize, work: impl FnOnce() -> R + Send) -> R {
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .unwrap()
        .install(work)
}

/// Every product of one matrix.
#[derive(Debug, PartialEq)]
struct Products {
    plain: Vec<f32>,
    transposed: Vec<f32>,
    left_over: Vec<f32>,
    gram: Vec<f32>,
    wide: [Vec<f64>; 3],
    norm2: f64,
}

fn products(d: &Bf16Diff<'_>, p: &[f32], q: &[f32], n: usize) -> Products {
    let (rows, cols) = (q.len() / n, p.len() / n);
    let (mut plain, mut transposed) = (vec![f32::NAN; rows * n], vec![f32::NAN; cols * n]);
    matmul(d, p, n, &mut plain);
    matmul_tn(d, q, n, &mut transposed);
    let mut left_over = q.to_vec();
    matmul_sub(d, p, n, &mut left_over);
    let wide = [
        gram_f64(d, Side::Rows),
        gram_f64(d, Side::Cols),
        cross_f64(d, &F32::new(q, rows, n)),
    ];
    Products {
        plain,
        transposed,
        left_over,
        gram: gram(d, Side::Cols),
        wide,
        norm2: squared_norm(d),
    }
}

#[test]
fn one_two_three_and_seven_threads_give_the_same_bytes() {
    for (rows, cols, n) in [(700, 900, 96), (1025, 333, 17), (50, 2000, 130)] {
        let narrow = |x: Vec<f32>| x.into_iter().map(bf16::from_f32).collect::<Vec<_>>();
        let (tuned, base) = (narrow(noise(rows * cols, 1)), narrow(noise(rows * cols, 2)));
        let d = Bf16Diff::new(&tuned, &base, rows, cols);
        let (p, q) = (noise(cols * n, 3), noise(rows * n, 4));
        let expected = with_threads(1, || products(&d, &p, &q, n));
        for threads in [2, 3, 7] {
            let got = with_threads(threads, || products(&d, &p, &q, n));
            assert!(
                got == expected,
                "{rows} x {cols} x {n} on {threads} threads"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_shape_gives_the_bits_of_the_reference(rows in 0_usize..200, cols in 0_usize..300, n in 0_usize..120) {
        let (d, p, q) = (noise(rows * cols, 5), noise(cols * n, 6), noise(rows * n, 7));
        let d = F32::new(&d, rows, cols);
        let (mut got, mut want) = (vec![1.0; rows * n], vec![2.0; rows * n]);
        matmul(&d, &p, n, &mut got);
        reference::matmul(&d, &p, n, &mut want);
        prop_assert_eq!(got, want);
        let (mut got, mut want) = (vec![1.0; cols * n], vec![2.0; cols * n]);
        matmul_tn(&d, &q, n, &mut got);
        reference::matmul_tn(&d, &q, n, &mut want);
        prop_assert_eq!(got, want);
    }

    #[test]
    fn a_row_does_not_know_how_many_others_there_are(rows in 2_usize..100, cols in 1_usize..300, n in 2_usize..70) {
        let (d, p) = (noise(rows * cols, 8), noise(cols * n, 9));
        let mut all = vec![0.0; rows * n];
        matmul(&F32::new(&d, rows, cols), &p, n, &mut all);
        let (row, col) = (rows / 2, n / 2);
        let mut one = vec![0.0; n];
        matmul(&F32::new(&d[row * cols..][..cols], 1, cols), &p, n, &mut one);
        prop_assert_eq!(&one, &all[row * n..][..n]);
        let column: Vec<f32> = p.iter().skip(col).step_by(n).copied().collect();
        let mut single = [0.0];
        matmul(&F32::new(&d[row * cols..][..cols], 1, cols), &column, 1, &mut single);
        prop_assert_eq!(single[0], one[col]);
    }

    #[test]
    fn gram_matrices_are_those_of_the_plain_sums(rows in 1_usize..60, cols in 1_usize..300) {
        let d = noise(rows * cols, 10);
        let got = gram_f64(&F32::new(&d, rows, cols), Side::Rows);
        for i in 0..rows {
            for j in 0..rows {
                let pairs = d[i * cols..][..cols].iter().zip(&d[j * cols..][..cols]);
                let want: f64 = pairs.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
                prop_assert!((got[i * rows + j] - want).abs() < 1e-12);
                prop_assert_eq!(got[i * rows + j], got[j * rows + i]);
            }
        }
    }
}

#[test]
fn subtracting_a_product_leaves_what_is_left() {
    let (d, p) = (noise(40 * 300, 11), noise(300 * 9, 12));
    let d = F32::new(&d, 40, 300);
    let mut out = vec![0.0; 40 * 9];
    matmul(&d, &p, 9, &mut out);
    let product = out.clone();
    matmul_sub(&d, &p, 9, &mut out);
    for (left, product) in out.iter().zip(product) {
        assert!(left.abs() <= 1e-5 * product.abs().max(1.0));
    }
}

#[test]
fn inner_products_are_the_plain_sums_for_any_number_of_threads() {
    let (rows, cols) = (57, 2500);
    let (x, y) = (noise(rows * cols, 21), noise(rows * cols, 22));
    let (a, b) = (F32::new(&x, rows, cols), F32::new(&y, rows, cols));
    let found = with_threads(1, || inner_products(&a, &b));
    assert_eq!(found, with_threads(3, || inner_products(&a, &b)));
    assert_eq!(found[0].to_bits(), squared_norm(&a).to_bits());
    let plain: f64 = x
        .iter()
        .zip(&y)
        .map(|(x, y)| f64::from(*x) * f64::from(*y))
        .sum();
    assert!((found[1] - plain).abs() < 1e-12 * (found[0] * found[2]).sqrt());
}

#[test]
fn a_value_that_is_not_finite_makes_the_norm_not_finite() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut d = noise(30 * 50, 13);
        d[777] = bad;
        assert!(!squared_norm(&F32::new(&d, 30, 50)).is_finite());
    }
    let d = noise(30 * 2500, 14);
    let (fast, plain) = (
        squared_norm(&F32::new(&d, 30, 2500)),
        reference::squared_norm(&F32::new(&d, 30, 2500)),
    );
    assert!((fast / plain - 1.0).abs() < 1e-12);
}

#[test]
#[should_panic(expected = "are not a 3 x 2 matrix")]
fn a_panel_of_the_wrong_length_panics() {
    let mut out = [0.0; 4];
    matmul(&F32::new(&[1.0; 6], 2, 3), &[1.0; 5], 2, &mut out);
}
