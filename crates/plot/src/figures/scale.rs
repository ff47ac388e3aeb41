//! From values to positions.

/// A linear axis with round ends and ticks.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Scale {
    low: f64,
    high: f64,
    /// Where its ticks are, ends included.
    pub(crate) ticks: Vec<f64>,
}

impl Scale {
    /// The tightest axis with two to four round steps that holds every value.
    ///
    /// `include` are values that must be on it, for example 0 or 1.
    pub(crate) fn around(values: impl IntoIterator<Item = f64>, include: &[f64]) -> Self {
        let values: Vec<f64> = values.into_iter().chain(include.iter().copied()).collect();
        let low = values.iter().copied().fold(f64::INFINITY, f64::min);
        let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let (low, high) = if low > high { (0.0, 1.0) } else { (low, high) };
        let axes = [2, 3, 4].map(|steps| Self::between(low, high, steps));
        let slack = |axis: &Self| axis.high - axis.low;
        let tightest = |best: Self, next: Self| {
            if slack(&next) < 0.999 * slack(&best) {
                next
            } else {
                best
            }
        };
        let [two, three, four] = axes;
        tightest(tightest(two, three), four)
    }

    fn between(low: f64, high: f64, count: u32) -> Self {
        let room = (high - low).max(1e-9 * high.abs()).max(1e-12);
        let step = round_step(room / f64::from(count));
        let first = (low / step + 1e-9).floor();
        let last = (high / step - 1e-9).ceil().max(first + 1.0);
        let steps = (last - first) as u32;
        Self {
            low: first * step,
            high: last * step,
            ticks: (0..=steps).map(|i| (first + f64::from(i)) * step).collect(),
        }
    }

    /// Where the value stands: 0 at the low end, 1 at the high end.
    pub(crate) fn position(&self, value: f64) -> f64 {
        (value - self.low) / (self.high - self.low)
    }

    /// The decimals that tell neighbouring ticks apart when written `times` as large: 100 for percent.
    pub(crate) fn decimals(&self, times: f64) -> usize {
        let step = times * (self.high - self.low) / (self.ticks.len() as f64 - 1.0);
        let power = (-(step + 1e-12).log10().floor()).clamp(0.0, 8.0);
        // a step of 2.5 needs one more
        let written = step * 10f64.powf(power);
        let uneven = (written - written.round()).abs() > 1e-6;
        power as usize + usize::from(uneven)
    }
}

/// The smallest of 1, 2, 2.5, 5 times a power of ten that is not below `least`.
fn round_step(least: f64) -> f64 {
    let power = 10f64.powf(least.log10().floor());
    [1.0, 2.0, 2.5, 5.0, 10.0]
        .into_iter()
        .map(|factor| factor * power)
        .find(|step| *step >= least * (1.0 - 1e-9))
        .unwrap_or(10.0 * power)
}

/// A logarithmic axis over whole decades.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Decades {
    first: i32,
    last: i32,
}

impl Decades {
    /// The tightest one that holds every positive value.
    pub(crate) fn around(values: impl IntoIterator<Item = f64>) -> Self {
        let exponents = values
            .into_iter()
            .filter(|x| *x > 0.0 && x.is_finite())
            .map(f64::log10);
        let (low, high) = exponents.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| {
            (low.min(x), high.max(x))
        });
        if low > high {
            return Self { first: -1, last: 0 };
        }
        let first = (low + 1e-9).floor() as i32;
        let last = ((high - 1e-9).ceil() as i32).max(first + 1);
        Self { first, last }
    }

    /// Where the value stands: 0 at the low end, 1 at the high end; what is not on the axis stands at its low end.
    pub(crate) fn position(&self, value: f64) -> f64 {
        let exponent = value.log10();
        let span = f64::from(self.last - self.first);
        ((exponent - f64::from(self.first)) / span).max(0.0)
    }

    /// The powers of ten on it, and how they are called.
    pub(crate) fn ticks(&self) -> impl Iterator<Item = (f64, String)> + use<> {
        (self.first..=self.last).map(|exponent| {
            let tick = 10f64.powi(exponent);
            let name = match exponent {
                -3..=3 => format!("{tick}"),
                _ => format!("1e{exponent}"),
            };
            (tick, name)
        })
    }
}

