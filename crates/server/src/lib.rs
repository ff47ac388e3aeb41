//! An OpenAI-compatible server over a quantized model and many LoRA adapters.
//!
//! Three parts, each behind a trait, so that each is tested without the next:
//! HTTP asks an [`Engine`](engine::Engine) for generations; the engine's scheduler asks a [`Forward`](engine::Forward)
//! for logits; the model is one such `Forward`, a scripted double another.
//!
//! [`serve`] is HTTP: endpoints and shapes as vLLM has them, so that its clients and dashboards work unchanged. What is not
//! supported is refused by name, never ignored, and a stream that fails ends with an error and without `[DONE]`.
//!
//! Modules of HTTP: `http` (connections, keys, routes), `api` (requests and answers), `chat` (messages in, reasoning and
//! calls out), `grammar` (structured outputs), `generate` (tokens to text).
//!
//! Architecture invariants: the engine never sees text, only token ids; nothing is computed on an async worker;
//! prompts and outputs are neither logged nor stored.

mod api;
mod app;
mod chance;
mod chat;
mod config;
mod defaults;
pub mod engine;
mod generate;
mod grammar;
mod http;
mod metrics;
pub mod sampling;

pub use config::{ApiKey, ConfigError, Limits, RuntimeAdapters, ServerConfig};
pub use defaults::{DefaultsError, GenerationDefaults};
pub use http::{Error, serve};

#[doc(hidden)]
pub mod fuzz {
    //! Entry points of the fuzz targets.

    /// Parses a body as both requests are parsed, as far as that goes without a model.
    pub fn request(body: &[u8]) {
        let card = crate::engine::ModelCard {
            vocab_size: 1024,
            max_model_len: 4096,
        };
        let config = crate::ServerConfig::new("model", std::path::Path::new("model"));
        crate::api::parameters::fuzz(body, &config, &card);
    }

    /// Splits a text into reasoning, content and calls, at the cuts that its bytes give.
    pub fn answer(text: &str) {
        crate::chat::fuzz(text);
    }
}
