//! From statistics to faults: every test, and which limit it is held to.

use crate::numbers::{BLOCK, BadScales};
use crate::outliers::{column_medians, deviations, median, robust_sigma, row_medians};
use crate::scan::{Block, Scan};
use crate::thresholds::Limits;
use crate::verdict::{Fault, Verdict};

/// A block of fewer numbers is too small for its mean, its kurtosis and its correlation to say anything.
pub(crate) const FEW: u64 = 256;

/// A block is no outlier among its neighbours within so many robust standard deviations of them.
const SIGMAS: f64 = 12.0;

/// Everything that is wrong, worst first.
pub(crate) fn judge(scan: &Scan, scales: Option<BadScales>, limits: &Limits) -> Vec<Fault> {
    let mut judge = Judge {
        scan,
        limits,
        faults: Vec::new(),
    };
    judge.not_finite(scales);
    judge.exploded();
    judge.flat();
    if scan.total.pairs.n > 0 {
        judge.against_reference();
    } else {
        judge.level();
        judge.bias();
        judge.neighbours();
    }
    judge.decoding();
    // Of integers every group reaches the ends of the range by design: their share is told, not judged.
    if scales.is_some() {
        judge.saturated();
    }
    let mut faults = judge.faults;
    faults.sort_by_key(|fault| std::cmp::Reverse(fault.verdict));
    faults
}

pub(crate) struct Judge<'a> {
    pub(crate) scan: &'a Scan,
    pub(crate) limits: &'a Limits,
    pub(crate) faults: Vec<Fault>,
}

