//! What can be wrong with a template or with what it is asked to render.

use crate::Error;

/// Everything that can go wrong with a chat template. All but [`Files`](Self::Files), [`Missing`](Self::Missing) and
/// [`Syntax`](Self::Syntax) depend on the request, and are its fault as far as a server can know.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// A file with the template or with the special tokens cannot be read.
    #[error("could not read the chat template")]
    Files(#[from] Error),
    /// The directory has no template.
    #[error("expected a chat template in chat_template.jinja or in the field `chat_template` of tokenizer_config.json, found none in {}", .dir.display())]
    Missing {
        /// The model directory.
        dir: std::path::PathBuf,
    },
    /// The template is no Jinja, or uses what this engine does not have.
    #[error("chat template `{name}`: expected Jinja, found an error at line {line}: {detail}")]
    Syntax {
        /// Which of the directory's templates.
        name: String,
        /// The line, from 1; 0 if it is not known.
        line: usize,
        /// The engine's own words.
        detail: String,
        /// The engine's error.
        source: Box<minijinja::Error>,
    },
    /// The template itself refused, by `raise_exception`.
    #[error("the chat template refuses the conversation: {text}")]
    Raised {
        /// The template's words.
        text: String,
    },
    /// The template took too many steps.
    #[error("the chat template took more than {fuel} steps; shorten the conversation")]
    OutOfFuel {
        /// The limit.
        fuel: u64,
    },
    /// The system has no thread for the rendering.
    #[error("could not start a thread for the chat template")]
    Thread {
        /// The system's own words.
        source: std::io::Error,
    },
    /// The text grew too long.
    #[error(
        "the chat template wrote more than {limit} bytes, or 16 times as much into variables; shorten the conversation"
    )]
    TooLong {
        /// The limit, in bytes.
        limit: usize,
    },
    /// A value was not what the template expects of it: a missing field, an addition of text and null.
    #[error("the chat template cannot render the conversation, at its line {line}: {detail}")]
    Render {
        /// The line, from 1; 0 if it is not known.
        line: usize,
        /// The engine's own words.
        detail: String,
        /// The engine's error.
        source: Box<minijinja::Error>,
    },
    /// A message is not of the right form.
    #[error("messages[{at}]: expected {expected}")]
    Message {
        /// Its place, from 0.
        at: usize,
        /// What it has to be.
        expected: &'static str,
    },
    /// A switch has the name of a variable that the template has already.
    #[error(
        "chat_template_kwargs: expected names other than messages, tools, documents and add_generation_prompt, found `{name}`"
    )]
    Reserved {
        /// The name.
        name: String,
    },
    /// The last message does not come back in the text whole, so it cannot be continued.
    #[error(
        "continue_final_message: expected a template that renders the last message's content whole, found one that changes it"
    )]
    NotContinued,
}
