//! Stored bytes to numbers, one chunk at a time, with a look at every exponent.
//!
//! A chunk is still in the cache when it comes here, so the test for NaN and infinity is a second pass over it:
//! the largest magnitude as an integer, which compilers vectorise for every element size.

use xgraft_block_scale::Format;

/// An element of a file, as the bits that stand there.
///
/// Implemented by the unsigned integers; `bf16` and `f16` come as `u16`, `f32` as `u32`, `f64` as `u64`.
pub(crate) trait Bits: Copy + Default + Send + Sync {
    /// Bytes of one element.
    const BYTES: usize;

    /// Converts the elements of `chunk` into `out`, as many as both have.
    fn convert<T>(chunk: &[u8], out: &mut [T], convert: impl Fn(Self) -> T);

    /// Whether no magnitude (the bits without their highest) in `chunk` is above `largest`.
    fn all_at_most(chunk: &[u8], largest: Self) -> bool;
}

macro_rules! bits {
    ($type:ty, $signed:ty) => {
        impl Bits for $type {
            const BYTES: usize = size_of::<$type>();

            #[inline]
            fn convert<T>(chunk: &[u8], out: &mut [T], convert: impl Fn(Self) -> T) {
                let (chunk, _) = chunk.as_chunks();
                for (to, bytes) in out.iter_mut().zip(chunk) {
                    *to = convert(<$type>::from_le_bytes(*bytes));
                }
            }

            fn all_at_most(chunk: &[u8], largest: Self) -> bool {
                // The sign bit is masked, so the signed comparison is the one that SSE2 has.
                let magnitude =
                    |b: &[u8; _]| (<$type>::from_le_bytes(*b) & (<$type>::MAX >> 1)) as $signed;
                let (chunk, _) = chunk.as_chunks();
                chunk.iter().map(magnitude).fold(0, <$signed>::max) <= largest as $signed
            }
        }
    };
}

bits!(u16, i16);
bits!(u32, i32);
bits!(u64, i64);

impl Bits for u8 {
    const BYTES: usize = 1;

    #[inline]
    fn convert<T>(chunk: &[u8], out: &mut [T], convert: impl Fn(Self) -> T) {
        for (to, byte) in out.iter_mut().zip(chunk) {
            *to = convert(*byte);
        }
    }

    fn all_at_most(chunk: &[u8], largest: Self) -> bool {
        chunk.iter().map(|b| b & 0x7f).fold(0, u8::max) <= largest
    }
}

/// Which magnitudes of a type are finite numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Finite<B> {
    /// The largest finite magnitude.
    largest: B,
    /// The magnitude that means infinity, if there is one.
    infinity: Option<B>,
}

pub(crate) const BF16: Finite<u16> = Finite {
    largest: 0x7f7f,
    infinity: Some(0x7f80),
};
pub(crate) const F16: Finite<u16> = Finite {
    largest: 0x7bff,
    infinity: Some(0x7c00),
};
pub(crate) const F32: Finite<u32> = Finite {
    largest: 0x7f7f_ffff,
    infinity: Some(0x7f80_0000),
};
pub(crate) const F64: Finite<u64> = Finite {
    largest: 0x7fef_ffff_ffff_ffff,
    infinity: Some(0x7ff0_0000_0000_0000),
};

/// The finite codes of an FP8 format.
pub(crate) const fn codes(format: Format) -> Finite<u8> {
    match format {
        Format::E4m3 => Finite {
            largest: 0x7e,
            infinity: None,
        },
        Format::E5m2 => Finite {
            largest: 0x7b,
            infinity: Some(0x7c),
        },
    }
}

impl<B: Bits> Finite<B> {
    /// Index and name of the first element of a chunk that is no finite number.
    pub(crate) fn first_other(self, chunk: &[u8]) -> Option<(usize, &'static str)> {
        if B::all_at_most(chunk, self.largest) {
            return None;
        }
        let at = chunk
            .chunks_exact(B::BYTES)
            .position(|one| !B::all_at_most(one, self.largest))?;
        let one = &chunk[at * B::BYTES..][..B::BYTES];
        let infinite = self
            .infinity
            .is_some_and(|infinity| B::all_at_most(one, infinity));
        Some((at, if infinite { "infinity" } else { "NaN" }))
    }
}

#[cfg(test)]
mod tests {
    use half::{bf16, f16};

    use super::*;

    #[test]
    fn every_bf16_and_f16_is_told_finite_or_not() {
        let name = |finite, nan| match (finite, nan) {
            (true, _) => None,
            (_, true) => Some((0, "NaN")),
            _ => Some((0, "infinity")),
        };
        for bits in 0..=u16::MAX {
            let (b, f) = (bf16::from_bits(bits), f16::from_bits(bits));
            let bytes = bits.to_le_bytes();
            assert_eq!(
                BF16.first_other(&bytes),
                name(b.is_finite(), b.is_nan()),
                "{bits:#06x}"
            );
            assert_eq!(
                F16.first_other(&bytes),
                name(f.is_finite(), f.is_nan()),
                "{bits:#06x}"
            );
        }
    }

    #[test]
    fn every_code_is_told_finite_or_not() {
        for code in 0..=u8::MAX {
            for format in [Format::E4m3, Format::E5m2] {
                let finite = format.decode(code).is_finite();
                assert_eq!(
                    codes(format).first_other(&[code]).is_none(),
                    finite,
                    "{format:?} {code:#04x}"
                );
            }
        }
    }

    #[test]
    fn the_first_bad_element_is_found_and_named() {
        let mut chunk: Vec<u8> = (0..1000u32)
            .flat_map(|i| (i as f32).to_le_bytes())
            .collect();
        assert_eq!(F32.first_other(&chunk), None);
        chunk[4 * 700..][..4].copy_from_slice(&f32::NEG_INFINITY.to_le_bytes());
        chunk[4 * 800..][..4].copy_from_slice(&f32::NAN.to_le_bytes());
        assert_eq!(F32.first_other(&chunk), Some((700, "infinity")));
        let double = [1.0, f64::NAN].map(f64::to_le_bytes).concat();
        assert_eq!(F64.first_other(&double), Some((1, "NaN")));
        assert_eq!(F64.first_other(&f64::MAX.to_le_bytes()), None);
    }
}
