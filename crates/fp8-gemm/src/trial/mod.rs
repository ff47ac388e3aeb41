//! Products with known results, for whoever has to show that a machine computes them: the CPU that runs the kernels' text, a GPU, a
//! new driver on it.
//!
//! A [`Trial`] makes operands, hands a [`Run`] to a [`Machine`] and judges what comes out: bit for bit against the emulator where
//! the order of sums is defined, else against f64 with a bound. [`all`] is what a GPU has to pass before it is timed.

mod adapters;
mod case;
mod list;
mod stream;

pub use adapters::{expand, quantize};
pub use case::{Case, Content};
pub use list::{Trial, all, small};
pub use stream::Stream;

use std::collections::HashMap;

use crate::call::{Call, Operand};

/// An operand of a run.
#[derive(Clone, Debug)]
pub enum Data {
    /// Bytes.
    Bytes(Vec<u8>),
    /// Addresses of extra operands, by their place among them.
    Table(Vec<usize>),
}

/// A kernel to run, its operands by name, and what tables point to.
#[derive(Clone, Debug)]
pub struct Run<'a> {
    /// What is started.
    pub call: &'a Call,
    /// In any order.
    pub operands: Vec<(Operand, Data)>,
    /// What [`Data::Table`] counts.
    pub extra: Vec<Vec<u8>>,
    /// How often it runs again from the same operands.
    pub repeats: u32,
}

/// What came out.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Every operand that the call may write, after the first run.
    pub operands: HashMap<Operand, Vec<u8>>,
    /// Repeats that gave other bytes.
    pub unsteady: u32,
}

/// Whatever runs a kernel.
pub trait Machine {
    /// Runs it and waits.
    ///
    /// # Errors
    /// What the machine says, in a sentence.
    fn outcome(&self, run: &Run<'_>) -> Result<Outcome, String>;
}

/// How near a result is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Verdict {
    /// Numbers that were compared.
    pub compared: usize,
    /// Those that are not what they must be: to the bit, where bits are known.
    pub wrong: usize,
    /// Those that are not even near: no model of the tensor core is to blame.
    pub far: usize,
    /// The largest difference, over what is allowed or, where bits must agree, over the expected number.
    pub worst: f64,
    /// Repeats that gave other bytes.
    pub unsteady: u32,
}

impl Verdict {
    /// Whether it is all as it must be.
    pub fn is_right(&self) -> bool {
        self.wrong == 0 && self.is_usable()
    }

    /// Whether it is near enough, and the same each time: a product, though maybe not the emulator's to the bit.
    pub fn is_usable(&self) -> bool {
        self.compared > 0 && self.far == 0 && self.unsteady == 0
    }

    /// Counts a number whose bits must agree, NaN with NaN.
    fn bits(&mut self, ours: f32, expected: f32) {
        self.compared += 1;
        if ours.to_bits() == expected.to_bits() || (ours.is_nan() && expected.is_nan()) {
            return;
        }
        self.wrong += 1;
        let (ours, expected) = (f64::from(ours), f64::from(expected));
        let far = ((ours - expected) / expected).abs();
        self.worst = self.worst.max(if far.is_finite() { far } else { f64::MAX });
    }

    /// Counts a number that may be off by a bound.
    fn near(&mut self, ours: f64, expected: f64, bound: f64) {
        self.compared += 1;
        let over = (ours - expected).abs() / bound.max(f64::MIN_POSITIVE);
        // A NaN is as wrong as can be.
        let over = if over.is_finite() { over } else { f64::MAX };
        self.wrong += usize::from(over > 1.0);
        self.far += usize::from(over > 1.0);
        self.worst = self.worst.max(over);
    }

    /// Counts a number that was compared to the bit, where it is not within a bound of the exact one either.
    fn far_from(&mut self, ours: f32, (exact, bound): (f64, f64)) {
        let near = (f64::from(ours) - exact).abs() <= bound || (ours.is_nan() && exact.is_nan());
        self.far += usize::from(!near);
    }

    /// Takes what went with the numbers: repeats, and counters that must be zero again.
    fn with(mut self, outcome: &Outcome) -> Self {
        self.unsteady = outcome.unsteady;
        let counters = outcome.operands.get(&Operand::Counters);
        let left = counters.is_some_and(|bytes| bytes.iter().any(|&byte| byte != 0));
        self.wrong += usize::from(left);
        self.far += usize::from(left);
        self
    }
}

/// Numbers as bytes, little-endian.
pub(crate) fn bytes_of<T: Copy, const N: usize>(
    numbers: &[T],
    bytes: impl Fn(T) -> [u8; N],
) -> Vec<u8> {
    numbers.iter().flat_map(|&number| bytes(number)).collect()
}

/// F32 of bytes.
pub fn f32s(bytes: &[u8]) -> Vec<f32> {
    let words = bytes.as_chunks().0.iter();
    words.map(|word| f32::from_le_bytes(*word)).collect()
}

/// BF16 of bytes.
pub fn bf16s(bytes: &[u8]) -> Vec<half::bf16> {
    let words = bytes.as_chunks().0.iter();
    words.map(|word| half::bf16::from_le_bytes(*word)).collect()
}
