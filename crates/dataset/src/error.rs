//! What can be wrong with a file of rows.

use std::io;
use std::path::{Path, PathBuf};

/// A file of rows that cannot be read or written. `at` is file and line, or file and row of a Parquet file, from 1.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file system failed.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was being attempted: `open`, `read`, `create`, `write`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A line is not JSON.
    #[error("{at}, column {column}: expected a JSON object, found {found}")]
    Json {
        /// File and line.
        at: String,
        /// The character of the line at which reading stopped, from 1.
        column: usize,
        /// The line, shortened.
        found: String,
        /// The cause.
        source: serde_json::Error,
    },
    /// The last line stops in the middle: whoever wrote it was interrupted.
    #[error(
        "{at}: the last line ends in its middle, found {found}; remove it, or let its writer finish"
    )]
    Torn {
        /// File and line.
        at: String,
        /// The end of the line.
        found: String,
    },
    /// The line is JSON but no object.
    #[error("{at}: expected a JSON object, found {found}")]
    NotObject {
        /// File and line.
        at: String,
        /// The value, shortened.
        found: String,
    },
    /// The row is of another schema or version.
    #[error("{at}: expected schema {expected}, found {found}")]
    Schema {
        /// File and line.
        at: String,
        /// The schema that was expected.
        expected: &'static str,
        /// What the field `schema` holds.
        found: String,
    },
    /// A column is not there.
    #[error("{at}: column `{column}` is missing, found {found}")]
    Missing {
        /// File and line.
        at: String,
        /// The column.
        column: String,
        /// The columns that are there.
        found: String,
    },
    /// A column holds something else.
    #[error("{at}: column `{column}`: expected {expected}, found {found}")]
    Type {
        /// File and line.
        at: String,
        /// The column.
        column: String,
        /// What belongs there.
        expected: &'static str,
        /// What is there, shortened.
        found: String,
    },
    /// Two questions have one id.
    #[error("{at}: id {id} was already at {first}; every question has its own")]
    Duplicate {
        /// File and line.
        at: String,
        /// What is there twice.
        id: String,
        /// Where it was first.
        first: String,
    },
    /// The file has no row.
    #[error("{}: expected at least one row, found none", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// The Parquet file is damaged, or uses what this reader has not.
    #[error("{at}: cannot read Parquet")]
    Parquet {
        /// File and row.
        at: String,
        /// The cause.
        source: parquet::errors::ParquetError,
    },
    /// A row cannot be written as JSON.
    #[error("cannot encode a row of {schema}")]
    Encode {
        /// The schema of the row.
        schema: &'static str,
        /// The cause.
        source: serde_json::Error,
    },
}

/// The result of reading or writing rows.
pub type Result<T, E = Error> = std::result::Result<T, E>;

pub(crate) fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io {
        action,
        path,
        source,
    }
}

/// At most 60 characters of something found.
pub(crate) fn shorten(text: &str) -> String {
    const MOST: usize = 60;
    if text.chars().count() <= MOST {
        return text.to_owned();
    }
    let start: String = text.chars().take(MOST).collect();
    format!("{start}…")
}
