//! The inner loops over a tile: [`portable`] is their definition, and every instruction set gives its bits.
//!
//! A sum has [`LANES`] lanes in f32, of which lane i takes the numbers i, i + 16, i + 32, ...; the lanes are then added in
//! f64, in halves. Stored BF16 has twice the lanes, i for i, i + 32, ..., because a register holds as many; there 2i and 2i + 1
//! are added first. A square is rounded to f32 and then multiplied and added in one step.

mod portable;
#[cfg(target_arch = "x86_64")]
mod x86_64;

use std::sync::OnceLock;

/// Numbers that are taken in at once.
pub(crate) const LANES: usize = 16;

/// So many numbers.
pub(crate) type Lanes = [f32; LANES];

/// Twice as many in BF16, little-endian.
pub(crate) type Bf16Lanes = [u8; 2 * BF16_LANES];

/// Numbers in BF16 that are taken in at once.
pub(crate) const BF16_LANES: usize = 2 * LANES;

/// What a tile of numbers sums to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct TileSums {
    /// Σx, Σx², Σx³, Σx⁴.
    pub(crate) powers: [f64; 4],
    /// The smallest, +∞ of none; NaN is passed over. A zero may have either sign.
    pub(crate) min: f32,
    /// The largest likewise, −∞ of none.
    pub(crate) max: f32,
    /// Zeros of either sign.
    pub(crate) zeros: u32,
}

/// An instruction set that this processor was seen to have.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Isa {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2(x86_64::Avx2),
    #[cfg(target_arch = "x86_64")]
    Avx512(x86_64::Avx512),
}

/// Calls the function of an instruction set.
macro_rules! dispatch {
    ($isa:expr, $name:ident($($argument:expr),*)) => {
        match $isa {
            Isa::Portable => portable::$name($($argument),*),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2(isa) => isa.$name($($argument),*),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512(isa) => isa.$name($($argument),*),
        }
    };
}

impl Isa {
    /// The fastest of this processor, looked up once.
    pub(crate) fn best() -> Self {
        static BEST: OnceLock<Isa> = OnceLock::new();
        *BEST.get_or_init(|| Self::available().last().unwrap_or(Self::Portable))
    }

    /// All of this processor, slowest first.
    pub(crate) fn available() -> impl Iterator<Item = Self> {
        #[cfg(target_arch = "x86_64")]
        let special = [
            x86_64::Avx2::detect().map(Self::Avx2),
            x86_64::Avx512::detect().map(Self::Avx512),
        ];
        #[cfg(not(target_arch = "x86_64"))]
        let special: [Option<Self>; 0] = [];
        std::iter::once(Self::Portable).chain(special.into_iter().flatten())
    }

    /// Sums, extremes and zeros of a tile.
    pub(crate) fn sums(self, tile: &[Lanes]) -> TileSums {
        dispatch!(self, sums(tile))
    }

    /// Sums, extremes and zeros of the rows of a tile in BF16, one after the other. `None` for the few tiles of which 16-bit
    /// integers do not show the extremes: one with NaN or infinities, or without numbers of either sign.
    pub(crate) fn sums_bf16(self, rows: &[&[Bf16Lanes]]) -> Option<TileSums> {
        dispatch!(self, sums_bf16(rows))
    }

    /// Σx, Σy, Σx², Σy², Σxy, Σ(x − y)².
    ///
    /// **Panics** if one has more lanes than the other.
    pub(crate) fn products(self, xs: &[Lanes], ys: &[Lanes]) -> [f64; 6] {
        assert_eq!(xs.len(), ys.len(), "a number and its reference");
        dispatch!(self, products(xs, ys))
    }

    /// BF16, little-endian, to f32: as many as both have.
    pub(crate) fn widen_bf16(self, bytes: &[u8], out: &mut [f32]) {
        dispatch!(self, widen_bf16(bytes, out));
    }

    /// Multiplies every number by `factor`.
    pub(crate) fn scale(self, numbers: &mut [f32], factor: f32) {
        dispatch!(self, scale(numbers, factor));
    }

    /// How many bytes are `code`, but for their highest bit.
    pub(crate) fn count_magnitude(self, bytes: &[u8], code: u8) -> u64 {
        dispatch!(self, count_magnitude(bytes, code))
    }
}

