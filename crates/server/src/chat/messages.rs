//! Messages as a template wants them.

use serde_json::{Map, Value};

use crate::api::error::{ApiError, Result, quote};

/// Messages of a request at most.
const MOST: usize = 4096;

/// The roles that templates know.
const ROLES: [&str; 5] = ["system", "developer", "user", "assistant", "tool"];

/// What a message may have. Templates read more or less of it; clients send back what they were given.
const KEYS: [&str; 8] = [
    "role",
    "content",
    "name",
    "reasoning",
    "reasoning_content",
    "thinking",
    "tool_calls",
    "tool_call_id",
];

/// Checks the messages; parts that are text become one text, and the arguments of calls become objects.
pub(crate) fn normal(messages: Vec<Value>) -> Result<Vec<Value>> {
    if messages.is_empty() || messages.len() > MOST {
        let message = format!("`messages`: expected a list of 1 to {MOST} messages");
        return Err(ApiError::invalid("messages", message));
    }
    let messages = messages.into_iter().enumerate();
    messages
        .map(|(at, message)| message_of(at, message))
        .collect()
}

fn message_of(at: usize, message: Value) -> Result<Value> {
    let Value::Object(mut message) = message else {
        return Err(wrong(
            at,
            "",
            "expected an object with `role` and `content`",
        ));
    };
    if !message
        .get("role")
        .and_then(Value::as_str)
        .is_some_and(|role| ROLES.contains(&role))
    {
        return Err(wrong(
            at,
            ".role",
            "expected system, developer, user, assistant or tool",
        ));
    }
    only(at, "", &message, &KEYS)?;
    let content = match message.remove("content") {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) => Some(text),
        Some(Value::Array(parts)) => Some(text_of(at, &parts)?),
        Some(_) => {
            return Err(wrong(
                at,
                ".content",
                "expected a string or a list of parts",
            ));
        }
    };
    if content.is_none() && message["role"] != "assistant" {
        return Err(wrong(
            at,
            ".content",
            "expected a string or a list of parts",
        ));
    }
    message.insert("content".into(), content.unwrap_or_default().into());
    read_calls(at, &mut message)?;
    Ok(Value::Object(message))
}

fn text_of(at: usize, parts: &[Value]) -> Result<String> {
    for part in parts.iter().filter_map(Value::as_object) {
        only(at, ".content", part, &["type", "text"])?;
    }
    let text = |part: &Value| match part["type"].as_str() {
        Some("text") => part["text"].as_str().map(ToOwned::to_owned),
        _ => None,
    };
    let texts = parts.iter().map(text).collect::<Option<Vec<_>>>();
    let texts = texts.ok_or_else(|| {
        wrong(
            at,
            ".content",
            "this model reads text only: expected parts of type text",
        )
    })?;
    Ok(texts.join("\n"))
}

/// Clients send arguments as text, templates write objects.
fn read_calls(at: usize, message: &mut Map<String, Value>) -> Result<()> {
    let calls = match message.get_mut("tool_calls") {
        None => return Ok(()),
        Some(Value::Null) => {
            message.remove("tool_calls");
            return Ok(());
        }
        Some(Value::Array(calls)) => calls,
        Some(_) => return Err(wrong(at, ".tool_calls", "expected a list")),
    };
    for call in calls {
        if let Some(call) = call.as_object() {
            only(
                at,
                ".tool_calls",
                call,
                &["id", "type", "index", "function"],
            )?;
        }
        let Some(function) = call.get_mut("function").and_then(Value::as_object_mut) else {
            return Err(wrong(at, ".tool_calls", "expected calls with a `function`"));
        };
        only(at, ".tool_calls.function", function, &["name", "arguments"])?;
        if let Some(Value::String(text)) = function.get("arguments") {
            let parsed = serde_json::from_str::<Map<String, Value>>(text);
            let arguments =
                parsed.map_err(|_| wrong(at, ".tool_calls", "`arguments` is not a JSON object"))?;
            function.insert("arguments".into(), arguments.into());
        }
    }
    Ok(())
}

/// Refuses a key that nobody knows, unless it says nothing.
fn only(at: usize, path: &str, object: &Map<String, Value>, keys: &[&str]) -> Result<()> {
    let says_nothing =
        |value: &Value| value.is_null() || value.as_array().is_some_and(Vec::is_empty);
    let unknown = object
        .iter()
        .find(|(key, value)| !keys.contains(&key.as_str()) && !says_nothing(value));
    match unknown {
        None => Ok(()),
        Some((key, _)) => Err(wrong(at, &format!("{path}.{}", quote(key)), "unknown key")),
    }
}

fn wrong(at: usize, field: &str, message: &str) -> ApiError {
    let param = format!("messages[{at}]{field}");
    let message = format!("`{param}`: {message}");
    ApiError::invalid(&param, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn parts_become_a_text_and_arguments_an_object() {
        let messages = normal(vec![
            json!({"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}),
            json!({"role": "assistant", "content": null, "tool_calls": [
                {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{\"x\": 1}"}}]}),
            json!({"role": "tool", "content": "2", "tool_call_id": "1"}),
        ]);
        let messages = messages.unwrap();
        assert_eq!(messages[0]["content"], "a\nb");
        assert_eq!(messages[1]["content"], "");
        assert_eq!(
            messages[1]["tool_calls"][0]["function"]["arguments"]["x"],
            1
        );
    }

    #[test]
    fn what_no_template_could_render_is_refused_with_its_place() {
        let wrong = [
            json!([]),
            json!(["hello"]),
            json!([{"content": "x"}]),
            json!([{"role": "wizard", "content": "x"}]),
            json!([{"role": "user"}]),
            json!([{"role": "user", "content": 5}]),
            json!([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]),
            json!([{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "no"}}]}]),
            json!([{"role": "assistant", "tool_calls": 1}]),
        ];
        for messages in wrong {
            let Value::Array(list) = messages else {
                unreachable!("a list")
            };
            let error = normal(list).unwrap_err();
            assert!(
                error
                    .param()
                    .is_some_and(|param| param.starts_with("messages"))
            );
        }
    }
}
