//! The fields of a JSON object, taken one by one, so that at the end those are known that nobody asked for.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use super::error::{ApiError, Result, quote};
use super::json;
use crate::engine::TokenId;

/// An object of a request. Every field is taken at most once; `null` is as good as absent.
#[derive(Debug)]
pub(crate) struct Fields {
    /// Where the object stands in the request: empty, or `stream_options.`.
    path: String,
    map: Map<String, Value>,
}

impl Fields {
    /// The object that a body is. Depth is limited by the parser, size by who read the body.
    pub(crate) fn parse(body: &[u8]) -> Result<Self> {
        let value = json::parse(body)
            .map_err(|error| ApiError::malformed(format!("the body is not valid JSON: {error}")))?;
        match value {
            Value::Object(map) => Ok(Self {
                path: String::new(),
                map,
            }),
            _ => Err(ApiError::malformed("the body must be a JSON object")),
        }
    }

    /// All of it, for who knows every name.
    pub(crate) fn into_map(self) -> Map<String, Value> {
        self.map
    }

    /// The value of a field, unless it is `null`.
    pub(crate) fn take(&mut self, name: &str) -> Option<Value> {
        self.map.remove(name).filter(|value| !value.is_null())
    }

    /// Whether a field is there and not `null`.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.map.get(name).is_some_and(|value| !value.is_null())
    }

    /// An error about one of its fields.
    pub(crate) fn invalid(&self, name: &str, message: impl AsRef<str>) -> ApiError {
        let name = format!("{}{name}", self.path);
        ApiError::invalid(&name, format!("`{}`: {}", quote(&name), message.as_ref()))
    }

    /// An object within this one.
    pub(crate) fn object(&mut self, name: &str) -> Result<Option<Self>> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Object(map)) => Ok(Some(Self {
                path: format!("{}{name}.", self.path),
                map,
            })),
            Some(_) => Err(self.invalid(name, "expected an object")),
        }
    }

    /// A list of anything.
    pub(crate) fn list(&mut self, name: &str) -> Result<Option<Vec<Value>>> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Array(list)) => Ok(Some(list)),
            Some(_) => Err(self.invalid(name, "expected a list")),
        }
    }

    /// A text.
    pub(crate) fn text(&mut self, name: &str) -> Result<Option<String>> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.invalid(name, "expected a string")),
        }
    }

    /// True, false, or `default` if it is absent.
    pub(crate) fn flag(&mut self, name: &str, default: bool) -> Result<bool> {
        match self.take(name) {
            None => Ok(default),
            Some(Value::Bool(flag)) => Ok(flag),
            Some(_) => Err(self.invalid(name, "expected true or false")),
        }
    }

    /// A number within a range.
    pub(crate) fn number(&mut self, name: &str, range: RangeInclusive<f32>) -> Result<Option<f32>> {
        let Some(value) = self.take(name) else {
            return Ok(None);
        };
        let number = value.as_f64().map(|number| number as f32);
        match number.filter(|number| range.contains(number)) {
            Some(number) => Ok(Some(number)),
            None => {
                let (least, most) = (range.start(), range.end());
                Err(self.invalid(name, format!("expected a number from {least} to {most}")))
            }
        }
    }

    /// An integer within a range; `3.0` is one.
    pub(crate) fn integer(
        &mut self,
        name: &str,
        range: RangeInclusive<i64>,
    ) -> Result<Option<i64>> {
        let Some(value) = self.take(name) else {
            return Ok(None);
        };
        match integer(&value).filter(|number| range.contains(number)) {
            Some(number) => Ok(Some(number)),
            None => {
                let (least, most) = (range.start(), range.end());
                Err(self.invalid(name, format!("expected an integer from {least} to {most}")))
            }
        }
    }

    /// A count up to `most`.
    pub(crate) fn count(
        &mut self,
        name: &str,
        range: RangeInclusive<usize>,
    ) -> Result<Option<usize>> {
        let limit = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        let range = limit(*range.start())..=limit(*range.end());
        Ok(self
            .integer(name, range)?
            .and_then(|number| usize::try_from(number).ok()))
    }

    /// A list of objects.
    pub(crate) fn objects(&mut self, name: &str) -> Result<Option<Vec<Value>>> {
        let list = self.list(name)?;
        match list.as_ref().map(|list| list.iter().all(Value::is_object)) {
            Some(false) => Err(self.invalid(name, "expected a list of objects")),
            Some(true) | None => Ok(list),
        }
    }

    /// A list of token ids.
    pub(crate) fn ids(&mut self, name: &str) -> Result<Option<Vec<TokenId>>> {
        let Some(list) = self.list(name)? else {
            return Ok(None);
        };
        let id = |(at, value): (usize, &Value)| {
            let found = || {
                format!(
                    "expected token ids, found {} at {at}",
                    quote(&value.to_string())
                )
            };
            token_id(value).ok_or_else(|| self.invalid(name, found()))
        };
        list.iter()
            .enumerate()
            .map(id)
            .collect::<Result<_>>()
            .map(Some)
    }

    /// One text, or a list of at most `most`.
    pub(crate) fn texts(&mut self, name: &str, most: usize) -> Result<Vec<String>> {
        let list = match self.take(name) {
            None => return Ok(Vec::new()),
            Some(Value::String(text)) => return Ok(vec![text]),
            Some(Value::Array(list)) if list.len() <= most => list,
            Some(_) => {
                return Err(self.invalid(
                    name,
                    format!("expected a string, or a list of at most {most}"),
                ));
            }
        };
        let texts = list.into_iter().map(|text| match text {
            Value::String(text) => Some(text),
            _ => None,
        });
        texts
            .collect::<Option<_>>()
            .ok_or_else(|| self.invalid(name, "expected strings"))
    }

    /// What is left must mean nothing: a name of `neutral` with the value that changes nothing.
    ///
    /// # Errors
    /// Names the first field that is left, and whether it is known at all.
    pub(crate) fn finish(self, neutral: &[(&str, &str)]) -> Result<()> {
        for (name, value) in &self.map {
            let known = neutral.iter().find(|(known, _)| known == name);
            match known {
                _ if value.is_null() => {}
                Some((_, ANYTHING)) => {}
                Some((_, values)) if is_one_of(value, values) => {}
                Some(_) => return Err(self.invalid(name, unsupported(name))),
                None => return Err(self.invalid(name, "unknown parameter")),
            }
        }
        Ok(())
    }
}

