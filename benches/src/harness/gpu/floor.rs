//! What a product must cost at least.

use serde_json::Value;

/// The data sheet's peaks of a GPU.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Peaks {
    pub(super) bytes_per_s: f64,
    /// FP8, dense.
    pub(super) flops_per_s: f64,
}

/// NVIDIA H100 and H200 Tensor Core GPU data sheets, SXM.
const H100: Peaks = Peaks {
    bytes_per_s: 3.35e12,
    flops_per_s: 1979e12,
};
const H200: Peaks = Peaks {
    bytes_per_s: 4.8e12,
    ..H100
};

impl Peaks {
    /// By the name that the driver gives.
    pub(super) fn of(machine: &Value) -> Self {
        let name = machine["identity"]["name"].as_str().unwrap_or("");
        if name.contains("H200") { H200 } else { H100 }
    }
}

/// Bytes of codes, scales and results in BF16, each moved once.
pub(super) fn bytes((m, n, k): (u32, u32, u32)) -> f64 {
    let [m, n, k] = [m, n, k].map(f64::from);
    let blocks = (k / 128.0).ceil();
    n * k + m * k + 2.0 * m * n + 4.0 * blocks * (m + (n / 128.0).ceil())
}

/// Multiplications and additions.
pub(super) fn flops((m, n, k): (u32, u32, u32)) -> f64 {
    2.0 * f64::from(m) * f64::from(n) * f64::from(k)
}

/// The longer of moving and computing, in microseconds.
pub(super) fn microseconds(peaks: Peaks, shape: (u32, u32, u32)) -> f64 {
    1e6 * (bytes(shape) / peaks.bytes_per_s).max(flops(shape) / peaks.flops_per_s)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_token_costs_its_weights_and_thousands_cost_their_arithmetic() {
        let of = |shape| microseconds(H100, shape);
        assert!((of((1, 51_200, 5120)) - 78.3).abs() < 0.1);
        assert!((of((4096, 5120, 25_600)) - 542.6).abs() < 0.1);
        let name = |name: &str| Peaks::of(&serde_json::json!({"identity": {"name": name}}));
        assert_eq!(name("NVIDIA H200"), H200);
        assert_eq!(name("NVIDIA H100 80GB HBM3"), H100);
    }
}
