//! `xgraft balance` before real servers.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::process::{Mock, Process, parse, signal, states};
use crate::support::{extract, fixture, succeed};

/// The seconds of `created` differ between two requests.
fn steady(text: &str) -> String {
    let mut out = String::new();
    for (at, part) in text.split("\"created\":").enumerate() {
        let digits = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(0);
        out.push_str(if at == 0 { part } else { &part[digits..] });
    }
    out
}

fn server(base: &str, adapter: &Path) -> Process {
    let lora = format!("mine={}", adapter.display());
    let args = ["serve", base, "--port", "0", "--served-model-name", "tiny"];
    let more = ["--lora", &lora, "--threads", "1"];
    Process::start(&[&args[..], &more].concat())
}

/// Stands between the balancer and a server, and kills the server in the middle of a character.
struct Cutter {
    address: String,
    armed: Arc<AtomicBool>,
    /// The last event that was passed on.
    last: Arc<Mutex<String>>,
}

impl Cutter {
    fn before(server: &Process) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let cutter = Self {
            address: listener.local_addr().unwrap().to_string(),
            armed: Arc::default(),
            last: Arc::default(),
        };
        let (armed, last) = (cutter.armed.clone(), cutter.last.clone());
        let (address, process) = (server.address.clone(), server.child.id());
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let client = client.unwrap();
                let Ok(server) = TcpStream::connect(&address) else {
                    continue;
                };
                let (mut asks, mut asked) =
                    (client.try_clone().unwrap(), server.try_clone().unwrap());
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut asks, &mut asked);
                    let _ = asked.shutdown(Shutdown::Write);
                });
                let (armed, last) = (armed.clone(), last.clone());
                std::thread::spawn(move || {
                    if let Some(event) = pass_until_half(server, &client, &armed) {
                        signal(process, "KILL");
                        *last.lock().unwrap() = event;
                    }
                    let _ = client.shutdown(Shutdown::Both);
                });
            }
        });
        cutter
    }
}

/// Passes on what a server says, up to and with an event that has tokens and no text: they are a part of a character.
fn pass_until_half(
    mut server: TcpStream,
    mut client: &TcpStream,
    armed: &AtomicBool,
) -> Option<String> {
    let (mut piece, mut event) = ([0; 4096], Vec::new());
    loop {
        let count = server.read(&mut piece).ok().filter(|count| *count > 0)?;
        for byte in &piece[..count] {
            client.write_all(&[*byte]).ok()?;
            event.push(*byte);
            if !event.ends_with(b"\n\n") {
                continue;
            }
            let text = String::from_utf8_lossy(&event).into_owned();
            event.clear();
            let is_half = text.contains("\"text\":\"\"")
                && text.contains("\"token_ids\":[")
                && text.contains("\"finish_reason\":null");
            if is_half && armed.load(Ordering::SeqCst) {
                return Some(text);
            }
        }
    }
}

/// Makes characters likely of which every byte is a token of its own.
fn halves(server: &Process) -> Value {
    let (_, ids) = server.post("/tokenize", &json!({"prompt": "€ü"}));
    let ids: Value = serde_json::from_str(&ids).unwrap();
    let ids = ids["tokens"].as_array().unwrap();
    assert!(ids.len() > 2, "{ids:?}");
    ids.iter().map(|id| (id.to_string(), json!(15))).collect()
}

const ID: &str = "x-request-id: r1\r\n";
const ADMIN: &str = "authorization: Bearer admin\r\n";

