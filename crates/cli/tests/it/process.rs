//! Processes of ours that listen.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

/// No test waits longer for a state, or for the next byte of an answer: a busy machine takes its time.
const PATIENCE: Duration = Duration::from_secs(60);
const ANSWER: Duration = Duration::from_secs(300);

/// A process that listens; killed when it is dropped.
pub(crate) struct Process {
    pub(crate) child: Child,
    /// `HOST:PORT`.
    pub(crate) address: String,
    /// What it has said to stderr.
    said: Arc<Mutex<String>>,
    deaf: Arc<AtomicBool>,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Process {
    /// Starts `xgraft` and waits for the address that it prints.
    pub(crate) fn start(args: &[&str]) -> Self {
        Self::run(Command::new(env!("CARGO_BIN_EXE_xgraft")).args(args))
    }

    /// As [`start`](Self::start), of a shell that first limits its open files, such as by `ulimit -Sn 256`.
    pub(crate) fn start_after(limit: &str, args: &[&str]) -> Self {
        let script = format!("{limit} && exec \"$0\" \"$@\"");
        let program = env!("CARGO_BIN_EXE_xgraft");
        Self::run(Command::new("sh").args(["-c", &script, program]).args(args))
    }

    /// Starts a command and waits for the address that it prints.
    pub(crate) fn run(command: &mut Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let said = Arc::new(Mutex::new(String::new()));
        let heard = said.clone();
        let mut hear = move || {
            let line = lines.next()?.ok()?;
            *heard.lock().unwrap() += &format!("{line}\n");
            Some(line)
        };
        let address = std::iter::from_fn(&mut hear).find_map(|line| {
            let (_, address) = line.split_once("listening on http://")?;
            Some(address.to_owned())
        });
        // What it says later must have a reader.
        let deaf = Arc::new(AtomicBool::new(false));
        let stops = deaf.clone();
        std::thread::spawn(move || while !stops.load(Ordering::Relaxed) && hear().is_some() {});
        Self {
            child,
            address: address.unwrap_or_else(|| panic!("it does not listen: {said:?}")),
            said,
            deaf,
        }
    }

    /// The next line that it says to stderr is the last that anybody reads; then stderr is closed, as that of a terminal is.
    pub(crate) fn stop_listening(&self) {
        self.deaf.store(true, Ordering::Relaxed);
    }

    /// What it has said to stderr.
    pub(crate) fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    /// Waits until it has said something.
    pub(crate) fn until_said(&self, what: &str, is: impl Fn(&str) -> bool) {
        let start = Instant::now();
        while !is(&self.said()) {
            let waits = start.elapsed() < PATIENCE;
            assert!(waits, "never {what}: {}", self.said());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Sends a request.
    pub(crate) fn open(&self, method: &str, path: &str, headers: &str, body: &str) -> TcpStream {
        open(&self.address, method, path, headers, body).unwrap()
    }

    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        read(self.open("GET", path, "", "")).unwrap()
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> (u16, String) {
        self.post_with(path, "", body)
    }

    pub(crate) fn post_with(&self, path: &str, headers: &str, body: &Value) -> (u16, String) {
        read(self.open("POST", path, headers, &body.to_string())).unwrap()
    }

    /// The state of all backends.
    pub(crate) fn status(&self) -> Value {
        let (status, body) = self.get("/lb_status");
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    }

    /// Waits for a state of the backends.
    pub(crate) fn until(&self, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        let start = Instant::now();
        loop {
            let status = self.status();
            if is(&status) {
                return status;
            }
            assert!(start.elapsed() < PATIENCE, "never {what}: {status}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    /// Waits for its end.
    pub(crate) fn end(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(start.elapsed() < PATIENCE, "it goes on");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// A backend of a few lines, which answers everything with the same and closes the connection.
pub(crate) struct Mock;

impl Mock {
    /// Starts it, for as long as the test runs; gives its address as a URL.
    pub(crate) fn start() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for client in listener.incoming() {
                std::thread::spawn(move || answer(client.unwrap()));
            }
        });
        url
    }
}

/// Reads a request of a head and a body with a length, and answers it.
fn answer(client: TcpStream) -> Option<()> {
    let mut lines = BufReader::new(client);
    let mut length = 0;
    loop {
        let mut line = String::new();
        lines.read_line(&mut line).ok()?;
        if line.trim().is_empty() {
            break;
        }
        if let Some(text) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = text.trim().parse().ok()?;
        }
    }
    lines.read_exact(&mut vec![0; length]).ok()?;
    let body = r#"{"data":[{"id":"m"}]}"#;
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n";
    let client = lines.get_mut();
    write!(client, "{head}content-length: {}\r\n\r\n{body}", body.len()).ok()
}

/// Sends a request whose answer has no chunks and ends with the connection.
pub(crate) fn open(
    address: &str,
    method: &str,
    path: &str,
    headers: &str,
    body: &str,
) -> std::io::Result<TcpStream> {
    let mut socket = TcpStream::connect(address)?;
    socket.set_read_timeout(Some(ANSWER))?;
    let length = body.len();
    write!(
        socket,
        "{method} {path} HTTP/1.0\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
    )?;
    Ok(socket)
}

/// The status and the body of what comes.
pub(crate) fn read(mut socket: TcpStream) -> std::io::Result<(u16, String)> {
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer)?;
    parse(answer)
}

pub(crate) fn parse(answer: Vec<u8>) -> std::io::Result<(u16, String)> {
    let text = String::from_utf8(answer).map_err(std::io::Error::other)?;
    let found = text.split_once("\r\n\r\n").and_then(|(head, body)| {
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some((status, body.to_owned()))
    });
    found.ok_or_else(|| std::io::Error::other(format!("no answer: {text:?}")))
}

pub(crate) fn signal(process: u32, name: &str) {
    let id = process.to_string();
    let sent = Command::new("kill").args(["-s", name, &id]).status();
    assert!(sent.unwrap().success());
}

/// Ports that were free a moment ago.
pub(crate) fn free_ports<const N: usize>() -> [u16; N] {
    let sockets = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    sockets.map(|socket| socket.local_addr().unwrap().port())
}

/// The states of all backends.
pub(crate) fn states(status: &Value) -> Vec<&str> {
    let backends = status["backends"].as_object().unwrap().values();
    backends.map(|b| b["state"].as_str().unwrap()).collect()
}

/// Sets a flag when it is dropped, so that threads that look at it also end when a test fails.
pub(crate) struct SetAtEnd<'a>(pub(crate) &'a AtomicBool);

impl Drop for SetAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
