//! From a listener to requests, and to a quiet end.

use std::pin::Pin;
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
use tokio_io_timeout::TimeoutStream;

use crate::config::Limits;

/// After an error of `accept`, most likely too many open files.
const PAUSE: Duration = Duration::from_millis(100);

/// Bytes of a request's head, and of what is read ahead.
const HEAD: usize = 64 << 10;

/// How long answers to requests that came too late may take once the last of the others is out.
const LATE: Duration = Duration::from_secs(1);

/// A listener and what answers on its connections.
pub(super) struct Server {
    listener: TcpListener,
    router: Router,
    limits: Limits,
    slots: Arc<Semaphore>,
}

impl Server {
    pub(super) fn new(listener: TcpListener, router: Router, limits: Limits) -> Self {
        let slots = Arc::new(Semaphore::new(limits.connections));
        Self {
            listener,
            router,
            limits,
            slots,
        }
    }

    /// Serves until `shutdown`, then calls `drain` and goes on until the connections of before are at their ends, or
    /// [`Limits::drain_timeout`] is over. A client that closes its half of the connection has left, and what it asked for
    /// is cancelled.
    pub(super) async fn run(self, shutdown: impl Future<Output = ()> + Send, drain: impl FnOnce()) {
        let graceful = GracefulShutdown::new();
        let mut connections = JoinSet::new();
        tokio::select! {
            () = self.accept(&mut connections, |connection| graceful.watch(connection)) => {}
            () = shutdown => {}
        }
        drain();
        tracing::info!("no new requests; those that run come to their end");
        let mut late = JoinSet::new();
        let running = tokio::time::timeout(self.limits.drain_timeout, graceful.shutdown());
        tokio::select! {
            () = self.accept(&mut late, |connection| connection) => {}
            ended = running => if ended.is_err() {
                let seconds = self.limits.drain_timeout.as_secs();
                tracing::warn!(seconds, "some connections were cut off, in the middle of a request or an answer");
            }
        }
        drop(self.listener);
        connections.shutdown().await;
        let answered = async { while late.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(LATE, answered).await;
        late.shutdown().await;
    }

    /// Takes connections for ever, each as `wrap` makes it.
    async fn accept<F>(&self, connections: &mut JoinSet<()>, wrap: impl Fn(Connection) -> F)
    where
        F: Future<Output = hyper::Result<()>> + Send + 'static,
    {
        loop {
            while connections.try_join_next().is_some() {}
            let slot = self.slots.clone().acquire_owned().await;
            let Ok((stream, _)) = self.listener.accept().await else {
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            let connection = wrap(connection(stream, self.router.clone(), self.limits));
            connections.spawn(async move {
                // Its errors are the client's: it left, or was too slow.
                let _ = connection.await;
                drop(slot);
            });
        }
    }
}

type Socket = TokioIo<Pin<Box<TimeoutStream<TcpStream>>>>;

type Connection = http1::Connection<Socket, TowerToHyperService<Router>>;

fn connection(stream: TcpStream, router: Router, limits: Limits) -> Connection {
    // An event of a stream is sent when it is there.
    let _ = stream.set_nodelay(true);
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(limits.write_timeout));
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_timeout)
        .max_buf_size(HEAD)
        .serve_connection(
            TokioIo::new(Box::pin(stream)),
            TowerToHyperService::new(router),
        )
}
