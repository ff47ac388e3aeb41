//! An endpoint that answers by a script, over real sockets.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

/// What the script says to a request.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) body: String,
    pub(crate) delay: Duration,
}

impl Reply {
    /// A completion.
    pub(crate) fn says(text: &str) -> Self {
        Self::completion(text, "stop")
    }

    pub(crate) fn completion(text: &str, finish: &str) -> Self {
        let body = json!({
            "choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": finish}],
            "usage": {"prompt_tokens": 10, "completion_tokens": text.len()},
        });
        Self::status(200, &body.to_string())
    }

    pub(crate) fn status(status: u16, body: &str) -> Self {
        Self {
            status,
            body: body.to_owned(),
            delay: Duration::ZERO,
        }
    }

    pub(crate) fn after(self, delay: Duration) -> Self {
        Self { delay, ..self }
    }
}

/// A running endpoint. Its threads end with the test program.
pub(crate) struct Endpoint {
    pub(crate) url: String,
    asked: Arc<Mutex<Vec<Value>>>,
}

impl Endpoint {
    /// An endpoint with the model `m`.
    pub(crate) fn start(script: impl Fn(&Value) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (script, log) = (Arc::new(script), Arc::clone(&asked));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (script, log) = (Arc::clone(&script), Arc::clone(&log));
                std::thread::spawn(move || serve(stream, &*script, &log));
            }
        });
        Self { url, asked }
    }

    /// The completions that were asked for so far.
    pub(crate) fn asked(&self) -> Vec<Value> {
        self.asked.lock().unwrap().clone()
    }
}

/// The question of a request.
pub(crate) fn prompt_of(request: &Value) -> String {
    let messages = request["messages"].as_array().unwrap();
    let user = messages.iter().find(|message| message["role"] == "user");
    user.unwrap()["content"].as_str().unwrap().to_owned()
}

fn serve(stream: TcpStream, script: &dyn Fn(&Value) -> Reply, log: &Mutex<Vec<Value>>) {
    stream.set_nodelay(true).unwrap();
    let mut writer = stream.try_clone().unwrap();
    let mut reader = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if !matches!(reader.read_line(&mut head), Ok(1..)) {
                return;
            }
        }
        let lower = head.to_lowercase();
        let length = lower
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        let mut body = vec![0; length.map_or(0, |n| n.trim().parse().unwrap())];
        if reader.read_exact(&mut body).is_err() {
            return;
        }
        let reply = if head.starts_with("GET") {
            Reply::status(200, r#"{"data": [{"id": "m"}]}"#)
        } else {
            let request: Value = serde_json::from_slice(&body).unwrap();
            log.lock().unwrap().push(request.clone());
            script(&request)
        };
        std::thread::sleep(reply.delay);
        let answer = format!(
            "HTTP/1.1 {} x\r\ncontent-length: {}\r\n\r\n{}",
            reply.status,
            reply.body.len(),
            reply.body
        );
        if writer.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}
