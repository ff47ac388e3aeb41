//! What can be wrong with the files of a tokenizer, and with a request to it.

use crate::TokenId;
use std::io;
use std::path::PathBuf;

/// The result of opening and using a [`Tokenizer`](crate::Tokenizer).
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong with `tokenizer.json` and its neighbours, and while encoding and decoding.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file cannot be read.
    #[error("could not read {}", .file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// The operating system's own words.
        source: io::Error,
    },
    /// The directory has no `tokenizer.json`.
    #[error("expected a tokenizer.json in {}, found none; copy it from the model that the checkpoint was made of", .dir.display())]
    Missing {
        /// The model directory.
        dir: PathBuf,
    },
    /// A file larger than any real one.
    #[error("{}: expected at most {limit} bytes, found {found}", .file.display())]
    TooLarge {
        /// The file.
        file: PathBuf,
        /// The limit, in bytes.
        limit: u64,
        /// The size of the file, in bytes.
        found: u64,
    },
    /// A file that is not JSON, or not of the right form.
    #[error("{}: not valid JSON for {what}", .file.display())]
    Json {
        /// The file.
        file: PathBuf,
        /// What the file should hold.
        what: &'static str,
        /// The parser's own words, with line and column.
        source: serde_json::Error,
    },
    /// A field has a value that cannot be meant, or that is of a kind that is not supported.
    #[error("{}: `{field}`: expected {expected}, found {found}", .file.display())]
    Field {
        /// The file.
        file: PathBuf,
        /// The field, with dots for nesting.
        field: String,
        /// What is understood.
        expected: String,
        /// What is there.
        found: String,
    },
    /// The parts of a tokenizer do not make one: a merge of tokens that do not exist, for example.
    #[error("{}: the `tokenizers` library refuses its {part}", .file.display())]
    Library {
        /// The file.
        file: PathBuf,
        /// The part, as the file calls it.
        part: &'static str,
        /// The library's own words.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A text longer than the limit of this tokenizer.
    #[error("expected a text of at most {limit} bytes, found {found}")]
    TextTooLong {
        /// The limit, in bytes.
        limit: usize,
        /// The length of the text, in bytes.
        found: usize,
    },
    /// The library failed on a text.
    #[error("the `tokenizers` library failed on a text of {bytes} bytes")]
    Encode {
        /// The length of the text, in bytes.
        bytes: usize,
        /// The library's own words.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// An id that no token has.
    #[error("expected an id of the vocabulary (below {vocab_size}, without gaps), found {id}")]
    UnknownId {
        /// The id.
        id: TokenId,
        /// The least number above all ids.
        vocab_size: usize,
    },
}
