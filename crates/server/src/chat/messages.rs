//! Messages as a template wants them.

use serde_json::{Map, Value};

use crate::api::error::{ApiError, Result, quote};

/// Messages of a request at most.
const MOST: usize = 4096;

/// The roles that templates know.
const ROLES: [&str; 5] = ["system", "developer", "user", "assistant", "tool"];

/// What a message may have. Templates read more or less of it; clients send back what they were given.
const KEYS: [&str; 10] = [
    "role",
    "content",
    "refusal",
    "type",
    "name",
    "reasoning",
    "reasoning_content",
    "thinking",
    "tool_calls",
    "tool_call_id",
];

/// Those that are texts.
const TEXTS: [&str; 5] = [
    "name",
    "reasoning",
    "reasoning_content",
    "thinking",
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
    message.retain(|_, value| !value.is_null());
    texts(at, "", &message, &TEXTS)?;
    if message.remove("type").is_some_and(|kind| kind != "text") {
        return Err(wrong(at, ".type", "expected text"));
    }
    let is_assistant = message["role"] == "assistant";
    let content = match message.remove("content") {
        None if is_assistant => String::new(),
        Some(Value::String(text)) => text,
        Some(Value::Array(parts)) => text_of(at, is_assistant, &parts)?,
        _ => {
            let expected = "expected a string or a list of parts";
            return Err(wrong(at, ".content", expected));
        }
    };
    let content = match message.remove("refusal") {
        None => content,
        Some(Value::String(refusal)) if refusal.is_empty() => content,
        Some(Value::String(refusal)) if is_assistant && content.is_empty() => refusal,
        Some(Value::String(refusal)) if is_assistant => format!("{content}\n{refusal}"),
        Some(_) => return Err(wrong(at, ".refusal", "expected a text of the assistant")),
    };
    message.insert("content".into(), content.into());
    read_calls(at, &mut message)?;
    Ok(Value::Object(message))
}

/// The text of parts; what the assistant refused to say is its text too.
fn text_of(at: usize, is_assistant: bool, parts: &[Value]) -> Result<String> {
    let text = |part: &Value| {
        let key = match part["type"].as_str() {
            Some("text") => "text",
            Some("refusal") if is_assistant => "refusal",
            _ => {
                let message = "this model reads text only: expected parts of type text";
                return Err(wrong(at, ".content", message));
            }
        };
        let part = part.as_object().into_iter();
        part.clone()
            .try_for_each(|part| only(at, ".content", part, &["type", key, "cache_control"]))?;
        let text = part.filter_map(|part| part.get(key)?.as_str()).next();
        text.map(ToOwned::to_owned)
            .ok_or_else(|| wrong(at, &format!(".content.{key}"), "expected a string"))
    };
    let texts = parts.iter().map(text).collect::<Result<Vec<_>>>()?;
    Ok(texts.join("\n"))
}

/// Clients send arguments as text, templates write objects. No calls are as good as absent: templates ask only whether
/// there is a list, and leave out the text then.
fn read_calls(at: usize, message: &mut Map<String, Value>) -> Result<()> {
    match message.get_mut("tool_calls") {
        None => {}
        Some(Value::Array(calls)) if calls.is_empty() => drop(message.remove("tool_calls")),
        Some(Value::Array(calls)) => calls.iter_mut().try_for_each(|call| read_call(at, call))?,
        Some(_) => return Err(wrong(at, ".tool_calls", "expected a list")),
    }
    Ok(())
}

fn read_call(at: usize, call: &mut Value) -> Result<()> {
    const CALL: &str = ".tool_calls";
    const FUNCTION: &str = ".tool_calls.function";
    let no_function = || wrong(at, CALL, "expected calls with a `function`");
    let call = call.as_object_mut().ok_or_else(no_function)?;
    only(at, CALL, call, &["id", "type", "index", "function"])?;
    call.retain(|_, value| !value.is_null());
    texts(at, CALL, call, &["id"])?;
    if call.get("type").is_some_and(|kind| kind != "function") {
        return Err(wrong(at, &format!("{CALL}.type"), "expected function"));
    }
    let is_whole = |index: &Value| index.as_f64().is_some_and(|index| index.fract() == 0.0);
    if call.get("index").is_some_and(|index| !is_whole(index)) {
        return Err(wrong(at, &format!("{CALL}.index"), "expected an integer"));
    }
    let function = call.get_mut("function").and_then(Value::as_object_mut);
    let function = function.ok_or_else(no_function)?;
    only(at, FUNCTION, function, &["name", "arguments"])?;
    texts(at, FUNCTION, function, &["name"])?;
    if !function.contains_key("name") {
        return Err(wrong(at, &format!("{FUNCTION}.name"), "expected a string"));
    }
    let arguments = match function.remove("arguments") {
        None | Some(Value::Null) => Map::new(),
        // A call that was cut off before its arguments.
        Some(Value::String(text)) if text.is_empty() => Map::new(),
        Some(Value::String(text)) => serde_json::from_str(&text)
            .map_err(|_| wrong(at, CALL, "`arguments` is not a JSON object"))?,
        Some(Value::Object(arguments)) => arguments,
        Some(_) => return Err(wrong(at, CALL, "`arguments` is not a JSON object")),
    };
    function.insert("arguments".into(), arguments.into());
    Ok(())
}

