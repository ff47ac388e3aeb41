//! A backend that does what it is told with bytes and sockets, also what no server would do.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Asked {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines
            .filter(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
            .next()
    }
}

/// One thing that a backend does on a connection.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    /// Writes bytes.
    Write(Vec<u8>),
    /// Waits.
    Sleep(Duration),
    /// Never does anything again, but keeps the connection.
    Hang,
    /// Closes the connection at once.
    Close,
}

type Script = Arc<dyn Fn(&Asked) -> Vec<Act> + Send + Sync>;

/// A backend. It is gone when it is dropped.
pub(crate) struct Scripted {
    pub(crate) address: SocketAddr,
    /// What it was asked, without health and models.
    pub(crate) asked: Arc<Mutex<Vec<Asked>>>,
    /// Requests that it works on now.
    pub(crate) active: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Scripted {
    pub(crate) async fn start(script: impl Fn(&Asked) -> Vec<Act> + Send + Sync + 'static) -> Self {
        Self::at("127.0.0.1:0".parse().unwrap(), script).await
    }

    /// On an address that was another's before.
    pub(crate) async fn at(
        address: SocketAddr,
        script: impl Fn(&Asked) -> Vec<Act> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let active = Arc::new(AtomicUsize::new(0));
        let script: Script = Arc::new(script);
        let (seen, working) = (asked.clone(), active.clone());
        let task = tokio::spawn(async move {
            // Dropped with the task, and all connections with it.
            let mut connections = JoinSet::new();
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                socket.set_nodelay(true).unwrap();
                connections.spawn(serve(socket, script.clone(), seen.clone(), working.clone()));
                while connections.try_join_next().is_some() {}
            }
        });
        Self {
            address,
            asked,
            active,
            task,
        }
    }

    /// One that answers everything with this completion.
    pub(crate) async fn saying(text: &'static str) -> Self {
        Self::start(move |_| vec![Act::Write(completion(text))]).await
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn count(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

struct Working(Arc<AtomicUsize>);

impl Drop for Working {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn serve(
    mut socket: TcpStream,
    script: Script,
    seen: Arc<Mutex<Vec<Asked>>>,
    active: Arc<AtomicUsize>,
) {
    let mut read = Vec::new();
    while let Some(asked) = next(&mut socket, &mut read).await {
        active.fetch_add(1, Ordering::SeqCst);
        let working = Working(active.clone());
        if !["/health", "/v1/models"].contains(&asked.path.as_str()) {
            seen.lock().unwrap().push(asked.clone());
        }
        for act in script(&asked) {
            let (mut reading, mut writing) = socket.split();
            let doing = async {
                match act {
                    Act::Write(bytes) => writing.write_all(&bytes).await.is_ok(),
                    Act::Sleep(time) => {
                        tokio::time::sleep(time).await;
                        true
                    }
                    Act::Hang => std::future::pending().await,
                    Act::Close => false,
                }
            };
            let gone = async {
                let mut more = [0; 1024];
                while reading.read(&mut more).await.is_ok_and(|count| count > 0) {}
            };
            let goes_on = tokio::select! {
                goes_on = doing => goes_on,
                () = gone => false,
            };
            if !goes_on {
                return;
            }
        }
        drop(working);
        if asked.header("connection") == Some("close") {
            return;
        }
    }
}

/// The next request of a connection.
async fn next(socket: &mut TcpStream, read: &mut Vec<u8>) -> Option<Asked> {
    let end = loop {
        if let Some(at) = read.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        if socket.read_buf(read).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(read[..end].to_vec()).unwrap();
    let mut first = head.lines().next().unwrap().split(' ');
    let mut asked = Asked {
        method: first.next().unwrap().to_owned(),
        path: first.next().unwrap().to_owned(),
        body: Vec::new(),
        head,
    };
    assert!(
        asked.header("transfer-encoding").is_none(),
        "bodies have a length"
    );
    let length: usize = asked
        .header("content-length")
        .map_or(0, |length| length.parse().unwrap());
    while read.len() < end + length {
        if socket.read_buf(read).await.ok()? == 0 {
            return None;
        }
    }
    asked.body = read[end..end + length].to_vec();
    read.drain(..end + length);
    Some(asked)
}

/// An answer with a length.
pub(crate) fn answer(status: u16, headers: &str, body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 {status} X\r\ncontent-length: {}\r\n{headers}\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// What a server says that generates at once.
pub(crate) fn completion(text: &str) -> Vec<u8> {
    let body = serde_json::json!({"object": "chat.completion", "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}]});
    answer(200, "content-type: application/json\r\n", &body.to_string())
}

/// `/v1/models` of somebody.
pub(crate) fn models(owner: &str, names: &[&str]) -> Vec<u8> {
    let card = |name: &&str| serde_json::json!({"id": name, "object": "model", "owned_by": owner});
    let body =
        serde_json::json!({"object": "list", "data": names.iter().map(card).collect::<Vec<_>>()});
    answer(200, "content-type: application/json\r\n", &body.to_string())
}

pub(crate) const STREAM_HEAD: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";

/// One chunk of a chunked body.
pub(crate) fn chunk(text: &str) -> Vec<u8> {
    format!("{:x}\r\n{text}\r\n", text.len()).into_bytes()
}

/// An event of a chat.
pub(crate) fn event(delta: &str) -> String {
    format!(
        "data: {{\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{{\"index\":0,\"delta\":{delta},\"logprobs\":null,\"finish_reason\":null}}]}}\n\n"
    )
}

/// The events of a chat that says these words.
pub(crate) fn events(words: &[&str]) -> Vec<String> {
    let mut all = vec![event(r#"{"role":"assistant","content":""}"#)];
    all.extend(words.iter().map(|word| {
        let word = serde_json::to_string(word).unwrap();
        event(&format!("{{\"content\":{word}}}"))
    }));
    all.push("data: [DONE]\n\n".to_owned());
    all
}

/// A whole stream as bytes.
pub(crate) fn stream(words: &[&str]) -> Vec<u8> {
    let mut bytes = STREAM_HEAD.as_bytes().to_vec();
    for event in events(words) {
        bytes.extend(chunk(&event));
    }
    bytes.extend(b"0\r\n\r\n");
    bytes
}
