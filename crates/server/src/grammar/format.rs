//! `response_format` and `structured_outputs` of a request.

use llguidance::api::TopLevelGrammar;
use serde_json::{Value, json};

use crate::api::error::Result;
use crate::api::fields::Fields;

/// Bytes of a regular expression or grammar, and alternatives of a choice.
const LARGEST: usize = 64 << 10;

/// What a text must be.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Format {
    /// Any JSON object.
    JsonObject,
    /// JSON of this schema.
    JsonSchema(Value),
    /// All of it matches.
    Regex(String),
    /// One of these.
    Choice(Vec<String>),
    /// Of this grammar, in Lark's notation.
    Lark(String),
}

/// What a text must be, for the grammar engine, and what to say of it if that cannot be.
#[derive(Debug, Clone)]
pub(crate) struct Form {
    /// The field of the request that asks for it.
    pub(crate) param: &'static str,
    /// What is expected of that field.
    pub(crate) expected: &'static str,
    /// The grammar itself.
    pub(crate) grammar: TopLevelGrammar,
}

impl Form {
    /// Takes both fields; at most one may ask for anything.
    pub(crate) fn take(fields: &mut Fields) -> Result<Option<Self>> {
        Ok(take(fields)?.map(|(param, format)| Self {
            param,
            expected: format.expected(),
            grammar: format.grammar(),
        }))
    }
}

/// A format and the field that it came from.
type Named = (&'static str, Format);

fn take(fields: &mut Fields) -> Result<Option<Named>> {
    let response = response_format(fields)?;
    let structured = structured_outputs(fields)?;
    if response.is_some() && structured.is_some() {
        return Err(fields.invalid("structured_outputs", "not together with `response_format`"));
    }
    Ok(response.or(structured))
}

impl Format {
    fn expected(&self) -> &'static str {
        match self {
            Self::JsonObject | Self::JsonSchema(_) => "a JSON schema that some JSON fits",
            Self::Regex(_) => {
                "a regular expression, in the syntax of Rust's regex crate, that some text matches"
            }
            Self::Choice(_) => "texts",
            Self::Lark(_) => "a grammar in Lark's notation, with a rule `start`, of some text",
        }
    }

    /// The same for the grammar engine.
    pub(super) fn grammar(&self) -> TopLevelGrammar {
        match self {
            Self::JsonObject => TopLevelGrammar::from_json_schema(tight(json!({"type": "object"}))),
            Self::JsonSchema(schema) => TopLevelGrammar::from_json_schema(tight(schema.clone())),
            Self::Regex(regex) => TopLevelGrammar::from_regex(regex),
            Self::Choice(texts) => {
                let texts: Vec<String> = texts.iter().map(|text| literal(text)).collect();
                TopLevelGrammar::from_lark(format!("start: {}", texts.join(" | ")))
            }
            Self::Lark(grammar) => TopLevelGrammar::from_lark(grammar.clone()),
        }
    }
}

/// The schema with JSON's usual spaces and no others, so that no text can go on with white space for ever.
pub(super) fn tight(mut schema: Value) -> Value {
    if let Value::Object(schema) = &mut schema {
        schema.insert(
            "x-guidance".into(),
            json!({"whitespace_flexible": false, "item_separator": ", ", "key_separator": ": "}),
        );
    }
    schema
}

/// A text as a Lark terminal, which takes no control character as it is.
pub(super) fn literal(text: &str) -> String {
    let quoted = Value::from(text).to_string();
    quoted.chars().fold(String::new(), |mut all, c| {
        if c.is_control() {
            all += &format!("\\u{:04x}", u32::from(c));
        } else {
            all.push(c);
        }
        all
    })
}

fn response_format(fields: &mut Fields) -> Result<Option<Named>> {
    let Some(mut inner) = fields.object("response_format")? else {
        return Ok(None);
    };
    let kind = inner.text("type")?;
    let format = match kind.as_deref() {
        Some("text") => None,
        Some("json_object") => Some(("response_format", Format::JsonObject)),
        Some("json_schema") => Some((
            "response_format.json_schema",
            Format::JsonSchema(named_schema(&mut inner)?),
        )),
        _ => return Err(inner.invalid("type", "expected text, json_object or json_schema")),
    };
    inner.finish(&[])?;
    Ok(format)
}

/// `{"name", "schema", "strict", "description"}`; a schema always holds strictly.
fn named_schema(fields: &mut Fields) -> Result<Value> {
    let Some(mut inner) = fields.object("json_schema")? else {
        return Err(fields.invalid("json_schema", "expected an object with `schema`"));
    };
    let schema = match (inner.take("schema"), inner.take("json_schema")) {
        (Some(schema @ (Value::Object(_) | Value::Bool(_))), None) => schema,
        (None, Some(schema @ Value::Object(_))) => schema,
        _ => return Err(inner.invalid("schema", "expected a JSON schema")),
    };
    inner.finish(&[("name", "*"), ("description", "*"), ("strict", "*")])?;
    Ok(schema)
}

