//! Grouped integers to the bytes of a file in strips of rows, each while it is in the cache: the codes of the whole matrix
//! are in memory once, as they are stored.

use std::ops::Range;

use rayon::prelude::*;
use xgraft_block_scale::GroupedMatrix;

use crate::model::packing::{Packing, StoredGroups};
use crate::sys::prefer_large_pages;
use crate::write::grouped::{pack_grouped, pack_rows};

/// Elements of a strip, about.
const STRIP: usize = 1 << 17;

/// The bytes of the tensors that store a matrix, as [`pack_grouped`](crate::pack_grouped) orders them, and what `quantize`
/// notes of each of its strips, in their order.
///
/// `quantize` gives the codes, scales and zero points of some rows. It is called from rayon's current pool, for strips that
/// depend on the shape and not on the number of threads.
///
/// # Errors
/// Those of `quantize`, the one of the first strip.
///
/// # Panics
/// If `quantize` gives another shape than it was asked for; and as [`pack_grouped`](crate::pack_grouped).
pub fn pack_strips<N: Send, E: Send>(
    stored: &StoredGroups,
    (rows, cols): (usize, usize),
    quantize: impl Fn(Range<usize>) -> Result<(GroupedMatrix, N), E> + Sync,
) -> Result<(Vec<Vec<u8>>, Vec<N>), E> {
    if rows * cols == 0 {
        let (matrix, note) = quantize(0..rows)?;
        return Ok((pack_grouped(stored, &matrix), vec![note]));
    }
    let by_rows = matches!(stored.packing, Packing::Bytes | Packing::Rows);
    let width = if by_rows {
        stored.row_bytes(cols)
    } else {
        cols
    };
    let mut codes = vec![0; rows * width];
    prefer_large_pages(&mut codes);
    let strip = STRIP.div_ceil(cols).next_multiple_of(32);
    let strips: Vec<Result<_, E>> = codes
        .par_chunks_mut(strip * width)
        .enumerate()
        .map(|(i, codes)| {
            let range = i * strip..rows.min((i + 1) * strip);
            let (mut matrix, note) = quantize(range.clone())?;
            assert_shape(&matrix, (range.len(), cols));
            if by_rows {
                pack_rows(stored, &matrix, codes);
            } else {
                codes.copy_from_slice(&matrix.codes);
            }
            matrix.codes = Vec::new();
            Ok((matrix, note))
        })
        .collect();
    let (mut strips, mut notes) = (strips.into_iter(), Vec::new());
    let mut all: Option<GroupedMatrix> = None;
    for strip in &mut strips {
        let (strip, note) = strip?;
        notes.push(note);
        match &mut all {
            None => all = Some(strip),
            Some(all) => below(all, strip),
        }
    }
    let mut tensors = Vec::new();
    if let Some(mut all) = all {
        if by_rows {
            tensors = pack_grouped(stored, &all);
            tensors[0] = codes;
        } else {
            all.codes = codes;
            tensors = pack_grouped(stored, &all);
        }
    }
    Ok((tensors, notes))
}

fn assert_shape(strip: &GroupedMatrix, expected: (usize, usize)) {
    assert_eq!((strip.rows, strip.cols), expected, "shape of a strip");
}

/// Puts rows, without their codes, below others.
fn below(all: &mut GroupedMatrix, strip: GroupedMatrix) {
    all.rows += strip.rows;
    all.scales.extend(strip.scales);
    if let (Some(all), Some(zeros)) = (&mut all.zeros, strip.zeros) {
        all.extend(zeros);
    }
}
