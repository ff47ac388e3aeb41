//! Connections, keys, routes.

mod adapters;
mod auth;
mod body;
mod connection;
mod cors;
mod drain;
mod generate;
mod in_flight;
mod request_id;
mod routes;
mod status;
mod tokens;

use std::sync::Arc;

use tokio::net::TcpListener;
use xgraft_tokenizer::{ChatTemplate, Tokenizer};

use crate::app::App;
use crate::config::{ConfigError, ServerConfig};
use crate::engine::Engine;
use connection::Server;

/// Why a server could not start or go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration cannot be meant.
    #[error("the server's configuration cannot be used")]
    Config(#[from] ConfigError),
}

/// Answers requests on `listener` until `shutdown` ends; then lets those that run come to their end, for as long as
/// [`Limits::drain_timeout`](crate::Limits::drain_timeout) allows, and answers new ones with 503 until then.
///
/// `template` is what `/v1/chat/completions` needs; without it only `/v1/completions` works.
///
/// # Errors
/// The configuration is wrong; nothing was served then.
pub async fn serve(
    listener: TcpListener,
    engine: Arc<dyn Engine>,
    tokenizer: Arc<Tokenizer>,
    template: Option<ChatTemplate>,
    config: ServerConfig,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), Error> {
    let app = Arc::new(App::new(engine, tokenizer, template, config)?);
    let server = Server::new(listener, routes::router(app.clone()), app);
    server.run(shutdown).await;
    Ok(())
}
