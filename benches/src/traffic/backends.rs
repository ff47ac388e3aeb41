//! OpenAI-compatible servers that compute nothing.

use super::message::{Length, Reader, length, path};
use memchr::memmem;
use std::{
    io,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::{
    io::AsyncWriteExt,
    net::TcpListener,
    time::{MissedTickBehavior, interval},
};

/// Between two events of a stream.
pub const PACE: Duration = Duration::from_millis(20);

/// A request that could ask for a stream is no longer than this.
const SHORT: usize = 64 << 10;

const COMPLETION: &str = r#"{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"ok"},"finish_reason":"stop"}],"usage":{"prompt_tokens":10,"completion_tokens":1,"total_tokens":11}}"#;

const STREAM_HEAD: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";

/// Serves on `count` ports, for ever. `owner` is whose servers they say they are: of `xgraft`'s a balancer of ours asks for
/// the ids of tokens. `ready` is told the ports.
///
/// # Errors
/// No port can be had.
pub async fn run(count: usize, owner: &str, ready: impl FnOnce(&[u16])) -> io::Result<()> {
    let mut listeners = Vec::new();
    for _ in 0..count {
        listeners.push(TcpListener::bind("127.0.0.1:0").await?);
    }
    let port = |listener: &TcpListener| Ok(listener.local_addr()?.port());
    let ports = listeners.iter().map(port).collect::<io::Result<Vec<_>>>()?;
    ready(&ports);
    let models = format!(
        r#"{{"object":"list","data":[{{"id":"m","object":"model","owned_by":"{owner}"}}]}}"#
    );
    for listener in listeners {
        tokio::spawn(accept(listener, models.clone()));
    }
    std::future::pending().await
}

async fn accept(listener: TcpListener, models: String) {
    while let Ok((socket, _)) = listener.accept().await {
        let models = models.clone();
        // A connection that ends early is its client's business.
        tokio::spawn(async move {
            if let Ok(reader) = Reader::new(socket) {
                let _ = serve(reader, &models).await;
            }
        });
    }
}

async fn serve(mut reader: Reader, models: &str) -> io::Result<()> {
    while let Some(head) = reader.head().await? {
        let Length::Bytes(length) = length(&head) else {
            return Err(io::ErrorKind::Unsupported.into());
        };
        let body = reader.body(length, SHORT).await?;
        match path(&head) {
            b"/v1/models" => plain(&mut reader, models).await?,
            b"/get_model_info" | b"/model_info" => {
                plain(&mut reader, r#"{"model_path":"m","is_generation":true}"#).await?;
            }
            b"/get_server_info" | b"/server_info" => {
                plain(&mut reader, r#"{"model_path":"m","tp_size":1,"dp_size":1}"#).await?;
            }
            _ if has(&body, b"\"stream\":true") => stream(&mut reader, &body).await?,
            _ => plain(&mut reader, COMPLETION).await?,
        }
    }
    Ok(())
}

async fn plain(reader: &mut Reader, body: &str) -> io::Result<()> {
    let length = body.len();
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    reader.socket.write_all(answer.as_bytes()).await
}

/// As many events as the request wants tokens, each with the time at which it was written.
async fn stream(reader: &mut Reader, body: &[u8]) -> io::Result<()> {
    let shows_ids = has(body, b"\"return_token_ids\":true");
    let count = max_tokens(body);
    let mut pace = interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    reader.socket.write_all(STREAM_HEAD).await?;
    let role = event(r#"{"role":"assistant","content":""}"#, "null", "");
    reader.socket.write_all(&chunk(&role)).await?;
    for id in 0..count {
        pace.tick().await;
        let ids = match shows_ids {
            true => format!(",\"token_ids\":[{id}]"),
            false => String::new(),
        };
        let delta = format!(r#"{{"content":"{}"}}"#, nanoseconds());
        let piece = chunk(&event(&delta, "null", &ids));
        reader.socket.write_all(&piece).await?;
    }
    let end = event("{}", "\"stop\"", "") + "data: [DONE]\n\n";
    let end = [chunk(&end), b"0\r\n\r\n".to_vec()].concat();
    reader.socket.write_all(&end).await
}

fn event(delta: &str, finish: &str, ids: &str) -> String {
    format!(
        "data: {{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{{\"index\":0,\"delta\":{delta},\"logprobs\":null,\"finish_reason\":{finish}{ids}}}]}}\n\n"
    )
}

fn chunk(text: &str) -> Vec<u8> {
    format!("{:x}\r\n{text}\r\n", text.len()).into_bytes()
}

fn max_tokens(body: &[u8]) -> u64 {
    // Routers may write `max_completion_tokens` in its place.
    const NAME: &[u8] = b"tokens\":";
    let Some(at) = memmem::find(body, NAME) else {
        return 16;
    };
    let digits = body[at + NAME.len()..]
        .iter()
        .take_while(|byte| byte.is_ascii_digit());
    digits.fold(0, |sum, digit| 10 * sum + u64::from(digit - b'0'))
}

fn has(body: &[u8], part: &[u8]) -> bool {
    memmem::find(body, part).is_some()
}

/// Since 1970, which both ends of a connection on one machine agree about.
pub(super) fn nanoseconds() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| now.as_nanos() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_says_how_many_events_it_wants() {
        assert_eq!(max_tokens(br#"{"max_tokens":120,"stream":true}"#), 120);
        assert_eq!(max_tokens(br#"{"max_completion_tokens":7}"#), 7);
        assert_eq!(max_tokens(b"{}"), 16);
    }
}
