//! The body of an answer to a client.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::{self, HeaderValue};
use hyper::{Response, StatusCode};
use serde_json::Value;

use crate::relay::{Broken, Relay};

/// Known as a whole, or passed on while it comes.
#[derive(Debug)]
pub(crate) enum Reply {
    Whole(Bytes),
    Relay(Box<Relay>),
}

impl Body for Reply {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match &mut *self {
            Self::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Relay(relay) => Pin::new(&mut **relay).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Relay(_) => SizeHint::default(),
        }
    }
}

/// An answer of JSON.
pub(super) fn json(status: StatusCode, body: &Value) -> Response<Reply> {
    of(status, "application/json", body.to_string().into())
}

/// An answer of some kind.
pub(super) fn of(status: StatusCode, kind: &'static str, body: Bytes) -> Response<Reply> {
    let mut response = Response::new(Reply::Whole(body));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static(kind);
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}