/// Refuses what is there and no text.
fn texts(at: usize, path: &str, object: &Map<String, Value>, keys: &[&str]) -> Result<()> {
    let is_other = |key: &&&str| object.get(**key).is_some_and(|value| !value.is_string());
    match keys.iter().find(is_other) {
        None => Ok(()),
        Some(key) => Err(wrong(at, &format!("{path}.{key}"), "expected a string")),
    }
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
    fn what_clients_send_beside_the_text_is_read_or_says_nothing() {
        let messages = normal(vec![
            json!({"role": "user", "type": "text", "name": null, "refusal": null, "content": [
                {"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}]}),
            json!({"role": "assistant", "content": "b", "refusal": "", "tool_calls": []}),
            json!({"role": "assistant", "content": null, "refusal": "no"}),
            json!({"role": "assistant", "content": [
                {"type": "text", "text": "c"}, {"type": "refusal", "refusal": "no"}]}),
        ]);
        let expected = [
            json!({"role": "user", "content": "a"}),
            json!({"role": "assistant", "content": "b"}),
            json!({"role": "assistant", "content": "no"}),
            json!({"role": "assistant", "content": "c\nno"}),
        ];
        assert_eq!(messages.unwrap(), expected);
    }

    #[test]
    fn arguments_that_are_missing_are_none() {
        for function in [
            json!({"name": "f"}),
            json!({"name": "f", "arguments": null}),
            json!({"name": "f", "arguments": ""}),
            json!({"name": "f", "arguments": "{}"}),
            json!({"name": "f", "arguments": {}}),
        ] {
            let message = json!({"role": "assistant", "tool_calls": [{"function": function}]});
            let messages = normal(vec![message]).unwrap();
            assert_eq!(
                messages[0]["tool_calls"],
                json!([{"function": {"name": "f", "arguments": {}}}])
            );
        }
    }

    #[test]
    fn what_has_another_type_than_the_description_says_is_refused_by_name() {
        let call = |call: Value| json!({"tool_calls": [call]});
        let cases = [
            (json!({"thinking": {}}), ".thinking"),
            (json!({"name": 5}), ".name"),
            (json!({"reasoning": 3}), ".reasoning"),
            (json!({"reasoning_content": []}), ".reasoning_content"),
            (json!({"tool_call_id": {}}), ".tool_call_id"),
            (json!({"type": "image"}), ".type"),
            (json!({"refusal": 1}), ".refusal"),
            (json!({"role": "user", "refusal": "no"}), ".refusal"),
            (
                json!({"role": "user", "content": [{"type": "refusal", "refusal": "no"}]}),
                ".content",
            ),
            (
                json!({"content": [{"type": "text", "text": 5}]}),
                ".content.text",
            ),
            (
                json!({"content": [{"type": "refusal"}]}),
                ".content.refusal",
            ),
            (
                json!({"content": [{"type": "refusal", "refusal": "a", "text": "b"}]}),
                ".content.text",
            ),
            (call(json!(5)), ".tool_calls"),
            (
                call(json!({"id": 5, "function": {"name": "f"}})),
                ".tool_calls.id",
            ),
            (
                call(json!({"type": "custom", "function": {"name": "f"}})),
                ".tool_calls.type",
            ),
            (
                call(json!({"index": "0", "function": {"name": "f"}})),
                ".tool_calls.index",
            ),
            (
                call(json!({"function": {"arguments": "{}"}})),
                ".tool_calls.function.name",
            ),
            (
                call(json!({"function": {"name": "f", "arguments": [1]}})),
                ".tool_calls",
            ),
        ];
        for (more, field) in cases {
            let mut message = json!({"role": "assistant", "content": "a"});
            let Value::Object(more) = more else {
                unreachable!("an object")
            };
            message.as_object_mut().unwrap().extend(more);
            let error = normal(vec![message.clone()]).unwrap_err();
            let param = format!("messages[0]{field}");
            assert_eq!(error.param(), Some(param.as_str()), "{message}");
        }
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
