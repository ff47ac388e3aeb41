//! One exchange with a backend.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::time::Instant;

use crate::backend::Backend;
use crate::clock;
use crate::config::BackendUrl;
use crate::net::{self, TcpStream};

/// How often somebody who waits looks whether the backend is still worth waiting for.
pub(crate) const TICK: Duration = Duration::from_millis(250);

/// Connections to one backend that a worker keeps for later, and for how long it does.
const IDLE: usize = 512;
const IDLE_MILLIS: u64 = 30_000;

/// For idle connections to be closed when there are no descriptors left.
const MAKE_ROOM: Duration = Duration::from_millis(10);

/// Bytes of an answer's head, and of what is read ahead.
const HEAD: usize = 64 << 10;

/// A connection to a backend.
pub(crate) type Connection = SendRequest<Full<Bytes>>;

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// There was no connection; the backend knows nothing of the request.
    Connect(&'static str),
    /// This machine could not open a socket, which says nothing of the backend.
    Local,
    /// The connection broke, or said what is no HTTP, after the request had been written.
    Cut,
    /// So did one that had been idle before: the backend is gone, or it only tidied up.
    Stale,
    /// The backend stopped answering about its health too.
    Hung,
    /// It had begun to answer, and nothing came any more.
    Stalled,
    /// The request's time is over.
    Timeout,
}

impl Failure {
    /// Whether the connection broke while the backend may have worked on the request, so that the request may be the cause.
    pub(crate) fn is_loss(self) -> bool {
        matches!(self, Self::Cut | Self::Stale)
    }
}

/// The connections of one worker.
#[derive(Debug)]
pub(crate) struct Upstreams {
    idle: Mutex<HashMap<u64, Vec<Idle>>>,
    connect_timeout: Duration,
}

#[derive(Debug)]
struct Idle {
    connection: Connection,
    since: u64,
    /// The backend's, since which it must not have been given up.
    epoch: u32,
}

/// The head of an answer, and the connection that the rest of it comes on.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) response: Response<Incoming>,
    pub(crate) connection: Connection,
}

/// Up to when, and as long as the backend is alive.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    pub(crate) epoch: u32,
    pub(crate) deadline: Instant,
    /// Between two pieces of an answer that has begun.
    pub(crate) stall: Duration,
}

impl Patience {
    /// Waits for something from a backend.
    pub(crate) async fn wait<T>(
        &self,
        backend: &Backend,
        work: impl Future<Output = T>,
    ) -> Result<T, Failure> {
        tokio::pin!(work);
        loop {
            if let Ok(done) = tokio::time::timeout(TICK, &mut work).await {
                return Ok(done);
            }
            if backend.epoch() != self.epoch {
                return Err(Failure::Hung);
            }
            if Instant::now() >= self.deadline {
                return Err(Failure::Timeout);
            }
        }
    }

    /// Waits for more of an answer that has begun.
    pub(crate) async fn wait_for_more<T>(
        &self,
        backend: &Backend,
        work: impl Future<Output = T>,
    ) -> Result<T, Failure> {
        let stalled = Instant::now() + self.stall;
        let until = Self {
            deadline: self.deadline.min(stalled),
            ..*self
        };
        match until.wait(backend, work).await {
            Err(Failure::Timeout) if stalled < self.deadline => Err(Failure::Stalled),
            done => done,
        }
    }
}

impl Upstreams {
    pub(crate) fn new(connect_timeout: Duration) -> Self {
        Self {
            idle: Mutex::default(),
            connect_timeout,
        }
    }