impl Judge<'_> {
    /// Pushes a fault of the tensor as a whole.
    pub(crate) fn whole(
        &mut self,
        verdict: Verdict,
        limit: &'static str,
        measured: f64,
        message: String,
    ) {
        self.faults.push(Fault {
            verdict,
            limit: Some(limit),
            measured,
            blocks: 0,
            rows: None,
            columns: None,
            message,
        });
    }

    /// Pushes a fault if `measure` finds any block; a larger measure is worse.
    pub(crate) fn blocks(
        &mut self,
        verdict: Verdict,
        limit: Option<&'static str>,
        measure: impl Fn(usize, &Block) -> Option<f64>,
        say: impl Fn(f64) -> String,
    ) {
        let blocks = &self.scan.blocks;
        let (mut count, mut worst) = (0, None::<(usize, f64)>);
        for (at, block) in blocks.iter().enumerate() {
            if let Some(found) = measure(at, block) {
                count += 1;
                if worst.is_none_or(|(_, w)| found > w) {
                    worst = Some((at, found));
                }
            }
        }
        let Some((at, measured)) = worst else {
            return;
        };
        let (rows, columns) = self.scan.place(at);
        let message = format!(
            "{count} of {} blocks; worst in rows {}..{}, columns {}..{}: {}",
            blocks.len(),
            rows.start,
            rows.end,
            columns.start,
            columns.end,
            say(measured),
        );
        self.faults.push(Fault {
            verdict,
            limit,
            measured,
            blocks: count,
            rows: Some([rows.start, rows.end]),
            columns: Some([columns.start, columns.end]),
            message,
        });
    }

    fn not_finite(&mut self, scales: Option<BadScales>) {
        let total = &self.scan.total.moments;
        let (nan, infinite, all) = (total.nan, total.infinite, total.count());
        self.blocks(
            Verdict::NotFinite,
            None,
            |_, block| {
                let bad = block.moments.nan + block.moments.infinite;
                (bad > 0).then_some(bad as f64)
            },
            |bad| format!("{bad} numbers ({nan} NaN and {infinite} infinities among all {all})"),
        );
        let Some(scales) = scales.filter(|s| s.count() > 0) else {
            return;
        };
        let [i, j] = scales.first.unwrap_or_default();
        // A scale of zero is how some tools store a block of zeros.
        let verdict = match scales.not_finite + scales.negative {
            0 => Verdict::Flat,
            _ => Verdict::NotFinite,
        };
        self.faults.push(Fault {
            verdict,
            limit: None,
            measured: scales.count() as f64,
            blocks: scales.count(),
            rows: None,
            columns: None,
            message: format!(
                "{} of {} scales cannot be meant ({} not finite, {} negative, {} zero); first at [{i}, {j}] of their grid",
                scales.count(),
                scales.scales,
                scales.not_finite,
                scales.negative,
                scales.zero,
            ),
        });
    }

    fn exploded(&mut self) {
        let (limit, rms) = (self.limits.rms_max, self.scan.total.moments.rms());
        let blocks = self.scan.blocks.iter().map(|b| b.moments.rms());
        let most = self.scan.rows == 1 || median(blocks).is_some_and(|typical| typical > limit);
        if rms > limit && most {
            let message = format!("RMS {}, healthy is at most {limit}", short(rms));
            self.whole(Verdict::Exploded, "rms_max", rms, message);
        }
        if self.scan.rows == 1 || most {
            return;
        }
        self.blocks(
            Verdict::Exploded,
            Some("rms_max"),
            |_, block| Some(block.moments.rms()).filter(|rms| *rms > limit),
            |rms| {
                format!(
                    "RMS {}, healthy is at most {limit} as in most of the tensor",
                    short(rms)
                )
            },
        );
    }

    /// The mean of a tensor that has one, as a norm does.
    fn level(&mut self) {
        let total = &self.scan.total.moments;
        if total.n == 0 {
            return;
        }
        let level = total.mean().abs();
        let (low, high) = (self.limits.level_min, self.limits.level_max);
        let limit = match level {
            level if level < low => "level_min",
            level if level > high => "level_max",
            _ => return,
        };
        let message = format!(
            "mean of magnitude {}, healthy is {low} to {high}",
            short(level)
        );
        self.whole(Verdict::MisScaled, limit, level, message);
    }

    fn flat(&mut self) {
        let (limits, scan) = (self.limits, self.scan);
        let total = &scan.total.moments;
        let reference_flat = scan.total.pairs.n > 0 && scan.total.pairs.yy == 0.0;
        if total.n > 0 && total.rms() < limits.rms_min && !reference_flat {
            let message = format!(
                "RMS {}, healthy is at least {}",
                short(total.rms()),
                limits.rms_min
            );
            self.whole(Verdict::Flat, "rms_min", total.rms(), message);
            return;
        }
        let zero = |block: &Block| {
            let (m, pairs) = (&block.moments, &block.pairs);
            m.n > 0 && m.zeros == m.n && (pairs.n == 0 || pairs.yy > 0.0)
        };
        let share =
            scan.blocks.iter().filter(|b| zero(b)).count() as f64 / scan.blocks.len().max(1) as f64;
        if share > limits.zero_max {
            self.blocks(
                Verdict::Flat,
                Some("zero_max"),
                |_, block| zero(block).then_some(1.0),
                |_| "nothing but zeros".to_owned(),
            );
            return;
        }
        let share = scan.zero_rows as f64 / scan.rows.max(1) as f64;
        if share > limits.zero_max {
            let message = format!(
                "{} of {} rows hold nothing but zeros; first row {}",
                scan.zero_rows,
                scan.rows,
                scan.first_zero_row.unwrap_or(0)
            );
            self.whole(Verdict::Flat, "zero_max", share, message);
        }
    }

    /// Two heaps with a hole between them, where weights have one heap.
    fn decoding(&mut self) {
        let limit = self.limits.kurtosis_min;
        self.blocks(
            Verdict::MisDecoded,
            Some("kurtosis_min"),
            |_, block| {
                let kurtosis = block.moments.kurtosis().filter(|k| *k < limit)?;
                (block.moments.n >= FEW).then_some(-kurtosis)
            },
            |k| {
                format!(
                    "kurtosis {:.2}, healthy is at least {limit}: a hole around the mean, as two's complement makes of offset binary",
                    -k
                )
            },
        );
    }

    fn saturated(&mut self) {
        let limit = self.limits.saturated_max;
        self.blocks(
            Verdict::MisScaled,
            Some("saturated_max"),
            |_, block| {
                let share = block.saturated as f64 / block.moments.count().max(1) as f64;
                (block.moments.count() >= FEW && share > limit).then_some(share)
            },
            |share| {
                format!(
                    "{:.1} % of the codes are the largest of their format, healthy is at most {:.1} %: the scale was too small",
                    100.0 * share,
                    100.0 * limit
                )
            },
        );
    }

    fn bias(&mut self) {
        let (scan, limits) = (self.scan, self.limits);
        let total = &scan.total.moments;
        let mean = total.mean() / total.rms().max(f64::MIN_POSITIVE);
        if mean.abs() > limits.mean_max {
            let message = format!(
                "mean {} is {:.2} of the RMS, healthy is at most {}",
                short(total.mean()),
                mean,
                limits.mean_max
            );
            self.whole(Verdict::Biased, "mean_max", mean.abs(), message);
            return;
        }
        let means: Vec<f64> = scan
            .blocks
            .iter()
            .map(
                |block| match (block.moments.n >= FEW, block.moments.rms()) {
                    (true, rms) if rms > 0.0 => block.moments.mean() / rms,
                    _ => f64::NAN,
                },
            )
            .collect();
        let found = deviations(&means, scan.grid_cols());
        let limit = limits.block_mean_max.max(SIGMAS * robust_sigma(&found));
        self.blocks(
            Verdict::Biased,
            Some("block_mean_max"),
            |at, _| Some(found[at].abs()).filter(|d| *d > limit),
            |d| {
                format!(
                    "mean off its neighbours' by {d:.2} of the RMS, healthy is at most {limit:.2}"
                )
            },
        );
    }

    /// Blocks, and whole lines of blocks, of another level than the rest.
    fn neighbours(&mut self) {
        let (scan, limits) = (self.scan, self.limits);
        let levels: Vec<f64> = scan
            .blocks
            .iter()
            .map(|block| match block.moments.rms() {
                rms if rms > 0.0 && rms.is_finite() => rms.ln(),
                _ => f64::NAN,
            })
            .collect();
        let cols = scan.grid_cols();
        let found = deviations(&levels, cols);
        let limit = limits
            .block_ratio_max
            .ln()
            .max(SIGMAS * robust_sigma(&found));
        let many = found.len() > 2;
        let ratio = |d: f64| if d > 0.0 { "above" } else { "below" };
        self.blocks(
            Verdict::MisScaled,
            Some("block_ratio_max"),
            |at, _| Some(found[at].abs()).filter(|d| many && *d > limit),
            |d| {
                let side = found
                    .iter()
                    .find(|f| f.abs() == d)
                    .map_or("off", |f| ratio(*f));
                format!(
                    "RMS {} times {side} that of its neighbours, healthy is at most {}",
                    short(d.exp()),
                    short(limit.exp())
                )
            },
        );
        let Some(all) = median(levels.iter().copied()) else {
            return;
        };
        let limit = limits.line_ratio_max.ln();
        let lines = [
            ("rows", row_medians(&levels, cols)),
            ("columns", column_medians(&levels, cols)),
        ];
        for (kind, medians) in lines {
            let off = |m: &Option<f64>| m.map(|m| m - all).filter(|d| d.abs() > limit);
            let count = medians.iter().filter_map(off).count();
            let worst = medians
                .iter()
                .enumerate()
                .filter_map(|(i, m)| Some((i, off(m)?)))
                .max_by(|a, b| a.1.abs().total_cmp(&b.1.abs()));
            if let Some((i, d)) = worst {
                let first = i * BLOCK;
                let message = format!(
                    "{count} whole lines of blocks; worst from {kind} {first} on: RMS {} times {} the tensor's, healthy is at most {}",
                    short(d.abs().exp()),
                    ratio(d),
                    limits.line_ratio_max
                );
                self.whole(Verdict::MisScaled, "line_ratio_max", d.abs().exp(), message);
            }
        }
    }
}

/// Three digits, in powers of ten where they are many.
pub(crate) fn short(x: f64) -> String {
    match x.abs() {
        0.0 => "0".to_owned(),
        a if !(1e-3..1e4).contains(&a) => format!("{x:.2e}"),
        a if a >= 100.0 => format!("{x:.0}"),
        a if a >= 1.0 => format!("{x:.2}"),
        _ => format!("{x:.4}"),
    }
}
