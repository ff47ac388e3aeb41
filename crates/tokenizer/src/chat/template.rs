//! A checkpoint's chat template.

use super::budget::Spent;
use super::conversation::RESERVED;
use super::environment::{Raised, environment, strftime_now, syntax};
use super::guard::guarded;
use super::output::Bounded;
use super::source::without_generation;
use super::{Conversation, TemplateError, price};
use crate::config::TokenizerConfig;
use crate::file::field;
use crate::{Error, json};
use minijinja::value::Serde;
use minijinja::{Environment, ErrorKind, Value};
use serde_json::Map;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::thread;

const FILE: &str = "chat_template.jinja";
const TOOL_USE_FILE: &str = "additional_chat_templates/tool_use.jinja";
const LARGEST_FILE: u64 = 1 << 20;

const STRFTIME_NOW: &str = "strftime_now";

const DEFAULT: &str = "default";
const TOOL_USE: &str = "tool_use";

/// Stands where a message is to be continued while it is rendered.
const MARK: &str = "\u{f0002}continue\u{f0003}";

/// The stack of a rendering. A step may put a value into another one, and both are dropped one within the other: a test does so
/// as often as the default [`Limits`] allow. The system gives the memory only where it is used.
const STACK: usize = 512 << 20;

/// What a rendering may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Steps of the template engine, about one for each operation of the template.
    pub fuel: u64,
    /// Bytes of the text.
    pub output_bytes: usize,
    /// Depth of scopes, loops and macros inside each other; a macro that calls itself takes about five a call.
    pub recursion: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            fuel: 2_000_000,
            output_bytes: 16 << 20,
            recursion: 400,
        }
    }
}

/// Messages to text, by the template that came with the model.
///
/// It can be shared between threads; [`render`](Self::render) takes `&self`.
#[derive(Debug)]
pub struct ChatTemplate {
    env: Environment<'static>,
    special: Map<String, serde_json::Value>,
    limits: Limits,
    /// Names that the templates read and do not set.
    variables: BTreeSet<String>,
}

