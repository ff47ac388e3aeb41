//! What can go wrong with a record's file.

use std::{io, path::Path, path::PathBuf};

/// A record that cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file system failed.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was being attempted: `read`, `create`, `write`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A stream without a path failed.
    #[error("cannot {action} {name}")]
    Stream {
        /// What was being attempted.
        action: &'static str,
        /// What the caller calls the stream.
        name: String,
        /// The cause.
        source: io::Error,
    },
    /// The text is not JSON, or lacks a field, or has a field of another type.
    #[error("{at}: not a record of {schema}")]
    Decode {
        /// File and line.
        at: String,
        /// The schema that was expected.
        schema: &'static str,
        /// The cause.
        source: serde_json::Error,
    },
    /// The record is of another schema or version.
    #[error("{at}: expected schema {expected}, found {found}")]
    Schema {
        /// File and line.
        at: String,
        /// The schema that was expected.
        expected: &'static str,
        /// What the field `schema` holds.
        found: String,
    },
    /// JSON has no NaN and no infinity.
    #[error("record {index} ({what}): field `{field}` is NaN or infinite, which JSON cannot hold")]
    NotFinite {
        /// The position of the record among those being written, from 0.
        index: usize,
        /// The record, shortened.
        what: String,
        /// The field.
        field: &'static str,
    },
    /// The record cannot be written as JSON.
    #[error("cannot encode a record of {schema}")]
    Encode {
        /// The schema of the record.
        schema: &'static str,
        /// The cause.
        source: serde_json::Error,
    },
}

/// The result of reading or writing records.
pub type Result<T, E = Error> = std::result::Result<T, E>;

pub(crate) fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io {
        action,
        path,
        source,
    }
}
