//! Numbers for people.

/// Decimal units: `3.68 MB`.
pub(super) fn bytes(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut unit = "B";
    for next in ["kB", "MB", "GB", "TB"] {
        if value >= 999.5 {
            (value, unit) = (value / 1000.0, next);
        }
    }
    format!("{} {unit}", three_digits(value))
}

/// `0.31 s`, `12 s`, `5 min 20 s`, `1 h 12 min`.
pub(super) fn seconds(seconds: f64) -> String {
    match seconds {
        s if s < 9.95 => format!("{} s", three_digits(s)),
        s if s < 99.5 => format!("{s:.0} s"),
        s if s < 3570.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}

/// A ratio as percent: 0.0123 is `1.23 %`, 0.99951 is `99.951 %`.
pub(super) fn percent(ratio: f64) -> String {
    let value = 100.0 * ratio;
    let missing = (100.0 - value).abs();
    if value == 0.0 || missing == 0.0 {
        return format!("{value:.0} %");
    }
    if value.abs() < 1e-6 {
        return "<1e-6 %".to_owned();
    }
    if value.abs() < 5e-4 {
        return format!("{value:.1e} %");
    }
    let digits = if value > 50.0 {
        decimals(missing, 2).max(1)
    } else {
        decimals(value.abs(), 3)
    };
    format!("{value:.digits$} %")
}

fn three_digits(value: f64) -> String {
    if value.fract() == 0.0 {
        return format!("{value:.0}");
    }
    let digits = decimals(value.abs(), 3);
    format!("{value:.digits$}")
}

/// How many decimals give this many significant digits; never more than 5.
fn decimals(value: f64, significant: i32) -> usize {
    let digits = f64::from(significant) - 1.0 - value.log10().floor();
    digits.clamp(0.0, 5.0) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_units_and_three_digits() {
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(3_680_000), "3.68 MB");
        assert_eq!(bytes(65_524_246_528), "65.5 GB");
        assert_eq!(seconds(0.3123), "0.312 s");
        assert_eq!(seconds(600.0), "10 min");
        assert_eq!(seconds(7200.0), "2.0 h");
        assert_eq!(percent(0.99951), "99.951 %");
        assert_eq!(percent(0.0123), "1.23 %");
        assert_eq!(percent(1.23e-7), "1.2e-5 %");
    }
}
