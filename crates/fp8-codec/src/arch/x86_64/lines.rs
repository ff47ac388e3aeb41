//! Writing vectors as whole lines of the cache, wherever the destination begins.
#![expect(unsafe_code, reason = "aligned and non-temporal stores")]
#![allow(
    clippy::wildcard_imports,
    reason = "a vector kernel is written in intrinsics"
)]

use std::{arch::x86_64::*, slice};

use half::bf16;

/// Bytes of a line and of a vector.
const LINE: usize = 64;

/// A line of the cache.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line([u8; LINE]);

/// Elements that are nothing but bytes.
pub(super) trait Plain: Copy + Default {}
impl Plain for u8 {}
impl Plain for bf16 {}

/// Takes the vectors of a slice one after the other, and writes lines that each join the end of one to the beginning of the
/// next: stores that straddle two lines are slow, and a store past the cache must be a whole line.
pub(super) struct LineWriter<'a, T> {
    /// What comes before the first line; taken by the first vector.
    head: Option<&'a mut [T]>,
    lines: slice::IterMut<'a, Line>,
    tail: &'a mut [T],
    last: __m512i,
    /// For each byte of a line, where it is in the last and the present vector.
    joint: __m512i,
    destination: Destination,
}

/// How lines are written.
#[derive(Clone, Copy)]
pub(super) struct Destination {
    /// Past the cache. [`fence`] must then come before anyone reads them.
    pub(super) streaming: bool,
    /// Bytes to a place that will soon be written like this one; zero if there is none.
    pub(super) ahead: usize,
}

impl<'a, T: Plain> LineWriter<'a, T> {
    /// Elements in a vector.
    pub(super) const LANES: usize = LINE / size_of::<T>();

    /// Writes to `out`, whose length is a multiple of [`Self::LANES`].
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
    pub(super) fn new(out: &'a mut [T], destination: Destination) -> Self {
        // SAFETY: any bytes are a `Line`, and any bytes of a `Line` are elements, which are u8 or bf16.
        let (head, lines, tail) = unsafe { out.align_to_mut::<Line>() };
        let skipped = size_of_val(head);
        if skipped > 0 {
            // A part of a line is not written past the cache, so it must come into it.
            prefetch(head.as_ptr(), destination.ahead);
            prefetch(tail.as_ptr(), destination.ahead);
        }
        let joint: [u8; LINE] = std::array::from_fn(|i| (skipped + i).to_le_bytes()[0]);
        Self {
            head: Some(head),
            lines: lines.iter_mut(),
            tail,
            last: _mm512_setzero_si512(),
            joint: load(&joint),
            destination,
        }
    }

    /// Writes one more vector.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
    pub(super) fn put(&mut self, vector: __m512i) {
        let bytes = _mm512_permutex2var_epi8(self.last, self.joint, vector);
        self.last = vector;
        if let Some(head) = self.head.take() {
            copy_part(vector, 0, head);
        } else if let Some(line) = self.lines.next() {
            if !self.destination.streaming {
                prefetch(line, self.destination.ahead);
            }
            store(line, bytes, self.destination.streaming);
        }
    }

    /// Writes what is left of the last vector.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
    pub(super) fn finish(mut self) {
        if let Some(line) = self.lines.next() {
            store(line, self.last, self.destination.streaming);
        } else {
            copy_part(self.last, Self::LANES - self.tail.len(), self.tail);
        }
    }
}

/// Writes the elements of a vector from `start` on, as many as `out` has.
#[inline]
#[target_feature(enable = "avx512f")]
fn copy_part<T: Plain>(vector: __m512i, start: usize, out: &mut [T]) {
    let mut line = Line([0; LINE]);
    store(&mut line, vector, false);
    // SAFETY: elements are u8 or bf16, which any bytes are.
    let (_, elements, _) = unsafe { line.0.align_to::<T>() };
    out.copy_from_slice(&elements[start..start + out.len()]);
}

/// Asks for the memory `ahead` bytes further on, whatever is there.
#[inline]
#[target_feature(enable = "avx512f")]
fn prefetch<T>(here: *const T, ahead: usize) {
    _mm_prefetch::<_MM_HINT_T0>(here.cast::<i8>().wrapping_add(ahead));
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load(bytes: &[u8; LINE]) -> __m512i {
    // SAFETY: the array is 64 readable bytes, and the load needs no alignment.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store(line: &mut Line, bytes: __m512i, streaming: bool) {
    let line = line.0.as_mut_ptr().cast();
    if streaming {
        // SAFETY: the line is 64 writable bytes aligned to 64, and nobody reads it before the caller's fence.
        unsafe { _mm512_stream_si512(line, bytes) }
    } else {
        // SAFETY: the line is 64 writable bytes aligned to 64.
        unsafe { _mm512_store_si512(line, bytes) }
    }
}

/// Makes what was written past the cache visible in order with all that follows.
#[inline]
pub(super) fn fence() {
    // SAFETY: every x86-64 processor has the instruction, and it touches no memory.
    unsafe { _mm_sfence() }
}
