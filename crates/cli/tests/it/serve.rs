//! `xgraft serve` as a process, on the text fixture.

use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::process::Process;
use crate::support::{copy, fixture, stderr, succeed, xgraft};

/// Makes the adapter of the fixture's pair.
fn extract(out: &Path) {
    let (base, tuned) = (
        fixture("tiny-qwen3-text/base"),
        fixture("tiny-qwen3-text/tuned"),
    );
    let out = out.to_str().unwrap();
    let pair = ["--base", &base, "--tuned", &tuned];
    succeed(&[&["extract"], &pair[..], &["--out", out, "--rank", "8"]].concat());
}

/// Serves the text fixture.
fn server(more: &[&str]) -> Process {
    let base = fixture("tiny-qwen3-text/base");
    let all = [
        "serve",
        &base,
        "--port",
        "0",
        "--kv-memory",
        "8MiB",
        "--threads",
        "1",
        "--served-model-name",
        "tiny",
    ];
    Process::start(&[&all[..], more].concat())
}

#[test]
fn it_answers_and_ends_on_sigterm_with_0() {
    let dir = tempfile::tempdir().unwrap();
    extract(&dir.path().join("adapter"));
    let adapter = format!("tuned={}", dir.path().join("adapter").display());
    let mut server = server(&["--lora", &adapter]);
    assert_eq!(server.get("/health").0, 200);
    let (status, models) = server.get("/v1/models");
    assert_eq!(status, 200);
    assert!(models.contains("\"tuned\""), "{models}");
    for model in ["tiny", "tuned"] {
        let body = json!({"model": model, "prompt": "Pick", "max_tokens": 3, "ignore_eos": true});
        let (status, answer) = server.post("/v1/completions", &body);
        assert_eq!(status, 200, "{answer}");
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(answer["usage"]["completion_tokens"], 3);
    }
    server.signal("TERM");
    assert_eq!(server.end().code(), Some(0));
    assert!(TcpStream::connect(&server.address).is_err());
}

#[test]
fn what_runs_at_sigterm_is_cut_off_when_its_time_is_over() {
    let mut server = server(&["--drain-timeout", "0"]);
    let body =
        json!({"prompt": "Pick", "max_tokens": 2000, "ignore_eos": true, "n": 64, "stream": true});
    let mut socket = server.open("POST", "/v1/completions", "", &body.to_string());
    let mut first = [0; 12];
    socket.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"HTTP/1.0 200");
    server.signal("TERM");
    assert_eq!(server.end().code(), Some(0));
    let mut rest = Vec::new();
    let _ = socket.read_to_end(&mut rest);
    assert!(!String::from_utf8_lossy(&rest).contains("[DONE]"));
}

#[test]
fn a_port_in_use_is_one_clear_error() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let base = fixture("tiny-qwen3-text/base");
    let output = xgraft(&["serve", &base, "--port", &port, "--kv-memory", "8MiB"]);
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    let expected = format!("error: cannot listen on 127.0.0.1:{port}: ");
    assert!(said.starts_with(&expected), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}

#[test]
fn a_pipe_in_place_of_an_adapter_s_file_is_refused_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let whole = dir.path().join("whole");
    extract(&whole);
    let pipe = |name: &str, file: &str| {
        let adapter = dir.path().join(name);
        copy(whole.to_str().unwrap(), &adapter);
        std::fs::remove_file(adapter.join(file)).unwrap();
        let made = Command::new("mkfifo").arg(adapter.join(file)).status();
        assert!(made.unwrap().success());
    };
    pipe("weights", "adapter_model.safetensors");
    pipe("config", "adapter_config.json");
    let root = dir.path().to_str().unwrap();
    let mut server = server(&["--lora-root", root]);
    for name in ["weights", "config"] {
        let body = json!({"lora_name": name, "lora_path": name});
        let (status, answer) = server.post("/v1/load_lora_adapter", &body);
        assert_eq!(status, 400, "{answer}");
    }
    server.signal("TERM");
    assert_eq!(server.end().code(), Some(0));
    let at_start = format!("weights={}", Path::new(root).join("weights").display());
    let base = fixture("tiny-qwen3-text/base");
    let output = xgraft(&["serve", &base, "--port", "0", "--lora", &at_start]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stderr(&output).contains("--lora weights="));
}

#[test]
fn what_is_missing_or_too_small_at_the_start_is_said_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("model");
    let base = fixture("tiny-qwen3-text/base");
    copy(&base, &folder);
    let output = xgraft(&["serve", &base, "--port", "0", "--kv-memory", "1KiB"]);
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    assert!(
        said.contains("--kv-memory") && said.contains("1024") && said.contains("at least"),
        "{said}"
    );
    std::fs::remove_file(folder.join("tokenizer.json")).unwrap();
    let output = xgraft(&["serve", folder.to_str().unwrap(), "--port", "0"]);
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    assert!(
        said.contains("expected a tokenizer.json in") && said.contains("copy it"),
        "{said}"
    );
}
