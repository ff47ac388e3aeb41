//! Sixteen f32 at a time: the few operations that a product needs, once per instruction set.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;

#[cfg(target_arch = "x86_64")]
pub(crate) use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) use avx512::Avx512;
pub(crate) use portable::Portable;

/// Lanes of a vector, the unit of the order of summation.
pub(crate) const LANES: usize = 16;

/// Sixteen f32 and what can be done with them. All implementations give the same bits.
///
/// A value of the type is the proof that the processor can do it.
pub(crate) trait Lanes: Copy + Send + Sync {
    /// Sixteen f32.
    type V: Copy;

    /// `x` in every lane.
    fn splat(self, x: f32) -> Self::V;
    /// Lane by lane as in memory.
    fn load(self, from: &[f32; LANES]) -> Self::V;
    /// The inverse of [`Lanes::load`].
    fn store(self, v: Self::V, to: &mut [f32; LANES]);
    /// `a * b`, rounded once.
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a * b + c`, rounded once.
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// The sum of all lanes: lane `l` takes lane `l + 8`, then `l + 4`, `l + 2` and `l + 1`.
    fn sum(self, v: Self::V) -> f32;
    /// [`Lanes::sum`] of four vectors.
    #[inline(always)]
    fn sum4(self, v: [Self::V; 4]) -> [f32; 4] {
        [
            self.sum(v[0]),
            self.sum(v[1]),
            self.sum(v[2]),
            self.sum(v[3]),
        ]
    }

    /// Asks for the cache line at `at`, which need not be memory of the process.
    #[inline(always)]
    fn prefetch(self, at: *const u8) {
        let _ = at;
    }
    /// [`Lanes::prefetch`] into the second-level cache.
    #[inline(always)]
    fn prefetch_second(self, at: *const u8) {
        let _ = at;
    }

    /// Sixteen little-endian f32.
    fn f32(self, from: &[u8; 64]) -> Self::V;
    /// Sixteen little-endian bfloat16.
    fn bf16(self, from: &[u8; 32]) -> Self::V;
    /// Sixteen little-endian half-precision floats.
    fn f16(self, from: &[u8; 32]) -> Self::V;
    /// Sixteen codes of E4M3FN, each 2⁻⁸ of its value; NaN gives ±480 × 2⁻⁸.
    fn e4m3(self, from: &[u8; 16]) -> Self::V;
    /// [`Lanes::e4m3`] of two vectors next to each other.
    #[inline(always)]
    fn e4m3_pair(self, from: &[u8; 32]) -> [Self::V; 2] {
        let (pair, _) = from.as_chunks();
        [self.e4m3(&pair[0]), self.e4m3(&pair[1])]
    }
    /// Sixteen codes of E5M2.
    fn e5m2(self, from: &[u8; 16]) -> Self::V;
    /// Sixteen two's-complement bytes.
    fn i8(self, from: &[u8; 16]) -> Self::V;
    /// Entries of `table` by sixteen four-bit indices, the lower half of each byte first.
    fn nibbles(self, from: &[u8; 8], table: Self::V) -> Self::V;
}

/// Runs a piece of generic code with the instructions of an implementation.
pub(crate) trait Job {
    /// What it gives.
    type Out;
    /// The code; `#[inline(always)]`, so that it is compiled for the instructions of `lanes`.
    fn run<L: Lanes>(self, lanes: L) -> Self::Out;
}

/// An instruction set that this processor was seen to have.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Isa {
    /// AVX-512 F, BW, DQ and VL.
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
    /// AVX2, FMA and F16C.
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    /// Any processor.
    Portable,
}

impl Isa {
    /// The fastest one of this processor.
    pub(crate) fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            if let Some(token) = Avx512::detect() {
                return Self::Avx512(token);
            }
            if let Some(token) = Avx2::detect() {
                return Self::Avx2(token);
            }
        }
        Self::Portable
    }

    /// All of this processor.
    #[cfg(test)]
    pub(crate) fn all() -> Vec<Self> {
        let mut all = vec![Self::Portable];
        #[cfg(target_arch = "x86_64")]
        {
            all.extend(Avx2::detect().map(Self::Avx2));
            all.extend(Avx512::detect().map(Self::Avx512));
        }
        all
    }

    /// Runs `job` with this instruction set.
    pub(crate) fn run<J: Job>(self, job: J) -> J::Out {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(token) => token.run(job),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(token) => token.run(job),
            Self::Portable => job.run(Portable),
        }
    }
}

#[cfg(test)]
mod tests;