/// The smallest and the largest of BF16 numbers, by the bits of the largest as a signed and as an unsigned integer: magnitudes
/// are ordered as integers are, those of negative numbers above all others where the sign counts as a bit.
fn bf16_extremes(signed: i16, unsigned: u16) -> Option<(f32, f32)> {
    const INFINITY: u16 = 0x7f80;
    const SIGN: u16 = 0x8000;
    let both = (0..INFINITY.cast_signed()).contains(&signed)
        && (SIGN..SIGN + INFINITY).contains(&unsigned);
    let number = |bits: u16| f32::from_bits(u32::from(bits) << 16);
    both.then(|| (number(unsigned), number(signed.cast_unsigned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers of both signs with some that are special, `count` times sixteen.
    fn tile(count: usize, special: &[f32]) -> Vec<f32> {
        let number = |i: usize| ((i * i + 3 * i) as f32 * 0.37).sin() * 0.02 + 0.003;
        let mut tile: Vec<f32> = (0..count * LANES).map(number).collect();
        for (i, x) in special.iter().enumerate() {
            let at = (i * 7 + 5) % tile.len().max(1);
            if let Some(slot) = tile.get_mut(at) {
                *slot = *x;
            }
        }
        tile
    }

    fn bits(sums: &TileSums) -> ([u64; 4], f32, f32, u32) {
        (
            // NaN has many bits, and which of them a sum gets is nobody's business.
            sums.powers
                .map(|s| if s.is_nan() { u64::MAX } else { s.to_bits() }),
            sums.min,
            sums.max,
            sums.zeros,
        )
    }

    #[test]
    fn every_instruction_set_gives_the_bits_of_the_definition() {
        let zeros = [0.0, -0.0, 0.0];
        let hostile = [
            f32::NAN,
            f32::INFINITY,
            f32::NEG_INFINITY,
            1e30,
            -1e-40,
            0.0,
        ];
        for special in [&[][..], &zeros, &hostile] {
            for count in [0, 1, 2, 3, 8, 64] {
                let (xs, ys) = (tile(count, special), tile(count, &[0.5, -0.25]));
                let (xs, ys) = (xs.as_chunks().0, ys.as_chunks().0);
                let expected = portable::sums(xs);
                let products = portable::products(ys, ys).map(f64::to_bits);
                for isa in Isa::available() {
                    assert_eq!(bits(&isa.sums(xs)), bits(&expected), "{isa:?} {count}");
                    let found = isa.products(ys, ys).map(f64::to_bits);
                    assert_eq!(found, products, "{isa:?} {count}");
                }
            }
        }
    }

    fn to_bf16(numbers: &[f32]) -> Vec<u8> {
        let bits = |x: &f32| ((x.to_bits() >> 16) as u16).to_le_bytes();
        numbers.iter().flat_map(bits).collect()
    }

    #[test]
    fn rows_in_bf16_sum_as_their_numbers_do() {
        for special in [&[][..], &[0.0, -0.0], &[1e-40, -3e4]] {
            let bytes = to_bf16(&tile(24, special));
            let lanes: &[Bf16Lanes] = bytes.as_chunks().0;
            let mut numbers = vec![0f32; bytes.len() / 2];
            portable::widen_bf16(&bytes, &mut numbers);
            let rows = [&lanes[..5], &lanes[5..5], &lanes[5..11], &lanes[11..]];
            let found = portable::sums_bf16(&rows).unwrap();
            for isa in Isa::available() {
                assert_eq!(isa.sums_bf16(&rows), Some(found), "{isa:?}");
            }
            let expected = portable::sums(numbers.as_chunks().0);
            assert_eq!(
                (found.min, found.max, found.zeros),
                (expected.min, expected.max, expected.zeros)
            );
            for (a, b) in found.powers.into_iter().zip(expected.powers) {
                assert!((a - b).abs() <= 1e-5 * b.abs(), "{a} {b}");
            }
        }
    }

    #[test]
    fn bf16_of_one_sign_or_not_finite_is_left_to_others() {
        let ordinary = tile(4, &[]);
        let with = |x: f32| {
            let mut numbers = ordinary.clone();
            numbers[37] = x;
            numbers
        };
        let of = |sign: f32| ordinary.iter().map(|x| x.abs() * sign).collect();
        let cases: [Vec<f32>; 6] = [
            with(f32::NAN),
            with(-f32::NAN),
            with(f32::INFINITY),
            with(f32::NEG_INFINITY),
            of(1.0),
            of(-1.0),
        ];
        for isa in Isa::available() {
            assert_eq!(isa.sums_bf16(&[]), None, "{isa:?}");
            for numbers in &cases {
                let bytes = to_bf16(numbers);
                assert_eq!(isa.sums_bf16(&[bytes.as_chunks().0]), None, "{isa:?}");
            }
        }
    }

    #[test]
    fn every_instruction_set_widens_every_bf16() {
        let bytes: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
        for isa in Isa::available() {
            for len in [1 << 16, 37, 0] {
                let mut out = vec![0.0; len];
                isa.widen_bf16(&bytes, &mut out);
                for (i, x) in out.iter().enumerate() {
                    assert_eq!(x.to_bits(), (i as u32) << 16, "{isa:?}");
                }
            }
        }
    }

    #[test]
    fn every_instruction_set_scales_and_counts() {
        let numbers = tile(3, &[0.0]);
        let bytes: Vec<u8> = (0..1000).map(|i| (i % 256) as u8).collect();
        for isa in Isa::available() {
            let mut scaled = numbers[..45].to_vec();
            isa.scale(&mut scaled, 0.3);
            let expected: Vec<f32> = numbers[..45].iter().map(|x| x * 0.3).collect();
            assert_eq!(scaled, expected, "{isa:?}");
            assert_eq!(isa.count_magnitude(&bytes, 0x7e), 7, "{isa:?}");
        }
    }
}
