//! Clients of a simulated network, and what they saw.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::time::Instant;
use turmoil::net::TcpStream;

use super::hosts::TOKENS;
use super::{BALANCER, TIME};

/// What all clients saw.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) plain: usize,
    pub(super) whole: usize,
    /// Ended with an error event, as only one may that cannot be resumed.
    pub(super) flagged: usize,
    /// In words.
    pub(super) wrong: Vec<String>,
}

impl Tally {
    pub(super) fn add(&mut self, other: &Self) {
        self.plain += other.plain;
        self.whole += other.whole;
        self.flagged += other.flagged;
    }
}

/// Asks for one thing after the other until its time is over.
pub(super) async fn crowd(tally: Rc<RefCell<Tally>>) -> turmoil::Result {
    // The first look at the backends takes a moment.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let end = Instant::now() + TIME;
    while Instant::now() < end {
        let (status, body) = post(json!({"model": "m", "prompt": "a"})).await?;
        if status == StatusCode::OK && body.contains("\"text\":\"plain\"") {
            tally.borrow_mut().plain += 1;
        } else {
            tally
                .borrow_mut()
                .wrong
                .push(format!("plain: {status} {body}"));
        }
        let one = json!({"model": "m", "prompt": "a", "stream": true});
        let two = json!({"model": "m", "prompt": "a", "stream": true, "n": 2});
        for (request, can_resume) in [(one, true), (two, false)] {
            let (status, body) = post(request).await?;
            tally.borrow_mut().note(status, &body, can_resume);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

impl Tally {
    fn note(&mut self, status: StatusCode, body: &str, can_resume: bool) {
        let is_done = body.ends_with("data: [DONE]\n\n");
        let last = body.trim_end().rsplit("\n\n").next().unwrap_or_default();
        let is_flagged = last.starts_with("data: {\"error\":") && !body.contains("[DONE]");
        let expected: String = (0..TOKENS).map(|number| format!("{number} ")).collect();
        let said = said(body);
        if status == StatusCode::OK && is_done && said == expected {
            self.whole += 1;
        } else if status == StatusCode::OK
            && is_flagged
            && !can_resume
            && expected.starts_with(&said)
        {
            self.flagged += 1;
        } else {
            self.wrong.push(format!("stream: {status} {body}"));
        }
    }
}

fn said(body: &str) -> String {
    let texts = body.split("\"text\":\"").skip(1);
    texts.filter_map(|rest| rest.split('"').next()).collect()
}

/// `/lb_status`.
pub(super) async fn observe() -> Result<Value, Box<dyn std::error::Error>> {
    let request = Request::get("/lb_status").body(Full::default())?;
    let (_, body) = exchange(request).await?;
    Ok(serde_json::from_str(&body)?)
}

/// Of the requests between two looks, the share that one backend of two got.
pub(super) fn share_of(name: &str, before: &Value, after: &Value) -> f64 {
    let count = |status: &Value, url: &str| {
        status["backends"][url]["total_requests"]
            .as_f64()
            .unwrap_or_default()
    };
    let urls = after["backends"].as_object().into_iter().flatten();
    let all = urls.map(|(url, _)| (url, count(after, url) - count(before, url)));
    let (mut of_it, mut sum) = (0.0, 0.0);
    for (url, grown) in all {
        sum += grown;
        if *url == format!("http://{name}:80") {
            of_it = grown;
        }
    }
    of_it / sum
}

async fn post(body: Value) -> Result<(StatusCode, String), Box<dyn std::error::Error>> {
    let request = Request::post("/v1/completions").body(Full::from(body.to_string()))?;
    exchange(request).await
}

/// On a connection of its own.
async fn exchange(
    mut request: Request<Full<Bytes>>,
) -> Result<(StatusCode, String), Box<dyn std::error::Error>> {
    let host = hyper::header::HeaderValue::from_static(BALANCER);
    request.headers_mut().insert("host", host);
    let stream = TcpStream::connect((BALANCER, 80)).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async move {
        // The request's own error says the same.
        let _ = connection.await;
    });
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    Ok((status, String::from_utf8(body.to_vec())?))
}
