//! Grouped integers from their tensors: packed words to codes in the order of the weight.

use std::ops::Range;

use rayon::prelude::*;
use xgraft_block_scale::{GroupedMatrix, Levels};
use xgraft_int_codec::{Order, unpack, unpack_pairs};

use super::bitsandbytes;
use super::packed::PackedMatrix;
use super::store::Store;
use super::stream::Hash;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::model::packing::{Packing, StoredGroups};
use crate::model::weight::{TensorInfo, Weight};
use crate::sys::prefer_large_pages;
use crate::write::grouped::transposed;

/// Codes that a thread unpacks at a time, about.
const STRIP: usize = 1 << 17;

/// Some rows of a weight, with the digest of each of its tensors in the order of `stored_tensors`, if asked for.
///
/// The tensors are read whole whatever the rows: some layouts pack along `out`.
pub(crate) fn rows(
    store: &Store,
    weight: &Weight,
    stored: &StoredGroups,
    rows: Range<usize>,
    hash: Hash,
) -> Result<(GroupedMatrix, Vec<Digest>)> {
    let (matrix, digests) = read(store, weight, stored, hash, |tensors| {
        unpack_grouped(stored, weight.matrix_shape(), &tensors)
    })?;
    let groups = stored.group.blocks(matrix.cols).max(1);
    Ok((part(matrix, rows, groups), digests))
}

/// A whole weight as it is packed, with the digests of its tensors.
pub(crate) fn packed(
    store: &Store,
    weight: &Weight,
    stored: &StoredGroups,
) -> Result<(PackedMatrix, Vec<Digest>)> {
    read(store, weight, stored, Hash::Yes, |tensors| {
        PackedMatrix::new(stored, weight.matrix_shape(), tensors)
    })
}

/// What `decode` makes of the tensors of a weight, checked, and their digests.
fn read<M: AsRef<GroupedMatrix>>(
    store: &Store,
    weight: &Weight,
    stored: &StoredGroups,
    hash: Hash,
    decode: impl FnOnce(Vec<Vec<u8>>) -> xgraft_block_scale::Result<M>,
) -> Result<(M, Vec<Digest>)> {
    let codes = store.tensor(&weight.tensor)?;
    let mut infos = vec![codes];
    for name in stored.parts.names() {
        infos.push(store.tensor(name)?);
    }
    let (mut tensors, mut digests) = (Vec::new(), Vec::new());
    for info in &infos {
        let mut bytes = vec![0; info.bytes as usize];
        prefer_large_pages(&mut bytes);
        digests.extend(
            store
                .span(info)?
                .fill(&mut bytes, 1, hash, |_, chunk, place| {
                    place.copy_from_slice(chunk);
                    Ok(())
                })?,
        );
        tensors.push(bytes);
    }
    let (out, inner) = weight.matrix_shape();
    let refuse = |tensor: &TensorInfo, expected: &str, found: String| Error::Quantized {
        file: store.paths[tensor.shard].clone(),
        tensor: tensor.name.clone(),
        expected: expected.to_owned(),
        found,
    };
    if stored.packing == Packing::BitsAndBytes {
        bitsandbytes::plain_scales(&mut tensors)
            .map_err(|bad| refuse(infos[bad.at], &bad.expected, bad.found))?;
    } else if let Some(at) = infos
        .iter()
        .position(|t| Some(&t.name) == stored.parts.shape.as_ref())
    {
        let words = tensors[at].as_chunks().0.iter();
        let shape: Vec<i64> = words.map(|b| i64::from_le_bytes(*b)).collect();
        if shape != [out as i64, inner as i64] {
            let expected = format!("[{out}, {inner}], the shape of the packed codes");
            return Err(refuse(infos[at], &expected, format!("{shape:?}")));
        }
    }
    let fit = "codes, scales and zero points that fit together";
    let decoded = decode(tensors).map_err(|source| refuse(codes, fit, source.to_string()))?;
    let (groups, matrix) = (stored.group.blocks(inner).max(1), decoded.as_ref());
    if let Some(at) = unusable(matrix, groups) {
        let (row, group) = (at / groups, at % groups);
        let found = format!("{} at row {row}, group {group}", matrix.scales[at]);
        return Err(refuse(infos[1], "a scale above 0", found));
    }
    Ok((decoded, digests))
}

