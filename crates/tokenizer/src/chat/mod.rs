//! Messages to text by the checkpoint's own chat template.
//!
//! A template is a Jinja program, written for Python: transformers' `apply_chat_template` is the reference, and the same messages give
//! the same bytes here (`python`, `environment` hold what differs between the languages). It is not trusted: it has no access
//! to files or the network, a bounded number of steps ([`Limits`]), and a bounded output.
//!
//! What a template prints is bounded too, be it into variables (`budget`). **Not bounded** is the memory of strings that operators
//! and filters build: `s ~ s` in a loop doubles, and the engine has no limit there. A template is a part of the checkpoint;
//! messages cannot do this.

mod budget;
mod clock;
mod conversation;
mod environment;
mod error;
mod output;
mod python;
mod source;
mod template;

pub use conversation::Conversation;
pub use error::TemplateError;
pub use template::{ChatTemplate, Limits};
