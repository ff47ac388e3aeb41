//! `strftime_now`: the date in a system prompt, of a clock that is passed in.

use std::fmt::Write;

const DAYS: [&str; 7] = [
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// Seconds since 1970-01-01 00:00 UTC as Python's `strftime` writes them in UTC and in the C locale.
/// `None` for a directive that is not known here.
pub(super) fn strftime(seconds: i64, format: &str) -> Option<String> {
    let days = seconds.div_euclid(86_400);
    let second = seconds.rem_euclid(86_400);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let (year, month, day) = date(days);
    let weekday = (days + 4).rem_euclid(7);
    let name = |names: &[&'static str], at: i64| {
        usize::try_from(at)
            .ok()
            .and_then(|at| names.get(at).copied())
    };
    let (weekday_name, month_name) = (name(&DAYS, weekday)?, name(&MONTHS, month - 1)?);
    let mut out = String::new();
    let mut rest = format.chars();
    while let Some(c) = rest.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        match rest.next()? {
            '%' => out.push('%'),
            'Y' => write!(out, "{year}").ok()?,
            'y' => write!(out, "{:02}", year.rem_euclid(100)).ok()?,
            'm' => write!(out, "{month:02}").ok()?,
            'd' => write!(out, "{day:02}").ok()?,
            'e' => write!(out, "{day:2}").ok()?,
            'B' => out.push_str(month_name),
            'b' | 'h' => out.push_str(&month_name[..3]),
            'A' => out.push_str(weekday_name),
            'a' => out.push_str(&weekday_name[..3]),
            'w' => write!(out, "{weekday}").ok()?,
            'j' => write!(out, "{:03}", days - days_before(year, 1, 1) + 1).ok()?,
            'H' => write!(out, "{hour:02}").ok()?,
            'I' => write!(out, "{:02}", (hour + 11) % 12 + 1).ok()?,
            'M' => write!(out, "{minute:02}").ok()?,
            'S' => write!(out, "{second:02}").ok()?,
            'p' => out.push_str(if hour < 12 { "AM" } else { "PM" }),
            'F' => write!(out, "{year}-{month:02}-{day:02}").ok()?,
            'T' => write!(out, "{hour:02}:{minute:02}:{second:02}").ok()?,
            _ => return None,
        }
    }
    Some(out)
}

/// Year, month and day of a number of days since 1970-01-01, in the Gregorian calendar.
fn date(days: i64) -> (i64, i64, i64) {
    // A year of 365.2425 days gives a guess that is at most one off.
    let mut year = 1970 + (days * 400).div_euclid(146_097);
    while days_before(year + 1, 1, 1) <= days {
        year += 1;
    }
    while days_before(year, 1, 1) > days {
        year -= 1;
    }
    let month = (1..=12)
        .rev()
        .find(|month| days_before(year, *month, 1) <= days)
        .unwrap_or(1);
    (year, month, days - days_before(year, month, 1) + 1)
}

/// Days from 1970-01-01 to a date.
fn days_before(year: i64, month: i64, day: i64) -> i64 {
    let past = year - 1;
    let leap_days = past.div_euclid(4) - past.div_euclid(100) + past.div_euclid(400);
    let is_leap =
        year.rem_euclid(4) == 0 && (year.rem_euclid(100) != 0 || year.rem_euclid(400) == 0);
    let lengths = [
        31,
        if is_leap { 29 } else { 28 },
        31,
        30,
        31,
        30,
        31,
        31,
        30,
        31,
        30,
        31,
    ];
    let months: i64 = (1..month).zip(lengths).map(|(_, length)| length).sum();
    past * 365 + leap_days + months + day - 1 - 719_162
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_python() {
        // datetime.fromtimestamp(s, timezone.utc).strftime("%a %A %d %e %b %B %Y %y %m %H %I %M %S %p %j %w %%")
        let all = "%a %A %d %e %b %B %Y %y %m %H %I %M %S %p %j %w %%";
        for (seconds, expected) in [
            (
                0,
                "Thu Thursday 01  1 Jan January 1970 70 01 00 12 00 00 AM 001 4 %",
            ),
            (
                951_827_696,
                "Tue Tuesday 29 29 Feb February 2000 00 02 12 12 34 56 PM 060 2 %",
            ),
            (
                1_735_689_599,
                "Tue Tuesday 31 31 Dec December 2024 24 12 23 11 59 59 PM 366 2 %",
            ),
            (
                4_107_542_400,
                "Mon Monday 01  1 Mar March 2100 00 03 00 12 00 00 AM 060 1 %",
            ),
            (
                -1,
                "Wed Wednesday 31 31 Dec December 1969 69 12 23 11 59 59 PM 365 3 %",
            ),
        ] {
            assert_eq!(strftime(seconds, all).as_deref(), Some(expected));
        }
        assert_eq!(
            strftime(951_827_696, "%F %T").as_deref(),
            Some("2000-02-29 12:34:56")
        );
    }

    #[test]
    fn an_unknown_directive_is_no_date() {
        assert_eq!(strftime(0, "%Q"), None);
        assert_eq!(strftime(0, "%"), None);
    }
}
