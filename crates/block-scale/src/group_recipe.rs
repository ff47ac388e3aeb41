//! How a grouped matrix is made of weights.

use half::{bf16, f16};
use rayon::prelude::*;
use xgraft_fp8_codec::{E4m3, Overflow};
use xgraft_int_codec::{Codec, Groups, Quotient, Range};

use crate::element::Element;
use crate::quantize::{first_non_finite, for_element};
use crate::strip::assert_count;
use crate::{
    Arithmetic, Error, Extent, GroupedMatrix, Levels, Result, Rows, ScaleDtype, WeightDtype,
};

/// How to quantize in groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupRecipe {
    /// What the codes mean.
    pub levels: Levels,
    /// Elements of a row that share a scale.
    pub group: Extent,
    /// One zero point for all, in the middle of the range, rather than one for each group. Tables are always symmetric.
    pub symmetric: bool,
    /// The type that scales are stored in.
    pub scale: GroupScale,
    /// How scale, quotient and zero point are rounded.
    pub arithmetic: Arithmetic,
}

/// The type that the scales of groups are stored in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupScale {
    /// A float, rounded to nearest.
    Float(ScaleDtype),
    /// The power of two at or below that of the largest magnitude, over that of the largest level: MXFP4.
    ///
    /// **Source** OCP Microscaling Formats (MX) 1.0, section 6.3.
    PowerOfTwo,
    /// E4M3 times a scale of the whole tensor that lets the largest group have 448: NVFP4.
    E4m3OfTensor,
}

impl GroupRecipe {
    /// Integers with the arithmetic of compressed-tensors, which for weights of this type gives its bytes.
    pub fn compressed_tensors(
        bits: u8,
        group: Extent,
        symmetric: bool,
        weights: WeightDtype,
    ) -> Self {
        let scale = match weights {
            WeightDtype::F32 => ScaleDtype::F32,
            WeightDtype::Bf16 => ScaleDtype::Bf16,
            WeightDtype::F16 => ScaleDtype::F16,
        };
        Self {
            levels: Levels::Int(bits),
            group,
            symmetric,
            scale: GroupScale::Float(scale),
            arithmetic: Arithmetic::CompressedTensors,
        }
    }

