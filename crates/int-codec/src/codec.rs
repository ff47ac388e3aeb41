//! The operations on rows of groups, and the choice of their implementation.

use std::sync::OnceLock;

use half::{bf16, f16};

#[cfg(target_arch = "x86_64")]
use crate::arch::x86_64::{Avx2, Avx512, Avx512Bf16};
use crate::arch::{Kernels, portable::Portable};

/// One implementation of the operations: [`Codec::best`] unless a test wants a certain one. All give the same bits.
#[derive(Clone, Copy, Debug)]
pub struct Codec(Implementation);

#[derive(Clone, Copy, Debug)]
enum Implementation {
    Portable(Portable),
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
    #[cfg(target_arch = "x86_64")]
    Avx512Bf16(Avx512Bf16),
}

/// Scales and zero points of the groups of a row.
///
/// **Shapes** a group is `size` consecutive elements, the last perhaps fewer; `scales` and `zeros` `[G]`.
#[derive(Clone, Copy, Debug)]
pub struct Groups<'a> {
    /// Bits of a code, 2 to 8.
    pub bits: u8,
    /// Elements of a group.
    pub size: usize,
    /// Scales, positive and finite.
    pub scales: &'a [f32],
    /// Zero points; none where all are the middle of the range, 2^(bits − 1).
    pub zeros: Option<&'a [u8]>,
    /// Whether codes are two's complement in their lowest bits, the others zero, rather than offset binary. Zero points are
    /// offset binary always.
    pub signed: bool,
}

/// What an element divided by its scale is rounded to before it is rounded to an integer, and its sum with the zero point
/// as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quotient {
    /// To f32 only, as the division does.
    F32,
    /// To bf16.
    Bf16,
    /// To IEEE half.
    F16,
}

/// What the elements of a group span.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Range {
    /// The least of them and zero.
    pub least: f32,
    /// The largest of them and zero.
    pub most: f32,
    /// Whether none is NaN or infinite; the others mean nothing if one is.
    pub finite: bool,
}

/// A type of elements to encode.
pub trait Element: Copy {
    /// As f32, exactly.
    fn widen(self) -> f32;
}

impl Element for f32 {
    #[inline(always)]
    fn widen(self) -> f32 {
        self
    }
}

impl Element for bf16 {
    #[inline(always)]
    fn widen(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }
}

impl Element for f16 {
    #[inline(always)]
    fn widen(self) -> f32 {
        self.to_f32()
    }
}

impl Groups<'_> {
    /// The zero point of groups that have none of their own.
    pub const fn middle(&self) -> u8 {
        1 << (self.bits - 1)
    }

    fn check(&self, elements: usize, codes: usize) {
        assert_eq!(elements, codes, "codes of the elements");
        assert!((2..=8).contains(&self.bits), "codes of {} bits", self.bits);
        let groups = count(elements, self.size);
        assert_eq!(self.scales.len(), groups, "scales of the groups");
        if let Some(zeros) = self.zeros {
            assert_eq!(zeros.len(), groups, "zero points of the groups");
        }
    }
}

fn count(elements: usize, size: usize) -> usize {
    assert!(size > 0, "groups without elements");
    elements.div_ceil(size)
}

/// Calls a method of whichever implementation `$codec` holds.
macro_rules! dispatch {
    ($codec:expr, $kernels:ident => $call:expr) => {
        match $codec.0 {
            Implementation::Portable($kernels) => $call,
            #[cfg(target_arch = "x86_64")]
            Implementation::Avx2($kernels) => $call,
            #[cfg(target_arch = "x86_64")]
            Implementation::Avx512($kernels) => $call,
            #[cfg(target_arch = "x86_64")]
            Implementation::Avx512Bf16($kernels) => $call,
        }
    };
}

impl Codec {
    /// The fastest implementation for this processor, looked up once.
    pub fn best() -> Self {
        static BEST: OnceLock<Codec> = OnceLock::new();
        *BEST.get_or_init(|| Self::available().last().unwrap_or(Self::portable()))
    }

    /// The implementation without special instructions.
    pub const fn portable() -> Self {
        Self(Implementation::Portable(Portable))
    }

    /// The implementations that this processor can run, slowest first.
    pub fn available() -> impl Iterator<Item = Self> {
        #[cfg(target_arch = "x86_64")]
        let special = [
            Avx2::new().map(Implementation::Avx2),
            Avx512::new().map(Implementation::Avx512),
            Avx512Bf16::new().map(Implementation::Avx512Bf16),
        ];
        #[cfg(not(target_arch = "x86_64"))]
        let special: [Option<Implementation>; 0] = [];
        let special = special.into_iter().flatten().map(Self);
        std::iter::once(Self::portable()).chain(special)
    }

    /// What each group of `size` elements spans.
    ///
    /// # Panics
    /// If there is not one range for each group.
    pub fn ranges<T: Element>(self, src: &[T], size: usize, ranges: &mut [Range]) {
        assert_eq!(ranges.len(), count(src.len(), size), "ranges of the groups");
        dispatch!(self, kernels => kernels.ranges(src, size, ranges));
    }

    /// The code of each finite element: x / scale, rounded, plus the zero point, rounded again, clamped, and rounded to the
    /// nearest integer, ties to even.
    ///
    /// # Panics
    /// If the lengths do not fit, or codes have not 2 to 8 bits.
    pub fn encode<T: Element>(
        self,
        groups: Groups<'_>,
        quotient: Quotient,
        src: &[T],
        codes: &mut [u8],
    ) {
        groups.check(src.len(), codes.len());
        dispatch!(self, kernels => kernels.encode(groups, quotient, src, codes));
    }

    /// The value of each code: (code − zero point) × scale, one f32 multiplication.
    ///
    /// # Panics
    /// If the lengths do not fit, or codes have not 2 to 8 bits.
    pub fn decode_f32(self, groups: Groups<'_>, codes: &[u8], out: &mut [f32]) {
        groups.check(out.len(), codes.len());
        dispatch!(self, kernels => kernels.decode_f32(groups, codes, out));
    }

    /// [`Self::decode_f32`], the product then rounded to bf16, nearest even. May write past the cache.
    ///
    /// # Panics
    /// If the lengths do not fit, or codes have not 2 to 8 bits.
    pub fn decode_bf16(self, groups: Groups<'_>, codes: &[u8], out: &mut [bf16]) {
        groups.check(out.len(), codes.len());
        dispatch!(self, kernels => kernels.decode_bf16(groups, codes, out));
    }

    /// Pairs of 4-bit codes to bytes, the first in the lower half.
    pub(crate) fn pack(self, codes: &[u8], bytes: &mut [u8]) {
        dispatch!(self, kernels => kernels.pack(codes, bytes));
    }

    /// The inverse of `pack`.
    pub(crate) fn unpack(self, bytes: &[u8], codes: &mut [u8]) {
        dispatch!(self, kernels => kernels.unpack(bytes, codes));
    }
}
