//! The requests of one connection that are being answered.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::response::IntoResponse;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::service::Service;
use hyper::{Request, Response};
use hyper_util::service::TowerToHyperService;

use crate::api::error::ApiError;

/// Bytes of the names and values of a request's headers. The library's own limit is on what it reads ahead, and lets more through.
pub(super) const HEADERS: usize = 64 << 10;

/// How often a connection that drains is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// Counts requests from the end of their head to the end of their answer.
#[derive(Debug, Clone, Default)]
pub(super) struct InFlight(Arc<AtomicUsize>);

impl InFlight {
    fn enter(&self) -> Held {
        self.0.fetch_add(1, Ordering::AcqRel);
        Held(Arc::clone(&self.0))
    }

    /// Ends when there is none, looking now and then.
    pub(super) async fn none(&self) {
        while self.0.load(Ordering::Acquire) > 0 {
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// One of them, until it is dropped.
#[derive(Debug)]
struct Held(Arc<AtomicUsize>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The router, behind the count and the limit of a head.
#[derive(Debug, Clone)]
pub(super) struct Counted {
    router: TowerToHyperService<Router>,
    in_flight: InFlight,
}

impl Counted {
    pub(super) fn new(router: Router, in_flight: InFlight) -> Self {
        let router = TowerToHyperService::new(router);
        Self { router, in_flight }
    }
}

impl Service<Request<Incoming>> for Counted {
    type Response = Response<HeldBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let held = self.in_flight.enter();
        let headers = request.headers().iter();
        let bytes: usize = headers
            .map(|(name, value)| name.as_str().len() + value.len())
            .sum();
        let answer = (bytes <= HEADERS).then(|| self.router.call(request));
        Box::pin(async move {
            let response = match answer {
                Some(answer) => answer.await?,
                None => ApiError::head_too_large(HEADERS).into_response(),
            };
            Ok(response.map(|body| HeldBody { body, _held: held }))
        })
    }
}

/// The body of an answer, which is in flight as long as it is there.
#[derive(Debug)]
pub(super) struct HeldBody {
    body: Body,
    _held: Held,
}

impl hyper::body::Body for HeldBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
