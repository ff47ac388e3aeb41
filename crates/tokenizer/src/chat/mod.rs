//! Messages to text by the checkpoint's own chat template.
//!
//! A template is a Jinja program, written for Python: transformers' `apply_chat_template` is the reference, and the same messages give
//! the same bytes here (`python`, `environment` hold what differs between the languages). It is not trusted: it has no access
//! to files or the network, a bounded number of steps ([`Limits`]), and a bounded output.
//!
//! So is its memory: whatever makes a value pays for it before (`budget`). What it prints pays where it prints, filters, functions and
//! methods where they are called (`price`); the engine's operators cannot be replaced, so the source is rewritten with filters that pay for
//! their operands (`guard`). [0010](../../../../docs/decisions/0010-templates-pay.md) has the alternatives, and what is left.

mod budget;
mod clock;
mod conversation;
mod environment;
mod error;
mod guard;
mod output;
mod price;
mod python;
mod source;
mod template;

pub use conversation::Conversation;
pub use error::TemplateError;
pub use template::{ChatTemplate, Limits};
