//! The operations in plain Rust: slow without hardware fused multiply-add, and the definition of the others.

use half::{bf16, f16};
use xgraft_fp8_codec::{E4m3, E5m2};

use super::{LANES, Lanes};

/// Any processor.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Portable;

impl Lanes for Portable {
    type V = [f32; LANES];

    #[inline(always)]
    fn splat(self, x: f32) -> Self::V {
        [x; LANES]
    }

    #[inline(always)]
    fn load(self, from: &[f32; LANES]) -> Self::V {
        *from
    }

    #[inline(always)]
    fn store(self, v: Self::V, to: &mut [f32; LANES]) {
        *to = v;
    }

    #[inline(always)]
    fn mul(self, a: Self::V, b: Self::V) -> Self::V {
        std::array::from_fn(|l| a[l] * b[l])
    }

    #[inline(always)]
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        std::array::from_fn(|l| a[l].mul_add(b[l], c[l]))
    }

    #[inline(always)]
    fn sum(self, mut v: Self::V) -> f32 {
        for half in [8, 4, 2, 1] {
            for l in 0..half {
                v[l] += v[l + half];
            }
        }
        v[0]
    }

    #[inline(always)]
    fn f32(self, from: &[u8; 64]) -> Self::V {
        std::array::from_fn(|l| f32::from_le_bytes(part(from, l)))
    }

    #[inline(always)]
    fn bf16(self, from: &[u8; 32]) -> Self::V {
        std::array::from_fn(|l| bf16::from_le_bytes(part(from, l)).to_f32())
    }

    #[inline(always)]
    fn f16(self, from: &[u8; 32]) -> Self::V {
        std::array::from_fn(|l| f16::from_le_bytes(part(from, l)).to_f32())
    }

    #[inline(always)]
    fn e4m3(self, from: &[u8; 16]) -> Self::V {
        from.map(|code| {
            let value = E4m3::from_bits(code).decode();
            let beyond = 480.0_f32.copysign(value);
            (if value.is_nan() { beyond } else { value }) / 256.0
        })
    }

    #[inline(always)]
    fn e5m2(self, from: &[u8; 16]) -> Self::V {
        from.map(|code| E5m2::from_bits(code).decode())
    }

    #[inline(always)]
    fn i8(self, from: &[u8; 16]) -> Self::V {
        from.map(|code| f32::from(code.cast_signed()))
    }

    #[inline(always)]
    fn nibbles(self, from: &[u8; 8], table: Self::V) -> Self::V {
        std::array::from_fn(|l| table[usize::from(from[l / 2] >> (4 * (l % 2)) & 15)])
    }
}

#[inline(always)]
fn part<const N: usize>(from: &[u8], lane: usize) -> [u8; N] {
    std::array::from_fn(|i| from[lane * N + i])
}
