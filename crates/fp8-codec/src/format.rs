//! The choices a caller makes: format, what overflow becomes, how a quotient is rounded.

use half::bf16;

use crate::{E4m3, E5m2};

/// An 8-bit float with a sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// [`E4m3`]: four exponent bits, three mantissa bits, no infinity.
    E4m3,
    /// [`E5m2`]: five exponent bits, two mantissa bits.
    E5m2,
}

impl Format {
    /// The largest finite value: 448 or 57344.
    pub const fn max(self) -> f32 {
        match self {
            Self::E4m3 => E4m3::MAX,
            Self::E5m2 => E5m2::MAX,
        }
    }

    /// The code of one number, by the scalar definition.
    pub fn encode(self, x: f32, overflow: Overflow) -> u8 {
        match self {
            Self::E4m3 => E4m3::encode(x, overflow).to_bits(),
            Self::E5m2 => E5m2::encode(x, overflow).to_bits(),
        }
    }

    /// The value of one code, by the scalar definition.
    pub fn decode(self, code: u8) -> f32 {
        match self {
            Self::E4m3 => E4m3::from_bits(code).decode(),
            Self::E5m2 => E5m2::from_bits(code).decode(),
        }
    }

    /// The value of every code.
    pub fn values(self) -> [f32; 256] {
        let mut values = [0.0; 256];
        for (code, value) in (0..=u8::MAX).zip(&mut values) {
            *value = self.decode(code);
        }
        values
    }

    /// Whether the code is NaN.
    pub const fn is_nan(self, code: u8) -> bool {
        match self {
            Self::E4m3 => E4m3::from_bits(code).is_nan(),
            Self::E5m2 => E5m2::from_bits(code).is_nan(),
        }
    }
}

/// What a number becomes whose rounded magnitude is above the largest finite value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Overflow {
    /// The largest finite value with the sign of the number; infinity too. Weights are stored this way.
    Saturate,
    /// What the format has instead: NaN in E4M3FN, infinity in E5M2, with the sign of the number.
    ///
    /// **Source** the casts of `ml_dtypes`.
    NonFinite,
}

/// How `x / scale` is rounded before the 8-bit rounding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Quotient {
    /// Once, to f32.
    F32,
    /// To f32 and then to bf16, nearest even, as frameworks do that divide two bf16 tensors.
    Bf16,
}

impl Quotient {
    /// Rounds an f32 quotient further, if that is the rule.
    #[inline]
    pub fn round(self, quotient: f32) -> f32 {
        match self {
            Self::F32 => quotient,
            Self::Bf16 => bf16::from_f32(quotient).to_f32(),
        }
    }
}

/// One scale for a run of elements: `code = encode(round(x / scale))`, saturating.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scaled {
    /// The format of the codes.
    pub format: Format,
    /// Positive and finite; value = code × scale.
    pub scale: f32,
    /// Rounding of the quotient.
    pub quotient: Quotient,
}

impl Scaled {
    /// The code of one number, by the scalar definition.
    pub fn encode(&self, x: f32) -> u8 {
        self.format
            .encode(self.quotient.round(x / self.scale), Overflow::Saturate)
    }
}

/// The scales of a row of blocks: columns `j * width..(j + 1) * width` have the scale `values[j]`, in every row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scales<'a> {
    /// One scale for each block; the last block may be narrower.
    pub values: &'a [f32],
    /// Columns of a block.
    pub width: usize,
}

impl<'a> Scales<'a> {
    /// The same with a width of at most the columns there are.
    ///
    /// Panics unless there are as many scales as a row of so many columns has blocks.
    pub(crate) fn covering(self, cols: usize) -> Scales<'a> {
        assert!(self.width > 0, "blocks without columns");
        assert_eq!(
            self.values.len(),
            cols.div_ceil(self.width),
            "scales for {cols} columns in blocks of {}",
            self.width
        );
        Self {
            width: self.width.min(cols.max(1)),
            ..self
        }
    }
}
