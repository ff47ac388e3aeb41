//! One implementation of the operations per instruction set.

pub(crate) mod portable;
#[cfg(target_arch = "x86_64")]
pub(crate) mod x86_64;

use half::bf16;

use crate::{Element, Groups, Quotient, Range};

/// The operations. [`crate::Codec`] documents them, and has checked that the lengths fit.
pub(crate) trait Kernels: Copy {
    fn ranges<T: Element>(self, src: &[T], size: usize, ranges: &mut [Range]);
    fn encode<T: Element>(self, groups: Groups<'_>, how: Quotient, src: &[T], codes: &mut [u8]);
    fn decode_f32(self, groups: Groups<'_>, codes: &[u8], out: &mut [f32]);
    fn decode_bf16(self, groups: Groups<'_>, codes: &[u8], out: &mut [bf16]);
    /// Nibbles in their natural order, the lower one first; an odd last code has a byte of its own.
    fn pack(self, codes: &[u8], bytes: &mut [u8]);
    /// The inverse of `pack`.
    fn unpack(self, bytes: &[u8], codes: &mut [u8]);
}
