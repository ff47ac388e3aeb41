//! The small operations of a decoder, in f32 and in one order each.

/// `exp(x)` for x ≤ 0 (and up to 88), within 2 units in the last place; 0 below −87.
///
/// Written out, so that it gives the same bits on every system, and so that loops over it become vector code.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    // x = n ln 2 + r with |r| <= ln 2 / 2; ln 2 in two parts, the first exact times any n.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let clamped = x.clamp(-87.0, 88.0);
    // Adding and taking away 1.5 * 2^23 rounds to a whole number.
    let n = (clamped * std::f32::consts::LOG2_E + 12_582_912.0) - 12_582_912.0;
    let r = (clamped - n * LN2_HIGH) - n * LN2_LOW;
    let mut p = 1.987_569_1e-4_f32;
    for c in [
        1.398_199_9e-3,
        8.333_452e-3,
        4.166_579_6e-2,
        0.166_666_65,
        0.5,
    ] {
        p = p * r + c;
    }
    let y = p * (r * r) + r + 1.0;
    let two_to_n = f32::from_bits(((n as i32 + 127) as u32) << 23);
    if x < -87.0 { 0.0 } else { y * two_to_n }
}

/// The sum of `f` over all elements: lane `i mod 16` takes its own in order, then the lanes are folded.
#[inline(always)]
fn sum(xs: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0.0_f32; 16];
    let (whole, rest) = xs.as_chunks::<16>();
    for chunk in whole {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane += f(*x);
        }
    }
    for (lane, x) in lanes.iter_mut().zip(rest) {
        *lane += f(*x);
    }
    for half in [8, 4, 2, 1] {
        for lane in 0..half {
            lanes[lane] += lanes[lane + half];
        }
    }
    lanes[0]
}

/// `x / sqrt(mean(x²) + eps) * weight`.
pub(crate) fn rms_norm(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    let mean = sum(x, |x| x * x) / x.len() as f32;
    let inverse = 1.0 / (mean + eps).sqrt();
    for ((out, x), w) in out.iter_mut().zip(x).zip(weight) {
        *out = x * inverse * w;
    }
}

/// The same in place.
pub(crate) fn rms_norm_in_place(x: &mut [f32], weight: &[f32], eps: f32) {
    let mean = sum(x, |x| x * x) / x.len() as f32;
    let inverse = 1.0 / (mean + eps).sqrt();
    for (x, w) in x.iter_mut().zip(weight) {
        *x = *x * inverse * w;
    }
}

/// `gate = silu(gate) * up`.
pub(crate) fn silu_times(gate: &mut [f32], up: &[f32]) {
    for (g, u) in gate.iter_mut().zip(up) {
        // exp of a negative number only, so that nothing overflows: x sigmoid(x) with e = exp(-|x|).
        let e = exp(-g.abs());
        let numerator = if *g >= 0.0 { 1.0 } else { e };
        *g = *g * (numerator / (1.0 + e)) * u;
    }
}

/// Scores to probabilities: `exp(scale * s - max) / sum`.
pub(crate) fn softmax(scores: &mut [f32], scale: f32) {
    let mut max = f32::NEG_INFINITY;
    for s in scores.iter_mut() {
        *s *= scale;
        max = if *s > max { *s } else { max };
    }
    for s in scores.iter_mut() {
        *s = exp(*s - max);
    }
    let inverse = 1.0 / sum(scores, |s| s);
    for s in scores.iter_mut() {
        *s *= inverse;
    }
}

/// Turns each pair of a head: `(a, b)` to `(a cos − b sin, b cos + a sin)`.
pub(crate) fn rotate(head: &mut [f32], cos: &[f32], sin: &[f32]) {
    let (first, second) = head.split_at_mut(cos.len());
    for (((a, b), cos), sin) in first.iter_mut().zip(second).zip(cos).zip(sin) {
        (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_within_two_units_in_the_last_place() {
        let mut worst = 0.0_f64;
        for i in 0..2_000_000 {
            let x = -87.0 + i as f32 * (175.0 / 2_000_000.0);
            let (exact, got) = (f64::from(x).exp(), f64::from(exp(x)));
            let unit =
                f64::from(f32::from_bits((exact as f32).to_bits() + 1)) - f64::from(exact as f32);
            worst = worst.max((got - exact).abs() / unit);
        }
        assert!(worst < 2.0, "{worst} units");
        assert_eq!(exp(-1e30), 0.0);
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
    }

    #[test]
    fn softmax_of_equal_scores_is_even_and_ignores_a_shift() {
        let mut scores = vec![3.0; 8];
        softmax(&mut scores, 0.5);
        assert_eq!(scores, [0.125; 8]);
        let mut large = vec![1e30, 0.0];
        softmax(&mut large, 1.0);
        assert_eq!(large, [1.0, 0.0]);
    }

    #[test]
    fn silu_has_no_overflow_and_the_right_values() {
        let mut gate = [-200.0, -1.0, 0.0, 1.0, 200.0];
        silu_times(&mut gate, &[1.0; 5]);
        let exact = |x: f64| (x / (1.0 + (-x).exp())) as f32;
        assert!((gate[1] - exact(-1.0)).abs() < 1e-7 && (gate[3] - exact(1.0)).abs() < 1e-7);
        assert_eq!((gate[0], gate[2], gate[4]), (-0.0, 0.0, 200.0));
    }
}
