//! Two 4-bit codes to a byte, the first in the high bits: bitsandbytes.

/// Packs codes in pairs; a last code without a second has 0 beside it.
///
/// **Source** bitsandbytes 0.50 `backends/default/ops.py` (`quantize_4bit`).
///
/// # Panics
/// If `out` has not a byte for each pair.
pub fn pack_pairs(codes: &[u8], out: &mut [u8]) {
    assert_eq!(out.len(), codes.len().div_ceil(2), "bytes of the codes");
    for (byte, pair) in out.iter_mut().zip(codes.chunks(2)) {
        let second = pair.get(1).map_or(0, |code| code & 0xf);
        *byte = pair[0] << 4 | second;
    }
}

/// The inverse of [`pack_pairs`].
///
/// # Panics
/// If `codes` has not a byte for each pair of `out`.
pub fn unpack_pairs(codes: &[u8], out: &mut [u8]) {
    assert_eq!(codes.len(), out.len().div_ceil(2), "bytes of the codes");
    for (pair, byte) in out.chunks_mut(2).zip(codes) {
        pair[0] = byte >> 4;
        if let Some(second) = pair.get_mut(1) {
            *second = byte & 0xf;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_code_is_in_the_high_bits() {
        let mut bytes = [0; 2];
        pack_pairs(&[1, 2, 15], &mut bytes);
        assert_eq!(bytes, [0x12, 0xf0]);
    }

    #[test]
    fn codes_come_back() {
        for length in 0..40 {
            let codes: Vec<u8> = (0..length).map(|i| (i * 7 % 16) as u8).collect();
            let mut bytes = vec![0; codes.len().div_ceil(2)];
            pack_pairs(&codes, &mut bytes);
            let mut back = vec![0; codes.len()];
            unpack_pairs(&bytes, &mut back);
            assert_eq!(back, codes);
        }
    }
}
