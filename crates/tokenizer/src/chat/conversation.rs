//! What a template is given.

use super::TemplateError;
use serde_json::{Map, Value};

/// Variables that the template finds besides those of [`Conversation::kwargs`].
pub(super) const RESERVED: [&str; 4] = ["messages", "tools", "documents", "add_generation_prompt"];

/// Where messages carry their reasoning; templates read the first.
const REASONING: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];

/// A conversation to be rendered. [`new`](Self::new) has the defaults; the fields are for the rest.
#[derive(Clone, Debug)]
pub struct Conversation<'a> {
    /// Objects with `role` and `content`, oldest first, as in OpenAI's API.
    pub messages: &'a [Value],
    /// Tools in OpenAI's form. `None` and an empty list are different to some templates.
    pub tools: Option<&'a [Value]>,
    /// Documents for retrieval, objects with `title` and `text`.
    pub documents: Option<&'a [Value]>,
    /// Whether the text ends where the assistant's answer begins.
    pub add_generation_prompt: bool,
    /// Whether the last message is unfinished: the text ends with its content, without what closes a message.
    pub continue_final_message: bool,
    /// `chat_template_kwargs`: `enable_thinking` and whatever else the template asks for.
    pub kwargs: Option<&'a Map<String, Value>>,
    /// The time that `strftime_now` formats, in seconds since 1970-01-01 00:00 UTC.
    pub now: i64,
}

impl<'a> Conversation<'a> {
    /// Messages to which the assistant answers next: no tools, no documents, no switches, and the clock at 1970.
    #[must_use]
    pub fn new(messages: &'a [Value]) -> Self {
        Self {
            messages,
            tools: None,
            documents: None,
            add_generation_prompt: true,
            continue_final_message: false,
            kwargs: None,
            now: 0,
        }
    }

    /// The variables of the template. `special` are the named special tokens.
    pub(super) fn variables(
        &self,
        special: &Map<String, Value>,
    ) -> Result<Map<String, Value>, TemplateError> {
        let mut variables = special.clone();
        for (name, value) in self.kwargs.into_iter().flatten() {
            if RESERVED.contains(&name.as_str()) {
                return Err(TemplateError::Reserved { name: name.clone() });
            }
            variables.insert(name.clone(), value.clone());
        }
        let messages = self
            .messages
            .iter()
            .enumerate()
            .map(|(at, message)| with_reasoning(at, message));
        variables.insert("messages".into(), messages.collect::<Result<_, _>>()?);
        variables.insert("tools".into(), self.tools.into());
        variables.insert("documents".into(), self.documents.into());
        variables.insert(
            "add_generation_prompt".into(),
            self.add_generation_prompt.into(),
        );
        Ok(variables)
    }
}

/// The message with its reasoning under the two names that templates read, whichever it came with.
fn with_reasoning(at: usize, message: &Value) -> Result<Value, TemplateError> {
    let Value::Object(message) = message else {
        return Err(TemplateError::Message {
            at,
            expected: "an object with `role` and `content`",
        });
    };
    let mut fields = REASONING.iter().filter_map(|name| message.get(*name));
    let Some(reasoning) = fields.find(|value| !value.is_null()) else {
        return Ok(Value::Object(message.clone()));
    };
    let mut filled = Map::new();
    filled.insert("thinking".into(), reasoning.clone());
    filled.extend(message.clone());
    filled.insert("reasoning_content".into(), reasoning.clone());
    Ok(Value::Object(filled))
}
