//! Sums over many numbers in one pass: f32 lanes over a tile, f64 above it.
//!
//! A tile is at most [`TILE`](crate::numbers::TILE) numbers, so a lane takes 256 of them, or 128 in BF16, before it goes into
//! f64: at most 256 roundings of half a unit in 2^24, 1.6e-5 of the sum of the terms' magnitudes, and as a rule the
//! error of a sum is some 1e-6 of its terms. Where that does not hold (numbers that are not finite, or whose fourth power
//! leaves the range of f32) the tile is summed again in f64, number by number.

use crate::arch::{BF16_LANES, Bf16Lanes, Isa, TileSums};

/// Between these magnitudes the fourth power of a number is a normal f32, and so is a sum of a tile of them.
const FOURTH_POWER: std::ops::Range<f32> = 1e-8..1e8;

/// Count, extremes and sums of powers of the finite numbers of a set, and counts of the others.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Moments {
    /// Finite numbers.
    pub(crate) n: u64,
    /// Zeros among them.
    pub(crate) zeros: u64,
    pub(crate) nan: u64,
    pub(crate) infinite: u64,
    /// Σx, Σx², Σx³, Σx⁴.
    pub(crate) sums: [f64; 4],
    pub(crate) min: f32,
    pub(crate) max: f32,
}

impl Default for Moments {
    fn default() -> Self {
        Self {
            n: 0,
            zeros: 0,
            nan: 0,
            infinite: 0,
            sums: [0.0; 4],
            min: f32::INFINITY,
            max: f32::NEG_INFINITY,
        }
    }
}

impl Moments {
    /// Takes in a tile.
    pub(crate) fn add(&mut self, isa: Isa, tile: &[f32]) {
        let (lanes, rest) = tile.as_chunks();
        let sums = isa.sums(lanes);
        if is_exact(&sums) {
            self.merge(&Self::from_sums(tile.len() - rest.len(), &sums));
            self.merge(&Self::slow(rest));
        } else {
            self.merge(&Self::slow(tile));
        }
    }

    /// Takes in the rows of a tile in BF16 as [`Self::add`] takes in their numbers; false, and nothing is taken in, if the sums in f32
    /// are not exact enough or not given.
    #[must_use]
    pub(crate) fn add_bf16(&mut self, isa: Isa, rows: &[&[Bf16Lanes]]) -> bool {
        let Some(sums) = isa.sums_bf16(rows).filter(is_exact) else {
            return false;
        };
        let lanes: usize = rows.iter().map(|row| row.len()).sum();
        self.merge(&Self::from_sums(lanes * BF16_LANES, &sums));
        true
    }

    /// Takes in another set. The result depends on the order of merges, which callers keep fixed.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.n += other.n;
        self.zeros += other.zeros;
        self.nan += other.nan;
        self.infinite += other.infinite;
        for (sum, more) in self.sums.iter_mut().zip(other.sums) {
            *sum += more;
        }
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }

    /// Of `n` finite numbers.
    fn from_sums(n: usize, sums: &TileSums) -> Self {
        Self {
            n: n as u64,
            zeros: sums.zeros.into(),
            sums: sums.powers,
            // A zero gets the positive sign.
            min: sums.min + 0.0,
            max: sums.max + 0.0,
            ..Self::default()
        }
    }

    fn slow(tile: &[f32]) -> Self {
        let mut moments = Self::default();
        for &x in tile {
            if x.is_nan() {
                moments.nan += 1;
            } else if x.is_infinite() {
                moments.infinite += 1;
            } else {
                moments.n += 1;
                moments.zeros += u64::from(x == 0.0);
                moments.min = moments.min.min(x + 0.0);
                moments.max = moments.max.max(x + 0.0);
                let mut power = 1.0;
                for sum in &mut moments.sums {
                    power *= f64::from(x);
                    *sum += power;
                }
            }
        }
        moments
    }

    pub(crate) fn mean(&self) -> f64 {
        self.sums[0] / self.n.max(1) as f64
    }

    /// √(mean of squares).
    pub(crate) fn rms(&self) -> f64 {
        (self.sums[1] / self.n.max(1) as f64).sqrt()
    }

    /// Mean of (x − mean)².
    pub(crate) fn variance(&self) -> f64 {
        (self.sums[1] / self.n.max(1) as f64 - self.mean().powi(2)).max(0.0)
    }

    /// Mean of (x − mean)⁴ over variance²: 3 for normal numbers, 1.8 for uniform ones, 1 for two equal heaps.
    ///
    /// `None` for numbers that are all the same, or so far from zero that rounding decides.
    pub(crate) fn kurtosis(&self) -> Option<f64> {
        let n = self.n.max(1) as f64;
        let [m1, m2, m3, m4] = self.sums.map(|s| s / n);
        let variance = self.variance();
        let well_conditioned = self.n > 1 && variance > 1e-3 * m2;
        let fourth = m4 - 4.0 * m1 * m3 + 6.0 * m1.powi(2) * m2 - 3.0 * m1.powi(4);
        let kurtosis = fourth / variance.powi(2);
        (well_conditioned && kurtosis.is_finite()).then_some(kurtosis)
    }

    /// Numbers of every kind.
    pub(crate) fn count(&self) -> u64 {
        self.n + self.nan + self.infinite
    }
}

