//! What Python prints: `str`, `repr` and `json.dumps` of a template's values. Templates were written for it, and models were trained
//! on what it printed.

use super::budget;
use minijinja::value::ValueKind;
use minijinja::{Error, ErrorKind, Value};

/// Deeper values are an error; JSON from outside has at most 128 levels.
const DEEPEST: usize = 256;

/// What `strip` takes away: Unicode's white space, and four separators of ASCII that only Python counts.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// `str(value)`.
pub(super) fn str(value: &Value) -> Result<String, Error> {
    if let Some(text) = value.as_str() {
        return Ok(text.to_owned());
    }
    let mut out = String::new();
    write_repr(&mut out, value, 0)?;
    budget::spend(out.len())?;
    Ok(out)
}

fn too_deep() -> Error {
    Error::new(
        ErrorKind::InvalidOperation,
        format!("a value is nested more than {DEEPEST} deep"),
    )
}

fn write_repr(out: &mut String, value: &Value, depth: usize) -> Result<(), Error> {
    if depth > DEEPEST {
        return Err(too_deep());
    }
    budget::allows(out.len())?;
    match value.kind() {
        ValueKind::Undefined => {}
        ValueKind::None => out.push_str("None"),
        ValueKind::Bool => out.push_str(if value.is_true() { "True" } else { "False" }),
        ValueKind::Number => write_number(out, value, ["inf", "-inf", "nan"]),
        ValueKind::String => write_quoted(out, value.as_str().unwrap_or_default()),
        ValueKind::Seq | ValueKind::Iterable => {
            let (open, close) = if value.is_tuple() {
                ('(', ')')
            } else {
                ('[', ']')
            };
            out.push(open);
            for (at, item) in value.try_iter()?.enumerate() {
                out.push_str(if at == 0 { "" } else { ", " });
                write_repr(out, &item, depth + 1)?;
            }
            if value.is_tuple() && value.len() == Some(1) {
                out.push(',');
            }
            out.push(close);
        }
        ValueKind::Map => {
            out.push('{');
            for (at, key) in value.try_iter()?.enumerate() {
                out.push_str(if at == 0 { "" } else { ", " });
                write_repr(out, &key, depth + 1)?;
                out.push_str(": ");
                write_repr(out, &value.get_item(&key)?, depth + 1)?;
            }
            out.push('}');
        }
        _ => out.push_str(&value.to_string()),
    }
    Ok(())
}

/// Integers as they are, floats as the shortest digits that read back; `special` are infinity, its negative, and NaN.
fn write_number(out: &mut String, value: &Value, special: [&str; 3]) {
    if value.is_integer() {
        out.push_str(&value.to_string());
        return;
    }
    let number = f64::try_from(value.clone()).unwrap_or(f64::NAN);
    match number {
        f64::INFINITY => out.push_str(special[0]),
        f64::NEG_INFINITY => out.push_str(special[1]),
        _ if number.is_nan() => out.push_str(special[2]),
        _ => out.push_str(&float(number)),
    }
}

