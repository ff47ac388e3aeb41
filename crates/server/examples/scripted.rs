//! The server over the tests' scripted engine, for clients in other languages: `cargo run --example scripted -- 127.0.0.1:8000`.
//!
//! It says a sentence with reasoning, calls a tool if there are tools, and obeys every format.

#[path = "../tests/it/double.rs"]
#[allow(
    dead_code,
    clippy::unwrap_used,
    reason = "it belongs to the tests, which look at more of it"
)]
mod double;

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use xgraft_server::engine::{Engine, Request};
use xgraft_server::{GenerationDefaults, RuntimeAdapters, ServerConfig, serve};
use xgraft_tokenizer::{ChatTemplate, Tokenizer};

use double::{Act, Double};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "127.0.0.1:8000".into());
    let dir = xgraft_fixtures::TEXT.base();
    let tokenizer = Arc::new(Tokenizer::open(&dir)?);
    let mut config = ServerConfig::new("tiny", Path::new("models/tiny"));
    config.defaults = GenerationDefaults::open(&dir)?;
    config.runtime_adapters = RuntimeAdapters::Below(xgraft_fixtures::dir().to_owned());
    let sentence = tokenizer.encode(
        "<think>\nI check each option.\n</think>\n\nThe answer is B.",
        false,
    )?;
    let call = tokenizer.encode(
        "<tool_call>\n{\"name\": \"look\", \"arguments\": {\"gene\": \"BRC1\"}}\n</tool_call>",
        false,
    )?;
    let mark = tokenizer.encode("look", false)?;
    let engine = Double::new(move |request: &Request| {
        let has_tools = request
            .prompt
            .windows(mark.len())
            .any(|window| window == mark);
        Act::Obey(if has_tools {
            call.clone()
        } else {
            sentence.clone()
        })
    });
    engine.load_adapter("gwas", Path::new("adapters/gwas"), false)?;
    let listener = tokio::net::TcpListener::bind(&address).await?;
    serve(
        listener,
        engine,
        tokenizer,
        Some(ChatTemplate::open(&dir)?),
        config,
        std::future::pending(),
    )
    .await?;
    Ok(())
}
