//! Eight codes of four bits in a word.

use crate::Codec;

/// Codes in a word.
pub const PER_WORD: usize = 8;

/// Words whose codes are brought into order together.
const TOGETHER: usize = 64;

/// Which neighbour a nibble holds, from the lowest bits up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Order {
    /// The first in the lowest bits: compressed-tensors and GPTQ.
    Natural,
    /// 0, 2, 4, 6, 1, 3, 5, 7, so that two 16-bit halves unpack with one mask.
    ///
    /// **Source** `AutoAWQ` 0.2 `awq/utils/packing_utils.py::AWQ_ORDER`.
    Awq,
}

impl Order {
    /// The neighbour that each nibble holds.
    const fn nibbles(self) -> [usize; PER_WORD] {
        match self {
            Self::Natural => [0, 1, 2, 3, 4, 5, 6, 7],
            Self::Awq => [0, 2, 4, 6, 1, 3, 5, 7],
        }
    }

    /// The nibble that holds each neighbour.
    const fn places(self) -> [usize; PER_WORD] {
        match self {
            Self::Natural => [0, 1, 2, 3, 4, 5, 6, 7],
            Self::Awq => [0, 4, 1, 5, 2, 6, 3, 7],
        }
    }
}

/// Packs codes into words, which are little-endian as files have them.
///
/// **Shapes** `codes` `[n]` below 16, `words` `[4 × ceil(n / 8)]` bytes; the nibbles beyond the last code are zero.
///
/// # Panics
/// If the lengths do not fit.
pub fn pack(codes: &[u8], order: Order, words: &mut [u8]) {
    assert_fit(codes.len(), words.len());
    let codec = Codec::best();
    if order == Order::Natural {
        let (used, unused) = words.split_at_mut(codes.len().div_ceil(2));
        codec.pack(codes, used);
        unused.fill(0);
        return;
    }
    let mut ordered = [[0; PER_WORD]; TOGETHER];
    let parts = codes.chunks(PER_WORD * TOGETHER);
    for (codes, words) in parts.zip(words.chunks_mut(4 * TOGETHER)) {
        let (whole, rest) = codes.as_chunks::<PER_WORD>();
        for (to, codes) in ordered.iter_mut().zip(whole) {
            *to = order.nibbles().map(|from| codes[from]);
        }
        if !rest.is_empty() {
            let mut last = [0; PER_WORD];
            last[..rest.len()].copy_from_slice(rest);
            ordered[whole.len()] = order.nibbles().map(|from| last[from]);
        }
        codec.pack(&ordered.as_flattened()[..2 * words.len()], words);
    }
}

/// Takes the codes out of words.
///
/// **Shapes** as [`pack`].
///
/// # Panics
/// If the lengths do not fit.
pub fn unpack(words: &[u8], order: Order, codes: &mut [u8]) {
    assert_fit(codes.len(), words.len());
    let codec = Codec::best();
    if order == Order::Natural {
        codec.unpack(&words[..codes.len().div_ceil(2)], codes);
        return;
    }
    let places = order.places();
    let (whole, rest) = codes.as_chunks_mut::<PER_WORD>();
    let (words, last) = words.split_at(4 * whole.len());
    codec.unpack(words, whole.as_flattened_mut());
    for codes in whole {
        *codes = places.map(|at| codes[at]);
    }
    let mut codes = [0; PER_WORD];
    codec.unpack(last, &mut codes[..2 * last.len()]);
    for (to, at) in rest.iter_mut().zip(places) {
        *to = codes[at];
    }
}

fn assert_fit(codes: usize, bytes: usize) {
    assert_eq!(
        bytes,
        4 * codes.div_ceil(PER_WORD),
        "bytes of the words of {codes} codes"
    );
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_first_code_is_in_the_lowest_bits() {
        let mut word = [0; 4];
        pack(&[1, 2, 3, 4, 5, 6, 7, 8], Order::Natural, &mut word);
        assert_eq!(u32::from_le_bytes(word), 0x8765_4321);
        pack(&[1, 2, 3, 4, 5, 6, 7, 8], Order::Awq, &mut word);
        assert_eq!(u32::from_le_bytes(word), 0x8642_7531);
    }

    proptest! {
        #[test]
        fn what_is_packed_is_unpacked(codes in prop::collection::vec(0_u8..16, 0..1100)) {
            for order in [Order::Natural, Order::Awq] {
                let mut words = vec![0xff; 4 * codes.len().div_ceil(PER_WORD)];
                pack(&codes, order, &mut words);
                for (at, nibble) in words.iter().flat_map(|byte| [byte & 0xf, byte >> 4]).enumerate() {
                    let from = at / PER_WORD * PER_WORD + order.nibbles()[at % PER_WORD];
                    prop_assert_eq!(nibble, codes.get(from).copied().unwrap_or(0));
                }
                let mut back = vec![0xff; codes.len()];
                unpack(&words, order, &mut back);
                prop_assert_eq!(&back, &codes);
            }
        }
    }
}