/// `repr` of a finite float: an exponent below 1e-4 and from 1e16 on, of at least two digits.
fn float(number: f64) -> String {
    let scientific = format!("{number:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..16).contains(&exponent) {
        return format!("{number:?}");
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

/// `repr` of a string: single quotes, unless there are some in it and no double ones.
fn write_quoted(out: &mut String, text: &str) {
    let quote = if text.contains('\'') && !text.contains('"') {
        '"'
    } else {
        '\''
    };
    out.push(quote);
    for c in text.chars() {
        let code = u32::from(c);
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            _ if c == quote => out.extend(['\\', c]),
            // The characters that are not printable in Latin-1, and the separators of lines.
            _ if c.is_control() || code == 0xa0 || code == 0xad => {
                out.push_str(&format!("\\x{code:02x}"));
            }
            '\u{2028}' | '\u{2029}' => out.push_str(&format!("\\u{code:04x}")),
            _ => out.push(c),
        }
    }
    out.push(quote);
}

/// The arguments of `json.dumps`.
#[derive(Clone, Debug)]
pub(super) struct Json {
    pub(super) ensure_ascii: bool,
    /// The white space of one level, if lines are broken.
    pub(super) indent: Option<String>,
    pub(super) item_separator: String,
    pub(super) key_separator: String,
    pub(super) sort_keys: bool,
}

impl Default for Json {
    fn default() -> Self {
        Self {
            ensure_ascii: false,
            indent: None,
            item_separator: ", ".into(),
            key_separator: ": ".into(),
            sort_keys: false,
        }
    }
}

impl Json {
    /// `json.dumps(value)`.
    pub(super) fn dumps(&self, value: &Value) -> Result<String, Error> {
        let mut out = String::new();
        self.write(&mut out, value, 0)?;
        budget::spend(out.len())?;
        Ok(out)
    }

    fn write(&self, out: &mut String, value: &Value, depth: usize) -> Result<(), Error> {
        if depth > DEEPEST {
            return Err(too_deep());
        }
        budget::allows(out.len())?;
        match value.kind() {
            ValueKind::None => out.push_str("null"),
            ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => write_number(out, value, ["Infinity", "-Infinity", "NaN"]),
            ValueKind::String => self.write_text(out, value.as_str().unwrap_or_default()),
            ValueKind::Seq | ValueKind::Iterable => {
                let items = value.try_iter()?.map(|item| (None, Ok(item)));
                self.write_items(out, ['[', ']'], items, depth)?;
            }
            ValueKind::Map => {
                let mut keys: Vec<_> = value.try_iter()?.collect();
                if self.sort_keys {
                    keys.sort();
                }
                let items = keys
                    .into_iter()
                    .map(|key| (Some(key.clone()), value.get_item(&key)));
                self.write_items(out, ['{', '}'], items, depth)?;
            }
            kind => {
                let detail = format!("tojson: a value of type {kind} has no JSON");
                return Err(Error::new(ErrorKind::BadSerialization, detail));
            }
        }
        Ok(())
    }

    fn write_items(
        &self,
        out: &mut String,
        [open, close]: [char; 2],
        items: impl Iterator<Item = (Option<Value>, Result<Value, Error>)>,
        depth: usize,
    ) -> Result<(), Error> {
        out.push(open);
        let mut is_empty = true;
        for (key, item) in items {
            if !is_empty {
                out.push_str(&self.item_separator);
            }
            is_empty = false;
            self.new_line(out, depth + 1);
            if let Some(key) = key {
                self.write_key(out, &key)?;
                out.push_str(&self.key_separator);
            }
            self.write(out, &item?, depth + 1)?;
        }
        if !is_empty {
            self.new_line(out, depth);
        }
        out.push(close);
        Ok(())
    }

    fn new_line(&self, out: &mut String, depth: usize) {
        if let Some(indent) = &self.indent {
            out.push('\n');
            out.extend(std::iter::repeat_n(indent.as_str(), depth));
        }
    }

    /// A key is a string; numbers and the like become one.
    fn write_key(&self, out: &mut String, key: &Value) -> Result<(), Error> {
        match key.as_str() {
            Some(key) => self.write_text(out, key),
            None => {
                let plain = Self::default().dumps(key)?;
                self.write_text(out, &plain);
            }
        }
        Ok(())
    }

    fn write_text(&self, out: &mut String, text: &str) {
        out.push('"');
        for c in text.chars() {
            match c {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\u{8}' => out.push_str("\\b"),
                '\u{c}' => out.push_str("\\f"),
                '\0'..='\u{1f}' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
                '\u{7f}'.. if self.ensure_ascii && c != '\u{7f}' => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        out.push_str(&format!("\\u{unit:04x}"));
                    }
                }
                _ => out.push(c),
            }
        }
        out.push('"');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn value(json: &serde_json::Value) -> Value {
        budget::start(1 << 20, 1 << 20);
        Value::from(minijinja::value::Serde(json))
    }

    #[test]
    fn numbers_are_pythons() {
        budget::start(1 << 20, 1 << 20);
        // [repr(x) for x in (...)]
        for (number, expected) in [
            (1.0, "1.0"),
            (-0.0, "-0.0"),
            (0.1, "0.1"),
            (1e15, "1000000000000000.0"),
            (9999999999999998.0, "9999999999999998.0"),
            (1e16, "1e+16"),
            (1.5e300, "1.5e+300"),
            (0.0001, "0.0001"),
            (0.000_012_5, "1.25e-05"),
            (5e-324, "5e-324"),
        ] {
            assert_eq!(float(number), expected);
        }
        assert_eq!(
            str(&Value::from(u64::MAX)).expect("prints"),
            "18446744073709551615"
        );
        assert_eq!(str(&Value::from(f64::NAN)).expect("prints"), "nan");
    }

    #[test]
    fn values_print_as_in_python() {
        let all = json!({"a": [true, false, null, 1, "it's"], "b\n": {"c": "\"'\\\u{7f}é\u{2028}"}, "d": []});
        let expected =
            r#"{'a': [True, False, None, 1, "it's"], 'b\n': {'c': '"\'\\\x7fé\u2028'}, 'd': []}"#;
        assert_eq!(str(&value(&all)).expect("prints"), expected);
        assert_eq!(str(&value(&json!("it's"))).expect("prints"), "it's");
        assert_eq!(str(&Value::UNDEFINED).expect("prints"), "");
    }

    #[test]
    fn json_is_that_of_python() {
        let all = json!({"b": [1, 2.0, {}], "a": "<é\u{7f}\u{1f600}\u{1}\u{8}\">", "c": []});
        let plain = Json::default();
        assert_eq!(
            plain.dumps(&value(&all)).expect("prints"),
            "{\"b\": [1, 2.0, {}], \"a\": \"<é\u{7f}\u{1f600}\\u0001\\b\\\">\", \"c\": []}"
        );
        let sorted = Json {
            ensure_ascii: true,
            indent: Some("  ".into()),
            item_separator: ",".into(),
            sort_keys: true,
            ..plain
        };
        let expected = "{\n  \"a\": \"<\\u00e9\u{7f}\\ud83d\\ude00\\u0001\\b\\\">\",\n  \"b\": [\n    1,\n    2.0,\n    {}\n  ],\n  \"c\": []\n}";
        assert_eq!(sorted.dumps(&value(&all)).expect("prints"), expected);
    }

    #[test]
    fn a_value_that_is_too_deep_or_undefined_is_an_error() {
        let deep = (0..1000).fold(Value::from(1), |inner, _| Value::from(vec![inner]));
        assert!(str(&deep).is_err());
        assert!(Json::default().dumps(&deep).is_err());
        assert!(Json::default().dumps(&Value::UNDEFINED).is_err());
    }
}