    /// Quantizes a matrix of any type; `shrink` makes every scale smaller than the one that spans its group (1 for that one).
    ///
    /// **Shapes** `src` and `codes` `[rows, cols]`; scales and zero points `[rows, cols / group]`.
    ///
    /// # Errors
    /// An element that is NaN or infinite; a group size that does not divide the columns.
    ///
    /// # Panics
    /// If there are not `rows × cols` elements.
    pub fn quantize<'a>(
        &self,
        src: impl Into<Rows<'a>>,
        (rows, cols): (usize, usize),
        shrink: f32,
    ) -> Result<GroupedMatrix> {
        let src = src.into();
        assert_count("elements of a matrix", src.len(), rows * cols);
        let size = self.group.size(cols);
        if !cols.is_multiple_of(size) {
            return Err(Error::GroupSize { cols, group: size });
        }
        for_element!(src, data => self.quantize_matrix(data, (rows, cols), shrink))
    }

    fn quantize_matrix<T: Element>(
        &self,
        src: &[T],
        (rows, cols): (usize, usize),
        shrink: f32,
    ) -> Result<GroupedMatrix> {
        let groups = self.group.blocks(cols);
        let mut codes = vec![0; src.len()];
        let mut scales = vec![0.0; rows * groups];
        let mut zeros = vec![0; if self.symmetric { 0 } else { rows * groups }];
        let tensor_scale = self.tensor_scale(src);
        if cols > 0 {
            let mut none = vec![0; if self.symmetric { rows } else { 0 }];
            let zero_rows = if self.symmetric {
                none.par_chunks_mut(1)
            } else {
                zeros.par_chunks_mut(groups)
            };
            let found: Vec<Result<()>> = src
                .par_chunks(cols)
                .zip(codes.par_chunks_mut(cols))
                .zip(scales.par_chunks_mut(groups))
                .zip(zero_rows)
                .enumerate()
                .with_min_len((1_usize << 14).div_ceil(cols))
                .map_init(
                    || vec![Range::default(); groups],
                    |ranges, (row, (((src, codes), scales), zeros))| {
                        Codec::best().ranges(src, self.group.size(cols), ranges);
                        if ranges.iter().any(|range| !range.finite) {
                            return Err(first_non_finite(src, cols).below_rows(row));
                        }
                        let row_of = RowOf {
                            recipe: self,
                            weights: T::DTYPE,
                            shrink,
                            tensor_scale,
                        };
                        row_of.quantize(src, ranges, codes, scales, zeros).map_err(
                            |(block_col, amax)| Error::ScaleOverflow {
                                block_row: row,
                                block_col,
                                amax,
                                dtype: self.dtype(),
                            },
                        )
                    },
                )
                .collect();
            // The first error by row, whichever thread came first.
            found.into_iter().collect::<Result<Vec<()>>>()?;
        }
        Ok(GroupedMatrix {
            rows,
            cols,
            levels: self.levels,
            group: self.group,
            codes,
            scales,
            zeros: (!self.symmetric).then_some(zeros),
            groups_of: None,
        })
    }

    fn dtype(&self) -> ScaleDtype {
        match self.scale {
            GroupScale::Float(dtype) => dtype,
            GroupScale::PowerOfTwo => ScaleDtype::Ue8m0,
            GroupScale::E4m3OfTensor => ScaleDtype::F32,
        }
    }

    /// The scale of the whole tensor; 1 where there is none.
    fn tensor_scale<T: Element>(&self, src: &[T]) -> f32 {
        if self.scale != GroupScale::E4m3OfTensor {
            return 1.0;
        }
        let largest = src
            .par_chunks(1 << 16)
            .map(|chunk| chunk.iter().map(|x| x.to_f32().abs()).fold(0.0, f32::max))
            .reduce(|| 0.0, f32::max);
        let scale = largest / (448.0 * self.levels.reach());
        if scale > 0.0 && scale.is_finite() {
            scale
        } else {
            1.0
        }
    }
}

/// What the groups of a row are quantized by.
struct RowOf<'a> {
    recipe: &'a GroupRecipe,
    weights: WeightDtype,
    shrink: f32,
    tensor_scale: f32,
}