/// What a client hears of a stream whose server is killed in the middle of a character, and of one that nobody breaks.
fn broken_and_whole(base: &str, adapter: &Path, body: &Value) -> (String, String) {
    let (first, second) = (server(base, adapter), server(base, adapter));
    let (_, whole) = second.post_with("/v1/completions", ID, body);
    let cutter = Cutter::before(&first);
    let url = format!("http://{}", cutter.address);
    let balancer = Process::start(&[
        "balance",
        "--port",
        "0",
        "--health-interval",
        "200ms",
        "--admin-key",
        "admin",
        "--backend",
        &url,
        "--backend",
        &second.url(),
    ]);
    balancer.until("both up", |status| {
        let backends = status["backends"].as_object().unwrap();
        backends
            .values()
            .all(|b| b["state"] == "up" && b["models"][1] == "mine")
    });
    let second_url = json!({"url": second.url()});
    balancer.post_with("/admin/drain", ADMIN, &second_url);
    let mut socket = balancer.open("POST", "/v1/completions", ID, &body.to_string());
    let mut heard = vec![0; 4_000];
    socket.read_exact(&mut heard).unwrap();
    balancer.post_with("/admin/undrain", ADMIN, &second_url);
    cutter.armed.store(true, Ordering::SeqCst);
    socket.read_to_end(&mut heard).unwrap();
    let (status, broken) = parse(heard).unwrap();
    assert_eq!(status, 200, "{broken}");
    let status = balancer.until("at rest", |status| status["total_in_flight"] == 0);
    let last = cutter.last.lock().unwrap().clone();
    assert!(!last.is_empty(), "nothing was cut: {status}");
    let counts = ["streams_cut", "streams_resumed", "streams_flagged"].map(|name| &status[name]);
    assert_eq!(counts, [1, 1, 0]);
    let event = last.find("data:").map_or("", |at| last[at..].trim());
    println!("killed after {event}");
    (broken, whole)
}

#[test]
fn a_stream_of_a_server_killed_within_a_character_is_the_unbroken_one_byte_for_byte() {
    let temp = tempfile::tempdir().unwrap();
    let adapter = temp.path().join("mine");
    let (base, tuned) = (
        fixture("tiny-qwen3-text/base"),
        fixture("tiny-qwen3-text/tuned"),
    );
    extract((&base, &tuned), 8, adapter.to_str().unwrap(), &[]);
    let fp8 = temp.path().join("fp8");
    let fp8 = fp8.to_str().unwrap();
    succeed(&["quantize", &base, "--scheme", "fp8-block", "--out", fp8]);
    let mut biased = json!({
        "model": "mine", "prompt": "Pick", "max_tokens": 3000, "temperature": 0.7, "seed": 11,
        "ignore_eos": true, "stream": true,
    });
    biased["logit_bias"] = halves(&server(fp8, &adapter));
    let guided = json!({
        "model": "mine", "prompt": "Pick", "max_tokens": 3000, "temperature": 0.7, "seed": 12,
        "stream": true, "structured_outputs": {"regex": "[é漢🙂]{300}"},
    });
    for (body, end) in [(biased, "length"), (guided, "stop")] {
        let (broken, whole) = broken_and_whole(fp8, &adapter, &body);
        assert!(whole.ends_with("data: [DONE]\n\n"), "{whole}");
        assert!(whole.contains(&format!("\"finish_reason\":\"{end}\"")));
        let wide = whole.chars().filter(|c| !c.is_ascii()).count();
        assert!(wide > 100, "{whole}");
        assert_eq!(steady(&broken), steady(&whole));
        println!(
            "the client got {} bytes with {wide} characters of several bytes, all as in the unbroken stream of {} bytes",
            broken.len(),
            whole.len()
        );
    }
}

#[test]
fn the_access_log_is_opened_anew_at_sighup() {
    let temp = tempfile::tempdir().unwrap();
    let (log, moved) = (temp.path().join("log"), temp.path().join("log.1"));
    let path = log.to_str().unwrap();
    let backend = Mock::start();
    let balancer = Process::start(&[
        "balance",
        "--port",
        "0",
        "--backend",
        &backend,
        "--access-log",
        path,
    ]);
    balancer.until("up", |status| states(status) == ["up"]);
    let ask = |id: &str, file: &Path| {
        let header = format!("x-request-id: {id}\r\n");
        assert_eq!(
            balancer.post_with("/v1/completions", &header, &json!({})).0,
            200
        );
        let start = Instant::now();
        while !std::fs::read_to_string(file)
            .unwrap_or_default()
            .contains(id)
        {
            assert!(
                start.elapsed() < Duration::from_secs(20),
                "{id} is not in {file:?}"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    ask("first", &log);
    std::fs::rename(&log, &moved).unwrap();
    ask("second", &moved);
    balancer.signal("HUP");
    // A signal is heard a moment later than it is sent.
    std::thread::sleep(Duration::from_millis(200));
    ask("third", &log);
}