    /// Sends a request and waits for the head of the answer. What an idle connection did not take is sent on another.
    pub(crate) async fn send(
        &self,
        backend: &Backend,
        patience: Patience,
        mut request: Request<Full<Bytes>>,
    ) -> Result<Exchange, Failure> {
        while let Some(mut connection) = self.take(backend).await {
            let sent = connection.try_send_request(request);
            match patience.wait(backend, sent).await? {
                Ok(response) => {
                    return Ok(Exchange {
                        response,
                        connection,
                    });
                }
                Err(mut error) => match error.take_message() {
                    Some(again) => request = again,
                    None => return Err(Failure::Stale),
                },
            }
        }
        let mut connection = self.connect(backend).await?;
        let sent = connection.try_send_request(request);
        match patience.wait(backend, sent).await? {
            Ok(response) => Ok(Exchange {
                response,
                connection,
            }),
            Err(error) if error.message().is_some() => Err(Failure::Connect("connection lost")),
            Err(_) => Err(Failure::Cut),
        }
    }

    /// An idle connection that is still open, the youngest first. None that the backend had when it was hung: what became of
    /// those nobody knows.
    async fn take(&self, backend: &Backend) -> Option<Connection> {
        loop {
            let mut idle = self.locked().get_mut(&backend.id)?.pop()?;
            if idle.epoch != backend.epoch() {
                continue;
            }
            if idle.connection.is_ready() {
                return Some(idle.connection);
            }
            // One that was given back this moment is ready after its task has run once.
            let ready = tokio::time::timeout(TICK, idle.connection.ready()).await;
            if matches!(ready, Ok(Ok(()))) {
                return Some(idle.connection);
            }
        }
    }

    /// Keeps a connection whose answer was read to its end.
    pub(crate) fn give(&self, backend: &Backend, connection: Connection) {
        if connection.is_closed() || backend.is_removed() {
            return;
        }
        let mut all = self.locked();
        let idle = all.entry(backend.id).or_default();
        if idle.len() < IDLE {
            idle.push(Idle {
                connection,
                since: clock::now(),
                epoch: backend.epoch(),
            });
        }
    }

    /// Closes what nobody needed for a while.
    pub(crate) fn sweep(&self) {
        let now = clock::now();
        self.locked().retain(|_, idle| {
            idle.retain(|one| !one.connection.is_closed() && now < one.since + IDLE_MILLIS);
            !idle.is_empty()
        });
    }

    async fn connect(&self, backend: &Backend) -> Result<Connection, Failure> {
        let opened = match open(&backend.url, self.connect_timeout).await {
            Err(Failure::Local) => {
                // Idle connections hold what is missing. They are closed by tasks of their own.
                self.locked().clear();
                tokio::time::sleep(MAKE_ROOM).await;
                open(&backend.url, self.connect_timeout).await?
            }
            opened => opened?,
        };
        let (connection, task) = http1::Builder::new()
            .max_header_size(HEAD)
            .max_buf_size(HEAD)
            .handshake(TokioIo::new(opened))
            .await
            .map_err(|_| Failure::Connect("connection lost"))?;
        // Its errors come to whoever waits for an answer on it.
        tokio::spawn(async move {
            let _ = task.await;
        });
        Ok(connection)
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Vec<Idle>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Opens a socket to a backend.
pub(crate) async fn open(url: &BackendUrl, timeout: Duration) -> Result<TcpStream, Failure> {
    let connecting = net::connect(url.address());
    match tokio::time::timeout(timeout, connecting).await {
        Err(_) => Err(Failure::Connect("timeout")),
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
            Err(Failure::Connect("connection_refused"))
        }
        Ok(Err(error)) if net::is_local(&error) => Err(Failure::Local),
        Ok(Err(_)) => Err(Failure::Connect("unreachable")),
        Ok(Ok(stream)) => Ok(stream),
    }
}

/// A connection that is given back when its answer was read to the end, and closed when it is dropped before.
#[derive(Debug)]
pub(crate) struct Loan {
    pub(crate) connection: Connection,
    pub(crate) pool: Arc<Upstreams>,
}

impl Loan {
    pub(crate) fn give_back(self, backend: &Backend) {
        self.pool.give(backend, self.connection);
    }
}
