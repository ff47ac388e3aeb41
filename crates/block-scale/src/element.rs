//! What quantizing asks of a type of weights.

use half::{bf16, f16};
use xgraft_fp8_codec::{Codec, Overflow, Quotient, Rows, RowsMut, Scales};

use crate::{Arithmetic, Recipe, WeightDtype};

/// A result of at least so many bytes does not stay in the cache anyway.
const LARGE: usize = 32 << 20;

/// The implementation to use for a strip with a result of so many bytes.
pub(crate) fn codec_for(bytes: usize) -> Codec {
    match bytes >= LARGE {
        true => Codec::best().streaming(),
        false => Codec::best(),
    }
}

/// A type of weights.
pub(crate) trait Element: xgraft_int_codec::Element + Sync {
    const DTYPE: WeightDtype;

    fn to_f32(self) -> f32;

    /// The largest magnitude in each block of `width` columns; not finite if an element is not.
    fn amax(src: Rows<'_, Self>, width: usize, amax: &mut [f32]);

    /// The codes of a row of blocks.
    fn encode(
        codec: Codec,
        recipe: &Recipe,
        scales: Scales<'_>,
        src: Rows<'_, Self>,
        codes: RowsMut<'_, u8>,
    );
}

impl Element for f32 {
    const DTYPE: WeightDtype = WeightDtype::F32;

    fn to_f32(self) -> f32 {
        self
    }

    fn amax(src: Rows<'_, Self>, width: usize, amax: &mut [f32]) {
        Codec::best().amax_blocks_f32(src, width, amax);
    }

    fn encode(
        codec: Codec,
        recipe: &Recipe,
        scales: Scales<'_>,
        src: Rows<'_, Self>,
        codes: RowsMut<'_, u8>,
    ) {
        // compressed-tensors rounds the quotient to the type of the weights, which it has already.
        codec.encode_blocks_f32(recipe.format, Quotient::F32, scales, src, codes);
    }
}

impl Element for bf16 {
    const DTYPE: WeightDtype = WeightDtype::Bf16;

    #[inline]
    fn to_f32(self) -> f32 {
        self.to_f32()
    }

    fn amax(src: Rows<'_, Self>, width: usize, amax: &mut [f32]) {
        Codec::best().amax_blocks_bf16(src, width, amax);
    }

    fn encode(
        codec: Codec,
        recipe: &Recipe,
        scales: Scales<'_>,
        src: Rows<'_, Self>,
        codes: RowsMut<'_, u8>,
    ) {
        let quotient = match recipe.arithmetic {
            Arithmetic::F32 => Quotient::F32,
            Arithmetic::CompressedTensors => Quotient::Bf16,
        };
        codec.encode_blocks_bf16(recipe.format, quotient, scales, src, codes);
    }
}

/// Rare among checkpoints, so it goes through a small buffer of f32.
impl Element for f16 {
    const DTYPE: WeightDtype = WeightDtype::F16;

    #[inline]
    fn to_f32(self) -> f32 {
        self.to_f32()
    }

    fn amax(src: Rows<'_, Self>, width: usize, amax: &mut [f32]) {
        amax.fill(0.0);
        for row in src.iter() {
            for (block, amax) in row.chunks(width).zip(&mut *amax) {
                // Magnitudes are ordered as their bits are, and NaN comes after infinity.
                let bits = block.iter().map(|x| x.to_bits() & 0x7fff).max();
                let block = Self::from_bits(bits.unwrap_or(0)).to_f32();
                *amax = f32::from_bits(amax.to_bits().max(block.to_bits()));
            }
        }
    }

    fn encode(
        codec: Codec,
        recipe: &Recipe,
        scales: Scales<'_>,
        src: Rows<'_, Self>,
        mut codes: RowsMut<'_, u8>,
    ) {
        for (src, codes) in src.iter().zip(codes.iter_mut()) {
            let blocks = src.chunks(scales.width).zip(codes.chunks_mut(scales.width));
            for ((src, codes), &scale) in blocks.zip(scales.values) {
                encode_run_f16(codec, recipe, scale, src, codes);
            }
        }
    }
}

fn encode_run_f16(codec: Codec, recipe: &Recipe, scale: f32, src: &[f16], codes: &mut [u8]) {
    let mut buffer = [0f32; 256];
    for (src, codes) in src.chunks(256).zip(codes.chunks_mut(256)) {
        let quotients = &mut buffer[..src.len()];
        for (x, q) in src.iter().zip(&mut *quotients) {
            let quotient = x.to_f32() / scale;
            *q = match recipe.arithmetic {
                Arithmetic::F32 => quotient,
                Arithmetic::CompressedTensors => f16::from_f32(quotient).to_f32(),
            };
        }
        codec.encode_f32(recipe.format, Overflow::Saturate, &*quotients, codes);
    }
}
