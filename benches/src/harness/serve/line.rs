//! How the numbers of the lines are written.

pub(super) fn signed(value: f64) -> String {
    format!("{:+.1} %", 100.0 * value)
}

pub(super) fn one_decimal(value: Option<f64>) -> String {
    value.map_or_else(missing, |value| format!("{value:.1}"))
}

pub(super) fn three_decimals(value: Option<f64>) -> String {
    value.map_or_else(missing, |value| format!("{value:.3}"))
}

pub(super) fn missing() -> String {
    "missing".to_owned()
}
