//! Texts out of code points.

use super::literal::{NoLiteral, Parsed};

/// A text that comes as code points, of which two halves of a pair may be one.
#[derive(Default)]
pub(super) struct Units {
    text: String,
    high: Option<u32>,
}

impl Units {
    pub(super) fn push(&mut self, code: u32) -> Parsed<()> {
        match (self.high.take(), code) {
            (Some(high), 0xDC00..=0xDFFF) => {
                self.add(0x10000 + ((high - 0xD800) << 10) + (code - 0xDC00))
            }
            // Python keeps a half pair; no right answer has one, so any mark does.
            (Some(_), _) => {
                self.text.push(char::REPLACEMENT_CHARACTER);
                self.push(code)
            }
            (None, 0xD800..=0xDBFF) => {
                self.high = Some(code);
                Ok(())
            }
            (None, 0xDC00..=0xDFFF) => {
                self.text.push(char::REPLACEMENT_CHARACTER);
                Ok(())
            }
            (None, code) => self.add(code),
        }
    }

    fn add(&mut self, code: u32) -> Parsed<()> {
        self.text.push(char::from_u32(code).ok_or(NoLiteral)?);
        Ok(())
    }

    pub(super) fn finish(mut self) -> Parsed<String> {
        if self.high.take().is_some() {
            self.text.push(char::REPLACEMENT_CHARACTER);
        }
        Ok(self.text)
    }
}
