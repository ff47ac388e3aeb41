//! From a listener to requests, and to a quiet end.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_io_timeout::TimeoutStream;

use super::in_flight::{Counted, HEADERS, InFlight};
use crate::app::App;
use crate::config::Limits;

/// After an error of `accept`, most likely too many open files.
const PAUSE: Duration = Duration::from_millis(100);

/// Bytes that are read ahead: a head of the largest size, and what stands around its headers.
const READ_AHEAD: usize = 2 * HEADERS;

/// How long answers to requests that came too late may take once the last of the others is out.
const LATE: Duration = Duration::from_secs(1);

/// A listener and what answers on its connections.
pub(super) struct Server {
    listener: TcpListener,
    router: Router,
    app: Arc<App>,
    limits: Limits,
    slots: Arc<Semaphore>,
}

impl Server {
    pub(super) fn new(listener: TcpListener, router: Router, app: Arc<App>) -> Self {
        let limits = app.config.limits;
        let slots = Arc::new(Semaphore::new(limits.connections));
        Self {
            listener,
            router,
            app,
            limits,
            slots,
        }
    }

    /// Serves until `shutdown`, then drains and goes on until the connections of before are at their ends, or
    /// [`Limits::drain_timeout`] is over. Requests that are not whole by then have a moment more, and are not waited for. A client that closes its half of the connection has left, and what it asked for
    /// is cancelled.
    pub(super) async fn run(self, shutdown: impl Future<Output = ()> + Send) {
        let graceful = GracefulShutdown::new();
        let mut connections = JoinSet::new();
        tokio::select! {
            () = self.accept(&mut connections, |connection| graceful.watch(connection)) => {}
            () = shutdown => {}
        }
        self.app.drain();
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
            let in_flight = InFlight::default();
            let service = Counted::new(self.router.clone(), in_flight.clone());
            let connection = wrap(connection(stream, service, self.limits));
            let reading_ends = self.app.reading_ends();
            let idle = async move {
                reading_ends.await;
                in_flight.none().await;
            };
            connections.spawn(async move {
                tokio::select! {
                    // Its errors are the client's: it left, or was too slow.
                    _ = connection => {}
                    () = idle => {}
                }
                drop(slot);
            });
        }
    }
}

type Socket = TokioIo<Pin<Box<TimeoutStream<TcpStream>>>>;

type Connection = http1::Connection<Socket, Counted>;

fn connection(stream: TcpStream, service: Counted, limits: Limits) -> Connection {
    // An event of a stream is sent when it is there.
    let _ = stream.set_nodelay(true);
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(limits.write_timeout));
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_timeout)
        .max_buf_size(READ_AHEAD)
        .serve_connection(TokioIo::new(Box::pin(stream)), service)
}
