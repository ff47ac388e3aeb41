//! Bounded reading of small JSON files, and the values in them with errors that name the field.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// No configuration is larger than this; a hostile one must not fill the memory.
const MAX_CONFIG_BYTES: u64 = 16 << 20;

/// Opens a regular file; anything else is refused before it can block, as a pipe would.
pub(crate) fn open_file(path: &Path) -> Result<File> {
    let file = File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)
        .map_err(Error::io("open", path))?;
    let metadata = file.metadata().map_err(Error::io("open", path))?;
    if metadata.is_file() {
        return Ok(file);
    }
    Err(Error::Missing {
        path: path.to_owned(),
        expected: "a regular file".to_owned(),
        found: "something else".to_owned(),
        hint: "a directory, pipe or device is not read",
    })
}

/// The bytes of a file that has at most `limit` of them.
pub(crate) fn read_bounded(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open_file(path)?
        .take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(Error::io("read", path))?;
    if bytes.len() as u64 > limit {
        return Err(Error::Missing {
            path: path.to_owned(),
            expected: format!("a file of at most {limit} bytes"),
            found: "a larger one".to_owned(),
            hint: "this is not the file that its name says",
        });
    }
    Ok(bytes)
}

/// The object in a configuration file, its keys in the file's order.
pub(crate) fn read_object(path: &Path) -> Result<Map<String, Value>> {
    parse_object(&read_bounded(path, MAX_CONFIG_BYTES)?, path)
}

/// The object in `bytes`; `file` only names it in messages.
pub(crate) fn parse_object(bytes: &[u8], file: &Path) -> Result<Map<String, Value>> {
    let what = "a configuration object";
    serde_json::from_slice(bytes).map_err(|source| Error::Json {
        file: file.to_owned(),
        what,
        source,
    })
}

/// The fields of one object, with the path to it for messages.
#[derive(Clone, Copy)]
pub(crate) struct Fields<'a> {
    pub(crate) file: &'a Path,
    pub(crate) prefix: &'a str,
    pub(crate) map: &'a Map<String, Value>,
}

impl<'a> Fields<'a> {
    /// The field, where `null` is the same as its absence.
    pub(crate) fn get(&self, field: &str) -> Option<&'a Value> {
        self.map.get(field).filter(|v| !v.is_null())
    }

    pub(crate) fn usize(&self, field: &str) -> Result<Option<usize>> {
        self.read(field, "a whole number", |v| {
            v.as_u64().and_then(|n| usize::try_from(n).ok())
        })
    }

    pub(crate) fn f64(&self, field: &str) -> Result<Option<f64>> {
        self.read(field, "a number", Value::as_f64)
    }

    pub(crate) fn bool(&self, field: &str) -> Result<Option<bool>> {
        self.read(field, "true or false", Value::as_bool)
    }

    pub(crate) fn str(&self, field: &str) -> Result<Option<&'a str>> {
        self.read(field, "a text", Value::as_str)
    }

    pub(crate) fn object(&self, field: &str) -> Result<Option<&'a Map<String, Value>>> {
        self.read(field, "an object", Value::as_object)
    }

    pub(crate) fn strings(&self, field: &str) -> Result<Option<Vec<String>>> {
        let strings = |v: &Value| {
            v.as_array()?
                .iter()
                .map(|s| s.as_str().map(str::to_owned))
                .collect()
        };
        self.read(field, "a list of texts", strings)
    }

    /// An error about this field.
    pub(crate) fn error(
        &self,
        field: &str,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> Error {
        Error::Config {
            file: self.file.to_owned(),
            field: format!("{}{field}", self.prefix),
            expected: expected.into(),
            found: found.into(),
        }
    }

    fn read<T>(
        &self,
        field: &str,
        expected: &str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(value) = self.get(field) else {
            return Ok(None);
        };
        read(value)
            .map(Some)
            .ok_or_else(|| self.error(field, expected, brief(value)))
    }
}

/// A value in at most 80 characters.
pub(crate) fn brief(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(80) {
        Some((cut, _)) => format!("{}...", &text[..cut]),
        None => text,
    }
}
