//! What quantizing asks of a type of weights.

use half::{bf16, f16};
use xgraft_fp8_codec::{self as codec, Codec, Overflow, Quotient, Scaled};

use crate::{Arithmetic, Recipe, WeightDtype};

/// A type of weights.
pub(crate) trait Element: Copy + Sync {
    const DTYPE: WeightDtype;

    fn to_f32(self) -> f32;

    /// The largest magnitude; not finite if an element is not.
    fn amax(src: codec::Rows<'_, Self>) -> f32;

    /// The codes of elements that share a scale.
    fn encode(
        recipe: &Recipe,
        scale: f32,
        src: codec::Rows<'_, Self>,
        codes: codec::RowsMut<'_, u8>,
    );
}

impl Element for f32 {
    const DTYPE: WeightDtype = WeightDtype::F32;

    fn to_f32(self) -> f32 {
        self
    }

    fn amax(src: codec::Rows<'_, Self>) -> f32 {
        Codec::best().amax_f32(src)
    }

    fn encode(
        recipe: &Recipe,
        scale: f32,
        src: codec::Rows<'_, Self>,
        codes: codec::RowsMut<'_, u8>,
    ) {
        // compressed-tensors rounds the quotient to the type of the weights, which it has already.
        let rule = scaled(recipe, scale, Quotient::F32);
        Codec::best().encode_scaled_f32(&rule, src, codes);
    }
}

impl Element for bf16 {
    const DTYPE: WeightDtype = WeightDtype::Bf16;

    fn to_f32(self) -> f32 {
        self.to_f32()
    }

    fn amax(src: codec::Rows<'_, Self>) -> f32 {
        Codec::best().amax_bf16(src)
    }

    fn encode(
        recipe: &Recipe,
        scale: f32,
        src: codec::Rows<'_, Self>,
        codes: codec::RowsMut<'_, u8>,
    ) {
        let quotient = match recipe.arithmetic {
            Arithmetic::F32 => Quotient::F32,
            Arithmetic::CompressedTensors => Quotient::Bf16,
        };
        let rule = scaled(recipe, scale, quotient);
        Codec::best().encode_scaled_bf16(&rule, src, codes);
    }
}

/// Rare among checkpoints, so it goes through a small buffer of f32.
impl Element for f16 {
    const DTYPE: WeightDtype = WeightDtype::F16;

    fn to_f32(self) -> f32 {
        self.to_f32()
    }

    fn amax(src: codec::Rows<'_, Self>) -> f32 {
        let magnitudes = src.iter().flatten().map(|x| x.to_bits() & 0x7fff);
        Self::from_bits(magnitudes.max().unwrap_or(0)).to_f32()
    }

    fn encode(
        recipe: &Recipe,
        scale: f32,
        src: codec::Rows<'_, Self>,
        mut codes: codec::RowsMut<'_, u8>,
    ) {
        let mut buffer = [0f32; 256];
        for (src, codes) in src.iter().zip(codes.iter_mut()) {
            for (src, codes) in src.chunks(256).zip(codes.chunks_mut(256)) {
                let quotients = &mut buffer[..src.len()];
                for (x, q) in src.iter().zip(&mut *quotients) {
                    let quotient = x.to_f32() / scale;
                    *q = match recipe.arithmetic {
                        Arithmetic::F32 => quotient,
                        Arithmetic::CompressedTensors => Self::from_f32(quotient).to_f32(),
                    };
                }
                let quotients = &*quotients;
                Codec::best().encode_f32(recipe.format, Overflow::Saturate, quotients, codes);
            }
        }
    }
}

fn scaled(recipe: &Recipe, scale: f32, quotient: Quotient) -> Scaled {
    Scaled {
        format: recipe.format,
        scale,
        quotient,
    }
}