/// The numbers 1, 2, 5, 10, … times powers of ten from `low` to `high`, both positive, and their names; only the powers of ten
/// over three decades and more.
pub(crate) fn log_ticks(low: f64, high: f64) -> Vec<(f64, String)> {
    let factors: &[f64] = if high < 1e3 * low {
        &[1.0, 2.0, 5.0]
    } else {
        &[1.0]
    };
    let exponents = low.log10().floor() as i32..=high.log10().ceil() as i32;
    let all = exponents.flat_map(|exponent| {
        let named = move |factor: &f64| {
            let tick = factor * 10f64.powi(exponent);
            let decimals = (-exponent).max(0) as usize;
            (tick, format!("{tick:.decimals$}"))
        };
        factors.iter().map(named)
    });
    let slack = 1.0 + 1e-9;
    all.filter(|(tick, _)| (low / slack..=high * slack).contains(tick))
        .collect()
}

/// Whole numbers from 0 that name about `count` of the indices below `len`, evenly.
pub(crate) fn index_ticks(len: usize, count: usize) -> Vec<usize> {
    let steps = [1, 2, 4, 5, 8, 10, 16, 20, 25, 40, 50, 100];
    let fits = |step: &&usize| len.div_ceil(**step) <= count;
    let step = steps.iter().find(fits).copied().unwrap_or(len.max(1));
    (0..len).step_by(step).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounded(scale: &Scale) -> Vec<i64> {
        scale
            .ticks
            .iter()
            .map(|tick| (1000.0 * tick).round() as i64)
            .collect()
    }

    #[test]
    fn ticks_are_round_and_enclose_the_values() {
        let scale = Scale::around([0.912, 0.987], &[1.0]);
        assert_eq!(rounded(&scale), [900, 950, 1000]);
        assert!((scale.position(0.95) - 0.5).abs() < 1e-12);
        let scale = Scale::around([0.13, 0.45], &[0.0]);
        assert_eq!(rounded(&scale), [0, 250, 500]);
        let scale = Scale::around([0.88, 0.99], &[1.0]);
        assert_eq!(rounded(&scale), [850, 900, 950, 1000]);
    }

    #[test]
    fn equal_values_and_no_values_still_make_an_axis() {
        assert!(Scale::around([0.5, 0.5], &[]).position(0.5).is_finite());
        assert!(Scale::around([], &[]).position(0.5).is_finite());
        assert!(Scale::around([1.0], &[1.0]).position(1.0).is_finite());
    }

    #[test]
    fn ticks_have_the_decimals_that_their_step_has() {
        let decimals = |high, times| Scale::around([high], &[0.0]).decimals(times);
        assert_eq!(decimals(4.9, 1.0), 1, "0.0, 2.5, 5.0");
        assert_eq!(decimals(0.2, 1.0), 1);
        assert_eq!(decimals(0.3, 100.0), 0);
        assert_eq!(decimals(0.048, 100.0), 1, "0.0 %, 2.5 %, 5.0 %");
    }

    #[test]
    fn decades_enclose_the_values_and_space_them_by_their_ratio() {
        let scale = Decades::around([2e-4, 3e-2]);
        assert_eq!(
            scale,
            Decades {
                first: -4,
                last: -1
            }
        );
        assert!((scale.position(1e-2) - 2.0 / 3.0).abs() < 1e-12);
        let names: Vec<String> = scale.ticks().map(|(_, name)| name).collect();
        assert_eq!(names, ["1e-4", "0.001", "0.01", "0.1"]);
        assert_eq!(Decades::around([1.0]), Decades { first: 0, last: 1 });
        assert!(Decades::around([0.0]).position(0.0).abs() < 1e-12);
    }

    #[test]
    fn logarithmic_ticks_are_round_and_inside() {
        let names = |low, high| -> Vec<String> {
            let ticks = log_ticks(low, high).into_iter();
            ticks.map(|(_, name)| name).collect()
        };
        assert_eq!(names(0.096, 7.4), ["0.1", "0.2", "0.5", "1", "2", "5"]);
        assert_eq!(names(1.0, 1e4), ["1", "10", "100", "1000", "10000"]);
    }

    #[test]
    fn layers_are_named_evenly() {
        assert_eq!(index_ticks(4, 8), [0, 1, 2, 3]);
        assert_eq!(index_ticks(64, 8), [0, 8, 16, 24, 32, 40, 48, 56]);
        assert_eq!(index_ticks(0, 8), [0; 0]);
    }
}
