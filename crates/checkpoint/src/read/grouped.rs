//! Grouped integers from their tensors: packed words to codes in the order of the weight.

use std::ops::Range;

use xgraft_block_scale::{GroupedMatrix, Levels};
use xgraft_int_codec::{Order, unpack};

use super::store::Store;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::model::packing::{Packing, StoredGroups};
use crate::model::weight::{TensorInfo, Weight};
use crate::write::grouped::transposed;

/// Some rows of a weight, with the digest of each of its tensors in the order of `stored_tensors`.
///
/// Layouts that pack along `out` are read whole whatever the rows.
pub(crate) fn rows(
    store: &Store,
    weight: &Weight,
    stored: &StoredGroups,
    rows: Range<usize>,
) -> Result<(GroupedMatrix, Vec<Digest>)> {
    let (out, inner) = weight.matrix_shape();
    let groups = stored.group.blocks(inner);
    let reader = Reader {
        store,
        stored,
        out,
        inner,
        groups,
    };
    let mut digests = Vec::new();
    let tensor = store.tensor(&weight.tensor)?;
    let all_codes = reader.codes(tensor, &mut digests)?;
    let scales = reader.scales(&mut digests)?;
    let zeros = reader.zeros(&mut digests)?;
    let groups_of = reader.groups_of(&mut digests)?;
    if let Some(shape) = &stored.parts.shape {
        reader.shape(store.tensor(shape)?, &mut digests)?;
    }
    let some = |all: Vec<u8>, width: usize| {
        if rows == (0..out) {
            all
        } else {
            all[rows.start * width..rows.end * width].to_vec()
        }
    };
    let matrix = GroupedMatrix {
        rows: rows.len(),
        cols: inner,
        levels: Levels::Int(stored.bits),
        group: stored.group,
        codes: some(all_codes, inner),
        scales: scales[rows.start * groups..rows.end * groups].to_vec(),
        zeros: zeros.map(|zeros| some(zeros, groups)),
        groups_of,
    };
    let matrix = matrix.checked().map_err(|source| Error::Quantized {
        file: store.paths[tensor.shard].clone(),
        tensor: weight.tensor.clone(),
        expected: "codes, scales and zero points that fit together".to_owned(),
        found: source.to_string(),
    })?;
    Ok((matrix, digests))
}

struct Reader<'a> {
    store: &'a Store,
    stored: &'a StoredGroups,
    out: usize,
    inner: usize,
    groups: usize,
}

