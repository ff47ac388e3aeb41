//! The Jinja engine set up as transformers sets up its own: no escaping of HTML, blocks that take their line with them, and
//! Python's methods and ways to print.

use super::{budget, clock, price, python};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, ValueKind};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, State, Value};
use minijinja_contrib::pycompat;
use std::fmt;

/// What `raise_exception` was given; the source of the engine's error.
#[derive(Debug)]
pub(super) struct Raised(pub(super) String);

impl fmt::Display for Raised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Raised {}

/// The syntax of a template as it came.
pub(super) fn syntax() -> Result<SyntaxConfig, Error> {
    SyntaxConfig::builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        .build()
}

/// An engine without templates; it takes sources that went through [`guard`](super::guard).
pub(super) fn environment() -> Environment<'static> {
    let mut env = Environment::new();
    env.set_auto_escape_callback(|_| AutoEscape::None);
    price::add_to(&mut env);
    env.set_formatter(|out, _, value| match value.as_str() {
        Some(text) => {
            budget::spend(text.len())?;
            Ok(out.write_str(text)?)
        }
        None => Ok(out.write_str(&python::str(value)?)?),
    });
    env.set_unknown_method_callback(method);
    env.remove_global("debug");
    env.add_function("raise_exception", raise_exception);
    env.add_filter("tojson", to_json);
    env.add_filter("string", |value: &Value| python::str(value));
    env.add_filter("trim", |value: &Value, chars: Option<&str>| {
        Ok::<_, Error>(strip(&python::str(value)?, "strip", chars).to_owned())
    });
    // A string is a sequence and can be iterated over in Python, a dictionary too.
    let is_sequence = |value: &Value| {
        matches!(
            value.kind(),
            ValueKind::String | ValueKind::Seq | ValueKind::Map
        )
    };
    env.add_test("sequence", is_sequence);
    env.add_test("iterable", move |value: &Value| {
        is_sequence(value) || value.kind() == ValueKind::Iterable
    });
    env
}

/// `strftime_now` of a clock that stands at `now`.
pub(super) fn strftime_now(now: i64) -> Value {
    Value::from_function(move |format: &str| {
        clock::strftime(now, format).ok_or_else(|| {
            let detail = format!("strftime_now: expected the usual directives, found `{format}`");
            Error::new(ErrorKind::InvalidOperation, detail)
        })
    })
}

fn raise_exception(text: &Value) -> Result<Value, Error> {
    let text = python::str(text)?;
    Err(Error::new(ErrorKind::InvalidOperation, text.clone()).with_source(Raised(text)))
}

/// Python's methods of strings, lists and dictionaries.
fn method(state: &mut State, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    if let Some(made) = price::method(value, name, args)? {
        return Ok(made);
    }
    match (value.as_str(), name, args) {
        (Some(text), "strip" | "lstrip" | "rstrip", []) => Ok(strip(text, name, None).into()),
        (Some(text), "strip" | "lstrip" | "rstrip", [chars]) if chars.is_none() => {
            Ok(strip(text, name, None).into())
        }
        _ => pycompat::unknown_method_callback(state, value, name, args),
    }
}

fn strip<'t>(text: &'t str, side: &str, chars: Option<&str>) -> &'t str {
    let away = |c: char| chars.map_or_else(|| python::is_space(c), |chars| chars.contains(c));
    match side {
        "lstrip" => text.trim_start_matches(away),
        "rstrip" => text.trim_end_matches(away),
        _ => text.trim_matches(away),
    }
}

/// `tojson` as transformers has it: `json.dumps` without escapes for HTML or beyond ASCII.
#[allow(
    clippy::needless_pass_by_value,
    reason = "the engine passes arguments by value"
)]
fn to_json(value: &Value, kwargs: Kwargs) -> Result<String, Error> {
    let flag = |name| Ok::<_, Error>(kwargs.get::<Option<bool>>(name)?.unwrap_or(false));
    let mut json = python::Json {
        ensure_ascii: flag("ensure_ascii")?,
        sort_keys: flag("sort_keys")?,
        ..python::Json::default()
    };
    if let Some(indent) = kwargs.get::<Option<Value>>("indent")? {
        json.indent = indentation(&indent)?;
        json.item_separator
            .truncate(if json.indent.is_some() { 1 } else { 2 });
    }
    if let Some(separators) = kwargs.get::<Option<Vec<String>>>("separators")? {
        let separators: Result<[String; 2], _> = separators.try_into();
        let Ok([item, key]) = separators else {
            return Err(invalid("tojson: expected two separators"));
        };
        (json.item_separator, json.key_separator) = (item, key);
    }
    kwargs.assert_all_used()?;
    json.dumps(value)
}

fn indentation(indent: &Value) -> Result<Option<String>, Error> {
    const WIDEST: usize = 64;
    if indent.is_none() {
        return Ok(None);
    }
    let text = match (indent.as_str(), indent.as_usize()) {
        (Some(text), _) => text.to_owned(),
        (None, Some(width)) => " ".repeat(width.min(WIDEST + 1)),
        _ => return Err(invalid("tojson: expected a number or a text as indent")),
    };
    (text.len() <= WIDEST)
        .then_some(Some(text))
        .ok_or_else(|| invalid("tojson: expected an indent of at most 64"))
}

fn invalid(detail: &'static str) -> Error {
    Error::new(ErrorKind::InvalidOperation, detail)
}