/// Whether the numbers are finite and their fourth powers and sums are in the range of f32.
fn is_exact(sums: &TileSums) -> bool {
    let amax = sums.max.max(-sums.min);
    let none = sums.min > sums.max;
    sums.powers.iter().all(|s| s.is_finite())
        && (none || amax == 0.0 || FOURTH_POWER.contains(&amax))
}

/// Sums over pairs of a number x and its reference y, both finite.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub(crate) struct Pairs {
    pub(crate) n: u64,
    pub(crate) x: f64,
    pub(crate) y: f64,
    pub(crate) xx: f64,
    pub(crate) yy: f64,
    pub(crate) xy: f64,
    /// Σ(x − y)².
    pub(crate) error2: f64,
}

impl Pairs {
    /// Takes in a tile and that of the reference.
    ///
    /// **Shapes** both of the same length.
    pub(crate) fn add(&mut self, isa: Isa, xs: &[f32], ys: &[f32]) {
        let fast = Self::fast(isa, xs, ys);
        let all = [fast.x, fast.y, fast.xx, fast.yy, fast.xy, fast.error2];
        let normal = |square: f64| square == 0.0 || square > 1e-30;
        let exact = all.iter().all(|s| s.is_finite()) && normal(fast.xx) && normal(fast.yy);
        self.merge(&if exact { fast } else { Self::slow(xs, ys) });
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.n += other.n;
        self.x += other.x;
        self.y += other.y;
        self.xx += other.xx;
        self.yy += other.yy;
        self.xy += other.xy;
        self.error2 += other.error2;
    }

    fn fast(isa: Isa, xs: &[f32], ys: &[f32]) -> Self {
        let (x_lanes, x_rest) = xs.as_chunks();
        let (y_lanes, y_rest) = ys.as_chunks();
        let [x, y, xx, yy, xy, error2] = isa.products(x_lanes, y_lanes);
        let mut pairs = Self {
            n: (xs.len() - x_rest.len()) as u64,
            x,
            y,
            xx,
            yy,
            xy,
            error2,
        };
        if !x_rest.is_empty() {
            pairs.merge(&Self::slow(x_rest, y_rest));
        }
        pairs
    }

    fn slow(xs: &[f32], ys: &[f32]) -> Self {
        let mut pairs = Self::default();
        for (&x, &y) in xs.iter().zip(ys) {
            if !(x.is_finite() && y.is_finite()) {
                continue;
            }
            let (x, y) = (f64::from(x), f64::from(y));
            pairs.merge(&Self {
                n: 1,
                x,
                y,
                xx: x * x,
                yy: y * y,
                xy: x * y,
                error2: (x - y).powi(2),
            });
        }
        pairs
    }

    fn covariance(&self) -> f64 {
        let n = self.n.max(1) as f64;
        self.xy / n - (self.x / n) * (self.y / n)
    }

    fn variances(&self) -> (f64, f64) {
        let n = self.n.max(1) as f64;
        let of = |sum: f64, squares: f64| (squares / n - (sum / n).powi(2)).max(0.0);
        (of(self.x, self.xx), of(self.y, self.yy))
    }

    /// Pearson's correlation; `None` when one side is constant.
    pub(crate) fn correlation(&self) -> Option<f64> {
        let (x, y) = self.variances();
        let varies = x > 1e-12 * self.xx / self.n.max(1) as f64
            && y > 1e-12 * self.yy / self.n.max(1) as f64;
        varies.then(|| (self.covariance() / (x * y).sqrt()).clamp(-1.0, 1.0))
    }

    /// ‖x − y‖/‖y‖; `None` when the reference is zero and x is not.
    pub(crate) fn relative_error(&self) -> Option<f64> {
        match (self.error2 > 0.0, self.yy > 0.0) {
            (false, _) => Some(0.0),
            (true, true) => Some((self.error2 / self.yy).sqrt()),
            (true, false) => None,
        }
    }

    /// The factor g for which g·y + c is nearest to x.
    pub(crate) fn gain(&self) -> Option<f64> {
        let (_, y) = self.variances();
        (y > 1e-12 * self.yy / self.n.max(1) as f64).then(|| self.covariance() / y)
    }

