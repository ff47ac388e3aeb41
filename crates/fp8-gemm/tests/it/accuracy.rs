//! What 13 bits cost, promoted and not.

use proptest::prelude::*;
use xgraft_fp8_codec::E4m3;
use xgraft_fp8_gemm::{
    Shape,
    emulator::{Operands, chain, dot_e4m3, product},
    schedule::Parts,
};

/// A fixed stream of codes.
struct Stream(u64);

impl Stream {
    fn code(&mut self, mask: u8) -> u8 {
        loop {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            let code = (self.0 >> 20) as u8;
            if code & 0x7f != 0x7f {
                return code & mask;
            }
        }
    }

    fn codes(&mut self, len: usize, mask: u8) -> Vec<u8> {
        (0..len).map(|_| self.code(mask)).collect()
    }
}

fn value(code: u8) -> f64 {
    f64::from(E4m3::from_bits(code).decode())
}

/// Root mean square of the error over that of the exact result: promoted, and in one accumulator.
fn errors(k: usize, mask: u8) -> (f64, f64) {
    let mut stream = Stream(0x9e37_79b9_7f4a_7c15);
    let (mut promoted, mut never, mut norm) = (0.0, 0.0, 0.0);
    for _ in 0..40 {
        let (a, b) = (stream.codes(k, mask), stream.codes(k, mask));
        let exact: f64 = a.iter().zip(&b).map(|(&a, &b)| value(a) * value(b)).sum();
        let blocks = a.chunks(128).zip(b.chunks(128));
        let sum = blocks.fold(0f32, |sum, (a, b)| 1f32.mul_add(chain(a, b), sum));
        promoted += (f64::from(sum) - exact).powi(2);
        never += (f64::from(chain(&a, &b)) - exact).powi(2);
        norm += exact * exact;
    }
    ((promoted / norm).sqrt(), (never / norm).sqrt())
}

#[test]
fn promotion_keeps_the_error_of_any_k_below_that_of_bf16() {
    for k in [5120, 8192, 25600] {
        let signed = errors(k, 0xff);
        let same_sign = errors(k, 0x3f);
        println!(
            "k {k}: random signs {:.1e} promoted, {:.1e} not; one sign {:.1e}, {:.1e}",
            signed.0, signed.1, same_sign.0, same_sign.1
        );
        assert!(signed.0 < 4e-4 && same_sign.0 < 2e-3);
        assert!(signed.1 > 4.0 * signed.0 && same_sign.1 > 20.0 * same_sign.0);
    }
}

/// The same model said again in floating point, term by term, after the paper's formulas.
fn restated(a: &[u8], b: &[u8], c: f32) -> f32 {
    let split = |x: f64, least: i32| {
        if x == 0.0 {
            return (0.0, least);
        }
        let exponent = (x.abs().log2().floor() as i32).max(least);
        (x / 2f64.powi(exponent), exponent)
    };
    let mut terms = vec![split(f64::from(c), -126)];
    for (&a, &b) in a.iter().zip(b) {
        let ((a, ea), (b, eb)) = (split(value(a), -6), split(value(b), -6));
        terms.push((a * b, ea + eb));
    }
    // A zero takes part with the exponent that its factors are written with; it must not hide smaller terms.
    terms.retain(|term| term.0 != 0.0);
    let Some(largest) = terms.iter().map(|term| term.1).max() else {
        return 0.0;
    };
    let cut = |(x, e): (f64, i32)| (x * 2f64.powi(13 + e - largest)).trunc() / 8192.0;
    let sum: f64 = terms.iter().copied().map(cut).sum();
    let (x, e) = split(sum * 2f64.powi(largest), -126);
    ((x * 8192.0).trunc() * 2f64.powi(e - 13)) as f32
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn the_step_agrees_with_its_restatement(seed in 1u64.., near in any::<bool>(), sign in any::<bool>()) {
        let mut stream = Stream(seed);
        // Exponents near each other, so that the bits that are cut matter.
        let mut codes = || -> Vec<u8> {
            let codes = stream.codes(32, 0xff);
            let near = |code: u8| if near { code & 0x9f | 0x20 } else { code };
            codes.into_iter().map(near).collect()
        };
        let (a, b) = (codes(), codes());
        let c = restated(&b, &a, 0.0) * if sign { 0.37 } else { -1.0 };
        prop_assert_eq!(dot_e4m3(&a, &b, c).to_bits(), (restated(&a, &b, c) + 0.0).to_bits());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_product_is_near_f64_and_parts_change_only_roundings(
        m in 1u32..6, n in 1u32..200, k in 1u32..700, workers in 1u32..9, seed in 1u64..,
    ) {
        let shape = Shape::new(m, n, k).expect("not empty");
        let mut stream = Stream(seed);
        let x = stream.codes((m * k) as usize, 0xbf);
        let w = stream.codes((n * k) as usize, 0xbf);
        let scale = |i: usize| 0.25 + (i % 7) as f32;
        let x_scales: Vec<f32> = (0..(shape.k_blocks() * shape.scale_stride()) as usize).map(scale).collect();
        let w_scales: Vec<f32> = (0..(shape.k_blocks() * shape.n_blocks()) as usize).map(scale).collect();
        let operands = Operands { shape, x: &x, x_scales: &x_scales, w: &w, w_scales: &w_scales };
        let parts = Parts::Cut { sides: (128, 8), band: 1, workers };
        let y = product(&operands, None, parts);
        for (at, &ours) in y.iter().enumerate() {
            let (i, j) = (at as u32 / n, at as u32 % n);
            let (mut exact, mut size) = (0f64, 0f64);
            for t in 0..k {
                let scale = f64::from(x_scales[shape.x_scale(i, t / 128)])
                    * f64::from(w_scales[shape.w_scale(j, t / 128)]);
                let term = value(x[(i * k + t) as usize]) * value(w[(j * k + t) as usize]) * scale;
                exact += term;
                size += term.abs();
            }
            // Each of 128 products loses at most 2^-13 of the block's largest partial sum.
            prop_assert!((f64::from(ours) - exact).abs() <= size * 0.02 + 1e-30);
        }
    }
}
