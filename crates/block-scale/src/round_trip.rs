//! What quantizing a matrix has cost.

use rayon::prelude::*;

use crate::{
    QuantizedMatrix, QuantizedRows, Rows, element::Element, quantize::for_element,
    strip::assert_count,
};

/// The difference between weights and what their codes stand for.
///
/// Sums are taken row by row in f64 and then over rows, so they do not depend on the number of threads.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RoundTrip {
    /// Sum of squares of the weights.
    pub norm2: f64,
    /// Sum of squares of the differences.
    pub error2: f64,
    /// The largest magnitude of a difference; NaN if one is NaN.
    pub max_abs_error: f32,
    /// Elements whose quotient lay beyond the largest value of the format and was clamped to it.
    pub saturated: usize,
    /// Elements other than zero whose code is zero.
    pub zeros: usize,
    /// Elements in all.
    pub elements: usize,
}

impl RoundTrip {
    /// The Frobenius norm of the difference over that of the weights; zero where both are.
    pub fn relative_error(&self) -> f64 {
        if self.error2 == 0.0 {
            0.0
        } else {
            (self.error2 / self.norm2).sqrt()
        }
    }

    /// Of two strips together.
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        Self {
            norm2: self.norm2 + other.norm2,
            error2: self.error2 + other.error2,
            max_abs_error: larger(self.max_abs_error, other.max_abs_error),
            saturated: self.saturated + other.saturated,
            zeros: self.zeros + other.zeros,
            elements: self.elements + other.elements,
        }
    }

    fn add(&mut self, weight: f32, value: f32, limit: f32) {
        let difference = weight - value;
        self.norm2 += f64::from(weight).powi(2);
        self.error2 += (f64::from(weight) - f64::from(value)).powi(2);
        self.max_abs_error = larger(self.max_abs_error, difference.abs());
        self.saturated += usize::from(weight.abs() > limit);
        self.zeros += usize::from(value == 0.0 && weight != 0.0);
        self.elements += 1;
    }
}

/// The larger of the two, or NaN if one is.
fn larger(a: f32, b: f32) -> f32 {
    if a >= b || a.is_nan() { a } else { b }
}

/// Compares a matrix with what it was quantized to.
///
/// # Panics
/// If the two differ in shape.
pub fn round_trip(weights: Rows<'_>, quantized: &QuantizedMatrix) -> RoundTrip {
    round_trip_rows(weights, quantized.as_rows())
}

/// Compares a strip with what it was quantized to; [`RoundTrip::merge`] puts strips together.
///
/// # Panics
/// If the two differ in shape.
pub fn round_trip_rows(weights: Rows<'_>, quantized: QuantizedRows<'_>) -> RoundTrip {
    assert_count("elements of the rows", weights.len(), quantized.codes.len());
    for_element!(weights, data => compare(data, &quantized))
}

fn compare<T: Element>(weights: &[T], quantized: &QuantizedRows<'_>) -> RoundTrip {
    let cols = quantized.shape.1;
    if weights.is_empty() {
        return RoundTrip::default();
    }
    let rows: Vec<_> = weights
        .par_chunks(cols)
        .enumerate()
        .with_min_len((1usize << 14).div_ceil(cols))
        .map(|(i, weights)| compare_row(weights, quantized, quantized.first_row + i))
        .collect();
    rows.into_iter()
        .fold(RoundTrip::default(), RoundTrip::merge)
}

fn compare_row<T: Element>(weights: &[T], quantized: &QuantizedRows<'_>, row: usize) -> RoundTrip {
    let values = quantized.format.values();
    let mut sums = RoundTrip::default();
    for block in quantized.blocks(row..row + 1, 0..weights.len()) {
        let scale = quantized.scale(block.at);
        let limit = quantized.format.max() * scale;
        let codes = quantized.codes(&block).iter().flatten();
        for (weight, &code) in weights[block.cols.clone()].iter().zip(codes) {
            sums.add(weight.to_f32(), values[usize::from(code)] * scale, limit);
        }
    }
    sums
}
