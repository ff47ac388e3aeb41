//! What the codes of a grouped matrix mean.

use xgraft_int_codec::Nf4;

/// The values that a code can stand for, before its scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Levels {
    /// Integers of so many bits, 2 to 8, stored as offset binary: `code - zero`, where zero is 2^(bits-1) if all have the
    /// same.
    Int(u8),
    /// The sixteen levels of [`Nf4`]; the scale is the largest magnitude of the group.
    Nf4,
    /// ±{0, 0.5, 1, 1.5, 2, 3, 4, 6}; the sign is the fourth bit.
    ///
    /// **Source** OCP Microscaling Formats (MX) 1.0, section 5.3.3.
    E2m1,
}

/// The magnitudes of [`Levels::E2m1`].
const E2M1: [f32; 8] = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0];

impl Levels {
    /// Bits of a code.
    pub const fn bits(self) -> u8 {
        match self {
            Self::Int(bits) => bits,
            Self::Nf4 | Self::E2m1 => 4,
        }
    }

    /// Number of levels.
    pub const fn count(self) -> u32 {
        1 << self.bits()
    }

    /// The zero point of a symmetric matrix of integers; 0 for a table.
    pub const fn middle(self) -> u8 {
        match self {
            Self::Int(bits) => 1 << (bits - 1),
            Self::Nf4 | Self::E2m1 => 0,
        }
    }

    /// What the largest magnitude is divided by to give a symmetric scale: half the range for integers, as compressed-tensors
    /// has it (7.5 for four bits), else the largest level.
    pub fn reach(self) -> f32 {
        match self {
            Self::Int(_) => (self.count() - 1) as f32 / 2.0,
            Self::Nf4 => 1.0,
            Self::E2m1 => 6.0,
        }
    }

    /// The value of a code before its scale.
    pub fn value(self, code: u8, zero: u8) -> f32 {
        match self {
            Self::Int(_) => f32::from(code) - f32::from(zero),
            Self::Nf4 => Nf4::decode(code),
            Self::E2m1 => {
                let magnitude = E2M1[usize::from(code & 7)];
                if code & 8 == 0 { magnitude } else { -magnitude }
            }
        }
    }

    /// The values of codes of a table that share a scale.
    ///
    /// # Panics
    /// If the lengths differ.
    pub(crate) fn look_up(self, codes: &[u8], scale: f32, out: &mut [f32]) {
        assert_eq!(codes.len(), out.len(), "values of the codes");
        let table: [f32; 16] = std::array::from_fn(|code| self.value(code as u8, 0));
        for (out, code) in out.iter_mut().zip(codes) {
            *out = table[usize::from(code & 0xf)] * scale;
        }
    }

    /// The code of the level nearest to `x`, for a table.
    pub(crate) fn nearest(self, x: f32) -> u8 {
        match self {
            Self::Int(_) | Self::Nf4 => Nf4::encode(x),
            Self::E2m1 => {
                let magnitude = x.abs();
                let mut code = 0;
                for (i, pair) in E2M1.windows(2).enumerate() {
                    let middle = f32::midpoint(pair[0], pair[1]);
                    // Ties go to the even code, as IEEE rounding does.
                    code += u8::from(magnitude > middle || (magnitude == middle && i % 2 == 1));
                }
                code | u8::from(x.is_sign_negative() && code > 0) << 3
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e2m1_rounds_to_nearest_even_and_clamps() {
        let rounded = |x: f32| Levels::E2m1.value(Levels::E2m1.nearest(x), 0);
        for (x, expected) in [
            (0.25, 0.0),
            (0.75, 1.0),
            (1.25, 1.0),
            (1.75, 2.0),
            (2.5, 2.0),
            (3.5, 4.0),
            (5.0, 4.0),
            (5.01, 6.0),
            (100.0, 6.0),
            (-0.6, -0.5),
            (-0.1, 0.0),
        ] {
            assert_eq!(rounded(x), expected, "{x}");
        }
    }

    #[test]
    fn integers_are_offset_binary() {
        assert_eq!(Levels::Int(4).value(0, Levels::Int(4).middle()), -8.0);
        assert_eq!(Levels::Int(4).value(15, 8), 7.0);
        assert_eq!(Levels::Int(8).value(0, 128), -128.0);
        assert_eq!(Levels::Int(8).reach(), 127.5);
    }
}
