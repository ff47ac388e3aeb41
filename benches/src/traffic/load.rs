//! Clients that ask again as soon as they are answered.

use super::{
    backends::nanoseconds,
    message::{Length, Reader, length, status},
};
use crate::usage::cpu_seconds;
use memchr::memmem;
use serde_json::{Value, json};
use std::{
    io,
    time::{Duration, Instant},
};
use tokio::{io::AsyncWriteExt, net::TcpStream, task::JoinSet};

/// What is asked, by how many, and how long.
#[derive(Clone, Debug)]
pub struct Load {
    /// `HOST:PORT`.
    pub address: String,
    /// Clients, each with a connection that stays open.
    pub connections: usize,
    /// How long, after a fifth of a second that does not count.
    pub time: Duration,
    /// Bytes of a request's body.
    pub body: usize,
    /// Events of each answer; 0 asks for an answer in one piece.
    pub events: usize,
}

/// Not counted, because connections are opened.
const WARM_UP: Duration = Duration::from_millis(200);

const CONTENT: &[u8] = b"\"content\":\"";

/// What the clients saw, in nanoseconds.
#[derive(Debug, Default)]
struct Seen {
    /// From a request to the end of its answer.
    answers: Vec<u64>,
    /// From the writing of an event to its arrival.
    events: Vec<u64>,
    /// Also those that do not count.
    all_answers: usize,
    all_events: usize,
}

/// Asks, and tells what came: `requests`, `per_second`, `p50_us`, `p99_us`, and the same of events.
///
/// # Errors
/// A connection breaks, or an answer is not what was asked for.
pub async fn run(load: Load) -> io::Result<Value> {
    let request = request(&load);
    let begin = Instant::now();
    let start = begin + WARM_UP;
    let end = start + load.time;
    let cpu = cpu_seconds();
    let mut clients = JoinSet::new();
    for _ in 0..load.connections {
        let (address, request) = (load.address.clone(), request.clone());
        clients.spawn(client(address, request, start, end));
    }
    let mut seen = Seen::default();
    while let Some(one) = clients.join_next().await {
        let one = one.map_err(io::Error::other)??;
        seen.answers.extend(one.answers);
        seen.events.extend(one.events);
        seen.all_answers += one.all_answers;
        seen.all_events += one.all_events;
    }
    let expected = load.events * seen.all_answers;
    if seen.all_events != expected {
        let found = seen.all_events;
        return Err(wrong(&format!("expected {expected} events, found {found}")));
    }
    let micros = |times: &mut [u64], share| percentile(times, share).map(|n| n as f64 * 1e-3);
    Ok(json!({
        "connections": load.connections,
        "body_bytes": load.body,
        "wall_s": begin.elapsed().as_secs_f64(),
        "client_cpu_s": cpu_seconds() - cpu,
        "requests": seen.all_answers,
        "per_second": seen.answers.len() as f64 / load.time.as_secs_f64(),
        "p50_us": micros(&mut seen.answers, 0.50),
        "p99_us": micros(&mut seen.answers, 0.99),
        "events": seen.all_events,
        "event_p50_us": micros(&mut seen.events, 0.50),
        "event_p99_us": micros(&mut seen.events, 0.99),
    }))
}

async fn client(
    address: String,
    request: Vec<u8>,
    start: Instant,
    end: Instant,
) -> io::Result<Seen> {
    let mut reader = Reader::new(TcpStream::connect(&address).await?)?;
    let mut seen = Seen::default();
    loop {
        let asked = Instant::now();
        if asked >= end {
            return Ok(seen);
        }
        reader.socket.write_all(&request).await?;
        let mut delays = Vec::new();
        answer(&mut reader, &mut delays).await?;
        seen.all_answers += 1;
        seen.all_events += delays.len();
        // One that ends too late belongs to what is over; streams are long, and each of their events counts.
        let now = Instant::now();
        if asked >= start && now <= end {
            seen.answers
                .push(now.duration_since(asked).as_nanos() as u64);
        }
        seen.events.extend(delays);
    }
}

