//! Grouped integers between numbers and the bytes of a file in strips of rows, each while it is in the cache: the codes of the
//! whole matrix are never in memory as bytes of their own.

use half::bf16;
use rayon::prelude::*;
use xgraft_block_scale::{GroupRecipe, GroupScale, GroupedMatrix, Result, Rows};
use xgraft_int_codec::{Codec, Groups};

use crate::model::packing::{Packing, StoredGroups};
use crate::read::grouped::unpack_grouped;
use crate::sys::prefer_large_pages;
use crate::write::grouped::{pack_grouped, pack_rows};

/// Elements of a strip, about.
const STRIP: usize = 1 << 17;

/// Quantizes a matrix to the bytes of the tensors that store it: the bytes of [`GroupRecipe::quantize`] and then
/// [`pack_grouped`](crate::pack_grouped).
///
/// # Errors
/// As [`GroupRecipe::quantize`].
///
/// # Panics
/// As both.
pub fn quantize_grouped<'a>(
    recipe: &GroupRecipe,
    stored: &StoredGroups,
    weights: impl Into<Rows<'a>>,
    shape: (usize, usize),
    shrink: f32,
) -> Result<Vec<Vec<u8>>> {
    let weights = weights.into();
    if let Some(tensors) = quantize_strips(recipe, stored, weights, shape, shrink) {
        return Ok(tensors);
    }
    let matrix = recipe.quantize(weights, shape, shrink)?;
    Ok(pack_grouped(stored, &matrix))
}

/// Decodes the tensors that store a matrix to numbers rounded to BF16: the values of
/// [`unpack_grouped`](crate::unpack_grouped) and then [`GroupedMatrix::decode_bf16`].
///
/// # Errors
/// As [`unpack_grouped`](crate::unpack_grouped).
///
/// # Panics
/// If `values` has not as many elements as the matrix.
pub fn dequantize_grouped(
    stored: &StoredGroups,
    (out, inner): (usize, usize),
    tensors: &[Vec<u8>],
    values: &mut [bf16],
) -> Result<()> {
    assert_elements(values, out * inner);
    let done = dequantize_bytes(stored, (out, inner), tensors, values)
        .or_else(|| dequantize_strips(stored, (out, inner), tensors, values));
    if done.is_none() {
        unpack_grouped(stored, (out, inner), tensors)?.decode_bf16(values);
    }
    Ok(())
}

fn assert_elements(values: &[bf16], expected: usize) {
    assert_eq!(values.len(), expected, "elements of a matrix");
}

/// None where strips do not stand for themselves, or one fails: the whole then gives the error, with its rows.
fn quantize_strips(
    recipe: &GroupRecipe,
    stored: &StoredGroups,
    weights: Rows<'_>,
    (rows, cols): (usize, usize),
    shrink: f32,
) -> Option<Vec<Vec<u8>>> {
    let strip = strip_rows(stored, (rows, cols))?;
    if recipe.scale == GroupScale::E4m3OfTensor || weights.len() != rows * cols {
        return None;
    }
    let width = stored.row_bytes(cols);
    let mut codes = vec![0; rows * width];
    prefer_large_pages(&mut codes);
    let strips = codes.par_chunks_mut(strip * width).enumerate();
    let found: Vec<GroupedMatrix> = strips
        .map(|(i, codes)| {
            let part = i * strip..rows.min((i + 1) * strip);
            let weights = weights.part(part.start * cols..part.end * cols);
            let mut matrix = recipe.quantize(weights, (part.len(), cols), shrink).ok()?;
            pack_rows(stored, &matrix, codes);
            matrix.codes = Vec::new();
            Some(matrix)
        })
        .collect::<Option<_>>()?;
    let zeros = found.iter().filter_map(|strip| strip.zeros.as_deref());
    let zeros = zeros.collect::<Vec<_>>().concat();
    let scales = found.iter().map(|strip| &strip.scales[..]);
    let all = GroupedMatrix {
        rows,
        cols,
        levels: recipe.levels,
        group: recipe.group,
        codes: Vec::new(),
        scales: scales.collect::<Vec<_>>().concat(),
        zeros: (!recipe.symmetric).then_some(zeros),
        groups_of: None,
    };
    let mut tensors = pack_grouped(stored, &all);
    tensors[0] = codes;
    Some(tensors)
}

/// As [`quantize_strips`], for codes that are bytes already and have no zero points.
fn dequantize_bytes(
    stored: &StoredGroups,
    (out, inner): (usize, usize),
    tensors: &[Vec<u8>],
    values: &mut [bf16],
) -> Option<()> {
    let strip = strip_rows(stored, (out, inner))?;
    let ([codes, scales], Packing::Bytes, 8) = (tensors, stored.packing, stored.bits) else {
        return None;
    };
    let (scales, groups) = (stored.scale.read(scales), stored.group.blocks(inner));
    let fit = (codes.len(), scales.len()) == (out * inner, out * groups);
    if !fit || scales.iter().any(|scale| !scale.is_finite()) {
        return None;
    }
    let rows = codes.par_chunks(inner).zip(scales.par_chunks(groups));
    values
        .par_chunks_mut(inner)
        .zip(rows)
        .with_min_len(strip)
        .for_each(|(values, (codes, scales))| {
            let groups = Groups {
                bits: stored.bits,
                size: stored.group.size(inner),
                scales,
                zeros: None,
                signed: true,
            };
            Codec::best().decode_bf16(groups, codes, values);
        });
    Some(())
}

/// As [`quantize_strips`].
fn dequantize_strips(
    stored: &StoredGroups,
    (out, inner): (usize, usize),
    tensors: &[Vec<u8>],
    values: &mut [bf16],
) -> Option<()> {
    let strip = strip_rows(stored, (out, inner))?;
    let strips = values.par_chunks_mut(strip * inner).enumerate();
    strips
        .map(|(i, values)| {
            let start = i * strip;
            let rows = values.len() / inner;
            // Zero points are packed along the rows.
            let per_word = stored.packing.per_word(stored.bits);
            let mut parts = Vec::new();
            for (at, bytes) in tensors.iter().enumerate() {
                parts.push(match at {
                    0 | 1 => lines(bytes, out, start, rows)?,
                    2 if stored.parts.zeros.is_some() => {
                        let rows = rows.div_ceil(per_word);
                        lines(bytes, out.div_ceil(per_word), start / per_word, rows)?
                    }
                    _ => bytes,
                });
            }
            let matrix = unpack_grouped(stored, (rows, inner), &parts).ok()?;
            matrix.decode_bf16(values);
            Some(())
        })
        .collect()
}

/// Rows of a strip, a multiple of those whose zero points may share a word; none where a layout does not keep rows apart.
fn strip_rows(stored: &StoredGroups, (rows, cols): (usize, usize)) -> Option<usize> {
    let by_rows = matches!(stored.packing, Packing::Bytes | Packing::Rows);
    (by_rows && rows * cols > 0).then(|| STRIP.div_ceil(cols).next_multiple_of(32))
}

/// Some of the `count` lines of equal length that these bytes are, if they are.
fn lines(bytes: &[u8], count: usize, start: usize, lines: usize) -> Option<&[u8]> {
    let width = bytes.len() / count;
    (width * count == bytes.len()).then(|| &bytes[start * width..][..lines * width])
}
