//! Stored bytes to numbers, one chunk at a time, with a look at every exponent.
//!
//! A chunk is still in the cache when it comes here, so the test for NaN and infinity is a second pass over it:
//! the largest magnitude as an integer, which compilers vectorise for every element size.

use half::{bf16, f16};
use xgraft_block_scale::Format;

/// A number type that is stored little-endian in a file.
pub(crate) trait Element: Copy {
    /// Bytes of one element.
    const BYTES: usize;

    /// Reads one element from exactly [`Element::BYTES`] bytes.
    fn decode(bytes: &[u8]) -> Self;

    /// Whether every element of a chunk is finite.
    fn all_finite(chunk: &[u8]) -> bool;

    /// What to call an element that is not finite.
    fn is_nan(self) -> bool;
}

macro_rules! element {
    ($type:ty, $bits:ty, $signed:ty, $largest_finite:expr) => {
        impl Element for $type {
            const BYTES: usize = size_of::<$type>();

            fn decode(bytes: &[u8]) -> Self {
                let mut buffer = [0; size_of::<$type>()];
                buffer.copy_from_slice(bytes);
                <$type>::from_le_bytes(buffer)
            }

            fn all_finite(chunk: &[u8]) -> bool {
                let magnitude = |b: &[u8]| {
                    let mut buffer = [0; size_of::<$type>()];
                    buffer.copy_from_slice(b);
                    // The sign bit is masked, so the signed comparison is the one that SSE2 has.
                    (<$bits>::from_le_bytes(buffer) & <$bits>::MAX >> 1) as $signed
                };
                let largest = chunk
                    .chunks_exact(size_of::<$type>())
                    .map(magnitude)
                    .fold(0, <$signed>::max);
                largest <= $largest_finite
            }

            fn is_nan(self) -> bool {
                <$type>::is_nan(self)
            }
        }
    };
}

element!(bf16, u16, i16, 0x7f7f);
element!(f16, u16, i16, 0x7bff);
element!(f32, u32, i32, 0x7f7f_ffff);
element!(f64, u64, i64, 0x7fef_ffff_ffff_ffff);

/// Index and name of the first element of a chunk that is not finite.
pub(crate) fn first_not_finite<T: Element>(chunk: &[u8]) -> Option<(usize, String)> {
    if T::all_finite(chunk) {
        return None;
    }
    let at = chunk
        .chunks_exact(T::BYTES)
        .position(|one| !T::all_finite(one))?;
    let value = T::decode(&chunk[at * T::BYTES..][..T::BYTES]);
    Some((
        at,
        if value.is_nan() { "NaN" } else { "infinity" }.to_owned(),
    ))
}

/// Index and name of the first code of a chunk that is no finite number.
pub(crate) fn first_bad_code(codes: &[u8], format: Format) -> Option<(usize, String)> {
    let largest_finite = match format {
        Format::E4m3 => 0x7e,
        Format::E5m2 => 0x7b,
    };
    let largest = codes.iter().map(|c| c & 0x7f).fold(0, u8::max);
    if largest <= largest_finite {
        return None;
    }
    let at = codes.iter().position(|c| c & 0x7f > largest_finite)?;
    Some((at, format!("the code {:#04x}", codes[at])))
}

/// Appends a chunk's elements to `out`.
pub(crate) fn extend<T: Element>(out: &mut Vec<T>, chunk: &[u8]) {
    out.extend(chunk.chunks_exact(T::BYTES).map(T::decode));
}

/// Appends a chunk's elements to `out` as f32.
pub(crate) fn extend_f32<T: Element>(out: &mut Vec<f32>, chunk: &[u8], to_f32: impl Fn(T) -> f32) {
    out.extend(
        chunk
            .chunks_exact(T::BYTES)
            .map(|one| to_f32(T::decode(one))),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bf16_is_told_finite_or_not() {
        for bits in 0..=u16::MAX {
            let finite = bf16::from_bits(bits).is_finite();
            assert_eq!(
                first_not_finite::<bf16>(&bits.to_le_bytes()).is_none(),
                finite,
                "{bits:#06x}"
            );
            let finite = f16::from_bits(bits).is_finite();
            assert_eq!(
                first_not_finite::<f16>(&bits.to_le_bytes()).is_none(),
                finite,
                "{bits:#06x}"
            );
        }
    }

    #[test]
    fn the_first_bad_element_is_found_and_named() {
        let mut chunk: Vec<u8> = (0..1000u32)
            .flat_map(|i| (i as f32).to_le_bytes())
            .collect();
        assert_eq!(first_not_finite::<f32>(&chunk), None);
        chunk[4 * 700..][..4].copy_from_slice(&f32::NEG_INFINITY.to_le_bytes());
        chunk[4 * 800..][..4].copy_from_slice(&f32::NAN.to_le_bytes());
        assert_eq!(
            first_not_finite::<f32>(&chunk),
            Some((700, "infinity".to_owned()))
        );
    }

    #[test]
    fn nan_codes_are_0x7f_and_0xff_in_e4m3() {
        assert_eq!(first_bad_code(&[0x7e, 0xfe, 0], Format::E4m3), None);
        assert_eq!(
            first_bad_code(&[0, 0xff], Format::E4m3),
            Some((1, "the code 0xff".to_owned()))
        );
        assert_eq!(
            first_bad_code(&[0x7b, 0x7c], Format::E5m2),
            Some((1, "the code 0x7c".to_owned()))
        );
    }
}
