//! Every implementation against the reference, bit for bit.

use half::bf16;
use proptest::prelude::*;

use crate::arch::Isa;
use crate::left::Layout;
use crate::panel::Right;
use crate::schedule::{Product, Start};
use crate::{Bf16Diff, F32, Source, reference};

/// Numbers of mixed size and sign from a counter.
fn noise(seed: u64, len: usize) -> Vec<f32> {
    (0..len as u64)
        .map(|i| {
            let mut z = (seed << 32 ^ i)
                .wrapping_add(1)
                .wrapping_mul(0x9e37_79b9_7f4a_7c15);
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            let unit = (z >> 40) as f32 / (1_u64 << 23) as f32 - 1.0;
            unit * [1.0, 1e-3, 30.0, 1e-20][(z & 3) as usize]
        })
        .collect()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

fn with_threads<R: Send>(threads: usize, work: impl FnOnce() -> R + Send) -> R {
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .unwrap()
        .install(work)
}

/// `D P` and `Dᵀ Q` of a `rows` × `cols` matrix on every instruction set, against the reference.
fn check(rows: usize, cols: usize, n: usize, threads: usize) {
    let (d, p, q) = (
        noise(1, rows * cols),
        noise(2, cols * n),
        noise(3, rows * n),
    );
    let d = F32::new(&d, rows, cols);
    let (mut plain, mut transposed) = (vec![0.0; rows * n], vec![0.0; cols * n]);
    reference::matmul(&d, &p, n, &mut plain);
    reference::matmul_tn(&d, &q, n, &mut transposed);
    for isa in Isa::all() {
        let mut out = vec![f32::NAN; rows * n];
        product(Layout::Rows, &d, &p, n, isa, threads, &mut out);
        assert_eq!(
            bits(&out),
            bits(&plain),
            "D P on {isa:?}, {rows} x {cols} x {n}"
        );
        let mut out = vec![f32::NAN; cols * n];
        product(Layout::Cols, &d, &q, n, isa, threads, &mut out);
        assert_eq!(
            bits(&out),
            bits(&transposed),
            "Dt Q on {isa:?}, {rows} x {cols} x {n}"
        );
    }
}

fn product<S: Source>(
    layout: Layout,
    d: &S,
    right: &[f32],
    n: usize,
    isa: Isa,
    threads: usize,
    out: &mut [f32],
) {
    let terms = if layout == Layout::Rows {
        d.cols()
    } else {
        d.rows()
    };
    let right = F32::new(right, terms, n);
    let product = Product::new(d, layout, Right::Plain(&right));
    with_threads(threads, || product.run(isa, Start::Zero, out));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn every_instruction_set_gives_the_reference_bits(
        rows in 1_usize..90, cols in 1_usize..90, n in 1_usize..70, threads in 1_usize..4
    ) {
        check(rows, cols, n, threads);
    }
}

#[test]
fn shapes_around_the_block_sizes_give_the_reference_bits() {
    for (rows, cols, n) in [
        (1, 1, 1),
        (1, 700, 1),
        (700, 1, 3),
        (14, 256, 32),
        (15, 257, 33),
        (337, 513, 31),
        (700, 255, 65),
    ] {
        check(rows, cols, n, 2);
    }
}

#[test]
fn empty_shapes_give_empty_or_zero_results() {
    for (rows, cols, n) in [(0, 5, 3), (5, 0, 3), (5, 3, 0), (0, 0, 0)] {
        check(rows, cols, n, 2);
    }
}

#[test]
fn f64_products_agree_on_every_instruction_set() {
    for (rows, m, n) in [(1, 1, 1), (300, 17, 9), (513, 40, 33), (5, 100, 2)] {
        let (a, b) = (noise(4, rows * m), noise(5, rows * n));
        let (a, b) = (F32::new(&a, rows, m), F32::new(&b, rows, n));
        let run = |isa, threads| {
            let mut out = vec![0.0_f64; m * n];
            let product = Product::new(&a, Layout::Cols, Right::Plain(&b));
            with_threads(threads, || product.run(isa, Start::Keep, &mut out));
            out.iter().map(|x| x.to_bits()).collect::<Vec<_>>()
        };
        let expected = run(Isa::Portable, 1);
        for isa in Isa::all() {
            assert_eq!(run(isa, 3), expected, "{isa:?}, {rows} x {m} x {n}");
        }
    }
}

#[test]
fn decoding_agrees_on_every_instruction_set() {
    let (tuned, base): (Vec<bf16>, Vec<bf16>) = (0..=u16::MAX)
        .map(|i| (bf16::from_bits(i), bf16::from_bits(i.wrapping_mul(40503))))
        .filter(|(t, b)| !t.is_nan() && !b.is_nan())
        .unzip();
    let expected: Vec<f32> = tuned
        .iter()
        .zip(&base)
        .map(|(t, b)| t.to_f32() - b.to_f32())
        .collect();
    for isa in Isa::all() {
        let mut out = vec![0.0; tuned.len()];
        crate::arch::bf16_diff(isa, &tuned, &base, &mut out);
        for (got, want) in out.iter().zip(&expected) {
            assert!(got.to_bits() == want.to_bits() || got.is_nan() && want.is_nan());
        }
        crate::arch::bf16_widen(isa, &tuned, &mut out);
        assert!(
            out.iter()
                .zip(&tuned)
                .all(|(x, t)| x.to_bits() == t.to_f32().to_bits())
        );
    }
    let wide = Bf16Diff::new(&tuned, &base, 1, tuned.len());
    let mut some = vec![0.0; 10];
    wide.pack(0..1, 100..110, &mut some, 10);
    assert_eq!(bits(&some), bits(&expected[100..110]));
}
