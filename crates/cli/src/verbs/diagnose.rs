//! `xgraft diagnose`

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use super::fleet::file::FleetFile;
use crate::args::{Always, Diagnose};
use crate::output::{judged, say, say_json};

/// For an answer of a server.
const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Debug, Serialize)]
struct Diagnosis {
    schema: &'static str,
    servers: Vec<Server>,
    /// `MemTotal` and `MemAvailable` of the machine, as `/proc/meminfo` says.
    memory: Vec<String>,
    /// What `nvidia-smi` says; empty where there is none.
    gpus: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Server {
    name: String,
    port: u16,
    listens: bool,
    /// The status of `/health`, if there was an answer.
    health: Option<u16>,
    models: Vec<String>,
    log: String,
    last_lines: Vec<String>,
}

pub(crate) fn run(args: &Diagnose, always: &Always) -> anyhow::Result<ExitCode> {
    let file = FleetFile::open(&args.file)?;
    let logs = file.logs(&args.file);
    let mut servers = vec![look("balancer", file.port, None, args.lines)];
    for planned in file.plan("xgraft", &logs)? {
        let member = planned.member;
        servers.push(look(
            &member.name,
            planned.port,
            Some(&member.log),
            args.lines,
        ));
    }
    let diagnosis = Diagnosis {
        schema: "xgraft.diagnose/1",
        memory: memory(),
        gpus: gpus(),
        servers,
    };
    if always.json {
        say_json(&diagnosis)?;
    } else {
        say(&text(&diagnosis))?;
    }
    let well = |server: &Server| server.health == Some(200);
    Ok(judged(diagnosis.servers.iter().all(well)))
}

fn look(name: &str, port: u16, log: Option<&Path>, lines: usize) -> Server {
    let health = get(port, "/health");
    let models = get(port, "/v1/models").map(|(_, body)| names(&body));
    Server {
        name: name.to_owned(),
        port,
        listens: connect(port).is_some(),
        health: health.map(|(status, _)| status),
        models: models.unwrap_or_default(),
        log: log.map(|log| log.display().to_string()).unwrap_or_default(),
        last_lines: log.map(|log| tail(log, lines)).unwrap_or_default(),
    }
}

fn connect(port: u16) -> Option<TcpStream> {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let stream = TcpStream::connect_timeout(&address, PATIENCE).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    Some(stream)
}

/// The status and the body, of which no more than a megabyte is read.
fn get(port: u16, path: &str) -> Option<(u16, String)> {
    let mut stream = connect(port)?;
    write!(
        stream,
        "GET {path} HTTP/1.0\r\nhost: 127.0.0.1:{port}\r\n\r\n"
    )
    .ok()?;
    let mut answer = Vec::new();
    stream.take(1 << 20).read_to_end(&mut answer).ok()?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, body.to_owned()))
}

fn names(body: &str) -> Vec<String> {
    let list: Value = serde_json::from_str(body).unwrap_or_default();
    let cards = list["data"].as_array().into_iter().flatten();
    cards
        .filter_map(|card| Some(card["id"].as_str()?.to_owned()))
        .collect()
}

fn tail(log: &Path, lines: usize) -> Vec<String> {
    let text = fs_err::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let all: Vec<&str> = text.lines().collect();
    let last = &all[all.len().saturating_sub(lines)..];
    last.iter().map(ToString::to_string).collect()
}

fn memory() -> Vec<String> {
    let text = fs_err::read_to_string("/proc/meminfo").unwrap_or_default();
    let wanted = |line: &&str| line.starts_with("MemTotal") || line.starts_with("MemAvailable");
    text.lines().filter(wanted).map(str::to_owned).collect()
}

fn gpus() -> Vec<String> {
    let query = "--query-gpu=index,name,memory.used,memory.total,utilization.gpu";
    let said = Command::new("nvidia-smi")
        .args([query, "--format=csv"])
        .output();
    let said = said.map(|said| String::from_utf8_lossy(&said.stdout).into_owned());
    said.unwrap_or_default()
        .lines()
        .map(str::to_owned)
        .collect()
}

fn text(diagnosis: &Diagnosis) -> String {
    let mut out = String::new();
    for server in &diagnosis.servers {
        let health = match server.health {
            Some(status) => format!("health {status}"),
            None if server.listens => "listens, but does not answer".to_owned(),
            None => "nobody listens".to_owned(),
        };
        let models = server.models.join(", ");
        out += &format!(
            "{} on port {}: {health}; models: {models}\n",
            server.name, server.port
        );
        for line in &server.last_lines {
            out += &format!("    {line}\n");
        }
    }
    for line in diagnosis.memory.iter().chain(&diagnosis.gpus) {
        out += &format!("{line}\n");
    }
    if diagnosis.gpus.is_empty() {
        out += "no GPUs\n";
    }
    out
}