async fn answer(reader: &mut Reader, delays: &mut Vec<u64>) -> io::Result<()> {
    let head = reader.head().await?;
    let head = head.ok_or(io::ErrorKind::UnexpectedEof)?;
    if status(&head) != Some(200) {
        return Err(wrong(&String::from_utf8_lossy(&head)));
    }
    match length(&head) {
        Length::Bytes(length) => {
            let body = reader.body(length, length).await?;
            if memmem::find(&body, b"\"content\":\"ok\"").is_none() {
                return Err(wrong(&String::from_utf8_lossy(&body)));
            }
            Ok(())
        }
        Length::Chunked => reader.chunks(|bytes| note_events(bytes, delays)).await,
    }
}

/// How long each event took that is in these bytes; says how many bytes hold no more of them.
fn note_events(bytes: &[u8], delays: &mut Vec<u64>) -> usize {
    let now = nanoseconds();
    let mut at = 0;
    while let Some(found) = memmem::find(&bytes[at..], CONTENT) {
        let start = at + found + CONTENT.len();
        let Some(length) = memchr::memchr(b'"', &bytes[start..]) else {
            return at + found;
        };
        let text = std::str::from_utf8(&bytes[start..start + length]);
        if let Some(written) = text.ok().and_then(|text| text.parse().ok()) {
            delays.push(now.saturating_sub(written));
        }
        at = start + length;
    }
    // A name may have come in two pieces.
    at.max(bytes.len().saturating_sub(CONTENT.len()))
}

fn request(load: &Load) -> Vec<u8> {
    let stream = match load.events {
        0 => String::new(),
        count => format!("\"stream\":true,\"max_tokens\":{count},"),
    };
    let (before, after) = (
        format!("{{\"model\":\"m\",{stream}\"messages\":[{{\"role\":\"user\",\"content\":\""),
        "\"}],\"temperature\":0.6,\"top_p\":0.95}",
    );
    let words = load.body.saturating_sub(before.len() + after.len());
    let words: String = "hello world ".chars().cycle().take(words).collect();
    let body = before + &words + after;
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        load.address,
        body.len()
    )
    .into_bytes()
}

fn percentile(times: &mut [u64], share: f64) -> Option<u64> {
    let last = times.len().checked_sub(1)?;
    let (_, found, _) = times.select_nth_unstable((last as f64 * share) as usize);
    Some(*found)
}

fn wrong(what: &str) -> io::Error {
    io::Error::other(format!("unexpected answer: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_sorted_times() {
        assert_eq!(percentile(&mut [5, 1, 4, 2, 3], 0.5), Some(3));
        assert_eq!(percentile(&mut [5, 1, 4, 2, 3], 0.99), Some(4));
        assert_eq!(percentile(&mut [], 0.5), None);
    }

    #[test]
    fn an_event_that_came_in_two_pieces_is_counted_once() {
        let event = br#"{"delta":{"content":"1000"}}"#;
        let mut delays = Vec::new();
        for cut in 0..event.len() {
            delays.clear();
            let used = note_events(&event[..cut], &mut delays);
            note_events(&event[used..], &mut delays);
            assert_eq!(delays.len(), 1, "cut at {cut}");
        }
    }

    #[test]
    fn a_body_is_as_long_as_it_should_be() {
        let load = Load {
            address: "a:1".to_owned(),
            connections: 1,
            time: Duration::ZERO,
            body: 600,
            events: 7,
        };
        let text = String::from_utf8(request(&load)).expect("is text");
        let (head, body) = text.split_once("\r\n\r\n").expect("has a head");
        assert!(head.ends_with("content-length: 600") && body.len() == 600);
        let body: Value = serde_json::from_str(body).expect("is JSON");
        assert_eq!(body["max_tokens"], 7);
    }

    #[tokio::test]
    async fn the_mock_streams_as_many_events_as_are_asked_for() {
        let (ports, port) = tokio::sync::oneshot::channel();
        tokio::spawn(super::super::backends::run(1, "mock", |all| {
            ports.send(all[0]).expect("is waited for");
        }));
        let port = port.await.expect("it listens");
        let load = |events| Load {
            address: format!("127.0.0.1:{port}"),
            connections: 2,
            time: Duration::from_millis(300),
            body: 600,
            events,
        };
        let plain = run(load(0)).await.expect("answers");
        assert!(plain["per_second"].as_f64() > Some(10.0), "{plain}");
        let streams = run(load(3)).await.expect("answers");
        assert!(streams["events"].as_u64() > Some(6), "{streams}");
    }
}
