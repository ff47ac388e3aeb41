//! The types that scales are stored in.

use std::fmt;

use half::{bf16, f16};
use xgraft_fp8_codec::Ue8m0;

/// The type that scales are stored in.
///
/// In memory a scale is always an f32, which holds each of these exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ScaleDtype {
    /// 32-bit float.
    F32,
    /// bfloat16.
    Bf16,
    /// IEEE half.
    F16,
    /// Powers of two, one byte.
    Ue8m0,
}

impl ScaleDtype {
    /// The scale as it will be read back: rounded to nearest even, but upwards in UE8M0 so that nothing saturates.
    ///
    /// The result is infinite or NaN where the type has no such number, and may be zero for a tiny one.
    pub fn round(self, scale: f32) -> f32 {
        match self {
            Self::F32 => scale,
            Self::Bf16 => bf16::from_f32(scale).to_f32(),
            Self::F16 => f16::from_f32(scale).to_f32(),
            Self::Ue8m0 => Ue8m0::encode_ceil(scale).decode(),
        }
    }

    /// Bytes of a stored scale.
    pub const fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 | Self::F16 => 2,
            Self::Ue8m0 => 1,
        }
    }

    /// Appends the stored form of scales that are [rounded](Self::round) already, little-endian.
    pub fn write(self, scales: &[f32], bytes: &mut Vec<u8>) {
        bytes.reserve(scales.len() * self.size());
        for &scale in scales {
            match self {
                Self::F32 => bytes.extend(scale.to_le_bytes()),
                Self::Bf16 => bytes.extend(bf16::from_f32(scale).to_le_bytes()),
                Self::F16 => bytes.extend(f16::from_f32(scale).to_le_bytes()),
                Self::Ue8m0 => bytes.push(Ue8m0::encode_ceil(scale).to_bits()),
            }
        }
    }

    /// The scales of their stored form, exactly. Bytes after the last whole scale are ignored.
    pub fn read(self, bytes: &[u8]) -> Vec<f32> {
        match self {
            Self::F32 => of_chunks(bytes, f32::from_le_bytes),
            Self::Bf16 => of_chunks(bytes, |b| bf16::from_le_bytes(b).to_f32()),
            Self::F16 => of_chunks(bytes, |b| f16::from_le_bytes(b).to_f32()),
            Self::Ue8m0 => of_chunks(bytes, |[b]| Ue8m0::from_bits(b).decode()),
        }
    }
}

fn of_chunks<const N: usize>(bytes: &[u8], decode: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|&b| decode(b)).collect()
}

impl fmt::Display for ScaleDtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "F32",
            Self::Bf16 => "BF16",
            Self::F16 => "F16",
            Self::Ue8m0 => "UE8M0",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [ScaleDtype; 4] = [
        ScaleDtype::F32,
        ScaleDtype::Bf16,
        ScaleDtype::F16,
        ScaleDtype::Ue8m0,
    ];

    #[test]
    fn a_rounded_scale_survives_storage() {
        let scales = [1.0, 0.037, 3e-5, 448.0, 1e-3];
        for dtype in ALL {
            let rounded = scales.map(|scale| dtype.round(scale));
            let mut bytes = Vec::new();
            dtype.write(&rounded, &mut bytes);
            assert_eq!(bytes.len(), 5 * dtype.size());
            assert_eq!(dtype.read(&bytes), rounded, "{dtype}");
        }
    }

    #[test]
    fn ue8m0_rounds_a_scale_up() {
        assert_eq!(ScaleDtype::Ue8m0.round(1.0001), 2.0);
        assert_eq!(ScaleDtype::Ue8m0.round(1.0), 1.0);
    }
}