fn structured_outputs(fields: &mut Fields) -> Result<Option<Named>> {
    let Some(mut inner) = fields.object("structured_outputs")? else {
        return Ok(None);
    };
    let json = inner.take("json");
    let json = json.map(|schema| schema_or_text(&inner, schema));
    let choice = choices(&mut inner)?;
    let json_object = inner.flag("json_object", false)?;
    let all = [
        ("structured_outputs.json", json.transpose()?),
        (
            "structured_outputs.regex",
            bounded(&mut inner, "regex")?.map(Format::Regex),
        ),
        (
            "structured_outputs.grammar",
            bounded(&mut inner, "grammar")?.map(Format::Lark),
        ),
        (
            "structured_outputs.choice",
            (!choice.is_empty()).then_some(Format::Choice(choice)),
        ),
        (
            "structured_outputs.json_object",
            json_object.then_some(Format::JsonObject),
        ),
    ];
    let mut formats: Vec<Named> = all
        .into_iter()
        .filter_map(|(param, format)| Some((param, format?)))
        .collect();
    inner.finish(&[
        ("disable_any_whitespace", "[true]"),
        ("structural_tag", "[]"),
        ("whitespace_pattern", "[]"),
    ])?;
    if formats.len() != 1 {
        let message = "expected one of json, regex, choice, grammar, json_object";
        return Err(fields.invalid("structured_outputs", message));
    }
    Ok(formats.pop())
}

fn choices(fields: &mut Fields) -> Result<Vec<String>> {
    const MOST: usize = LARGEST / 64;
    let list = fields.list("choice")?.unwrap_or_default();
    let texts: Option<Vec<String>> = list
        .into_iter()
        .map(|text| match text {
            Value::String(text) => Some(text),
            _ => None,
        })
        .collect();
    texts
        .filter(|texts| texts.len() <= MOST)
        .ok_or_else(|| fields.invalid("choice", format!("expected at most {MOST} strings")))
}

fn bounded(fields: &mut Fields, name: &str) -> Result<Option<String>> {
    match fields.text(name)? {
        Some(text) if text.len() > LARGEST => {
            Err(fields.invalid(name, format!("expected at most {LARGEST} bytes")))
        }
        text => Ok(text),
    }
}

/// vLLM takes the schema as an object or as its text.
fn schema_or_text(fields: &Fields, schema: Value) -> Result<Format> {
    let schema = match schema {
        Value::String(text) => serde_json::from_str(&text).unwrap_or(Value::Null),
        other => other,
    };
    match schema {
        Value::Object(_) | Value::Bool(_) => Ok(Format::JsonSchema(schema)),
        _ => Err(fields.invalid("json", "expected a JSON schema")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(body: &str) -> Result<Option<Format>> {
        let named = super::take(&mut Fields::parse(body.as_bytes()).unwrap())?;
        Ok(named.map(|(_, format)| format))
    }

    #[test]
    fn every_spelling_of_a_format_is_read() {
        let schema = json!({"type": "integer"});
        let same = [
            r#"{"response_format": {"type": "json_schema", "json_schema": {"name": "n", "strict": true, "schema": {"type": "integer"}}}}"#,
            r#"{"structured_outputs": {"json": {"type": "integer"}}}"#,
            r#"{"structured_outputs": {"json": "{\"type\": \"integer\"}"}}"#,
        ];
        for body in same {
            assert_eq!(
                take(body).unwrap(),
                Some(Format::JsonSchema(schema.clone())),
                "{body}"
            );
        }
        assert_eq!(
            take(r#"{"response_format": {"type": "text"}}"#).unwrap(),
            None
        );
        assert_eq!(
            take(r#"{"response_format": {"type": "json_object"}}"#).unwrap(),
            Some(Format::JsonObject)
        );
        let choice = Some(Format::Choice(vec!["a".into(), "b".into()]));
        assert_eq!(
            take(r#"{"structured_outputs": {"choice": ["a", "b"]}}"#).unwrap(),
            choice
        );
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for body in [
            r#"{"response_format": {"type": "structural_tag"}}"#,
            r#"{"response_format": {"type": "json_schema"}}"#,
            r#"{"response_format": "json"}"#,
            r#"{"structured_outputs": {"regex": "a", "choice": ["a"]}}"#,
            r#"{"structured_outputs": {"structural_tag": "x"}}"#,
            r#"{"structured_outputs": {"json": "no"}}"#,
            r#"{"structured_outputs": {}}"#,
            r#"{"structured_outputs": {"choice": []}}"#,
            r#"{"structured_outputs": {"choice": "a"}}"#,
            r#"{"structured_outputs": {"choice": ["a", 5]}}"#,
            r#"{"structured_outputs": {"regex": "a"}, "response_format": {"type": "json_object"}}"#,
        ] {
            assert!(take(body).is_err(), "{body}");
        }
    }
}
