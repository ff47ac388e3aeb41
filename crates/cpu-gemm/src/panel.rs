//! The right operand, packed once into strips as wide as a tile.

use std::ops::Range;

use rayon::prelude::*;

use crate::Source;
use crate::element::{Element, KC};
use crate::scratch::{aligned, aligned_offset, spare};

/// A right operand of a product: where element `(k, j)` comes from.
#[derive(Debug)]
pub(crate) enum Right<'a, S: ?Sized> {
    /// `(k, j)` is that of the source.
    Plain(&'a S),
    /// `(k, j)` is that of the source with the sign changed.
    Negated(&'a S),
    /// `(k, j)` is `(j, k)` of the source.
    Transposed(&'a S),
}

impl<S: Source + ?Sized> Right<'_, S> {
    /// Terms and columns.
    pub(crate) fn shape(&self) -> (usize, usize) {
        match self {
            Self::Plain(s) | Self::Negated(s) => (s.rows(), s.cols()),
            Self::Transposed(s) => (s.cols(), s.rows()),
        }
    }
}

/// Some terms of a right operand, in chunks of [`KC`] terms; in each chunk the strips, one after the other, each `[terms, width]`.
///
/// The last strip is filled up with zeros.
#[derive(Debug)]
pub(crate) struct Panel<T> {
    memory: Vec<T>,
    terms: Range<usize>,
    width: usize,
    strips: usize,
}

impl<T: Element> Panel<T> {
    /// Packs some terms. The first one is a multiple of [`KC`].
    pub(crate) fn pack<S: Source + ?Sized>(
        right: &Right<'_, S>,
        terms: Range<usize>,
        width: usize,
    ) -> Self {
        let strips = right.shape().1.div_ceil(width);
        let length = terms.len() * strips * width;
        let mut memory = vec![T::default(); length + spare::<T>()];
        if length > 0 {
            let chunks = aligned(&mut memory)[..length].par_chunks_mut(KC * strips * width);
            chunks.enumerate().for_each(|(i, memory)| {
                let start = terms.start + i * KC;
                let chunk = start..terms.end.min(start + KC);
                pack_chunk(right, chunk, width, memory);
            });
        }
        Self {
            memory,
            terms,
            width,
            strips,
        }
    }

    /// Strip `index` of the chunk that starts at term `start`.
    #[inline]
    pub(crate) fn strip(&self, start: usize, index: usize) -> &[T] {
        let chunk = start..self.terms.end.min(start + KC);
        let from = ((start - self.terms.start) * self.strips + index * chunk.len()) * self.width;
        let memory = &self.memory[aligned_offset(&self.memory)..];
        &memory[from..][..chunk.len() * self.width]
    }
}

/// Packs the terms of one chunk into their strips.
fn pack_chunk<T: Element, S: Source + ?Sized>(
    right: &Right<'_, S>,
    terms: Range<usize>,
    width: usize,
    memory: &mut [T],
) {
    let columns = right.shape().1;
    for (index, strip) in memory.chunks_exact_mut(terms.len() * width).enumerate() {
        let from = index * width;
        let cols = from..columns.min(from + width);
        match *right {
            Right::Plain(s) => T::pack(s, terms.clone(), cols.clone(), strip, width),
            Right::Negated(s) => {
                T::pack(s, terms.clone(), cols.clone(), strip, width);
                strip.iter_mut().for_each(|x| *x = -*x);
            }
            Right::Transposed(s) => transpose(s, terms.clone(), cols.clone(), strip, width),
        }
        if cols.len() < width {
            for row in strip.chunks_exact_mut(width) {
                row[cols.len()..].fill(T::default());
            }
        }
    }
}

/// Packs rows of the source as columns.
fn transpose<T: Element, S: Source + ?Sized>(
    source: &S,
    terms: Range<usize>,
    rows: Range<usize>,
    strip: &mut [T],
    width: usize,
) {
    let mut row = [0.0; KC];
    for (j, i) in rows.enumerate() {
        source.pack(i..i + 1, terms.clone(), &mut row, KC);
        for (to, x) in strip.chunks_exact_mut(width).zip(row) {
            to[j] = T::from_f32(x);
        }
    }
}