/// The first finite scale that cannot be meant. In NF4 that of a group of zeros is 0, and one that was itself rounded lies near
/// 0 on either side; the codes of such a group are all alike.
fn unusable(matrix: &GroupedMatrix, groups: usize) -> Option<usize> {
    let largest = matrix.scales.iter().copied().fold(0.0, f32::max);
    let width = matrix.cols.div_ceil(groups);
    let of_zeros = |at: usize, scale: f32| {
        let first = at % groups * width;
        let columns = first..matrix.cols.min(first + width);
        let codes = &matrix.codes[at / groups * matrix.cols..][columns];
        scale.abs() <= largest / 64.0 && codes.iter().all(|code| *code == codes[0])
    };
    let mut scales = matrix.scales.iter().copied().enumerate();
    scales
        .find(|&(at, scale)| {
            let meant = scale > 0.0 || matrix.levels == Levels::Nf4 && of_zeros(at, scale);
            !meant
        })
        .map(|(at, _)| at)
}

/// Some rows of a matrix with `groups` groups a row.
fn part(matrix: GroupedMatrix, rows: Range<usize>, groups: usize) -> GroupedMatrix {
    if rows == (0..matrix.rows) {
        return matrix;
    }
    let groups = rows.start * groups..rows.end * groups;
    GroupedMatrix {
        rows: rows.len(),
        codes: matrix.codes[rows.start * matrix.cols..rows.end * matrix.cols].to_vec(),
        scales: matrix.scales[groups.clone()].to_vec(),
        zeros: matrix.zeros.map(|zeros| zeros[groups].to_vec()),
        ..matrix
    }
}

/// The matrix `[out, in]` whose tensors these bytes are: the inverse of [`pack_grouped`](crate::pack_grouped), with its
/// order of tensors. Scales that are codes in turn are not decoded here.
///
/// # Errors
/// [`Error::Count`](xgraft_block_scale::Error::Count) where a tensor has not the length that the shape gives;
/// scales that are NaN or infinite, and group indices beyond the last group.
pub fn unpack_grouped(
    stored: &StoredGroups,
    (out, inner): (usize, usize),
    tensors: &[impl AsRef<[u8]>],
) -> xgraft_block_scale::Result<GroupedMatrix> {
    let packed = Packed {
        stored,
        out,
        inner,
        groups: stored.group.blocks(inner),
    };
    let parts = &stored.parts;
    let mut rest = tensors.iter().map(AsRef::as_ref);
    let mut next = |there: bool| if there { rest.next() } else { None };
    let (codes, scales) = (next(true), next(true));
    let zeros = next(parts.zeros.is_some());
    let groups_of = next(parts.groups_of.is_some());
    GroupedMatrix {
        rows: out,
        cols: inner,
        levels: stored.levels(),
        group: stored.group,
        codes: packed.codes(codes.unwrap_or_default()),
        scales: packed.scales(scales.unwrap_or_default()),
        zeros: zeros.map(|bytes| packed.zeros(bytes)),
        groups_of: groups_of.and_then(|bytes| packed.groups_of(bytes)),
    }
    .checked()
}

/// How the tensors of a weight `[out, in]` lie.
pub(super) struct Packed<'a> {
    pub(super) stored: &'a StoredGroups,
    pub(super) out: usize,
    pub(super) inner: usize,
    pub(super) groups: usize,
}

