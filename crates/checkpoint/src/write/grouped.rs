//! Grouped integers to the bytes of their tensors: the inverse of reading them.

use rayon::prelude::*;
use xgraft_block_scale::GroupedMatrix;
use xgraft_int_codec::{Nf4, Order, pack, pack_pairs};

use crate::model::packing::{Packing, StoredGroups};
use crate::sys::prefer_large_pages;

/// The bytes of the tensors that store a matrix: codes, scales, and those of zero points, group indices and shape that
/// `stored` names.
///
/// # Panics
/// If `stored` names zero points and the matrix has none of its own and is not of integers, codes have not the bits
/// that `stored` says, or `stored` names scales that are codes in turn, which are not written.
pub fn pack_grouped(stored: &StoredGroups, matrix: &GroupedMatrix) -> Vec<Vec<u8>> {
    let (out, inner) = (matrix.rows, matrix.cols);
    assert_eq!(matrix.levels.bits(), stored.bits, "bits of a code");
    assert_eq!(stored.parts.nested, None, "scales that are codes");
    let groups = matrix.group.blocks(inner);
    let middle = matrix.levels.middle();
    let mut tensors = vec![codes(stored, matrix)];
    let mut scales = Vec::new();
    match stored.packing {
        Packing::Bytes | Packing::Rows | Packing::BitsAndBytes => {
            stored.scale.write(&matrix.scales, &mut scales);
        }
        Packing::Awq | Packing::Gptq { .. } => {
            stored
                .scale
                .write(&transposed(&matrix.scales, out, groups), &mut scales);
        }
    }
    tensors.push(scales);
    if stored.parts.zeros.is_some() {
        let same = || vec![middle; out * groups];
        let zeros = matrix.zeros.clone().unwrap_or_else(same);
        // [G, out]: all packed layouts pack zero points along `out`.
        let lines = || transposed(&zeros, out, groups);
        tensors.push(match stored.packing {
            Packing::Bytes | Packing::BitsAndBytes => {
                zeros.iter().map(|z| z.wrapping_sub(middle)).collect()
            }
            Packing::Rows => {
                let lines = packed(&lines(), out, stored.bits, Order::Natural);
                transposed_words(&lines, groups)
            }
            Packing::Awq => packed(&lines(), out, stored.bits, Order::Awq),
            Packing::Gptq { zeros_less_one } => {
                let mut lines = lines();
                if zeros_less_one {
                    let mask = (matrix.levels.count() - 1) as u8;
                    lines
                        .iter_mut()
                        .for_each(|zero| *zero = zero.wrapping_sub(1) & mask);
                }
                packed(&lines, out, stored.bits, Order::Natural)
            }
        });
    }
    if stored.parts.groups_of.is_some() {
        let size = matrix.group.size(inner);
        let own = || (0..inner).map(|i| (i / size) as u32).collect::<Vec<u32>>();
        let groups_of = matrix.groups_of.clone().unwrap_or_else(own);
        tensors.push(groups_of.into_iter().flat_map(u32::to_le_bytes).collect());
    }
    if stored.packing == Packing::BitsAndBytes {
        tensors.push(stored.state((out, inner)).into_bytes());
        tensors.push(Nf4::LEVELS.into_iter().flat_map(f32::to_le_bytes).collect());
    } else if stored.parts.shape.is_some() {
        let shape = [out as i64, inner as i64];
        tensors.push(shape.into_iter().flat_map(i64::to_le_bytes).collect());
    }
    tensors
}

fn codes(stored: &StoredGroups, matrix: &GroupedMatrix) -> Vec<u8> {
    let (out, inner, bits) = (matrix.rows, matrix.cols, stored.bits);
    match stored.packing {
        Packing::Bytes | Packing::Rows => {
            let rows = matrix.codes.len() / inner.max(1);
            let mut bytes = vec![0; rows * stored.row_bytes(inner)];
            pack_rows(stored, matrix, &mut bytes);
            bytes
        }
        Packing::BitsAndBytes => {
            let mut bytes = vec![0; matrix.codes.len().div_ceil(2)];
            pack_pairs(&matrix.codes, &mut bytes);
            bytes
        }
        Packing::Awq => packed(
            &transposed(&matrix.codes, out, inner),
            out,
            bits,
            Order::Awq,
        ),
        Packing::Gptq { .. } => {
            let lines = packed(&matrix.codes, inner, bits, Order::Natural);
            transposed_words(&lines, out)
        }
    }
}

/// The codes of a layout that keeps rows apart.
pub(crate) fn pack_rows(stored: &StoredGroups, matrix: &GroupedMatrix, bytes: &mut [u8]) {
    if stored.packing == Packing::Bytes {
        let middle = matrix.levels.middle();
        for (byte, code) in bytes.iter_mut().zip(&matrix.codes) {
            *byte = code.wrapping_sub(middle);
        }
    } else {
        let (length, bits) = (matrix.cols, stored.bits);
        pack_lines(&matrix.codes, length, bits, Order::Natural, bytes);
    }
}

/// Each line of `length` codes in words of its own.
fn packed(codes: &[u8], length: usize, bits: u8, order: Order) -> Vec<u8> {
    let width = 4 * length.div_ceil(32 / usize::from(bits));
    let mut bytes = vec![0; codes.len() / length.max(1) * width];
    pack_lines(codes, length, bits, order, &mut bytes);
    bytes
}

fn pack_lines(codes: &[u8], length: usize, bits: u8, order: Order, bytes: &mut [u8]) {
    if codes.is_empty() {
        return;
    }
    let width = bytes.len() / (codes.len() / length);
    for (line, words) in codes
        .chunks_exact(length)
        .zip(bytes.chunks_exact_mut(width))
    {
        match bits {
            8 => words[..length].copy_from_slice(line),
            _ => pack(line, order, words),
        }
    }
}

/// The words of `rows` lines, those of a column one after the other.
fn transposed_words(lines: &[u8], rows: usize) -> Vec<u8> {
    let words: &[[u8; 4]] = lines.as_chunks().0;
    transposed(words, rows, words.len() / rows.max(1)).into_flattened()
}

/// `[cols, rows]` of `[rows, cols]`.
pub(crate) fn transposed<T: Copy + Default + Send + Sync>(
    data: &[T],
    rows: usize,
    cols: usize,
) -> Vec<T> {
    /// Side of the squares that stay in the cache.
    const SIDE: usize = 64;
    let mut out = vec![T::default(); data.len()];
    prefer_large_pages(&mut out);
    let bands = out.par_chunks_mut((SIDE * rows).max(1)).enumerate();
    bands.for_each(|(band, out)| {
        let col = band * SIDE;
        for row in (0..rows).step_by(SIDE) {
            for r in row..rows.min(row + SIDE) {
                for c in col..cols.min(col + SIDE) {
                    out[(c - col) * rows + r] = data[r * cols + c];
                }
            }
        }
    });
    out
}
