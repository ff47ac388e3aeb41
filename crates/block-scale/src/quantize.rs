//! Strips of weights to codes and scales.

use rayon::prelude::*;
use xgraft_fp8_codec::{Codec, Scales};

use crate::{
    BlockShape, Error, Matrix, QuantizedMatrix, Recipe, Result, Rows,
    element::{Element, codec_for},
    strip::{Strip, assert_count, columns_of, columns_of_mut},
};

/// Rows that a task works on where blocks are taller.
const TALL: usize = 64;

/// Elements that are worth a task of their own.
const TASK: usize = 1 << 16;

/// What quantizing a strip found.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Stats {
    /// The largest magnitude.
    pub amax: f32,
    /// Number of blocks.
    pub blocks: usize,
    /// Blocks without any element but zero.
    pub zero_blocks: usize,
}

impl Stats {
    /// Of two strips together.
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        Self {
            amax: self.amax.max(other.amax),
            blocks: self.blocks + other.blocks,
            zero_blocks: self.zero_blocks + other.zero_blocks,
        }
    }

    fn of_block(amax: f32) -> Self {
        Self {
            amax,
            blocks: 1,
            zero_blocks: usize::from(amax == 0.0),
        }
    }
}

/// Evaluates an expression with the slice that `$rows` holds, whatever its type.
macro_rules! for_element {
    ($rows:expr, $data:ident => $call:expr) => {
        match $rows {
            Rows::F32($data) => $call,
            Rows::Bf16($data) => $call,
            Rows::F16($data) => $call,
        }
    };
}
pub(crate) use for_element;

/// Quantizes a strip of whole block rows.
///
/// **Shapes** `src` and `codes` `[rows, cols]`, where `rows` is a multiple of the block's rows unless the strip is the
/// matrix's last; `scales` `recipe.block.grid(rows, cols)`, row-major, as f32 with the precision of the stored type.
/// Blocks that take [all rows](crate::Extent::All) need the whole matrix as one strip; see [`amax_rows`] for another way.
///
/// # Errors
/// An element that is NaN or infinite, the first by row and column (rows counted from the strip's first, see
/// [`Error::below_rows`]); a scale that its type cannot hold; a scale type that compressed-tensors would not use.
///
/// # Panics
/// If the slices do not have these lengths.
pub fn quantize_rows<'a>(
    src: impl Into<Rows<'a>>,
    cols: usize,
    recipe: &Recipe,
    codes: &mut [u8],
    scales: &mut [f32],
) -> Result<Stats> {
    for_element!(src.into(), data => quantize_strip(data, cols, recipe, codes, scales))
}

/// The largest magnitude of every block of a strip, merged into `amax`: each becomes the larger of the two.
///
/// This is the first pass for scales that span strips: begin with zeros, call it for every strip of the matrix with the
/// same `amax`, take [`Recipe::scales`], and then call [`quantize_rows_with_scales`] for every strip.
///
/// **Shapes** `src` `[rows, cols]`; `amax` `block.grid(rows, cols)`, row-major.
///
/// # Errors
/// An element that is NaN or infinite.
///
/// # Panics
/// If the slices do not have these lengths.
pub fn amax_rows<'a>(
    src: impl Into<Rows<'a>>,
    cols: usize,
    block: &BlockShape,
    amax: &mut [f32],
) -> Result<()> {
    for_element!(src.into(), data => amax_strip(data, cols, block, amax))
}

/// Quantizes a strip with scales that are known.
///
/// **Shapes** `src` and `codes` `[rows, cols]`; `scales` `recipe.block.grid(rows, cols)`, row-major, positive and finite.
/// An element that is NaN becomes the NaN code: [`amax_rows`] is what refuses it.
///
/// # Panics
/// If the slices do not have these lengths, or a scale is not positive and finite.
pub fn quantize_rows_with_scales<'a>(
    src: impl Into<Rows<'a>>,
    cols: usize,
    recipe: &Recipe,
    scales: &[f32],
    codes: &mut [u8],
) {
    for_element!(src.into(), data => encode_strip(data, cols, recipe, scales, codes));
}

/// Quantizes a matrix that is in memory.
///
/// # Errors
/// As [`quantize_rows`].
pub fn quantize(matrix: &Matrix, recipe: &Recipe) -> Result<QuantizedMatrix> {
    QuantizedMatrix::quantize(matrix, (matrix.rows, matrix.cols), recipe)
}

fn quantize_strip<T: Element>(
    src: &[T],
    cols: usize,
    recipe: &Recipe,
    codes: &mut [u8],
    scales: &mut [f32],
) -> Result<Stats> {
    recipe.check(T::DTYPE)?;
    let strip = Strip::new(src.len(), cols, &recipe.block);
    assert_count("codes of a strip", codes.len(), src.len());
    assert_count("scales of a strip", scales.len(), strip.scales());
    if src.is_empty() {
        return Ok(Stats::default());
    }
    let Some(together) = strip.cached_blocks(size_of::<T>()) else {
        return quantize_in_two_passes(src, cols, recipe, codes, scales);
    };
    let codec = codec_for(codes.len());
    let results: Vec<_> = src
        .par_chunks(strip.band())
        .zip(codes.par_chunks_mut(strip.band()))
        .zip(scales.par_chunks_mut(strip.grid.1))
        .enumerate()
        .with_min_len(TASK.div_ceil(strip.band()))
        .map(|(i, ((src, codes), scales))| {
            let band = Band {
                codec,
                index: i,
                strip: &strip,
                src,
            };
            band.quantize(recipe, together, codes, scales)
        })
        .collect();
    // The first error by row, whichever thread came first.
    results
        .into_iter()
        .try_fold(Stats::default(), |all, band| Ok(all.merge(band?)))
}

