//! Server-sent events.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Frame;
use serde_json::Value;
use tokio::sync::mpsc;

use super::error::ApiError;

/// Events that wait for a slow reader before generating waits too.
const EVENTS: usize = 8;

/// Where the events of one answer go.
#[derive(Debug)]
pub(crate) struct Events {
    sender: mpsc::Sender<Bytes>,
}

/// The reader has left.
#[derive(Debug)]
pub(crate) struct Gone;

impl Events {
    /// One event.
    pub(crate) async fn send(&self, data: &Value) -> Result<(), Gone> {
        self.raw(&data.to_string()).await
    }

    /// The end of an answer that is complete, after the usage if it is asked for.
    pub(crate) async fn done(&self, usage: Option<&Value>) -> Result<(), Gone> {
        if let Some(usage) = usage {
            self.send(usage).await?;
        }
        self.raw("[DONE]").await
    }

    /// The end of one that is not. No `[DONE]` follows, so that nobody takes it for a complete one.
    pub(crate) async fn fail(&self, error: &ApiError) -> Result<(), Gone> {
        self.send(&error.body()).await
    }

    /// Ends when the reader leaves.
    pub(crate) async fn closed(&self) {
        self.sender.closed().await;
    }

    async fn raw(&self, data: &str) -> Result<(), Gone> {
        let event = Bytes::from(format!("data: {data}\n\n"));
        self.sender.send(event).await.map_err(|_| Gone)
    }
}

/// An answer and what fills it.
pub(crate) fn channel() -> (Events, Response) {
    let (sender, events) = mpsc::channel(EVENTS);
    let body = Body::new(UnsyncBoxBody::new(EventBody { events }));
    let headers = [
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static("text/event-stream; charset=utf-8"),
        ),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (
            header::HeaderName::from_static("x-accel-buffering"),
            HeaderValue::from_static("no"),
        ),
    ];
    (Events { sender }, (headers, body).into_response())
}

struct EventBody {
    events: mpsc::Receiver<Bytes>,
}

impl hyper::body::Body for EventBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.events
            .poll_recv(context)
            .map(|event| event.map(|event| Ok(Frame::data(event))))
    }
}
