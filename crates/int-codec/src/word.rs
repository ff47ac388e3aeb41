//! Eight codes of four bits in a word.

/// Codes in a word.
pub const PER_WORD: usize = 8;

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
}

/// Packs codes into words.
///
/// **Shapes** `codes` `[n]` below 16, `words` `[ceil(n / 8)]`; the nibbles beyond the last code are zero.
///
/// # Panics
/// If the lengths do not fit.
pub fn pack(codes: &[u8], order: Order, words: &mut [u32]) {
    assert_eq!(
        words.len(),
        codes.len().div_ceil(PER_WORD),
        "words of {} codes",
        codes.len()
    );
    let nibbles = order.nibbles();
    let (whole, rest) = codes.as_chunks::<PER_WORD>();
    let word = |codes: &[u8; PER_WORD]| {
        let mut word = 0;
        for (at, from) in nibbles.into_iter().enumerate() {
            word |= u32::from(codes[from] & 0xf) << (4 * at);
        }
        word
    };
    for (word_out, codes) in words.iter_mut().zip(whole) {
        *word_out = word(codes);
    }
    if !rest.is_empty() {
        let mut last = [0; PER_WORD];
        last[..rest.len()].copy_from_slice(rest);
        words[whole.len()] = word(&last);
    }
}

/// Takes the codes out of words.
///
/// **Shapes** as [`pack`].
///
/// # Panics
/// If the lengths do not fit.
pub fn unpack(words: &[u32], order: Order, codes: &mut [u8]) {
    assert_eq!(
        words.len(),
        codes.len().div_ceil(PER_WORD),
        "words of {} codes",
        codes.len()
    );
    let nibbles = order.nibbles();
    let split = |word: u32| {
        let mut codes = [0; PER_WORD];
        for (at, to) in nibbles.into_iter().enumerate() {
            codes[to] = (word >> (4 * at)) as u8 & 0xf;
        }
        codes
    };
    let (whole, rest) = codes.as_chunks_mut::<PER_WORD>();
    let n = whole.len();
    for (codes, word) in whole.iter_mut().zip(words) {
        *codes = split(*word);
    }
    if !rest.is_empty() {
        let last = split(words[n]);
        rest.copy_from_slice(&last[..rest.len()]);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_first_code_is_in_the_lowest_bits() {
        let mut word = [0];
        pack(&[1, 2, 3, 4, 5, 6, 7, 8], Order::Natural, &mut word);
        assert_eq!(word, [0x8765_4321]);
        pack(&[1, 2, 3, 4, 5, 6, 7, 8], Order::Awq, &mut word);
        assert_eq!(word, [0x8642_7531]);
    }

    proptest! {
        #[test]
        fn what_is_packed_is_unpacked(codes in prop::collection::vec(0_u8..16, 0..70)) {
            for order in [Order::Natural, Order::Awq] {
                let mut words = vec![u32::MAX; codes.len().div_ceil(PER_WORD)];
                pack(&codes, order, &mut words);
                let mut back = vec![0xff; codes.len()];
                unpack(&words, order, &mut back);
                prop_assert_eq!(&back, &codes);
            }
        }
    }
}