/// One row of blocks.
struct Band<'a, T> {
    codec: Codec,
    index: usize,
    strip: &'a Strip,
    src: &'a [T],
}

impl<T: Element> Band<'_, T> {
    /// Finds the largest magnitudes of so many blocks, and encodes them while they are in the cache; then the next.
    fn quantize(
        &self,
        recipe: &Recipe,
        together: usize,
        codes: &mut [u8],
        scales: &mut [f32],
    ) -> Result<Stats> {
        let Strip { cols, width, .. } = *self.strip;
        let mut stats = Stats::default();
        for (blocks, columns) in self.strip.groups(together) {
            let weights = columns_of(self.src, cols, columns.clone());
            let values = &mut scales[blocks.clone()];
            T::amax(weights, width, values);
            for (j, value) in blocks.zip(&mut *values) {
                stats = stats.merge(Stats::of_block(*value));
                *value = self.scale(recipe, j, *value)?;
            }
            let scales = Scales { values, width };
            T::encode(
                self.codec,
                recipe,
                scales,
                weights,
                columns_of_mut(codes, cols, columns),
            );
        }
        Ok(stats)
    }

    fn scale(&self, recipe: &Recipe, block_col: usize, amax: f32) -> Result<f32> {
        if !amax.is_finite() {
            let error = first_non_finite(self.src, self.strip.cols);
            return Err(error.below_rows(self.index * self.strip.height));
        }
        recipe.scale_at((self.index, block_col), amax, T::DTYPE)
    }
}

fn quantize_in_two_passes<T: Element>(
    src: &[T],
    cols: usize,
    recipe: &Recipe,
    codes: &mut [u8],
    scales: &mut [f32],
) -> Result<Stats> {
    let mut amax = vec![0.0; scales.len()];
    amax_strip(src, cols, &recipe.block, &mut amax)?;
    scales.copy_from_slice(&recipe.scales(&amax, recipe.block.cols.blocks(cols), T::DTYPE)?);
    encode_strip(src, cols, recipe, scales, codes);
    let stats = amax.into_iter().map(Stats::of_block);
    Ok(stats.fold(Stats::default(), Stats::merge))
}

fn amax_strip<T: Element>(
    src: &[T],
    cols: usize,
    block: &BlockShape,
    amax: &mut [f32],
) -> Result<()> {
    let strip = Strip::new(src.len(), cols, block);
    assert_count("largest magnitudes of a strip", amax.len(), strip.scales());
    if src.is_empty() {
        return Ok(());
    }
    src.par_chunks(strip.band())
        .zip(amax.par_chunks_mut(strip.grid.1))
        .with_min_len(TASK.div_ceil(strip.band()))
        .for_each(|(src, amax)| amax_band(&strip, src, amax));
    match amax.iter().all(|amax| amax.is_finite()) {
        true => Ok(()),
        false => Err(first_non_finite(src, cols)),
    }
}

/// The largest magnitudes in one row of blocks.
fn amax_band<T: Element>(strip: &Strip, src: &[T], amax: &mut [f32]) {
    let partial = src.par_chunks(TALL * strip.cols).map(|src| {
        let mut amax = vec![0.0; strip.grid.1];
        T::amax(
            columns_of(src, strip.cols, 0..strip.cols),
            strip.width,
            &mut amax,
        );
        amax
    });
    let found = partial.reduce_with(|mut a, b| {
        merge_amax(&mut a, &b);
        a
    });
    merge_amax(amax, &found.unwrap_or_default());
}

/// Each becomes the larger of the two; NaN is larger than any.
fn merge_amax(into: &mut [f32], other: &[f32]) {
    for (a, &b) in into.iter_mut().zip(other) {
        // Magnitudes are ordered as their bits are.
        *a = f32::from_bits(a.to_bits().max(b.to_bits()));
    }
}

fn encode_strip<T: Element>(
    src: &[T],
    cols: usize,
    recipe: &Recipe,
    scales: &[f32],
    codes: &mut [u8],
) {
    let strip = Strip::new(src.len(), cols, &recipe.block);
    assert_count("codes of a strip", codes.len(), src.len());
    assert_count("scales of a strip", scales.len(), strip.scales());
    if src.is_empty() {
        return;
    }
    let codec = codec_for(codes.len());
    src.par_chunks(strip.band())
        .zip(codes.par_chunks_mut(strip.band()))
        .zip(scales.par_chunks(strip.grid.1))
        .with_min_len(TASK.div_ceil(strip.band()))
        .for_each(|((src, codes), values)| {
            let scales = Scales {
                values,
                width: strip.width,
            };
            src.par_chunks(TALL * cols)
                .zip(codes.par_chunks_mut(TALL * cols))
                .for_each(|(src, codes)| {
                    let weights = columns_of(src, cols, 0..cols);
                    T::encode(
                        codec,
                        recipe,
                        scales,
                        weights,
                        columns_of_mut(codes, cols, 0..cols),
                    );
                });
        });
}

/// The error that names the first element that is not finite, of which there is one.
pub(crate) fn first_non_finite<T: Element>(src: &[T], cols: usize) -> Error {
    let finite = |x: &&T| x.to_f32().is_finite();
    let at = src.iter().take_while(finite).count();
    Error::NonFinite {
        row: at / cols,
        col: at % cols,
        value: src.get(at).map_or(f32::NAN, |x| x.to_f32()),
    }
}