impl Packed<'_> {
    fn codes(&self, bytes: &[u8]) -> Vec<u8> {
        let (out, inner) = (self.out, self.inner);
        match self.stored.packing {
            Packing::Bytes => self.offset(bytes),
            Packing::BitsAndBytes => self.pairs(bytes),
            Packing::Rows => self.unpacked(bytes, (out, inner), Order::Natural),
            Packing::Awq => self.turned(bytes, inner, out, Order::Awq),
            Packing::Gptq { .. } => {
                // Words of eight neighbours along `in`, one column of them an output.
                let words = transposed_words(bytes, inner.div_ceil(self.per_word()), out);
                self.unpacked(&words, (out, inner), Order::Natural)
            }
        }
    }

    fn per_word(&self) -> usize {
        self.stored.packing.per_word(self.stored.bits)
    }

    /// Two codes of each byte.
    fn pairs(&self, bytes: &[u8]) -> Vec<u8> {
        let mut codes = zeroed(self.out * self.inner);
        if bytes.len() != codes.len().div_ceil(2) {
            // The count is wrong, and is found to be.
            return Vec::new();
        }
        unpack_pairs(bytes, &mut codes);
        codes
    }

    /// Two's complement to offset binary.
    fn offset(&self, bytes: &[u8]) -> Vec<u8> {
        let middle = Levels::Int(self.stored.bits).middle();
        let mut codes = zeroed(bytes.len());
        codes
            .par_chunks_mut(STRIP)
            .zip(bytes.par_chunks(STRIP))
            .for_each(|(codes, bytes)| {
                for (code, byte) in codes.iter_mut().zip(bytes) {
                    *code = byte.wrapping_add(middle);
                }
            });
        codes
    }

    /// `[lines, length]` codes, each line packed into words of its own.
    fn unpacked(&self, bytes: &[u8], (lines, length): (usize, usize), order: Order) -> Vec<u8> {
        let width = 4 * length.div_ceil(self.per_word());
        if length == 0 || bytes.len() != width * lines {
            // The count is wrong, and is found to be.
            return Vec::new();
        }
        let mut codes = zeroed(lines * length);
        codes
            .par_chunks_exact_mut(length)
            .zip(bytes.par_chunks_exact(width))
            .with_min_len(STRIP.div_ceil(length))
            .for_each(|(codes, words)| match self.stored.bits {
                8 => codes.copy_from_slice(&words[..length]),
                _ => unpack(words, order, codes),
            });
        codes
    }

    /// `[cols, rows]` codes of `[rows, cols]` packed ones.
    fn turned(&self, bytes: &[u8], rows: usize, cols: usize, order: Order) -> Vec<u8> {
        let codes = self.unpacked(bytes, (rows, cols), order);
        if codes.is_empty() {
            return codes;
        }
        transposed(&codes, rows, cols)
    }

    /// `[out, G]`.
    pub(super) fn scales(&self, bytes: &[u8]) -> Vec<f32> {
        let scales = self.stored.scale.read(bytes);
        match self.stored.packing {
            Packing::Awq | Packing::Gptq { .. } if scales.len() == self.groups * self.out => {
                transposed(&scales, self.groups, self.out)
            }
            // One scale for the whole tensor is one for each of its rows.
            Packing::Bytes if scales.len() == 1 => vec![scales[0]; self.out * self.groups],
            _ => scales,
        }
    }

    /// `[out, G]`, as the codes are stored.
    pub(super) fn zeros(&self, bytes: &[u8]) -> Vec<u8> {
        let (out, groups) = (self.out, self.groups);
        let line = |order| self.turned(bytes, groups, out, order);
        match self.stored.packing {
            Packing::Bytes | Packing::BitsAndBytes => self.offset(bytes),
            Packing::Rows => {
                let words = transposed_words(bytes, out.div_ceil(self.per_word()), groups);
                self.turned(&words, groups, out, Order::Natural)
            }
            Packing::Awq => line(Order::Awq),
            Packing::Gptq { zeros_less_one } => {
                let mut zeros = line(Order::Natural);
                if zeros_less_one {
                    let mask = (Levels::Int(self.stored.bits).count() - 1) as u8;
                    zeros
                        .iter_mut()
                        .for_each(|zero| *zero = zero.wrapping_add(1) & mask);
                }
                zeros
            }
        }
    }

    /// Group indices, unless they are those of the positions.
    fn groups_of(&self, bytes: &[u8]) -> Option<Vec<u32>> {
        let words = bytes.as_chunks().0.iter();
        let indices: Vec<u32> = words.map(|b| u32::from_le_bytes(*b)).collect();
        let size = self.stored.group.size(self.inner);
        let plain = indices
            .iter()
            .enumerate()
            .all(|(i, g)| *g as usize == i / size);
        (!plain).then_some(indices)
    }
}

/// Memory for codes.
fn zeroed(count: usize) -> Vec<u8> {
    let mut codes = vec![0; count];
    prefer_large_pages(&mut codes);
    codes
}

/// `[cols, rows]` words of `[rows, cols]`, as bytes.
fn transposed_words(bytes: &[u8], rows: usize, cols: usize) -> Vec<u8> {
    let words: &[[u8; 4]] = bytes.as_chunks().0;
    if words.len() != rows * cols {
        return Vec::new();
    }
    transposed(words, rows, cols).into_flattened()
}
