//! What every id stands for, as bytes.

use crate::{Error, Result, TokenId};

/// The bytes of every token in one allocation, indexed by id.
#[derive(Debug)]
pub(crate) struct Vocabulary {
    bytes: Vec<u8>,
    tokens: Vec<Option<Entry>>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    start: usize,
    end: usize,
    special: bool,
}

impl Vocabulary {
    /// Without a token. `size` is one more than the largest id.
    pub(crate) fn new(size: usize) -> Self {
        Self {
            bytes: Vec::new(),
            tokens: vec![None; size],
        }
    }

    /// Gives an id its bytes; a second time they take the place of the first.
    pub(crate) fn set(&mut self, id: TokenId, bytes: &[u8], special: bool) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        let end = self.bytes.len();
        if let Some(entry) = self.tokens.get_mut(id as usize) {
            *entry = Some(Entry {
                start,
                end,
                special,
            });
        }
    }

    /// One more than the largest id.
    pub(crate) fn size(&self) -> usize {
        self.tokens.len()
    }

    fn entry(&self, id: TokenId) -> Option<Entry> {
        self.tokens.get(id as usize).copied().flatten()
    }

    pub(crate) fn bytes(&self, id: TokenId) -> Option<&[u8]> {
        let entry = self.entry(id)?;
        Some(&self.bytes[entry.start..entry.end])
    }

    pub(crate) fn is_special(&self, id: TokenId) -> bool {
        self.entry(id).is_some_and(|entry| entry.special)
    }

    /// What decoding appends for an id: nothing for a special token that is to be skipped.
    pub(crate) fn decoded(&self, id: TokenId, skip_special: bool) -> Result<&[u8]> {
        let entry = self.entry(id).ok_or(Error::UnknownId {
            id,
            vocab_size: self.size(),
        })?;
        let skipped = skip_special && entry.special;
        Ok(if skipped {
            &[]
        } else {
            &self.bytes[entry.start..entry.end]
        })
    }
}
