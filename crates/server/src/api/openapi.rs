//! The description of everything, for machines.

use serde_json::{Map, Value, json};
use xgraft_tokenizer::ChatTemplate;

use super::fields::ANYTHING;
use super::neutral;
use crate::config::ServerConfig;
use crate::engine::ModelCard;

/// OpenAPI 3.1; strings that begin with `$` stand for what depends on the server.
const DOCUMENT: &str = include_str!("openapi.json");

/// The description of one server: `words` are the tokens that have a text.
pub(crate) fn document(
    config: &ServerConfig,
    card: &ModelCard,
    words: usize,
    template: Option<&ChatTemplate>,
) -> String {
    let last_token = card.vocab_size.saturating_sub(1);
    let (least, most) = match config.max_logprobs {
        Some(most) => (0, i64::try_from(most).unwrap_or(i64::MAX)),
        None => (-1, i64::MAX),
    };
    let numbers = [
        ("$last_token", last_token.to_string()),
        ("$last_word", words.saturating_sub(1).to_string()),
        ("$max_model_len", card.max_model_len.to_string()),
        ("$max_choices", config.max_choices.to_string()),
        ("$min_logprobs", least.to_string()),
        ("$max_logprobs", most.to_string()),
    ];
    let document = DOCUMENT.replace("$token_keys", &up_to(last_token));
    let document = numbers.iter().fold(document, |document, (name, number)| {
        document.replace(&format!("\"{name}\""), number)
    });
    let mut document: Value = serde_json::from_str(&document).unwrap_or_default();
    with_neutral(&mut document);
    if let Some(template) = template {
        with_template(&mut document, template);
    }
    document.to_string()
}

/// The model cannot choose among tools that its template does not show it.
fn tools_only_where_they_must_be_called() -> Value {
    json!({"anyOf": [
        {"properties": {"tools": {"anyOf": [{"type": "null"}, {"type": "array", "maxItems": 0}]}}},
        {"required": ["tool_choice"], "properties": {"tool_choice": {"not": {"enum": ["auto", null]}}}},
    ]})
}

/// With what the chat template reads: its switches by name, and tools and documents only if it does.
fn with_template(document: &mut Value, template: &ChatTemplate) {
    for schema in ["ChatCompletionRequest", "TokenizeRequest"] {
        let properties = &mut document["components"]["schemas"][schema]["properties"];
        let switches: Map<String, Value> = template
            .switches()
            .map(|name| (name.to_owned(), json!({})))
            .collect();
        properties["chat_template_kwargs"]["properties"] = switches.into();
        properties["chat_template_kwargs"]["additionalProperties"] = json!({"type": "null"});
        if !template.reads("documents") {
            properties["documents"] = json!({"type": "null", "description": "This model's chat template does not read them."});
        }
        let all_of = document["components"]["schemas"][schema]["allOf"].as_array_mut();
        if let Some(all_of) = all_of.filter(|_| !template.reads("tools")) {
            all_of.push(tools_only_where_they_must_be_called());
        }
    }
}

/// With the parameters that are taken at the values which change nothing.
fn with_neutral(document: &mut Value) {
    for (schema, neutral) in [
        ("CompletionRequest", neutral::COMPLETION),
        ("ChatCompletionRequest", neutral::CHAT),
    ] {
        let properties = &mut document["components"]["schemas"][schema]["properties"];
        for (name, values) in neutral.iter().filter(|(_, values)| *values != ANYTHING) {
            let mut values: Vec<Value> = serde_json::from_str(values).unwrap_or_default();
            values.push(Value::Null);
            properties[name] =
                json!({"enum": values, "description": "Taken where it changes nothing."});
        }
    }
}

/// A regular expression of the decimal numbers up to `most`, without leading zeros.
fn up_to(most: usize) -> String {
    let digits = most.to_string();
    let mut all: Vec<String> = (1..digits.len())
        .map(|more| match more {
            1 => "[0-9]".to_owned(),
            _ => format!("[1-9][0-9]{{{}}}", more - 1),
        })
        .collect();
    for (at, digit) in digits.bytes().enumerate() {
        let least = if at == 0 && digits.len() > 1 {
            b'1'
        } else {
            b'0'
        };
        let rest = digits.len() - at - 1;
        if digit > least {
            let (from, to) = (char::from(least), char::from(digit - 1));
            all.push(format!("{}[{from}-{to}][0-9]{{{rest}}}", &digits[..at]));
        }
    }
    all.push(digits);
    format!("^(?:{})$", all.join("|"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_expression_of_numbers_has_a_branch_for_each_prefix() {
        assert_eq!(up_to(0), "^(?:0)$");
        assert_eq!(up_to(7), "^(?:[0-6][0-9]{0}|7)$");
        assert_eq!(
            up_to(1023),
            "^(?:[0-9]|[1-9][0-9]{1}|[1-9][0-9]{2}|10[0-1][0-9]{1}|102[0-2][0-9]{0}|1023)$"
        );
    }
}
