//! Rows of a Parquet file.

use std::fs::File;
use std::path::{Path, PathBuf};

use parquet::file::reader::SerializedFileReader;
use parquet::record::reader::RowIter;
use parquet::record::{Field, Row};
use serde_json::{Map, Value};

use crate::error::io_error;
use crate::{Error, Object, Result};

/// The rows of a Parquet file, read one row group after the other.
pub(crate) struct Table {
    rows: RowIter<'static>,
    path: PathBuf,
    row: usize,
    over: bool,
}

impl Table {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(io_error("open", path))?;
        let reader = SerializedFileReader::new(file).map_err(|source| Error::Parquet {
            at: path.display().to_string(),
            source,
        })?;
        Ok(Self {
            rows: reader.into_iter(),
            path: path.to_owned(),
            row: 0,
            over: false,
        })
    }

    pub(crate) fn at(&self) -> String {
        format!("{}, row {}", self.path.display(), self.row)
    }
}

impl Iterator for Table {
    type Item = Result<Object>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        let row = self.rows.next();
        self.row += 1;
        self.over = !matches!(row, Some(Ok(_)));
        Some(match row? {
            Ok(row) => Ok(Object::new(self.at(), fields(row))),
            Err(source) => Err(Error::Parquet {
                at: self.at(),
                source,
            }),
        })
    }
}

fn fields(row: Row) -> Map<String, Value> {
    let columns = row.into_columns().into_iter();
    columns.map(|(name, field)| (name, value(field))).collect()
}

/// The JSON of a column. What questions have no use for, as dates and decimals, becomes its text.
fn value(field: Field) -> Value {
    match field {
        Field::Null => Value::Null,
        Field::Bool(x) => x.into(),
        Field::Byte(x) => x.into(),
        Field::Short(x) => x.into(),
        Field::Int(x) => x.into(),
        Field::Long(x) => x.into(),
        Field::UByte(x) => x.into(),
        Field::UShort(x) => x.into(),
        Field::UInt(x) => x.into(),
        Field::ULong(x) => x.into(),
        Field::Float(x) => x.into(),
        Field::Double(x) => x.into(),
        Field::Str(text) => text.into(),
        Field::Bytes(bytes) => String::from_utf8_lossy(bytes.data()).into(),
        Field::Group(row) => Value::Object(fields(row)),
        Field::ListInternal(list) => list.elements().iter().cloned().map(value).collect(),
        other => other.to_string().into(),
    }
}
