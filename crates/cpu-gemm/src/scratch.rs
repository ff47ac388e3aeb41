//! Scratch memory that a thread keeps.

use crate::element::Element;

/// Cache line, and alignment of scratch memory, in bytes.
const LINE: usize = 64;

/// Lends `len` elements of this thread's scratch memory, aligned to a cache line, with arbitrary contents.
///
/// A call inside a call gets memory of its own.
pub(crate) fn with_scratch<T: Element, R>(len: usize, work: impl FnOnce(&mut [T]) -> R) -> R {
    let mut memory = T::scratch().take();
    if memory.len() < len + spare::<T>() {
        memory = vec![T::default(); len + spare::<T>()];
    }
    let result = work(&mut aligned(&mut memory)[..len]);
    T::scratch().set(memory);
    result
}

/// The part of a slice that starts at a cache line.
pub(crate) fn aligned<T>(memory: &mut [T]) -> &mut [T] {
    let offset = aligned_offset(memory);
    &mut memory[offset..]
}

/// Elements in front of the first cache line of a slice.
#[inline]
pub(crate) fn aligned_offset<T>(memory: &[T]) -> usize {
    memory.as_ptr().align_offset(LINE).min(memory.len())
}

/// Elements to allocate in excess of what [`aligned`] shall leave.
pub(crate) const fn spare<T>() -> usize {
    LINE / size_of::<T>()
}
