//! One object a line.

use std::fs::File;
use std::io::{BufRead, BufWriter, Write};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;

use crate::error::{io_error, shorten};
use crate::{Error, Object, Record, Result};

/// The objects of a stream of lines. Blank lines are skipped.
pub(crate) struct Lines<R> {
    stream: R,
    path: PathBuf,
    line: usize,
    buffer: Vec<u8>,
    over: bool,
    /// Whether a half last line is no error.
    pub(crate) skip_torn: bool,
}

impl<R: BufRead> Lines<R> {
    pub(crate) fn new(stream: R, path: PathBuf) -> Self {
        Self {
            stream,
            path,
            line: 0,
            buffer: Vec::new(),
            over: false,
            skip_torn: false,
        }
    }

    pub(crate) fn at(&self) -> String {
        format!("{}:{}", self.path.display(), self.line)
    }

    fn object(&self) -> Result<Object> {
        let whole = self.buffer.ends_with(b"\n");
        let line = self.buffer.trim_ascii();
        let at = self.at();
        match serde_json::from_slice(line) {
            Ok(Value::Object(fields)) => Ok(Object::new(at, fields)),
            Ok(other) if whole => Err(Error::NotObject {
                at,
                found: shorten(&other.to_string()),
            }),
            Err(source) if whole => Err(Error::Json {
                at,
                column: source.column(),
                found: shorten(&String::from_utf8_lossy(line)),
                source,
            }),
            _ => Err(Error::Torn {
                at,
                found: tail(&String::from_utf8_lossy(line)),
            }),
        }
    }
}

impl<R: BufRead> Iterator for Lines<R> {
    type Item = Result<Object>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.over {
            self.buffer.clear();
            self.line += 1;
            match self.stream.read_until(b'\n', &mut self.buffer) {
                Ok(0) => self.over = true,
                Ok(_) if self.buffer.trim_ascii().is_empty() => {}
                Ok(_) => match self.object() {
                    Err(Error::Torn { .. }) if self.skip_torn => self.over = true,
                    object => return Some(object),
                },
                Err(source) => {
                    self.over = true;
                    return Some(Err(io_error("read", &self.path)(source)));
                }
            }
        }
        None
    }
}

/// The end of a text, which is where a torn line stops.
fn tail(text: &str) -> String {
    let count = text.chars().count();
    if count <= 60 {
        return text.to_owned();
    }
    let end: String = text.chars().skip(count - 60).collect();
    format!("…{end}")
}

/// Writes rows to a file, one a line.
#[derive(Debug)]
pub struct Writer<T> {
    stream: BufWriter<File>,
    path: PathBuf,
    row: PhantomData<fn(T)>,
}

impl<T: Record + Serialize> Writer<T> {
    /// A new file, in place of what was there.
    ///
    /// # Errors
    /// The file cannot be created.
    pub fn create(path: &Path) -> Result<Self> {
        let file = File::create(path).map_err(io_error("create", path))?;
        Ok(Self {
            stream: BufWriter::new(file),
            path: path.to_owned(),
            row: PhantomData,
        })
    }

    /// Writes one row.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&mut self, row: &T) -> Result<()> {
        let mut line = serde_json::to_vec(row).map_err(|source| Error::Encode {
            schema: T::SCHEMA,
            source,
        })?;
        line.push(b'\n');
        self.stream
            .write_all(&line)
            .map_err(io_error("write", &self.path))
    }

    /// Writes what is still held back, and waits until the disk has it.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn finish(mut self) -> Result<()> {
        self.stream
            .flush()
            .and_then(|()| self.stream.get_ref().sync_all())
            .map_err(io_error("write", &self.path))
    }
}
