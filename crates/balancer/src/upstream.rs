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
use crate::net::{self, TcpStream};

/// How often somebody who waits looks whether the backend is still worth waiting for.
pub(crate) const TICK: Duration = Duration::from_millis(250);

/// Connections to one backend that a worker keeps for later, and for how long it does.
const IDLE: usize = 512;
const IDLE_MILLIS: u64 = 30_000;

/// Bytes of an answer's head, and of what is read ahead.
const HEAD: usize = 64 << 10;

/// A connection to a backend.
pub(crate) type Connection = SendRequest<Full<Bytes>>;

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// There was no connection; the backend knows nothing of the request.
    Connect(&'static str),
    /// The connection broke, or said what is no HTTP, after the request had been written.
    Cut,
    /// The backend stopped answering about its health too.
    Hung,
    /// Its first event is an error.
    Said,
    /// The request's time is over.
    Timeout,
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
}

impl Upstreams {
    pub(crate) fn new(connect_timeout: Duration) -> Self {
        Self {
            idle: Mutex::default(),
            connect_timeout,
        }
    }

    /// Sends a request and waits for the head of the answer. `twice`: it may be sent again if an old connection turns out
    /// to be dead after it was written.
    pub(crate) async fn send(
        &self,
        backend: &Backend,
        patience: Patience,
        twice: bool,
        mut request: Request<Full<Bytes>>,
    ) -> Result<Exchange, Failure> {
        let spare = twice.then(|| request.clone());
        while let Some(mut connection) = self.take(backend).await {
            let sent = connection.try_send_request(request);
            match patience.wait(backend, sent).await? {
                Ok(response) => {
                    return Ok(Exchange {
                        response,
                        connection,
                    });
                }
                Err(mut error) => match error.take_message().or_else(|| spare.clone()) {
                    Some(again) => request = again,
                    None => return Err(Failure::Cut),
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
        let opened = open(backend, self.connect_timeout).await?;
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
pub(crate) async fn open(backend: &Backend, timeout: Duration) -> Result<TcpStream, Failure> {
    let connecting = net::connect(backend.url.address());
    match tokio::time::timeout(timeout, connecting).await {
        Err(_) => Err(Failure::Connect("timeout")),
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
            Err(Failure::Connect("connection_refused"))
        }
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
