//! JSONL: one record a line. Blank lines are skipped; every error names file and line.

use crate::{Error, Record, Result, error::io_error};
use serde_json::Value;
use std::{
    fs::File,
    io::{BufRead, BufReader, BufWriter, Read, Write},
    path::Path,
};

/// Reads every record of a file.
///
/// # Errors
/// The file cannot be read, or a line is not a record of this schema.
pub fn read_file<T: Record>(path: &Path) -> Result<Vec<T>> {
    let file = File::open(path).map_err(io_error("read", path))?;
    read(file, &path.display().to_string())
}

/// Reads every record of a stream, which errors call `name`.
///
/// # Errors
/// The stream cannot be read, or a line is not a record of this schema.
pub fn read<T: Record>(stream: impl Read, name: &str) -> Result<Vec<T>> {
    let mut records = Vec::new();
    for (index, line) in BufReader::new(stream).split(b'\n').enumerate() {
        let line = line.map_err(|source| Error::Stream {
            action: "read",
            name: name.to_owned(),
            source,
        })?;
        if !line.trim_ascii().is_empty() {
            records.push(parse(&line, name, Some(index + 1))?);
        }
    }
    Ok(records)
}

/// Writes records to a new file, replacing what was there.
///
/// # Errors
/// The file cannot be written, or a number is not finite.
pub fn write_file<T: Record>(path: &Path, records: &[T]) -> Result<()> {
    let file = File::create(path).map_err(io_error("create", path))?;
    let mut stream = BufWriter::new(file);
    write_named(&mut stream, records, &path.display().to_string())?;
    stream.flush().map_err(io_error("write", path))
}

/// Writes records to a stream, one a line.
///
/// # Errors
/// The stream cannot be written, or a number is not finite.
pub fn write<T: Record>(stream: &mut impl Write, records: &[T]) -> Result<()> {
    write_named(stream, records, "records")
}

fn write_named<T: Record>(stream: &mut impl Write, records: &[T], name: &str) -> Result<()> {
    for (index, record) in records.iter().enumerate() {
        let mut line = encode(record)?;
        if let Some(field) = record.not_finite() {
            let what = line.chars().take(120).collect();
            return Err(Error::NotFinite { index, what, field });
        }
        line.push('\n');
        stream
            .write_all(line.as_bytes())
            .map_err(|source| Error::Stream {
                action: "write",
                name: name.to_owned(),
                source,
            })?;
    }
    Ok(())
}

fn encode<T: Record>(record: &T) -> Result<String> {
    serde_json::to_string(record).map_err(|source| Error::Encode {
        schema: T::SCHEMA,
        source,
    })
}

/// Parses one record and checks that it names the schema of `T`.
pub(crate) fn parse<T: Record>(bytes: &[u8], name: &str, line: Option<usize>) -> Result<T> {
    let at = || line.map_or_else(|| name.to_owned(), |line| format!("{name}:{line}"));
    let decode = |source| Error::Decode {
        at: at(),
        schema: T::SCHEMA,
        source,
    };
    let value: Value = serde_json::from_slice(bytes).map_err(decode)?;
    match &value["schema"] {
        Value::String(found) if found == T::SCHEMA => serde_json::from_value(value).map_err(decode),
        found => Err(Error::Schema {
            at: at(),
            expected: T::SCHEMA,
            found: match found {
                Value::Null => "none".to_owned(),
                other => other.to_string(),
            },
        }),
    }
}