impl RowOf<'_> {
    /// A group whose scale does not fit is the error, with its largest magnitude.
    fn quantize<T: Element>(
        &self,
        src: &[T],
        ranges: &[Range],
        codes: &mut [u8],
        scales: &mut [f32],
        zeros: &mut [u8],
    ) -> std::result::Result<(), (usize, f32)> {
        for (at, (range, scale)) in ranges.iter().zip(&mut *scales).enumerate() {
            let amax = range.most.max(-range.least);
            if self.recipe.symmetric {
                *scale = self.symmetric(amax);
            } else {
                (*scale, zeros[at]) = self.asymmetric(range.least, range.most);
            }
            if !scale.is_finite() {
                return Err((at, amax));
            }
        }
        let zeros = (!self.recipe.symmetric).then_some(&*zeros);
        self.encode(src, scales, zeros, codes);
        Ok(())
    }

    /// As the arithmetic rounds: to the weights' type where that is compressed-tensors'.
    #[inline]
    fn round(&self, x: f32) -> f32 {
        match (self.recipe.arithmetic, self.weights) {
            (Arithmetic::F32, _) | (_, WeightDtype::F32) => x,
            (_, WeightDtype::Bf16) => bf16_round(x),
            (_, WeightDtype::F16) => f16::from_f32(x).to_f32(),
        }
    }

    fn symmetric(&self, amax: f32) -> f32 {
        let ideal = amax / self.recipe.levels.reach() * self.shrink;
        match self.recipe.scale {
            // bitsandbytes stores the largest magnitude itself, and so 0 for a group of zeros.
            GroupScale::Float(dtype) if self.recipe.levels == Levels::Nf4 => dtype.round(ideal),
            GroupScale::Float(_) => self.stored(ideal),
            GroupScale::PowerOfTwo if amax > 0.0 => {
                // The largest level is 1.5 × 4.
                2.0_f32.powi(exponent(amax * self.shrink) - 2)
            }
            GroupScale::PowerOfTwo => 1.0,
            GroupScale::E4m3OfTensor => {
                let code = E4m3::encode(ideal / self.tensor_scale, Overflow::Saturate);
                let scale = code.decode() * self.tensor_scale;
                if scale > 0.0 {
                    scale
                } else {
                    self.tensor_scale
                }
            }
        }
    }

    /// Scale and zero point; both cover zero, so that it is represented exactly.
    fn asymmetric(&self, least: f32, most: f32) -> (f32, u8) {
        let range = (self.recipe.levels.count() - 1) as f32;
        let middle = f32::from(self.recipe.levels.middle());
        let scale = self.round(most - least) / range * self.shrink;
        let rounded = self.recipe.dtype().round(self.round(scale));
        let zero = if rounded == 0.0 {
            // A group of zeros: the middle of the range.
            0.0
        } else {
            let below = self.round(least / rounded);
            self.round(-middle - below).clamp(-middle, range - middle)
        };
        (self.stored(scale), (zero.round_ties_even() + middle) as u8)
    }

    /// The scale as it is stored; that of a group of zeros is the type's epsilon, or 1.
    fn stored(&self, scale: f32) -> f32 {
        let scale = self.recipe.dtype().round(self.round(scale));
        if scale != 0.0 {
            return scale;
        }
        match (self.recipe.arithmetic, self.weights) {
            (Arithmetic::F32, _) => 1.0,
            (_, WeightDtype::F32) => f32::EPSILON,
            (_, WeightDtype::Bf16) => bf16::EPSILON.to_f32(),
            (_, WeightDtype::F16) => f16::EPSILON.to_f32(),
        }
    }

    fn encode<T: Element>(
        &self,
        src: &[T],
        scales: &[f32],
        zeros: Option<&[u8]>,
        codes: &mut [u8],
    ) {
        let (levels, size) = (self.recipe.levels, self.recipe.group.size(src.len()));
        let Levels::Int(bits) = levels else {
            let parts = src.chunks(size).zip(codes.chunks_mut(size));
            for ((src, codes), scale) in parts.zip(scales) {
                table_codes(levels, src, *scale, codes);
            }
            return;
        };
        let groups = Groups {
            bits,
            size,
            scales,
            zeros,
            signed: false,
        };
        let quotient = match (self.recipe.arithmetic, self.weights) {
            (Arithmetic::F32, _) | (_, WeightDtype::F32) => Quotient::F32,
            (Arithmetic::CompressedTensors, WeightDtype::Bf16) => Quotient::Bf16,
            (Arithmetic::CompressedTensors, WeightDtype::F16) => Quotient::F16,
        };
        Codec::best().encode(groups, quotient, src, codes);
    }
}

/// Codes of the nearest levels of a table.
///
/// For NF4 the weight is multiplied by the reciprocal of the scale, which is a rounding more than a quotient has, and is what
/// bitsandbytes does.
///
/// **Source** bitsandbytes 0.50 `backends/default/ops.py` (`quantize_4bit`).
fn table_codes<T: Element>(levels: Levels, src: &[T], scale: f32, codes: &mut [u8]) {
    let reciprocal = 1.0 / scale.max(1e-38);
    for (code, x) in codes.iter_mut().zip(src) {
        *code = levels.nearest(match levels {
            Levels::Nf4 => x.to_f32() * reciprocal,
            Levels::Int(_) | Levels::E2m1 => x.to_f32() / scale,
        });
    }
}

/// Rounds a finite number to BF16, to nearest even.
#[inline]
fn bf16_round(x: f32) -> f32 {
    let bits = x.to_bits();
    f32::from_bits(bits.wrapping_add(0x7fff + (bits >> 16 & 1)) & 0xffff_0000)
}

/// Floor of the binary logarithm of a positive number.
fn exponent(x: f32) -> i32 {
    let bits = x.to_bits() >> 23;
    if bits > 0 {
        return bits as i32 - 127;
    }
    // A subnormal number has the place of its highest bit.
    31 - 149 - x.to_bits().leading_zeros() as i32
}