/// What to use in place of what vLLM had before `structured_outputs`.
fn unsupported(name: &str) -> String {
    match name.strip_prefix("guided_") {
        Some(form @ ("json" | "regex" | "choice" | "grammar")) => {
            format!("this parameter is not supported; use `structured_outputs.{form}`")
        }
        _ => "this parameter is not supported".to_owned(),
    }
}

/// In place of a neutral value: the field never changes the answer.
pub(crate) const ANYTHING: &str = "*";

/// `values` is a JSON list, or empty for none but `null`.
fn is_one_of(value: &Value, values: &str) -> bool {
    serde_json::from_str::<Vec<Value>>(values).is_ok_and(|values| values.contains(value))
}

pub(super) fn integer(value: &Value) -> Option<i64> {
    let whole = |number: &f64| number.fract() == 0.0 && number.abs() < 9e15;
    value
        .as_i64()
        .or_else(|| value.as_f64().filter(whole).map(|number| number as i64))
}

/// A token's number, which the engine still holds against its vocabulary.
pub(super) fn token_id(value: &Value) -> Option<TokenId> {
    integer(value).and_then(|id| TokenId::try_from(id).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(body: &str) -> Fields {
        Fields::parse(body.as_bytes()).unwrap()
    }

    #[test]
    fn numbers_outside_their_range_are_refused_by_name() {
        for body in ["1e308", "-0.1", "\"1\"", "true", "[]"] {
            let mut fields = fields(&format!(r#"{{"top_p": {body}}}"#));
            let error = fields.number("top_p", 0.0..=1.0).unwrap_err();
            assert_eq!(error.param(), Some("top_p"), "{body}");
        }
        assert_eq!(
            fields(r#"{"top_p": 0.5}"#)
                .number("top_p", 0.0..=1.0)
                .unwrap(),
            Some(0.5)
        );
    }

    #[test]
    fn an_integer_may_be_written_as_a_float_but_not_beyond_its_range() {
        assert_eq!(
            fields(r#"{"n": 2.0}"#).integer("n", 1..=4).unwrap(),
            Some(2)
        );
        for body in ["2.5", "9223372036854775808", "1e300", "0", "-1"] {
            assert!(
                fields(&format!(r#"{{"n": {body}}}"#))
                    .integer("n", 1..=4)
                    .is_err(),
                "{body}"
            );
        }
    }

    #[test]
    fn what_nobody_took_is_refused_unless_it_means_nothing() {
        let neutral = [("best_of", "[1]"), ("user", ANYTHING), ("suffix", "[]")];
        assert!(
            fields(r#"{"best_of": 1, "user": {"a": 1}, "suffix": null, "x": null}"#)
                .finish(&neutral)
                .is_ok()
        );
        for body in [r#"{"best_of": 2}"#, r#"{"suffix": "a"}"#, r#"{"x": 1}"#] {
            assert!(fields(body).finish(&neutral).is_err(), "{body}");
        }
    }

    #[test]
    fn deep_json_and_lone_surrogates_are_errors_and_not_the_end() {
        let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
        assert!(Fields::parse(deep.as_bytes()).is_err());
        assert!(Fields::parse(br#"{"prompt": "\ud800"}"#).is_err());
        assert!(Fields::parse(b"{\"prompt\": \"\xff\"}").is_err());
        assert!(Fields::parse(br#"{"prompt": "\u0000"}"#).is_ok());
    }
}
