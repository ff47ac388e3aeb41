//! What stands between messages and token ids: `tokenizer.json` and the chat template of a checkpoint.
//!
//! - [`Tokenizer`]: text to ids and ids to text, and the bytes of every token.
//! - [`Detokenizer`]: ids to text one at a time, never half a character.
//! - [`ChatTemplate`]: messages to the text that the model was trained on.
//!
//! The key decision is what is trusted. The files come with the checkpoint, the texts and messages from anybody, and neither
//! may stop the process or take unbounded time: pieces are cut without backtracking, templates run with fuel and bounded output,
//! and whatever of a `tokenizer.json` is neither byte-level BPE nor whole words is refused by name instead of being read almost right.
//! The alternative, the `tokenizers` library alone, reads more kinds; but its pure Rust regular expressions give up silently
//! on long runs of white space, and its C ones are C.
//!
//! ```
//! use xgraft_tokenizer::{ChatTemplate, Conversation, Tokenizer};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = xgraft_fixtures::TEXT.base();
//! let tokenizer = Tokenizer::open(&dir)?;
//! let template = ChatTemplate::open(&dir)?;
//!
//! let messages = [serde_json::json!({"role": "user", "content": "Pick the gene."})];
//! let text = template.render(&Conversation::new(&messages))?;
//! assert_eq!(text, "<|im_start|>user\nPick the gene.<|im_end|>\n<|im_start|>assistant\n");
//!
//! let ids = tokenizer.encode(&text, false)?;
//! assert_eq!(tokenizer.decode(&ids, false)?, text);
//! # Ok(())
//! # }
//! ```
//!
//! Modules: `file`, `config` (the JSON files, checked), `split`, `alphabet`, `frame` (the parts of a tokenizer), `tokenizer`,
//! `vocabulary`, `detokenizer`, and [`chat`] with the template, its Python ways, and its limits.
//!
//! **Invariant:** it knows no model and no HTTP; a checkpoint's generation settings are not its business.

mod alphabet;
pub mod chat;
mod config;
mod detokenizer;
mod error;
mod file;
mod frame;
mod json;
mod split;
mod tokenizer;
mod vocabulary;

pub use chat::{ChatTemplate, Conversation, Limits, TemplateError};
pub use detokenizer::Detokenizer;
pub use error::{Error, Result};
pub use tokenizer::Tokenizer;

/// The number of a token: a row of the embedding, a column of the logits.
pub type TokenId = u32;
