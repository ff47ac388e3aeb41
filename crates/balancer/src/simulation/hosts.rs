//! The balancer and its backends as hosts of a simulated network.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Either, Full};
use hyper::body::{Body, Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::time::{Sleep, sleep};
use turmoil::net::TcpListener;

use crate::config::Config;
use crate::health::Watch;
use crate::http::connection::{Worker, connection};
use crate::shared::Shared;

/// Tokens of an answer, and the time that each takes.
pub(super) const TOKENS: usize = 20;
const PACE: Duration = Duration::from_millis(20);

/// The balancer with one worker on the host's event loop.
pub(super) async fn balancer(config: Config) -> turmoil::Result {
    let mut config = config.validated()?;
    let urls = std::mem::take(&mut config.backends);
    let shared = Arc::new(Shared::new(config, None));
    let watch = Watch::new(&shared);
    for url in urls {
        watch.add(url);
    }
    let worker = Arc::new(Worker::new(&shared, &watch));
    let listener = TcpListener::bind("0.0.0.0:80").await?;
    loop {
        let (stream, _) = listener.accept().await?;
        let connection = connection(&worker, stream);
        tokio::spawn(async move {
            // A client that leaves is no error of the balancer's.
            let _ = connection.await;
        });
    }
}

/// A server of ours: says the numbers from 0, each of them a token, and goes on after given ones.
pub(super) async fn backend() -> turmoil::Result {
    let listener = TcpListener::bind("0.0.0.0:80").await?;
    loop {
        let (stream, _) = listener.accept().await?;
        let connection =
            http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer));
        tokio::spawn(async move {
            // The balancer may take back what it gave.
            let _ = connection.await;
        });
    }
}

type Answer = Response<Either<Full<Bytes>, Stream>>;

async fn answer(request: Request<Incoming>) -> Result<Answer, hyper::Error> {
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await?.to_bytes();
    let asked: Value = serde_json::from_slice(&body).unwrap_or_default();
    let plain = |body: Value| Response::new(Either::Left(Full::from(body.to_string())));
    Ok(match path.as_str() {
        "/v1/models" => plain(json!({"data": [{"id": "m", "owned_by": "xgraft"}]})),
        "/v1/completions" if asked["stream"] == true => {
            let stream = Stream::of(&asked);
            let mut response = Response::new(Either::Right(stream));
            let kind = hyper::header::HeaderValue::from_static("text/event-stream");
            response.headers_mut().insert("content-type", kind);
            response
        }
        "/v1/completions" => {
            sleep(PACE * 2).await;
            plain(json!({"choices": [{"index": 0, "text": "plain", "finish_reason": "stop"}]}))
        }
        _ => plain(json!({})),
    })
}

/// One number after the other.
pub(super) struct Stream {
    next: usize,
    shows_ids: bool,
    pause: Pin<Box<Sleep>>,
}

impl Stream {
    fn of(asked: &Value) -> Self {
        let given = asked["continue_from"]["token_ids"].as_array();
        Self {
            next: given.map_or(0, Vec::len),
            shows_ids: asked["return_token_ids"] == true,
            pause: Box::pin(sleep(PACE)),
        }
    }

    fn event(&self) -> String {
        match self.next {
            number if number < TOKENS => {
                let ids = match self.shows_ids {
                    true => format!(",\"token_ids\":[{number}]"),
                    false => String::new(),
                };
                format!(
                    "data: {{\"id\":\"c\",\"created\":1,\"choices\":[{{\"index\":0,\"text\":\"{number} \",\"logprobs\":null,\"finish_reason\":null{ids}}}]}}\n\n"
                )
            }
            TOKENS => "data: {\"id\":\"c\",\"created\":1,\"choices\":[{\"index\":0,\"text\":\"\",\"logprobs\":null,\"finish_reason\":\"length\"}]}\n\ndata: [DONE]\n\n".to_owned(),
            _ => String::new(),
        }
    }
}

impl Body for Stream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        ready!(self.pause.as_mut().poll(context));
        let event = self.event();
        self.next += 1;
        self.pause = Box::pin(sleep(PACE));
        Poll::Ready((!event.is_empty()).then(|| Ok(Frame::data(event.into()))))
    }
}
