//! `xgraft balance` before real servers.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{fixture, succeed};

/// A process of ours that listens; killed when it is dropped.
struct Process {
    child: Child,
    /// `HOST:PORT`.
    address: String,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Process {
    fn start(args: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_xgraft"))
            .args(args)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let address = lines.by_ref().find_map(|line| {
            Some(
                line.unwrap()
                    .split_once("listening on http://")?
                    .1
                    .to_owned(),
            )
        });
        std::thread::spawn(move || lines.for_each(drop));
        Self {
            child,
            address: address.expect("it listens"),
        }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Sends a request whose answer has no chunks and ends with the connection.
    fn send(&self, method: &str, path: &str, body: &str) -> TcpStream {
        let mut socket = TcpStream::connect(&self.address).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        let length = body.len();
        write!(
            socket,
            "{method} {path} HTTP/1.0\r\nx-request-id: r1\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        )
        .unwrap();
        socket
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> String {
        let mut answer = String::new();
        self.send(method, path, body)
            .read_to_string(&mut answer)
            .unwrap();
        body_of(&answer)
    }

    fn status(&self) -> Value {
        serde_json::from_str(&self.ask("GET", "/lb_status", "")).unwrap()
    }

    fn until(&self, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        let start = Instant::now();
        loop {
            let status = self.status();
            if is(&status) {
                return status;
            }
            assert!(
                start.elapsed() < Duration::from_secs(60),
                "never {what}: {status}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn body_of(answer: &str) -> String {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(" 200 "), "{answer}");
    body.to_owned()
}

/// The seconds of `created` differ between two requests.
fn steady(text: &str) -> String {
    let mut out = String::new();
    for (at, part) in text.split("\"created\":").enumerate() {
        let digits = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(0);
        out.push_str(if at == 0 { part } else { &part[digits..] });
    }
    out
}

fn server(adapter: &Path) -> Process {
    let base = fixture("tiny-qwen3-text/base");
    let lora = format!("mine={}", adapter.display());
    let args = [
        "serve",
        &base,
        "--port",
        "0",
        "--served-model-name",
        "tiny",
        "--lora",
        &lora,
        "--threads",
        "1",
    ];
    Process::start(&args)
}

/// The one that works, if it is one.
fn working(status: &Value) -> Option<String> {
    let backends = status["backends"].as_object().unwrap();
    let busy = backends
        .iter()
        .find(|(_, backend)| backend["in_flight"] == 1);
    busy.map(|(url, _)| url.clone())
}

/// Makes characters likely of which every byte is a token of its own.
fn halves(server: &Process) -> Value {
    let ids = server.ask("POST", "/tokenize", &json!({"prompt": "€ü"}).to_string());
    let ids: Value = serde_json::from_str(&ids).unwrap();
    let ids = ids["tokens"].as_array().unwrap();
    assert!(ids.len() > 2, "{ids:?}");
    ids.iter().map(|id| (id.to_string(), json!(15))).collect()
}

#[test]
fn a_stream_of_a_killed_server_is_the_unbroken_one_byte_for_byte() {
    let temp = tempfile::tempdir().unwrap();
    let adapter = temp.path().join("mine");
    let (base, tuned) = (
        fixture("tiny-qwen3-text/base"),
        fixture("tiny-qwen3-text/tuned"),
    );
    let out = adapter.to_str().unwrap();
    succeed(&[
        "extract", "--base", &base, "--tuned", &tuned, "--rank", "8", "--out", out,
    ]);
    let mut servers = vec![server(&adapter), server(&adapter)];
    let body = json!({
        "model": "mine", "prompt": "Pick", "max_tokens": 3000, "temperature": 0.7, "seed": 11,
        "ignore_eos": true, "stream": true,
        "logit_bias": halves(&servers[0]),
    })
    .to_string();
    let expected = steady(&servers[0].ask("POST", "/v1/completions", &body));
    assert!(
        expected.ends_with("data: [DONE]\n\n") && expected.contains("\"finish_reason\":\"length\"")
    );
    assert!(
        !expected.is_ascii(),
        "characters of several bytes are cut too"
    );
    let urls: Vec<String> = servers.iter().map(Process::url).collect();
    let balancer = Process::start(&[
        "balance",
        "--port",
        "0",
        "--health-interval",
        "200ms",
        "--backend",
        &urls[0],
        "--backend",
        &urls[1],
    ]);
    balancer.until("both up", |status| {
        let backends = status["backends"].as_object().unwrap();
        backends
            .values()
            .all(|b| b["state"] == "up" && b["models"][1] == "mine")
    });
    let mut socket = balancer.send("POST", "/v1/completions", &body);
    let mut heard = vec![0; 40_000];
    socket.read_exact(&mut heard).unwrap();
    let status = balancer.until("one works", |status| working(status).is_some());
    let victim = working(&status).unwrap();
    servers.retain(|server| server.url() != victim);
    socket.read_to_end(&mut heard).unwrap();
    let heard = body_of(std::str::from_utf8(&heard).unwrap());
    assert_eq!(steady(&heard), expected);
    let status = balancer.until("at rest", |status| status["total_in_flight"] == 0);
    assert_eq!(
        (&status["streams_cut"], &status["streams_resumed"]),
        (&json!(1), &json!(1))
    );
    assert_eq!(status["streams_flagged"], 0);
}

/// Ports that were free a moment ago.
fn free_ports<const N: usize>() -> [u16; N] {
    let sockets = [(); N].map(|()| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    sockets.map(|socket| socket.local_addr().unwrap().port())
}

fn kill(signal: &str, pid: &str) {
    assert!(
        Command::new("kill")
            .args([signal, pid])
            .status()
            .unwrap()
            .success()
    );
}

#[test]
fn a_fleet_starts_is_diagnosed_restarts_what_dies_and_ends_whole() {
    let temp = tempfile::tempdir().unwrap();
    let file = temp.path().join("fleet.toml");
    let [port, a, b] = free_ports();
    let model = fixture("tiny-qwen3-text/base");
    let server = |port| {
        format!("[[server]]\nport = {port}\nmodel = {model:?}\nargs = [\"--threads\", \"1\"]\n")
    };
    let text = format!(
        "port = {port}\nbalance = [\"--health-interval\", \"200ms\"]\n{}{}",
        server(a),
        server(b)
    );
    std::fs::write(&file, text).unwrap();
    let file = file.to_str().unwrap();
    let mut fleet = Process::start(&["fleet", file]);
    let all_up = |status: &Value| {
        let backends = status["backends"].as_object().unwrap();
        backends.len() == 2 && backends.values().all(|b| b["status"] == "healthy")
    };
    fleet.until("all up", all_up);
    let diagnosis: Value = serde_json::from_str(&succeed(&["diagnose", file, "--json"])).unwrap();
    let servers = diagnosis["servers"].as_array().unwrap();
    assert!(servers.len() == 3 && servers.iter().all(|server| server["health"] == 200));
    let last = servers[1]["last_lines"].as_array().unwrap();
    assert!(
        last.iter()
            .any(|line| line.as_str().unwrap().contains("listening on"))
    );
    let pid = fleet.child.id();
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    let children: Vec<&str> = children.split_whitespace().collect();
    assert_eq!(children.len(), 2);
    kill("-KILL", children[0]);
    fleet.until("one gone", |status| !all_up(status));
    fleet.until("all up again", all_up);
    kill("-TERM", &pid.to_string());
    assert!(fleet.child.wait().unwrap().success());
    for port in [a, b] {
        assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    }
    let diagnosis = crate::support::xgraft(&["diagnose", file]);
    assert!(!diagnosis.status.success());
    assert!(crate::support::stdout(&diagnosis).contains("nobody listens"));
}
