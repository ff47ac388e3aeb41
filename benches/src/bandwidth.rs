//! The speed at which threads can read memory: the limit of anything that reads all weights for each token.

use std::hint::black_box;
use std::thread;
use std::time::Instant;

/// Words of one thread: 256 MiB, far more than any cache keeps.
const WORDS: usize = 32 << 20;

/// How often a pass reads it: long enough for the system to give each thread a core of its own.
const TIMES: usize = 4;

/// Memory of each thread's own.
#[derive(Debug)]
pub struct ReadProbe {
    buffers: Vec<Vec<u64>>,
}

impl ReadProbe {
    /// Takes 256 MiB for each thread and writes to all of it.
    #[must_use]
    pub fn new(threads: usize) -> Self {
        let buffers = (0..threads).map(|t| vec![t as u64 + 1; WORDS]).collect();
        Self { buffers }
    }

    /// GB/s at which the threads add up their memory, some times over.
    #[must_use]
    pub fn pass(&self) -> f64 {
        let started = Instant::now();
        thread::scope(|scope| {
            for buffer in &self.buffers {
                scope.spawn(|| {
                    for _ in 0..TIMES {
                        black_box(sum(black_box(buffer)));
                    }
                });
            }
        });
        let bytes = TIMES * self.buffers.len() * WORDS * 8;
        bytes as f64 / started.elapsed().as_secs_f64() / 1e9
    }
}

/// In lanes enough to keep any vector unit waiting for memory only.
fn sum(words: &[u64]) -> u64 {
    let mut lanes = [0_u64; 32];
    for chunk in words.as_chunks::<32>().0 {
        for (lane, word) in lanes.iter_mut().zip(chunk) {
            *lane = lane.wrapping_add(*word);
        }
    }
    lanes.iter().fold(0, |sum, lane| sum.wrapping_add(*lane))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_added_once() {
        let words: Vec<u64> = (0..64 * 5).collect();
        assert_eq!(sum(&words), 64 * 5 * (64 * 5 - 1) / 2);
    }

    #[test]
    fn the_speed_is_a_speed() {
        let speed = ReadProbe::new(1).pass();
        assert!(speed.is_finite() && speed > 0.0);
    }
}
