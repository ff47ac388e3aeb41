//! The fields of one row, taken one at a time.

use serde_json::{Map, Value};

use crate::error::shorten;
use crate::{Error, Result};

/// A row that is being taken apart. Every mistake names where it stands.
#[derive(Debug)]
pub struct Object {
    at: String,
    fields: Map<String, Value>,
}

impl Object {
    pub(crate) fn new(at: String, fields: Map<String, Value>) -> Self {
        Self { at, fields }
    }

    /// File and line.
    #[must_use]
    pub fn at(&self) -> &str {
        &self.at
    }

    /// Whether the column is there and not null.
    #[must_use]
    pub fn has(&self, column: &str) -> bool {
        self.fields
            .get(column)
            .is_some_and(|value| !value.is_null())
    }

    /// Refuses another schema; a row without one may be of any.
    pub(crate) fn check_schema(&self, expected: &'static str, needed: bool) -> Result<()> {
        match self.fields.get("schema") {
            None if !needed => Ok(()),
            Some(Value::String(found)) if found == expected => Ok(()),
            found => Err(Error::Schema {
                at: self.at.clone(),
                expected,
                found: found.map_or_else(|| "none".to_owned(), |value| shorten(&value.to_string())),
            }),
        }
    }

    /// Takes a column out; `None` where it is missing or null.
    pub fn take(&mut self, column: &str) -> Option<Value> {
        self.fields.remove(column).filter(|value| !value.is_null())
    }

    /// A text.
    ///
    /// # Errors
    /// The column is missing, or no string.
    pub fn text(&mut self, column: &str) -> Result<String> {
        match self.needed(column)? {
            Value::String(text) => Ok(text),
            other => Err(self.wrong(column, "a string", &other)),
        }
    }

    /// A whole number from 0.
    ///
    /// # Errors
    /// The column is missing, or another thing.
    pub fn number(&mut self, column: &str) -> Result<u64> {
        let value = self.needed(column)?;
        // pandas writes whole numbers with a fraction where a column has holes.
        let whole = value.as_u64().or_else(|| {
            let float = value.as_f64()?;
            (float >= 0.0 && float.fract() == 0.0 && float < 9e15).then_some(float as u64)
        });
        whole.ok_or_else(|| self.wrong(column, "a whole number from 0", &value))
    }

    /// A value of any type that can be decoded.
    ///
    /// # Errors
    /// The column is missing, or another thing; `expected` says in words what belongs there.
    pub fn decode<T: serde::de::DeserializeOwned>(
        &mut self,
        column: &str,
        expected: &'static str,
    ) -> Result<T> {
        let value = self.needed(column)?;
        T::deserialize(&value).map_err(|_| self.wrong(column, expected, &value))
    }

    /// A value that may be missing; `expected` says in words what belongs there.
    ///
    /// # Errors
    /// The column is there and another thing.
    pub fn optional<T: serde::de::DeserializeOwned>(
        &mut self,
        column: &str,
        expected: &'static str,
    ) -> Result<Option<T>> {
        match self.take(column) {
            None => Ok(None),
            Some(value) => match T::deserialize(&value) {
                Ok(decoded) => Ok(Some(decoded)),
                Err(_) => Err(self.wrong(column, expected, &value)),
            },
        }
    }

    /// A row that lies in a column of this one.
    ///
    /// # Errors
    /// The column is missing, or no object.
    pub fn row(&mut self, column: &str) -> Result<Self> {
        match self.needed(column)? {
            Value::Object(fields) => Ok(Self::new(self.at.clone(), fields)),
            other => Err(self.wrong(column, "an object", &other)),
        }
    }

    /// What the row says of a column that cannot be meant.
    pub(crate) fn wrong(&self, column: &str, expected: &'static str, found: &Value) -> Error {
        Error::Type {
            at: self.at.clone(),
            column: column.to_owned(),
            expected,
            found: shorten(&found.to_string()),
        }
    }

    fn needed(&mut self, column: &str) -> Result<Value> {
        self.take(column).ok_or_else(|| {
            let names: Vec<&str> = self.fields.keys().map(String::as_str).collect();
            Error::Missing {
                at: self.at.clone(),
                column: column.to_owned(),
                found: if names.is_empty() {
                    "no other column".to_owned()
                } else {
                    format!("the columns {}", names.join(", "))
                },
            }
        })
    }
}
