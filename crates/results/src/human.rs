//! Numbers for people: the one place of the project where shares, bytes and times become text.
//!
//! Number and unit never part: a no-break space stands between them.

/// A ratio as percent with three significant digits, and more where it is close to one: 0.0123 → `1.23 %`, 0.99951 → `99.951 %`.
#[must_use]
pub fn percent(ratio: f64) -> String {
    let value = 100.0 * ratio;
    let missing = (100.0 - value).abs();
    if value == 0.0 || missing == 0.0 {
        return format!("{value:.0}\u{a0}%");
    }
    if value.abs() < 1e-6 {
        return "<1e-6\u{a0}%".to_owned();
    }
    if value.abs() < 5e-4 {
        return format!("{value:.1e}\u{a0}%");
    }
    let digits = if value > 50.0 {
        decimals(missing.min(value), 2).max(1)
    } else {
        decimals(value.abs(), 3)
    };
    format!("{value:.digits$}\u{a0}%")
}

/// Three significant digits, in powers of ten where it is very small or large.
#[must_use]
pub fn number(value: f64) -> String {
    let size = value.abs();
    if size != 0.0 && !(1e-4..1e6).contains(&size) {
        return format!("{value:.2e}");
    }
    if value.fract() == 0.0 {
        return format!("{value:.0}");
    }
    let digits = decimals(size, 3);
    format!("{value:.digits$}")
}

/// Decimal units: `3.68 MB`.
#[must_use]
pub fn bytes(count: u64) -> String {
    scaled(count as f64, &["B", "kB", "MB", "GB", "TB"])
}

/// `12.5 ms`, `3.2 s`, `5 min 20 s`, `1 h 12 min`.
#[must_use]
pub fn seconds(value: f64) -> String {
    match value {
        v if v < 0.0995 => format!("{}\u{a0}ms", number(1e3 * v)),
        v if v < 99.5 => format!("{}\u{a0}s", number(v)),
        v if v < 5990.0 => format!(
            "{:.0}\u{a0}min\u{a0}{:.0}\u{a0}s",
            (v / 60.0).floor(),
            v % 60.0
        ),
        v => format!(
            "{:.0}\u{a0}h\u{a0}{:.0}\u{a0}min",
            (v / 3600.0).floor(),
            (v % 3600.0) / 60.0
        ),
    }
}

fn scaled(value: f64, units: &[&str]) -> String {
    let mut value = value;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    format!("{}\u{a0}{}", number(value), units[unit])
}

/// How many decimals give `value` this many significant digits; never more than 6.
fn decimals(value: f64, significant: i32) -> usize {
    let exponent = value.log10().floor();
    let digits = f64::from(significant) - 1.0 - exponent;
    digits.clamp(0.0, 6.0) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(text: &str) -> String {
        text.replace('\u{a0}', " ")
    }

    #[test]
    fn percents_show_what_is_missing_to_the_whole() {
        assert_eq!(plain(&percent(0.0123)), "1.23 %");
        assert_eq!(plain(&percent(0.99951)), "99.951 %");
        assert_eq!(plain(&percent(0.731)), "73.1 %");
        assert_eq!(plain(&percent(1.0)), "100 %");
        assert_eq!(plain(&percent(0.0)), "0 %");
        assert_eq!(plain(&percent(0.0000005)), "5.0e-5 %");
        assert_eq!(plain(&percent(1e-12)), "<1e-6 %");
    }

    #[test]
    fn numbers_have_three_digits() {
        assert_eq!(number(0.123_456), "0.123");
        assert_eq!(number(12.3456), "12.3");
        assert_eq!(number(1234.5), "1234");
        assert_eq!(number(32.0), "32");
        assert_eq!(number(1.5e-7), "1.50e-7");
    }

    #[test]
    fn bytes_and_seconds_have_units() {
        assert_eq!(plain(&bytes(999)), "999 B");
        assert_eq!(plain(&bytes(3_680_000)), "3.68 MB");
        assert_eq!(plain(&seconds(0.0125)), "12.5 ms");
        assert_eq!(plain(&seconds(3.25)), "3.25 s");
        assert_eq!(plain(&seconds(320.0)), "5 min 20 s");
        assert_eq!(plain(&seconds(7200.0)), "2 h 0 min");
    }
}
