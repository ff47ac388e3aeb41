//! Rows of a file, one at a time.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::error::{io_error, shorten};
use crate::jsonl::Lines;
use crate::table::Table;
use crate::{Error, Object, Result};

/// A row that can be taken out of the fields of a line.
pub trait Record: Sized {
    /// Name and version, the value of the field `schema`.
    const SCHEMA: &'static str;
    /// Whether a row must name its schema.
    const NEEDS_SCHEMA: bool;

    /// Takes the row's columns out of a line.
    ///
    /// # Errors
    /// A column is missing, or holds something else.
    fn from_object(object: &mut Object) -> Result<Self>;
}

/// Takes a row out of a value that another file holds, at the place `at`.
///
/// # Errors
/// The value is no row of this schema.
pub fn decode<T: Record>(value: Value, at: &str) -> Result<T> {
    match value {
        Value::Object(fields) => of_object(Object::new(at.to_owned(), fields)),
        other => Err(Error::NotObject {
            at: at.to_owned(),
            found: shorten(&other.to_string()),
        }),
    }
}

fn of_object<T: Record>(mut object: Object) -> Result<T> {
    object.check_schema(T::SCHEMA, T::NEEDS_SCHEMA)?;
    T::from_object(&mut object)
}

/// An iterator over the rows of a JSONL or Parquet file. After an error there may be more rows; whoever wants only whole
/// files stops at the first.
#[derive(Debug)]
pub struct Reader<T> {
    source: Source,
    row: PhantomData<fn() -> T>,
}

enum Source {
    Jsonl(Lines<Box<dyn BufRead + Send>>),
    Parquet(Table),
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Jsonl(_) => "Jsonl",
            Self::Parquet(_) => "Parquet",
        })
    }
}

impl<T: Record> Reader<T> {
    /// Opens a file. One that begins as Parquet is Parquet, whatever its name.
    ///
    /// # Errors
    /// The file cannot be opened, or its Parquet footer is damaged.
    pub fn open(path: &Path) -> Result<Self> {
        let mut file = File::open(path).map_err(io_error("open", path))?;
        let mut magic = [0_u8; 4];
        let count = read_up_to(&mut file, &mut magic).map_err(io_error("read", path))?;
        if magic[..count] == *b"PAR1" {
            let source = Source::Parquet(Table::open(path)?);
            return Ok(Self::of(source));
        }
        let file = File::open(path).map_err(io_error("open", path))?;
        let stream: Box<dyn BufRead + Send> = Box::new(BufReader::with_capacity(1 << 16, file));
        Ok(Self::of(Source::Jsonl(Lines::new(stream, path.to_owned()))))
    }

    /// Rows of a JSONL stream, which errors call `name`.
    pub fn jsonl(stream: impl Read + Send + 'static, name: &str) -> Self {
        let stream: Box<dyn BufRead + Send> = Box::new(BufReader::new(stream));
        Self::of(Source::Jsonl(Lines::new(stream, PathBuf::from(name))))
    }

    /// Takes a last line that ends in its middle for the end of the file: a log whose writer was killed has one.
    #[must_use]
    pub fn without_torn_line(mut self) -> Self {
        if let Source::Jsonl(lines) = &mut self.source {
            lines.skip_torn = true;
        }
        self
    }

    /// File and line of the row that came last.
    #[must_use]
    pub fn at(&self) -> String {
        match &self.source {
            Source::Jsonl(lines) => lines.at(),
            Source::Parquet(table) => table.at(),
        }
    }

    fn of(source: Source) -> Self {
        Self {
            source,
            row: PhantomData,
        }
    }
}

impl<T: Record> Iterator for Reader<T> {
    type Item = Result<T>;

    fn next(&mut self) -> Option<Self::Item> {
        let object = match &mut self.source {
            Source::Jsonl(lines) => lines.next()?,
            Source::Parquet(table) => table.next()?,
        };
        Some(object.and_then(of_object))
    }
}

fn read_up_to(file: &mut File, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut count = 0;
    while count < buffer.len() {
        match file.read(&mut buffer[count..])? {
            0 => break,
            more => count += more,
        }
    }
    Ok(count)
}
