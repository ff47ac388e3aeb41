//! A client of a few lines, so that nothing stands between a test and the bytes.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// No answer of a test takes longer.
const PATIENCE: Duration = Duration::from_secs(40);

/// One answer, and whether it came to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: Vec<u8>,
    /// As its length or its last chunk says.
    pub(crate) complete: bool,
}

impl Answer {
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        let end = bytes
            .windows(4)
            .position(|four| four == b"\r\n\r\n")
            .unwrap_or_else(|| panic!("no head in {:?}", String::from_utf8_lossy(bytes)));
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let rest = &bytes[end + 4..];
        let mut answer = Self {
            status: head.split(' ').nth(1).unwrap().parse().unwrap(),
            head,
            body: rest.to_vec(),
            complete: true,
        };
        if answer.header("transfer-encoding") == Some("chunked") {
            (answer.body, answer.complete) = unchunk(rest);
        } else if let Some(length) = answer.header("content-length") {
            answer.complete = length.parse() == Ok(rest.len());
        }
        answer
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines
            .filter(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
            .next()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// What the model says in a whole answer.
    pub(crate) fn said(&self) -> String {
        let json = self.json();
        let said = json["choices"][0]["message"]["content"].as_str();
        said.unwrap_or_else(|| panic!("{json}")).to_owned()
    }

    pub(crate) fn events(&self) -> Vec<String> {
        let text = self.text();
        assert!(text.is_empty() || text.ends_with("\n\n"), "{text:?}");
        let events = text.split_inclusive("\n\n");
        events.map(ToOwned::to_owned).collect()
    }

    pub(crate) fn is_done(&self) -> bool {
        self.complete && self.text().ends_with("data: [DONE]\n\n")
    }

    /// Whether it ends in an error and has no end of a complete one.
    pub(crate) fn is_flagged(&self) -> bool {
        let text = self.text();
        let last = self.events().pop().unwrap_or_default();
        self.complete && last.starts_with("data: {\"error\":{") && !text.contains("[DONE]")
    }
}

fn unchunk(mut bytes: &[u8]) -> (Vec<u8>, bool) {
    let mut all = Vec::new();
    while let Some(end) = bytes.windows(2).position(|pair| pair == b"\r\n") {
        let length = std::str::from_utf8(&bytes[..end]).unwrap();
        let length = usize::from_str_radix(length, 16).unwrap();
        if length == 0 {
            return (all, true);
        }
        let chunk = &bytes[end + 2..];
        all.extend_from_slice(&chunk[..length.min(chunk.len())]);
        let Some(rest) = chunk.get(length + 2..) else {
            break;
        };
        bytes = rest;
    }
    (all, false)
}

/// The bytes of a request that closes the connection.
pub(crate) fn request(method: &str, path: &str, headers: &str, body: &str) -> Vec<u8> {
    format!(
        "{method} {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\ncontent-length: {}\r\n{headers}\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Sends bytes and reads until the end.
pub(crate) async fn exchange(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    let read = tokio::time::timeout(PATIENCE, socket.read_to_end(&mut answer)).await;
    // A reset is an end too.
    assert!(
        read.is_ok(),
        "no end of {:?}",
        String::from_utf8_lossy(&answer)
    );
    answer
}

pub(crate) async fn get(address: SocketAddr, path: &str) -> Answer {
    Answer::parse(&exchange(address, &request("GET", path, "", "")).await)
}

pub(crate) async fn send(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &str,
    body: &Value,
) -> Answer {
    let bytes = request(method, path, headers, &body.to_string());
    Answer::parse(&exchange(address, &bytes).await)
}