impl ChatTemplate {
    /// Reads the template of a model directory: `chat_template.jinja`, or else the field `chat_template` of
    /// `tokenizer_config.json`, which is one template or a list of named ones, of which `default` and `tool_use` are used.
    ///
    /// # Errors
    /// There is none, it cannot be read, or it is no Jinja.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, TemplateError> {
        let dir = dir.as_ref();
        let config = TokenizerConfig::read(dir)?;
        let mut sources = named_sources(&config.chat_template, dir)?;
        for (name, file) in [(DEFAULT, FILE), (TOOL_USE, TOOL_USE_FILE)] {
            if let Some(source) = read_source(&dir.join(file))? {
                sources.insert(name, source);
            }
        }
        if !sources.contains_key(DEFAULT) {
            return Err(TemplateError::Missing {
                dir: dir.to_owned(),
            });
        }
        Self::build(sources, config.special)
    }

    /// A template from its source, with the special tokens (`bos_token` and the like) that it calls by name.
    ///
    /// # Errors
    /// It is no Jinja.
    pub fn from_source(
        source: &str,
        special: Map<String, serde_json::Value>,
    ) -> Result<Self, TemplateError> {
        Self::build(BTreeMap::from([(DEFAULT, source.to_owned())]), special)
    }

    fn build(
        sources: BTreeMap<&'static str, String>,
        special: Map<String, serde_json::Value>,
    ) -> Result<Self, TemplateError> {
        let mut env = environment();
        for (name, source) in sources {
            let source = syntax().and_then(|syntax| guarded(&without_generation(&source), syntax));
            let added = source.and_then(|source| env.add_template_owned(name, source));
            added.map_err(|error| syntax_error(name, error))?;
        }
        let limits = Limits::default();
        let variables = env
            .templates()
            .flat_map(|(_, template)| template.undeclared_variables(false))
            .collect();
        let template = Self {
            env,
            special,
            limits,
            variables,
        };
        Ok(template.with_limits(limits))
    }

    /// Other limits.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.env.set_fuel(Some(limits.fuel));
        self.env.set_recursion_limit(limits.recursion);
        self.limits = limits;
        self
    }

    /// Whether the template reads a variable of that name: `tools`, `documents`, or one of [`Conversation::kwargs`].
    #[must_use]
    pub fn reads(&self, variable: &str) -> bool {
        self.variables.contains(variable)
    }

    /// The variables that it reads, but for those that every conversation has.
    pub fn switches(&self) -> impl Iterator<Item = &str> {
        let names = self.variables.iter().map(String::as_str);
        names.filter(|name| {
            let is_function = self.env.globals().any(|(global, _)| global == *name);
            !is_function && !RESERVED.contains(name) && *name != STRFTIME_NOW
        })
    }

    /// The text of a conversation, special tokens included. It is made on a thread of its own, whose stack holds whatever a
    /// template can nest.
    ///
    /// # Errors
    /// The template refuses the conversation, needs something of it that is not there, or exceeds the [`Limits`]; or the system has
    /// no thread left.
    pub fn render(&self, conversation: &Conversation<'_>) -> Result<String, TemplateError> {
        thread::scope(|scope| {
            thread::Builder::new()
                .name("template".to_owned())
                .stack_size(STACK)
                .spawn_scoped(scope, || self.render_here(conversation))
                .map_err(|source| TemplateError::Thread { source })?
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    fn render_here(&self, conversation: &Conversation<'_>) -> Result<String, TemplateError> {
        if conversation.continue_final_message {
            return self.render_unfinished(conversation);
        }
        let mut variables =
            BTreeMap::from([(STRFTIME_NOW.to_owned(), strftime_now(conversation.now))]);
        for (name, value) in conversation.variables(&self.special)? {
            variables.insert(name, Value::from(Serde(value)));
        }
        let has_tools = conversation.tools.is_some();
        let tool_use = has_tools
            .then(|| self.env.get_template(TOOL_USE).ok())
            .flatten();
        let template = match tool_use {
            Some(template) => template,
            None => self
                .env
                .get_template(DEFAULT)
                .map_err(|error| self.error(error))?,
        };
        price::start(self.limits.output_bytes);
        let mut output = Bounded::new(self.limits.output_bytes);
        match template.render_captured_to(Value::from(variables), &mut output) {
            Ok(_) => Ok(output.into_text()),
            Err(_) if output.overflowed => Err(self.too_long()),
            Err(error) => Err(self.error(error)),
        }
    }

    /// The text up to the end of the last message's content.
    fn render_unfinished(&self, conversation: &Conversation<'_>) -> Result<String, TemplateError> {
        let mut messages = conversation.messages.to_vec();
        let content = messages
            .last_mut()
            .and_then(last_text)
            .ok_or(TemplateError::Message {
                at: conversation.messages.len().saturating_sub(1),
                expected: "a content with text, to be continued",
            })?;
        let text = content.clone();
        // A template that trims a message takes the space after the mark, and what it would have trimmed before.
        content.push_str(MARK);
        content.push(' ');
        let marked = self.render_here(&Conversation {
            messages: &messages,
            add_generation_prompt: false,
            continue_final_message: false,
            ..conversation.clone()
        })?;
        let (before, after) = marked
            .rsplit_once(MARK)
            .ok_or(TemplateError::NotContinued)?;
        let (before, text) = if after.starts_with(' ') {
            (before, text.trim_start())
        } else {
            (before.trim_end(), text.trim())
        };
        let is_whole = before.ends_with(text);
        is_whole
            .then(|| before.to_owned())
            .ok_or(TemplateError::NotContinued)
    }

    fn too_long(&self) -> TemplateError {
        TemplateError::TooLong {
            limit: self.limits.output_bytes,
        }
    }

    fn error(&self, error: minijinja::Error) -> TemplateError {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
        while let Some(this) = cause {
            if let Some(Raised(text)) = this.downcast_ref() {
                return TemplateError::Raised { text: text.clone() };
            }
            if this.is::<Spent>() {
                return self.too_long();
            }
            if this
                .downcast_ref()
                .is_some_and(|error: &minijinja::Error| error.kind() == ErrorKind::OutOfFuel)
            {
                return TemplateError::OutOfFuel {
                    fuel: self.limits.fuel,
                };
            }
            cause = this.source();
        }
        TemplateError::Render {
            line: error.line().unwrap_or(0),
            detail: error.to_string(),
            source: Box::new(error),
        }
    }
}

fn syntax_error(name: &str, error: minijinja::Error) -> TemplateError {
    TemplateError::Syntax {
        name: name.to_owned(),
        line: error.line().unwrap_or(0),
        detail: error
            .detail()
            .unwrap_or("an error without words")
            .to_owned(),
        source: Box::new(error),
    }
}

/// The text of a message, or of its last part that is text.
fn last_text(message: &mut serde_json::Value) -> Option<&mut String> {
    match message.get_mut("content")? {
        serde_json::Value::String(text) => Some(text),
        serde_json::Value::Array(parts) => {
            parts
                .iter_mut()
                .rev()
                .find_map(|part| match part.get_mut("text")? {
                    serde_json::Value::String(text) => Some(text),
                    _ => None,
                })
        }
        _ => None,
    }
}

/// The field `chat_template`: nothing, one template, or a list of `{"name", "template"}`.
fn named_sources(
    value: &serde_json::Value,
    dir: &Path,
) -> Result<BTreeMap<&'static str, String>, Error> {
    let refuse = |found: &serde_json::Value| {
        let expected = "a template, or a list of objects with `name` and `template`";
        field(
            &dir.join("tokenizer_config.json"),
            "chat_template",
            expected,
            found.to_string(),
        )
    };
    let mut sources = BTreeMap::new();
    match value {
        serde_json::Value::Null => {}
        serde_json::Value::String(source) => drop(sources.insert(DEFAULT, source.clone())),
        serde_json::Value::Array(named) => {
            for entry in named {
                let (Some(name), Some(source)) =
                    (entry["name"].as_str(), entry["template"].as_str())
                else {
                    return Err(refuse(entry));
                };
                if let Some(name) = [DEFAULT, TOOL_USE].into_iter().find(|known| *known == name) {
                    sources.insert(name, source.to_owned());
                }
            }
        }
        other => return Err(refuse(other)),
    }
    Ok(sources)
}

fn read_source(file: &Path) -> Result<Option<String>, Error> {
    let Some(bytes) = json::bytes_if_any(file, LARGEST_FILE)? else {
        return Ok(None);
    };
    let text = String::from_utf8(bytes);
    text.map(Some).map_err(|error| {
        field(
            file,
            "the file",
            "UTF-8",
            format!("other bytes from {} on", error.utf8_error().valid_up_to()),
        )
    })
}
