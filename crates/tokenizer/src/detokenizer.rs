//! Ids to text while they are generated.

use crate::{Result, TokenId, Tokenizer};

/// Decodes one id at a time and never splits a character.
///
/// A character may be spread over several tokens. Its bytes are held back (at most three) until it is complete, or until it
/// cannot become one: then U+FFFD stands in its place, exactly where [`Tokenizer::decode`] of all ids has it. The texts of all
/// pushes and of [`finish`](Self::finish), one after the other, are that decoding. The cost of a push is that of its token.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let tokenizer = xgraft_tokenizer::Tokenizer::open(xgraft_fixtures::TEXT.base())?;
/// let ids = tokenizer.encode("5 µg", false)?;
/// let mut detokenizer = tokenizer.detokenizer(true);
/// let mut text = String::new();
/// for id in ids {
///     text.push_str(&detokenizer.push(id)?);
/// }
/// text.push_str(&detokenizer.finish());
/// assert_eq!(text, "5 µg");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Detokenizer<'t> {
    tokenizer: &'t Tokenizer,
    skip_special: bool,
    /// The beginning of a character.
    held: Vec<u8>,
    /// Whether nothing was decoded yet.
    is_first: bool,
}

impl<'t> Detokenizer<'t> {
    pub(crate) fn new(tokenizer: &'t Tokenizer, skip_special: bool) -> Self {
        Self {
            tokenizer,
            skip_special,
            held: Vec::new(),
            is_first: true,
        }
    }

    /// The text that this id completes; often a word, and empty while a character is incomplete.
    ///
    /// # Errors
    /// No token has the id. Nothing is changed then.
    pub fn push(&mut self, id: TokenId) -> Result<String> {
        let bytes = self.tokenizer.decoded(id, self.skip_special)?;
        self.held
            .extend_from_slice(self.tokenizer.at(self.is_first, bytes));
        self.is_first &= bytes.is_empty();
        let mut text = String::with_capacity(self.held.len());
        let mut left = 0;
        let mut chunks = self.held.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            text.push_str(chunk.valid());
            if chunks.peek().is_none() && is_beginning(chunk.invalid()) {
                left = chunk.invalid().len();
            } else if !chunk.invalid().is_empty() {
                text.push(char::REPLACEMENT_CHARACTER);
            }
        }
        self.held.drain(..self.held.len() - left);
        Ok(text)
    }

    /// The bytes that are held back now: the beginning of a character, or nothing.
    #[must_use]
    pub fn pending(&self) -> &[u8] {
        &self.held
    }

    /// U+FFFD if the last character is incomplete, otherwise nothing.
    #[must_use]
    pub fn finish(self) -> String {
        String::from_utf8_lossy(&self.held).into_owned()
    }
}

/// Whether more bytes can make a character of these.
fn is_beginning(bytes: &[u8]) -> bool {
    let incomplete = std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none());
    !bytes.is_empty() && incomplete
}
