//! Numbers for operands.

use half::bf16;
use rayon::prelude::*;

/// A fixed stream of numbers (xorshift).
#[derive(Clone, Debug)]
pub struct Stream(u64);

impl Stream {
    /// The stream of a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 11
    }

    /// A finite E4M3 code.
    fn code(&mut self) -> u8 {
        loop {
            let code = self.next() as u8;
            if code & 0x7f != 0x7f {
                return code;
            }
        }
    }

    /// Finite E4M3 codes, each row from a stream of its own.
    pub fn codes(&mut self, rows: u32, cols: u32) -> Vec<u8> {
        let seed = self.next();
        let mut codes = vec![0; rows as usize * cols as usize];
        let rows = codes.par_chunks_mut(cols as usize).enumerate();
        rows.for_each(|(row, codes)| {
            let mut stream = Self::new(seed + row as u64);
            codes.fill_with(|| stream.code());
        });
        codes
    }

    /// Scales from 0.001 to 1.29.
    pub fn scales(&mut self, len: u32) -> Vec<f32> {
        let scale = |v: u64| 0.001 + (v % 1000) as f32 / 777.0;
        (0..len).map(|_| scale(self.next())).collect()
    }

    /// Scales from 1e-15 to 1e15, evenly by their logarithm.
    pub fn wide_scales(&mut self, len: u32) -> Vec<f32> {
        let scale = |v: u64| 10f32.powf((v % 30_001) as f32 / 1000.0 - 15.0);
        (0..len).map(|_| scale(self.next())).collect()
    }

    /// BF16 from -1 to 1.
    pub fn bf16(&mut self, len: usize) -> Vec<bf16> {
        let number = |v: u64| bf16::from_f32((v % 2001) as f32 / 1000.0 - 1.0);
        (0..len).map(|_| number(self.next())).collect()
    }

    /// A number below another.
    pub fn below(&mut self, end: u32) -> u32 {
        (self.next() % u64::from(end)) as u32
    }
}
