//! The alphabet of byte-level BPE: one printable character for each byte, so that a vocabulary of bytes is a vocabulary of
//! strings. Bytes that are printable in Latin-1 stand for themselves; the other 68 take the characters from U+0100 on, in
//! their order. GPT-2 began it; Qwen, Llama 3 and DeepSeek kept it.

/// The character that stands for a byte.
pub(crate) fn character(byte: u8) -> char {
    if is_printable(byte) {
        return char::from(byte);
    }
    let before = (0..byte).filter(|b| !is_printable(*b)).count();
    char::from_u32(256 + u32::try_from(before).unwrap_or(0)).unwrap_or(char::REPLACEMENT_CHARACTER)
}

/// The byte that a character stands for.
pub(crate) fn byte(c: char) -> Option<u8> {
    let code = u32::from(c);
    match code {
        0..=0xff => u8::try_from(code).ok().filter(|b| is_printable(*b)),
        // 0x00..=0x20, 0x7f..=0xa0, 0xad: 33, 34 and 1 of them.
        0x100..=0x120 => u8::try_from(code - 0x100).ok(),
        0x121..=0x142 => u8::try_from(code - 0x121 + 0x7f).ok(),
        0x143 => Some(0xad),
        _ => None,
    }
}

/// The bytes that a token of the vocabulary stands for; `None` if a character of it is not of the alphabet.
pub(crate) fn bytes(token: &str) -> Option<Vec<u8>> {
    token.chars().map(byte).collect()
}

fn is_printable(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_a_character_of_its_own() {
        for b in 0..=255 {
            assert_eq!(byte(character(b)), Some(b));
        }
        let outside = [
            '\u{0}', ' ', '\u{7f}', '\u{a0}', '\u{ad}', '\u{144}', '\u{2581}',
        ];
        assert!(outside.into_iter().all(|c| byte(c).is_none()));
    }

    #[test]
    fn the_known_characters_are_right() {
        assert_eq!(
            [character(b' '), character(b'\n'), character(b'a')],
            ['Ġ', 'Ċ', 'a']
        );
        assert_eq!(bytes("ĠhÃ©").as_deref(), Some(" hé".as_bytes()));
        assert_eq!(bytes("▁h"), None);
    }
}
