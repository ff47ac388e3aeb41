//! Reading JSON files with a limit on their size.

use crate::{Error, Result};
use serde::de::DeserializeOwned;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// The content of a file of at most `limit` bytes.
pub(crate) fn bytes(file: &Path, limit: u64) -> Result<Vec<u8>> {
    let io = |source| Error::Io {
        file: file.to_owned(),
        source,
    };
    let opened = File::open(file).map_err(io)?;
    let found = opened.metadata().map_err(io)?.len();
    if found > limit {
        return Err(too_large(file, limit, found));
    }
    let mut bytes = Vec::new();
    // A pipe has no length of its own.
    opened.take(limit + 1).read_to_end(&mut bytes).map_err(io)?;
    let found = bytes.len() as u64;
    if found > limit {
        Err(too_large(file, limit, found))
    } else {
        Ok(bytes)
    }
}

/// The same, or `None` if there is no such file.
pub(crate) fn bytes_if_any(file: &Path, limit: u64) -> Result<Option<Vec<u8>>> {
    match bytes(file, limit) {
        Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

fn too_large(file: &Path, limit: u64, found: u64) -> Error {
    Error::TooLarge {
        file: file.to_owned(),
        limit,
        found,
    }
}

/// Parses the text of a file. `what` is for the message: "a tokenizer".
pub(crate) fn parse<T: DeserializeOwned>(
    text: &[u8],
    file: &Path,
    what: &'static str,
) -> Result<T> {
    serde_json::from_slice(text).map_err(|source| Error::Json {
        file: file.to_owned(),
        what,
        source,
    })
}
