//! Connections of clients, keys, routes, and what the balancer says of itself.

mod adapters;
mod admin;
mod auth;
mod body;
pub(crate) mod connection;
pub(crate) mod error;
mod proxy;
pub(crate) mod reply;
mod routes;
mod status;

use std::sync::Arc;

use tokio::net::TcpListener;

use crate::access::{AccessLog, LogWriter};
use crate::config::{BackendUrl, Config};
use crate::error::Error;
use crate::shared::Shared;
use crate::{file, health};

/// Answers requests on `listener` until `shutdown` ends; then lets those that run come to their end, for as long as
/// [`Limits::drain_timeout`](crate::Limits::drain_timeout) allows. `log` gets a line of JSON for every request; `ready` is told
/// the backends, given and listed, once nothing can be wrong with the configuration any more.
///
/// # Errors
/// The configuration is wrong, the list of backends cannot be read, or a thread cannot be started; nothing was served then.
pub async fn serve(
    listener: TcpListener,
    config: Config,
    log: Option<LogWriter>,
    ready: impl FnOnce(&[BackendUrl]) + Send,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), Error> {
    let mut config = config.validated()?;
    let listed = match &config.backends_file {
        Some(path) => file::read(path)?,
        None => Vec::new(),
    };
    let worker = |source| Error::Worker { source };
    let log = log.map(AccessLog::start).transpose().map_err(worker)?;
    let given = std::mem::take(&mut config.backends);
    let shared = Arc::new(Shared::new(config, log));
    let watch = health::Watch::new(&shared);
    for url in given {
        watch.add(url);
    }
    let follow = file::follow(&shared, &watch, listed);
    let workers = connection::Workers::start(&shared, &watch).map_err(worker)?;
    let all = shared.backends.table();
    let all: Vec<BackendUrl> = all.all.iter().map(|one| one.url.clone()).collect();
    ready(&all);
    connection::accept(listener, &shared, &workers, shutdown).await;
    drop(follow);
    workers.drain(shared.config.limits.drain_timeout).await;
    watch.stop();
    Ok(())
}