    /// The factor g for which g·y is nearest to x.
    pub(crate) fn gain_through_zero(&self) -> Option<f64> {
        (self.yy > 0.0).then(|| self.xy / self.yy)
    }

    /// (mean of x − mean of y) over the RMS of y.
    pub(crate) fn shift(&self) -> Option<f64> {
        let n = self.n.max(1) as f64;
        (self.yy > 0.0).then(|| (self.x - self.y) / n / (self.yy / n).sqrt())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Some numbers without a pattern of sixteen, with a mean.
    fn numbers(count: usize) -> Vec<f32> {
        (0..count)
            .map(|i| ((i * i) as f32 * 0.37).sin() * 0.02 + 0.003)
            .collect()
    }

    fn of(tile: &[f32]) -> Moments {
        let mut moments = Moments::default();
        moments.add(Isa::best(), tile);
        moments
    }

    #[test]
    fn lanes_agree_with_the_definition() {
        for count in [0, 1, 15, 16, 17, 1000, 1024] {
            let xs = numbers(count);
            let (fast, slow) = (of(&xs), Moments::slow(&xs));
            assert_eq!((fast.n, fast.zeros), (slow.n, slow.zeros));
            assert_eq!((fast.min, fast.max), (slow.min, slow.max));
            for (a, b) in fast.sums.iter().zip(slow.sums) {
                assert!((a - b).abs() <= 1e-5 * b.abs() + 1e-9, "{count}: {a} {b}");
            }
            let ys: Vec<f32> = xs.iter().map(|x| x * 0.9 + 0.001).collect();
            let (fast, slow) = (Pairs::fast(Isa::best(), &xs, &ys), Pairs::slow(&xs, &ys));
            assert_eq!(fast.n, slow.n);
            assert!((fast.xy - slow.xy).abs() <= 1e-5 * slow.xy.abs() + 1e-9);
            assert!((fast.error2 - slow.error2).abs() <= 1e-5 * slow.error2 + 1e-12);
        }
    }

    #[test]
    fn numbers_that_are_not_finite_are_counted_and_left_out_of_the_sums() {
        let mut xs = numbers(1024);
        xs[3] = f32::NAN;
        xs[900] = f32::NEG_INFINITY;
        xs[5] = 0.0;
        let moments = of(&xs);
        assert_eq!((moments.nan, moments.infinite, moments.zeros), (1, 1, 1));
        assert_eq!((moments.n, moments.count()), (1022, 1024));
        assert!(moments.rms() < 0.03 && moments.max < 0.03);
        let mut pairs = Pairs::default();
        pairs.add(Isa::best(), &xs, &numbers(1024));
        assert_eq!(pairs.n, 1022);
        assert!(pairs.correlation().unwrap() > 0.99);
    }

    #[test]
    fn huge_and_tiny_numbers_keep_their_kurtosis() {
        let usual = of(&numbers(1024)).kurtosis().unwrap();
        for factor in [1e-30, 1e-12, 1e12, 1e30] {
            let xs: Vec<f32> = numbers(1024).iter().map(|x| x * factor).collect();
            let kurtosis = of(&xs).kurtosis().unwrap();
            assert!((kurtosis - usual).abs() < 1e-3, "{factor}: {kurtosis}");
        }
    }

    #[test]
    fn kurtosis_tells_two_heaps_from_a_uniform_and_says_nothing_of_a_constant() {
        let heaps: Vec<f32> = (0..1024)
            .map(|i| if i % 2 == 0 { 1.0 } else { -1.0 })
            .collect();
        assert!((of(&heaps).kurtosis().unwrap() - 1.0).abs() < 1e-6);
        let uniform: Vec<f32> = (0..1024).map(|i| i as f32 / 512.0 - 1.0).collect();
        assert!((of(&uniform).kurtosis().unwrap() - 1.8).abs() < 0.01);
        assert_eq!(of(&[0.5; 1024]).kurtosis(), None);
        assert_eq!(of(&[0.0; 8]).kurtosis(), None);
    }

    #[test]
    fn gain_shift_and_correlation_are_those_that_were_put_in() {
        let ys = numbers(1024);
        let xs: Vec<f32> = ys.iter().map(|y| -2.0 * y + 0.01).collect();
        let mut pairs = Pairs::default();
        pairs.add(Isa::best(), &xs, &ys);
        assert!((pairs.gain().unwrap() + 2.0).abs() < 1e-4);
        assert!((pairs.correlation().unwrap() + 1.0).abs() < 1e-4);
        let zero = [0f32; 64];
        let mut against_zero = Pairs::default();
        against_zero.add(Isa::best(), &ys[..64], &zero);
        assert_eq!(against_zero.relative_error(), None);
        assert_eq!(against_zero.correlation(), None);
    }
}
