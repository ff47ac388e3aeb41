//! From a listener to requests, and to a quiet end.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::io::Patient;
use crate::config::Limits;
use crate::engine::Engine;

/// After an error of `accept`, most likely too many open files.
const PAUSE: Duration = Duration::from_millis(100);

/// Bytes of a request's head, and of what is read ahead.
const HEAD: usize = 64 << 10;

/// Serves until `shutdown`, then drains. A client that closes its half of the connection has left, and what it asked for is cancelled.
pub(super) async fn accept(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    engine: Arc<dyn Engine>,
    shutdown: impl Future<Output = ()> + Send,
) {
    let slots = Arc::new(Semaphore::new(limits.connections));
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    tokio::pin!(shutdown);
    loop {
        while connections.try_join_next().is_some() {}
        let next = async {
            let slot = slots.clone().acquire_owned().await;
            (slot, listener.accept().await)
        };
        let (slot, accepted) = tokio::select! {
            next = next => next,
            () = &mut shutdown => break,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let connection = graceful.watch(connection(stream, router.clone(), limits));
        connections.spawn(async move {
            // Its errors are the client's: it left, or was too slow.
            let _ = connection.await;
            drop(slot);
        });
    }
    drop(listener);
    engine.drain();
    tracing::info!("no new requests; those that run come to their end");
    if tokio::time::timeout(limits.drain_timeout, graceful.shutdown())
        .await
        .is_err()
    {
        tracing::warn!(
            seconds = limits.drain_timeout.as_secs(),
            "some requests were cut off"
        );
    }
    connections.shutdown().await;
}

type Connection = http1::Connection<Patient<TokioIo<TcpStream>>, TowerToHyperService<Router>>;

fn connection(stream: TcpStream, router: Router, limits: Limits) -> Connection {
    // An event of a stream is sent when it is there.
    let _ = stream.set_nodelay(true);
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_timeout)
        .max_buf_size(HEAD)
        .serve_connection(
            Patient::new(TokioIo::new(stream), limits.write_timeout),
            TowerToHyperService::new(router),
        )
}
