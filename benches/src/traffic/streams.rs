//! Clients that each read one stream of tokens from a server of a model.

use super::message::{Length, Reader, length, status};
use memchr::memmem;
use serde_json::json;
use std::{
    io,
    time::{Duration, Instant},
};
use tokio::{io::AsyncWriteExt, net::TcpStream, task::JoinSet};

/// Streams that are asked for at once.
#[derive(Clone, Debug)]
pub struct Streams {
    /// `HOST:PORT`.
    pub address: String,
    /// The ids of each stream's prompt.
    pub prompts: Vec<Vec<u32>>,
    /// Tokens of each stream.
    pub tokens: usize,
}

/// An event of the stream that is not its end.
const EVENT: &[u8] = b"data: {";

/// The time of a token while all streams run, as their readers see it: greedily chosen, an event each.
///
/// # Errors
/// A connection breaks, an answer is not what was asked for, or half of the tokens of a stream were not read beside all others.
pub async fn run(streams: Streams) -> io::Result<Duration> {
    let mut clients = JoinSet::new();
    for prompt in &streams.prompts {
        let request = request(&streams, prompt);
        clients.spawn(client(streams.address.clone(), request, streams.tokens));
    }
    let mut all = Vec::new();
    while let Some(times) = clients.join_next().await {
        all.push(times.map_err(io::Error::other)??);
    }
    together(&all)
}

/// The time of a token of each stream while all of them run, as the mean over the streams.
fn together(streams: &[Vec<Instant>]) -> io::Result<Duration> {
    let begin = streams.iter().filter_map(|times| times.first()).max();
    let end = streams.iter().filter_map(|times| times.last()).min();
    let (Some(begin), Some(end)) = (begin, end) else {
        return Err(io::Error::other("no stream to read"));
    };
    let mut all = Duration::ZERO;
    for times in streams {
        let inside = |t: &&Instant| (begin..=end).contains(t);
        let mut inside = times.iter().filter(inside);
        let (first, steps) = (inside.next(), inside.clone().count());
        let (Some(first), Some(last)) = (first, inside.next_back()) else {
            return Err(too_few(times.len(), 0));
        };
        if 2 * steps < times.len() - 1 {
            return Err(too_few(times.len(), steps));
        }
        all += last.duration_since(*first) / u32::try_from(steps).unwrap_or(u32::MAX);
    }
    Ok(all / u32::try_from(streams.len()).unwrap_or(u32::MAX))
}

fn too_few(tokens: usize, beside: usize) -> io::Error {
    io::Error::other(format!(
        "expected half of a stream's {tokens} tokens beside all other streams, found {beside}: ask for more tokens"
    ))
}

async fn client(address: String, request: Vec<u8>, tokens: usize) -> io::Result<Vec<Instant>> {
    let mut reader = Reader::new(TcpStream::connect(&address).await?)?;
    reader.socket.write_all(&request).await?;
    let head = reader.head().await?.ok_or(io::ErrorKind::UnexpectedEof)?;
    if (status(&head), length(&head)) != (Some(200), Length::Chunked) {
        return Err(io::Error::other(
            String::from_utf8_lossy(&head).into_owned(),
        ));
    }
    let mut times = Vec::new();
    reader.chunks(|bytes| note(bytes, &mut times)).await?;
    // The last one has the reason of the end.
    let found = times.len();
    if found != tokens + 1 {
        let what = format!("expected {tokens} events with a token and one more, found {found}");
        return Err(io::Error::other(what));
    }
    times.pop();
    Ok(times)
}

/// Notes the time of each event; says how many bytes hold no more of them.
fn note(bytes: &[u8], times: &mut Vec<Instant>) -> usize {
    let now = Instant::now();
    let mut at = 0;
    while let Some(found) = memmem::find(&bytes[at..], EVENT) {
        times.push(now);
        at += found + EVENT.len();
    }
    // One may have come in two pieces.
    at.max(bytes.len().saturating_sub(EVENT.len()))
}

fn request(streams: &Streams, prompt: &[u32]) -> Vec<u8> {
    let body = json!({
        "prompt": prompt,
        "max_tokens": streams.tokens,
        "temperature": 0,
        "ignore_eos": true,
        "stream": true,
    });
    let body = body.to_string();
    format!(
        "POST /v1/completions HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        streams.address,
        body.len()
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_time_counts_in_which_all_streams_run() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let early: Vec<_> = (0..10).map(|i| at(10 * i)).collect();
        let late: Vec<_> = (3..13).map(|i| at(10 * i + 1)).collect();
        let step = together(&[early.clone(), late]).expect("they overlap");
        assert!((9..11).contains(&step.as_millis()), "{step:?}");
        let apart = early.iter().map(|t| *t + Duration::from_secs(1)).collect();
        assert!(together(&[early, apart]).is_err());
    }

    #[test]
    fn an_event_that_came_in_two_pieces_is_counted_once() {
        let bytes = b"6\r\ndata: {\"a\":1}\n\ndata: [DONE]\n\n";
        for cut in 0..bytes.len() {
            let mut times = Vec::new();
            let used = note(&bytes[..cut], &mut times);
            note(&bytes[used..], &mut times);
            assert_eq!(times.len(), 1, "cut at {cut}");
        }
    }
}
