//! A tensor beside its reference: the tests that are strict.

use crate::judge::{FEW, Judge, short};
use crate::outliers::median;
use crate::scan::Block;
use crate::thresholds::Limits;
use crate::verdict::Verdict;

/// Below this share of the reference's RMS a block and its error are rounding, whatever their ratio.
const NEGLIGIBLE: f64 = 1e-3;

/// The relative error of a block in E4M3 with a right scale is at most 1/16/√3: less than this is never a fault.
const FP8_ERROR: f64 = 0.04;

/// What is measured of one block.
struct Beside<'a> {
    limits: &'a Limits,
    /// RMS of the whole reference.
    rms: f64,
    /// A vector has a mean far from zero, so its gain is that through zero.
    vector: bool,
}

impl Beside<'_> {
    fn negligible(&self, block: &Block) -> bool {
        let pairs = &block.pairs;
        let small = |sum: f64| (sum / pairs.n.max(1) as f64).sqrt() <= NEGLIGIBLE * self.rms;
        pairs.n == 0 || (small(pairs.yy) && small(pairs.error2))
    }

    /// The correlation, if it is too low.
    fn unlike(&self, block: &Block) -> Option<f64> {
        let r = block.pairs.correlation()?;
        let zero = block.moments.zeros == block.moments.n;
        let low = r < self.limits.block_correlation_min;
        (block.pairs.n >= FEW && low && !zero && !self.negligible(block)).then_some(r)
    }

    /// Whether factor, shift and error say something of the block.
    fn alike(&self, block: &Block) -> bool {
        let zero = block.moments.zeros == block.moments.n;
        !zero && !self.negligible(block) && self.unlike(block).is_none()
    }

    fn gain(&self, block: &Block) -> Option<f64> {
        match self.vector {
            true => block.pairs.gain_through_zero(),
            false => block.pairs.gain().filter(|_| block.pairs.n >= FEW),
        }
    }

    /// |gain − 1|, if it is too large.
    fn off(&self, block: &Block) -> Option<f64> {
        let off = self.gain(block).map(|g| (g - 1.0).abs());
        off.filter(|d| *d > self.limits.gain_max && self.alike(block))
    }

    /// The shift of the mean, if it is too large and no factor explains it.
    fn shift(&self, block: &Block) -> Option<f64> {
        let shift = block.pairs.shift().map(f64::abs);
        let large = shift.filter(|s| *s > self.limits.shift_max && self.alike(block));
        large.filter(|_| self.off(block).is_none())
    }
}

impl Judge<'_> {
    pub(crate) fn against_reference(&mut self) {
        let (scan, limits) = (self.scan, self.limits);
        if self.unrelated() {
            return;
        }
        let total = &scan.total.pairs;
        let beside = Beside {
            limits,
            rms: (total.yy / total.n.max(1) as f64).sqrt(),
            vector: scan.rows == 1,
        };
        self.blocks(
            Verdict::MisDecoded,
            Some("block_correlation_min"),
            |_, b| beside.unlike(b).map(|r| -r),
            |r| {
                format!(
                    "correlation {:.3} with the reference, healthy is at least {}",
                    -r, limits.block_correlation_min
                )
            },
        );
        let gains: Vec<f64> = scan.blocks.iter().filter_map(|b| beside.gain(b)).collect();
        self.blocks(
            Verdict::MisScaled,
            Some("gain_max"),
            |_, b| beside.off(b),
            |d| {
                let worst = gains.iter().find(|g| (*g - 1.0).abs() == d);
                format!(
                    "{} times the reference, healthy is within {} of 1",
                    short(worst.copied().unwrap_or(f64::NAN)),
                    limits.gain_max
                )
            },
        );
        self.blocks(
            Verdict::Biased,
            Some("shift_max"),
            |_, b| beside.shift(b),
            |s| {
                format!(
                    "mean {s:.3} of the RMS away from the reference's, healthy is at most {}",
                    limits.shift_max
                )
            },
        );
        self.errors(&beside);
    }

    /// Whether the tensor as a whole is another one, or decoded otherwise; a few such blocks are told one by one.
    fn unrelated(&mut self) -> bool {
        let (scan, limit) = (self.scan, self.limits.correlation_min);
        let correlations = scan.blocks.iter().filter_map(|b| b.pairs.correlation());
        let most = median(correlations).is_some_and(|typical| typical < limit);
        let correlation = scan
            .total
            .pairs
            .correlation()
            .filter(|r| most && *r < limit);
        let Some(r) = correlation else {
            return false;
        };
        let what = match r {
            r if r < -0.3 => "signs are wrong: two's complement instead of offset binary",
            r if r < 0.3 => "unrelated: another tensor, or another order of its numbers",
            _ => "related and not the same",
        };
        let message =
            format!("correlation {r:.3} with the reference, healthy is at least {limit}: {what}");
        self.whole(Verdict::MisDecoded, "correlation_min", r, message);
        true
    }

    /// Errors that neither a factor nor a shift explains; of the whole tensor only if no block stands out.
    fn errors(&mut self, beside: &Beside<'_>) {
        let (scan, limits) = (self.scan, self.limits);
        let error = |b: &Block| b.pairs.relative_error().unwrap_or(f64::NAN);
        let typical = median(scan.blocks.iter().map(error)).unwrap_or(0.0);
        let limit = match limits.block_error_ratio_max {
            ratio if ratio.is_finite() => {
                limits.block_error_max.min((ratio * typical).max(FP8_ERROR))
            }
            _ => limits.block_error_max,
        };
        self.blocks(
            Verdict::MisScaled,
            Some("block_error_max"),
            |_, b| {
                let unexplained = beside.off(b).is_none() && beside.shift(b).is_none();
                let large = |e: &f64| *e > limit || e.is_nan();
                Some(error(b)).filter(|e| large(e) && unexplained && beside.alike(b))
            },
            |e| {
                format!(
                    "relative error {} against the reference, healthy is at most {} here",
                    short(e),
                    short(limit)
                )
            },
        );
        let whole = scan.total.pairs.relative_error();
        if let Some(error) = whole.filter(|e| *e > limits.error_max && self.faults.is_empty()) {
            let message = format!(
                "relative error {} against the reference, healthy is at most {}; no block stands out, so it may be another fine-tune",
                short(error),
                limits.error_max,
            );
            self.whole(Verdict::MisScaled, "error_max", error, message);
        }
    }
}
