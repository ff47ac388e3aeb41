//! Element types of a safetensors file.

use std::fmt;

use safetensors::Dtype as Raw;
use xgraft_block_scale::{Format, ScaleDtype};

/// The type of a stored element.
///
/// **Source** `safetensors::Dtype`, less the types that no language model's weights use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dtype {
    /// IEEE double.
    F64,
    /// IEEE single.
    F32,
    /// IEEE half.
    F16,
    /// The upper half of an IEEE single.
    Bf16,
    /// Float8 E4M3FN: largest 448, no infinity, NaN is 0x7f and 0xff.
    F8E4m3,
    /// Float8 E5M2: largest 57344, with infinities.
    F8E5m2,
    /// A power of two as a biased exponent (UE8M0), used for scales.
    F8E8m0,
    /// Signed 64-bit.
    I64,
    /// Signed 32-bit.
    I32,
    /// Signed 16-bit.
    I16,
    /// Signed 8-bit.
    I8,
    /// Unsigned 64-bit.
    U64,
    /// Unsigned 32-bit.
    U32,
    /// Unsigned 16-bit.
    U16,
    /// Unsigned 8-bit.
    U8,
    /// One byte, 0 or 1.
    Bool,
}

const TABLE: [(Dtype, Raw, &str); 16] = [
    (Dtype::F64, Raw::F64, "F64"),
    (Dtype::F32, Raw::F32, "F32"),
    (Dtype::F16, Raw::F16, "F16"),
    (Dtype::Bf16, Raw::BF16, "BF16"),
    (Dtype::F8E4m3, Raw::F8_E4M3, "F8_E4M3"),
    (Dtype::F8E5m2, Raw::F8_E5M2, "F8_E5M2"),
    (Dtype::F8E8m0, Raw::F8_E8M0, "F8_E8M0"),
    (Dtype::I64, Raw::I64, "I64"),
    (Dtype::I32, Raw::I32, "I32"),
    (Dtype::I16, Raw::I16, "I16"),
    (Dtype::I8, Raw::I8, "I8"),
    (Dtype::U64, Raw::U64, "U64"),
    (Dtype::U32, Raw::U32, "U32"),
    (Dtype::U16, Raw::U16, "U16"),
    (Dtype::U8, Raw::U8, "U8"),
    (Dtype::Bool, Raw::BOOL, "BOOL"),
];

impl Dtype {
    /// The name that stands in a file's header, such as `BF16`.
    pub fn name(self) -> &'static str {
        self.row().2
    }

    /// The type that a header calls `name`, if it is one of these.
    pub fn from_name(name: &str) -> Option<Dtype> {
        TABLE.iter().find(|row| row.2 == name).map(|row| row.0)
    }

    /// Bytes of one element.
    pub fn bytes(self) -> usize {
        self.row().1.bitsize() / 8
    }

    /// Whether the elements are numbers with a fraction, FP8 codes included.
    pub fn is_float(self) -> bool {
        matches!(self, Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::Bf16)
            || self.fp8_format().is_some()
    }

    /// The code of an FP8 weight; `None` for every other type, scales (UE8M0) too.
    pub fn fp8_format(self) -> Option<Format> {
        match self {
            Dtype::F8E4m3 => Some(Format::E4m3),
            Dtype::F8E5m2 => Some(Format::E5m2),
            _ => None,
        }
    }

    /// The type as that of a scale, if scales are stored in it.
    pub fn as_scale(self) -> Option<ScaleDtype> {
        Some(match self {
            Dtype::F32 => ScaleDtype::F32,
            Dtype::Bf16 => ScaleDtype::Bf16,
            Dtype::F16 => ScaleDtype::F16,
            Dtype::F8E8m0 => ScaleDtype::Ue8m0,
            _ => return None,
        })
    }

    /// Where the type stands in the order by which the `safetensors` library lays out a file.
    pub(crate) fn raw(self) -> Raw {
        self.row().1
    }

    fn row(self) -> &'static (Dtype, Raw, &'static str) {
        // The table is written in the order of the variants; a unit test holds it there.
        &TABLE[self as usize]
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl From<ScaleDtype> for Dtype {
    fn from(scale: ScaleDtype) -> Dtype {
        match scale {
            ScaleDtype::F32 => Dtype::F32,
            ScaleDtype::Bf16 => Dtype::Bf16,
            ScaleDtype::F16 => Dtype::F16,
            ScaleDtype::Ue8m0 => Dtype::F8E8m0,
        }
    }
}

impl From<Format> for Dtype {
    fn from(format: Format) -> Dtype {
        match format {
            Format::E4m3 => Dtype::F8E4m3,
            Format::E5m2 => Dtype::F8E5m2,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_stands_in_the_order_of_the_variants() {
        for (at, (dtype, raw, name)) in TABLE.iter().enumerate() {
            assert_eq!(*dtype as usize, at);
            assert_eq!(raw.to_string(), *name);
            assert_eq!(Dtype::from_name(name), Some(*dtype));
        }
    }

    #[test]
    fn fp8_scales_are_not_fp8_weights() {
        assert!(Dtype::F8E8m0.fp8_format().is_none());
        assert!(!Dtype::F8E8m0.is_float());
        assert_eq!(Dtype::F8E8m0.as_scale(), Some(ScaleDtype::Ue8m0));
    }
}
