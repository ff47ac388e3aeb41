//! How a scale is found and stored, and how the quotient is rounded.

use xgraft_fp8_codec::Format;

use crate::{BlockShape, Error, Result, ScaleDtype, WeightDtype, strip::assert_count};

/// How to quantize a matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recipe {
    /// The format of the codes.
    pub format: Format,
    /// Which elements share a scale.
    pub block: BlockShape,
    /// The type that scales are stored in.
    pub scale: ScaleDtype,
    /// How scale and quotient are rounded.
    pub arithmetic: Arithmetic,
}

/// How scale and quotient are rounded. In both, scale = amax / largest value of the format, rounded to the stored type,
/// and code = the nearest number to clamp(weight / scale), where the stored scale divides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Arithmetic {
    /// In f32 until the code: one rounding of the scale, one of the code.
    ///
    /// A block whose scale would be zero has the scale 1. This is what the official `quant_method: fp8` files are read as.
    F32,
    /// Byte for byte what compressed-tensors does: the quotient is rounded to the type of the weights too, scales have that
    /// type, and a block whose scale would be zero has that type's epsilon for a scale (2^-7 for BF16).
    ///
    /// **Source** compressed-tensors 0.20 `quantization/utils/helpers.py::calculate_qparams`,
    /// `quantization/lifecycle/forward_helpers.py::_quantize`.
    CompressedTensors,
}

impl Recipe {
    /// E4M3 with [`Arithmetic::F32`].
    pub const fn f32(block: BlockShape, scale: ScaleDtype) -> Self {
        Self {
            format: Format::E4m3,
            block,
            scale,
            arithmetic: Arithmetic::F32,
        }
    }

    /// E4M3 as compressed-tensors makes it of BF16 weights: BF16 scales.
    pub const fn compressed_tensors(block: BlockShape) -> Self {
        Self {
            format: Format::E4m3,
            block,
            scale: ScaleDtype::Bf16,
            arithmetic: Arithmetic::CompressedTensors,
        }
    }

    /// The scale of a block of weights of this type: positive, finite, and rounded to the stored type.
    ///
    /// Nothing if the type has no such number: amax is not finite, or the scale is above 65504 in F16.
    pub fn scale_of(&self, amax: f32, weights: WeightDtype) -> Option<f32> {
        let scale = amax / self.format.max();
        let scale = match self.scale {
            // UE8M0 has no zero, and says NaN.
            ScaleDtype::Ue8m0 if scale == 0.0 => 0.0,
            dtype => dtype.round(scale),
        };
        if scale == 0.0 {
            return Some(self.scale_of_zeros(weights));
        }
        scale.is_finite().then_some(scale)
    }

    /// The scale of a block whose own would be zero.
    const fn scale_of_zeros(&self, weights: WeightDtype) -> f32 {
        match (self.arithmetic, weights) {
            (Arithmetic::F32, _) => 1.0,
            (Arithmetic::CompressedTensors, WeightDtype::F32) => f32::EPSILON,
            (Arithmetic::CompressedTensors, WeightDtype::Bf16) => {
                half::bf16::EPSILON.to_f32_const()
            }
            (Arithmetic::CompressedTensors, WeightDtype::F16) => half::f16::EPSILON.to_f32_const(),
        }
    }

    /// The scales of a grid of largest magnitudes, as [`crate::amax_rows`] gives it.
    ///
    /// # Errors
    /// A scale that does not fit in its type, and scales of another type than compressed-tensors would use.
    ///
    /// # Panics
    /// If `amax` is no multiple of `grid_cols` long.
    pub fn scales(&self, amax: &[f32], grid_cols: usize, weights: WeightDtype) -> Result<Vec<f32>> {
        self.check(weights)?;
        let grid_rows = amax.len() / grid_cols.max(1);
        assert_count(
            "largest magnitudes of a grid",
            amax.len(),
            grid_rows * grid_cols,
        );
        let scales = amax.iter().enumerate().map(|(i, &amax)| {
            let at = (i / grid_cols, i % grid_cols);
            self.scale_at(at, amax, weights)
        });
        scales.collect()
    }

    /// [`Self::scale_of`], or the error of the block at `at`.
    pub(crate) fn scale_at(
        &self,
        (block_row, block_col): (usize, usize),
        amax: f32,
        weights: WeightDtype,
    ) -> Result<f32> {
        self.scale_of(amax, weights).ok_or(Error::ScaleOverflow {
            block_row,
            block_col,
            amax,
            dtype: self.scale,
        })
    }

    /// Whether the recipe suits weights of this type.
    pub(crate) fn check(&self, weights: WeightDtype) -> Result<()> {
        let same = match weights {
            WeightDtype::F32 => ScaleDtype::F32,
            WeightDtype::Bf16 => ScaleDtype::Bf16,
            WeightDtype::F16 => ScaleDtype::F16,
        };
        if self.arithmetic == Arithmetic::CompressedTensors && self.scale != same {
            return Err(Error::ScaleDtype {
                expected: weights,
                found: self.scale,
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_of_zeros_has_scale_one_or_the_epsilon_of_compressed_tensors() {
        for dtype in [
            ScaleDtype::F32,
            ScaleDtype::Bf16,
            ScaleDtype::F16,
            ScaleDtype::Ue8m0,
        ] {
            let recipe = Recipe::f32(BlockShape::B128, dtype);
            assert_eq!(recipe.scale_of(0.0, WeightDtype::Bf16), Some(1.0));
        }
        let recipe = Recipe::compressed_tensors(BlockShape::B128);
        assert_eq!(recipe.scale_of(0.0, WeightDtype::Bf16), Some(0.007_812_5));
    }

    #[test]
    fn a_scale_is_rounded_to_the_type_it_is_stored_in() {
        let bf16 = Recipe::f32(BlockShape::B128, ScaleDtype::Bf16);
        assert_eq!(bf16.scale_of(448.0 * 1.003, WeightDtype::F32), Some(1.0));
        let ue8m0 = Recipe::f32(BlockShape::B128, ScaleDtype::Ue8m0);
        assert_eq!(ue8m0.scale_of(448.0 * 1.003, WeightDtype::F32), Some(2.0));
    }

    #[test]
    fn an_amax_beyond_the_scale_type_has_no_scale() {
        let recipe = Recipe::f32(BlockShape::B128, ScaleDtype::F16);
        assert_eq!(recipe.scale_of(1e9, WeightDtype::F32), None);
        assert_eq!(recipe.scale_of(f32::NAN, WeightDtype::F32), None);
    }
}