impl Reader<'_> {
    /// The bytes of a tensor; its digest is added to the others.
    fn bytes(&self, tensor: &TensorInfo, digests: &mut Vec<Digest>) -> Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(tensor.bytes as usize);
        let digest = self.store.span(tensor)?.stream(|chunk| {
            bytes.extend_from_slice(chunk);
            Ok(())
        })?;
        digests.push(digest);
        Ok(bytes)
    }

    fn codes(&self, tensor: &TensorInfo, digests: &mut Vec<Digest>) -> Result<Vec<u8>> {
        let bytes = self.bytes(tensor, digests)?;
        let (out, inner) = (self.out, self.inner);
        Ok(match self.stored.packing {
            Packing::Bytes => self.offset(bytes),
            Packing::Rows => self.unpacked(&bytes, (out, inner), Order::Natural),
            Packing::Awq => {
                transposed(&self.unpacked(&bytes, (inner, out), Order::Awq), inner, out)
            }
            Packing::Gptq { .. } => {
                // Words of eight neighbours along `in`, one column of them an output.
                let words = transposed_words(&bytes, inner.div_ceil(self.per_word()), out);
                self.unpacked(&words, (out, inner), Order::Natural)
            }
        })
    }

    fn per_word(&self) -> usize {
        self.stored.packing.per_word(self.stored.bits)
    }

    /// Two's complement to offset binary.
    fn offset(&self, mut bytes: Vec<u8>) -> Vec<u8> {
        let middle = Levels::Int(self.stored.bits).middle();
        for byte in &mut bytes {
            *byte = byte.wrapping_add(middle);
        }
        bytes
    }

    /// `[lines, length]` codes, each line packed into words of its own.
    fn unpacked(&self, bytes: &[u8], (lines, length): (usize, usize), order: Order) -> Vec<u8> {
        let mut codes = vec![0; lines * length];
        if length == 0 {
            return codes;
        }
        let words = length.div_ceil(self.per_word());
        let mut buffer = vec![0_u32; words];
        let lines = codes
            .chunks_exact_mut(length)
            .zip(bytes.chunks_exact(4 * words));
        for (codes, bytes) in lines {
            if self.stored.bits == 8 {
                codes.copy_from_slice(&bytes[..length]);
                continue;
            }
            for (word, bytes) in buffer.iter_mut().zip(bytes.as_chunks().0) {
                *word = u32::from_le_bytes(*bytes);
            }
            unpack(&buffer, order, codes);
        }
        codes
    }

    /// `[out, G]`.
    fn scales(&self, digests: &mut Vec<Digest>) -> Result<Vec<f32>> {
        let tensor = self.store.tensor(&self.stored.parts.scales)?;
        let scales = self.stored.scale.read(&self.bytes(tensor, digests)?);
        let scales = match self.stored.packing {
            Packing::Awq | Packing::Gptq { .. } => transposed(&scales, self.groups, self.out),
            // One scale for the whole tensor is one for each of its rows.
            _ if scales.len() == 1 => vec![scales[0]; self.out * self.groups],
            _ => scales,
        };
        let bad = scales.iter().position(|s| !s.is_finite() || *s <= 0.0);
        match bad {
            Some(at) => Err(Error::NotFinite {
                file: self.store.paths[tensor.shard].clone(),
                tensor: tensor.name.clone(),
                row: at / self.groups.max(1),
                column: at % self.groups.max(1),
                found: format!("the scale {}", scales[at]),
            }),
            None => Ok(scales),
        }
    }

    /// `[out, G]`, as the codes are stored.
    fn zeros(&self, digests: &mut Vec<Digest>) -> Result<Option<Vec<u8>>> {
        let Some(name) = &self.stored.parts.zeros else {
            return Ok(None);
        };
        let bytes = self.bytes(self.store.tensor(name)?, digests)?;
        let (out, groups) = (self.out, self.groups);
        let line = |order| transposed(&self.unpacked(&bytes, (groups, out), order), groups, out);
        Ok(Some(match self.stored.packing {
            Packing::Bytes => self.offset(bytes),
            Packing::Rows => {
                let words = transposed_words(&bytes, out.div_ceil(self.per_word()), groups);
                transposed(
                    &self.unpacked(&words, (groups, out), Order::Natural),
                    groups,
                    out,
                )
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
        }))
    }

    /// Group indices, unless they are those of the positions.
    fn groups_of(&self, digests: &mut Vec<Digest>) -> Result<Option<Vec<u32>>> {
        let Some(name) = &self.stored.parts.groups_of else {
            return Ok(None);
        };
        let bytes = self.bytes(self.store.tensor(name)?, digests)?;
        let indices: Vec<u32> = bytes
            .as_chunks()
            .0
            .iter()
            .map(|b| u32::from_le_bytes(*b))
            .collect();
        let size = self.stored.group.size(self.inner);
        let plain = indices
            .iter()
            .enumerate()
            .all(|(i, g)| *g as usize == i / size);
        Ok((!plain).then_some(indices))
    }

    /// The stored shape must be the one that the weight was given by it.
    fn shape(&self, tensor: &TensorInfo, digests: &mut Vec<Digest>) -> Result<()> {
        let bytes = self.bytes(tensor, digests)?;
        let shape: Vec<i64> = bytes
            .as_chunks()
            .0
            .iter()
            .map(|b| i64::from_le_bytes(*b))
            .collect();
        let own = [self.out as i64, self.inner as i64];
        if shape == own {
            return Ok(());
        }
        Err(Error::Quantized {
            file: self.store.paths[tensor.shard].clone(),
            tensor: tensor.name.clone(),
            expected: format!("{own:?}, the shape of the packed codes"),
            found: format!("{shape:?}"),
        })
    }
}

/// `[cols, rows]` words of `[rows, cols]`, as bytes.
fn transposed_words(bytes: &[u8], rows: usize, cols: usize) -> Vec<u8> {
    let words: &[[u8; 4]] = bytes.as_chunks().0;
    transposed(words, rows, cols).as_flattened().to_vec()
}
