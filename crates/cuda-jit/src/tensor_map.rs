//! Tensor maps: how TMA sees a matrix.

use std::ops::RangeInclusive;

use crate::{Error, Result};

/// What a matrix is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Element {
    /// A byte: E4M3 codes.
    U8,
    /// BF16.
    Bf16,
    /// F32.
    F32,
}

impl Element {
    /// Bytes of one.
    pub const fn bytes(self) -> u64 {
        match self {
            Self::U8 => 1,
            Self::Bf16 => 2,
            Self::F32 => 4,
        }
    }
}

/// How a box lies in shared memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Swizzle {
    /// Row after row.
    None,
    /// Rows of 128 bytes, whose 16-byte pieces are exchanged by the row's number modulo 8.
    Bytes128,
}

/// A row-major matrix in device memory and the box that one copy moves.
///
/// Reads outside the matrix give zeros, so ragged edges cost nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TensorShape {
    /// Type of the elements.
    pub element: Element,
    /// Rows of the matrix.
    pub rows: u64,
    /// Columns of the matrix, the contiguous side.
    pub cols: u64,
    /// Elements from one row to the next.
    pub row_stride: u64,
    /// Rows of the box.
    pub box_rows: u32,
    /// Columns of the box.
    pub box_cols: u32,
    /// How the box lies in shared memory.
    pub swizzle: Swizzle,
}

impl TensorShape {
    /// Bytes from the first element to the last.
    pub const fn bytes(&self) -> u64 {
        (self.rows.saturating_sub(1) * self.row_stride + self.cols) * self.element.bytes()
    }

    /// Whether the hardware takes it.
    ///
    /// # Errors
    /// [`Error::TensorShape`] with the first number that is out of range: sides of 1 to 2^32, boxes of 1 to 256 whose rows are
    /// whole 16 bytes and at most 128 bytes under the swizzle, strides of whole 16 bytes below 2^40.
    ///
    /// **Source** CUDA driver API, `cuTensorMapEncodeTiled`.
    pub fn check(&self) -> Result<()> {
        let within = |what, found: u64, range: RangeInclusive<u64>, expected| {
            let fits = range.contains(&found);
            fits.then_some(()).ok_or(Error::TensorShape {
                what,
                found,
                expected,
            })
        };
        within("rows", self.rows, 1..=1 << 32, "1 to 2^32")?;
        within("columns", self.cols, 1..=1 << 32, "1 to 2^32")?;
        within("box rows", self.box_rows.into(), 1..=256, "1 to 256")?;
        within("box columns", self.box_cols.into(), 1..=256, "1 to 256")?;
        let stride = self.row_stride.saturating_mul(self.element.bytes());
        within(
            "bytes between rows",
            stride,
            0..=(1 << 40) - 1,
            "less than 2^40",
        )?;
        within(
            "bytes between rows modulo 16",
            stride % 16,
            0..=0,
            "a multiple of 16",
        )?;
        let wide = u64::from(self.box_cols) * self.element.bytes();
        within(
            "bytes of a box row modulo 16",
            wide % 16,
            0..=0,
            "a multiple of 16",
        )?;
        within(
            "columns beyond the stride",
            self.cols.saturating_sub(self.row_stride),
            0..=0,
            "rows that do not overlap",
        )?;
        match self.swizzle {
            Swizzle::None => Ok(()),
            Swizzle::Bytes128 => within("bytes of a swizzled box row", wide, 16..=128, "16 to 128"),
        }
    }

    /// Bytes that one copy brings, edges included: what the barrier must expect.
    pub fn box_bytes(&self) -> u32 {
        self.box_rows * self.box_cols * self.element.bytes() as u32
    }
}

/// The 128 opaque bytes that the driver makes of an address and a [`TensorShape`]; a `const __grid_constant__` argument of a
/// kernel. Made by [`crate::Device::tensor_map`].
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub struct TensorMap(pub(crate) cudarc::driver::sys::CUtensorMap);

#[cfg(test)]
mod tests {
    use super::*;

    const WEIGHTS: TensorShape = TensorShape {
        element: Element::U8,
        rows: 5120,
        cols: 25600,
        row_stride: 25600,
        box_rows: 128,
        box_cols: 128,
        swizzle: Swizzle::Bytes128,
    };

    fn fault(shape: TensorShape) -> &'static str {
        match shape.check() {
            Err(Error::TensorShape { what, .. }) => what,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_box_of_128_by_128_codes_is_right_and_16_kib() {
        WEIGHTS.check().expect("right");
        assert_eq!(WEIGHTS.box_bytes(), 16384);
    }

    #[test]
    fn each_rule_of_the_hardware_is_named() {
        let odd = TensorShape {
            cols: 1000,
            row_stride: 1000,
            ..WEIGHTS
        };
        assert_eq!(fault(odd), "bytes between rows modulo 16");
        let wide = TensorShape {
            element: Element::Bf16,
            ..WEIGHTS
        };
        assert_eq!(fault(wide), "bytes of a swizzled box row");
        let tall = TensorShape {
            box_rows: 320,
            ..WEIGHTS
        };
        assert_eq!(fault(tall), "box rows");
        assert_eq!(fault(TensorShape { rows: 0, ..WEIGHTS }), "rows");
        let overlap = TensorShape {
            row_stride: 16,
            ..WEIGHTS
        };
        assert_eq!(fault(overlap), "columns beyond the stride");
        let narrow = TensorShape {
            box_cols: 8,
            ..WEIGHTS
        };
        assert_eq!(fault(narrow), "bytes of a box row modulo 16");
    }
}
