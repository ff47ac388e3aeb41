//! From a listener to requests, and to a quiet end.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulConnection, GracefulShutdown};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_io_timeout::TimeoutStream;

use super::routes;
use crate::health::Watch;
use crate::net;
use crate::shared::Shared;
use crate::upstream::Upstreams;

/// After an error of `accept`, most likely too many open files.
const PAUSE: Duration = Duration::from_millis(100);

/// Between two looks for connections to backends that nobody needs.
const SWEEP: Duration = Duration::from_secs(10);

/// Bytes of a request's head, and of what is read ahead.
const HEAD: usize = 64 << 10;

/// What a worker's requests can reach.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(super) shared: Arc<Shared>,
    pub(super) pool: Arc<Upstreams>,
    pub(super) watch: Watch,
}

impl Worker {
    pub(crate) fn new(shared: &Arc<Shared>, watch: &Watch) -> Self {
        Self {
            shared: shared.clone(),
            pool: Arc::new(Upstreams::new(shared.config.health.timeout)),
            watch: watch.clone(),
        }
    }
}

/// Threads with a runtime each; a connection stays with one of them.
#[derive(Debug)]
pub(super) struct Workers {
    threads: Vec<Thread>,
    next: AtomicUsize,
}

#[derive(Debug)]
struct Thread {
    clients: mpsc::UnboundedSender<Client>,
    /// Says for how long it may still work once there are no more clients.
    done: oneshot::Receiver<()>,
}

/// A connection, and its place among all of them.
#[derive(Debug)]
struct Client {
    stream: std::net::TcpStream,
    place: OwnedSemaphorePermit,
}

impl Workers {
    pub(super) fn start(shared: &Arc<Shared>, watch: &Watch) -> std::io::Result<Self> {
        let start = |index| {
            let (clients, queue) = mpsc::unbounded_channel();
            let (end, done) = oneshot::channel();
            let worker = Arc::new(Worker::new(shared, watch));
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            shared.runs_on(runtime.handle());
            std::thread::Builder::new()
                .name(format!("worker {index}"))
                .spawn(move || {
                    runtime.block_on(work(worker, queue));
                    let _ = end.send(());
                })?;
            Ok(Thread { clients, done })
        };
        let threads = (0..shared.config.workers).map(start);
        Ok(Self {
            threads: threads.collect::<std::io::Result<_>>()?,
            next: AtomicUsize::new(0),
        })
    }

    /// To each in turn.
    fn give(&self, client: Client) {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let thread = &self.threads[turn % self.threads.len()];
        // A thread that panicked takes nobody; the client sees a closed connection.
        let _ = thread.clients.send(client);
    }

    /// Lets all requests come to their end, as long as that takes no longer than it may.
    pub(super) async fn drain(self, patience: Duration) {
        tracing::info!("no new requests; those that run come to their end");
        let ends: Vec<_> = self.threads.into_iter().map(|thread| thread.done).collect();
        for end in ends {
            // Workers stop by themselves a little earlier.
            let _ = tokio::time::timeout(patience + SWEEP, end).await;
        }
    }
}

/// Takes connections until `shutdown`.
pub(super) async fn accept(
    listener: TcpListener,
    shared: &Arc<Shared>,
    workers: &Workers,
    shutdown: impl Future<Output = ()> + Send,
) {
    let places = Arc::new(Semaphore::new(shared.config.limits.connections));
    tokio::pin!(shutdown);
    loop {
        let next = async {
            let place = places.clone().acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            next = next => next,
            () = &mut shutdown => return,
        };
        let stream = accepted.and_then(|(stream, _)| stream.into_std());
        match (place, stream) {
            (Ok(place), Ok(stream)) => workers.give(Client { stream, place }),
            (_, Err(error)) if net::is_local(&error) => {
                shared.lacks_something();
                tokio::time::sleep(PAUSE).await;
            }
            _ => tokio::time::sleep(PAUSE).await,
        }
    }
}

async fn work(worker: Arc<Worker>, mut clients: mpsc::UnboundedReceiver<Client>) {
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    let mut sweep = tokio::time::interval(SWEEP);
    loop {
        tokio::select! {
            client = clients.recv() => {
                let Some(Client { stream, place }) = client else {
                    break;
                };
                let Ok(stream) = TcpStream::from_std(stream) else {
                    continue;
                };
                // An event of a stream is sent when it is there.
                let _ = stream.set_nodelay(true);
                let connection = graceful.watch(connection(&worker, stream));
                connections.spawn(async move {
                    // Its errors are the client's: it left, or was too slow.
                    let _ = connection.await;
                    drop(place);
                });
            }
            _ = connections.join_next(), if !connections.is_empty() => {}
            _ = sweep.tick() => worker.pool.sweep(),
        }
    }
    let patience = worker.shared.config.limits.drain_timeout;
    if tokio::time::timeout(patience, graceful.shutdown())
        .await
        .is_err()
    {
        tracing::warn!(seconds = patience.as_secs(), "some requests were cut off");
    }
    connections.shutdown().await;
}

/// Answers the requests that come on a socket.
pub(crate) fn connection<S>(
    worker: &Arc<Worker>,
    stream: S,
) -> impl GracefulConnection<Error = hyper::Error> + Send + use<S>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let limits = &worker.shared.config.limits;
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(limits.write_timeout));
    let io = TokioIo::new(Box::pin(stream));
    let head_timeout = limits.head_timeout;
    let worker = worker.clone();
    let service = service_fn(move |request| {
        let worker = worker.clone();
        async move { Ok::<_, Infallible>(routes::answer(&worker, request).await) }
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head_timeout)
        .max_header_size(HEAD)
        .max_buf_size(HEAD)
        .serve_connection(io, service)
}
