//! `xgraft diagnose`

mod place;
mod process;

use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::process::{Command, ExitCode};

use serde::Serialize;
use serde_json::Value;

use self::place::Place;
use self::process::Process;
use super::fleet::file::FleetFile;
use super::fleet::keys::Keys;
use crate::args::{Always, Diagnose};
use crate::output::{judged, say, say_json};

/// So much of a log is read.
const END: u64 = 256 << 10;

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
    address: String,
    listens: bool,
    /// The status of the health path, if there was an answer.
    health: Option<u16>,
    /// The status of `/v1/models`: 401 says that the key is wrong.
    models_status: Option<u16>,
    models: Vec<String>,
    adapters: Vec<String>,
    processes: Vec<Process>,
    log: String,
    last_lines: Vec<String>,
}

pub(crate) fn run(args: &Diagnose, always: &Always) -> anyhow::Result<ExitCode> {
    let file = FleetFile::enter(&args.file)?;
    let balance = file.balance()?;
    let keys = Keys::of(&balance);
    let client = args.api_key.as_ref().or(balance.listen.api_key.first());
    let host = args.host.as_deref().unwrap_or(&file.host);
    let balancer = Place::new(host, file.port, client.map(String::as_str))?;
    let mut servers = vec![look("balancer", &balancer, "/health", None, args.lines)];
    for planned in file.plan("xgraft")? {
        let place = Place::new("127.0.0.1", planned.port, keys.user.as_deref())?;
        let member = planned.member;
        let (path, log) = (&balance.health_path, Some(member.log.as_path()));
        servers.push(look(&member.name, &place, path, log, args.lines));
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
    let well = |server: &Server| {
        let answers = server
            .health
            .is_some_and(|status| (200..300).contains(&status));
        answers && !matches!(server.models_status, Some(401 | 403))
    };
    Ok(judged(diagnosis.servers.iter().all(well)))
}

/// Looks at a server, which has a log and processes of its own, or at the balancer, which has neither.
fn look(name: &str, place: &Place, health: &str, log: Option<&Path>, lines: usize) -> Server {
    let said = place.get("/v1/models");
    let cards = said.as_ref().map(|(_, body)| cards(body));
    let (adapters, models) = cards
        .unwrap_or_default()
        .into_iter()
        .partition::<Vec<_>, _>(|card| card["parent"].is_string());
    let names = |cards: Vec<Value>| {
        let name = |card: &Value| Some(card["id"].as_str()?.to_owned());
        cards.iter().filter_map(name).collect()
    };
    Server {
        name: name.to_owned(),
        address: place.to_string(),
        listens: place.listens(),
        health: place.get(health).map(|(status, _)| status),
        models_status: said.map(|(status, _)| status),
        models: names(models),
        adapters: names(adapters),
        processes: match log {
            Some(_) => process::group_of_port(place.port()),
            None => process::of_port(place.port()).into_iter().collect(),
        },
        log: log.map(|log| log.display().to_string()).unwrap_or_default(),
        last_lines: log.map(|log| tail(log, lines)).unwrap_or_default(),
    }
}

fn cards(body: &str) -> Vec<Value> {
    let list: Value = serde_json::from_str(body).unwrap_or_default();
    list["data"].as_array().cloned().unwrap_or_default()
}

/// The last lines of a log, which may be large. A log that is not there has none.
fn tail(log: &Path, lines: usize) -> Vec<String> {
    let text = end_of(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let all: Vec<&str> = text.lines().collect();
    let last = &all[all.len().saturating_sub(lines)..];
    last.iter().map(ToString::to_string).collect()
}

fn end_of(log: &Path) -> std::io::Result<Vec<u8>> {
    let mut file = fs_err::File::open(log)?;
    let length = file.seek(SeekFrom::End(0))?;
    file.seek(SeekFrom::Start(length.saturating_sub(END)))?;
    let mut text = Vec::new();
    file.take(END).read_to_end(&mut text)?;
    Ok(text)
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
        out += &text_of(server);
    }
    for line in diagnosis.memory.iter().chain(&diagnosis.gpus) {
        out += &format!("{line}\n");
    }
    if diagnosis.gpus.is_empty() {
        out += "no GPUs\n";
    }
    out
}

fn text_of(server: &Server) -> String {
    let health = match server.health {
        Some(status) => format!("health {status}"),
        None if server.listens => "listens, but does not answer".to_owned(),
        None => "nobody listens".to_owned(),
    };
    let mut out = format!("{} at {}: {health}", server.name, server.address);
    match server.models_status {
        Some(200) => {
            let (models, adapters) = (server.models.join(", "), server.adapters.join(", "));
            out += &format!("; models: {models}; adapters: {adapters}");
        }
        Some(401 | 403) => out += "; it wants another key (--api-key, XGRAFT_API_KEY)",
        Some(status) => out += &format!("; models: HTTP {status}"),
        None => {}
    }
    out.push('\n');
    for process in &server.processes {
        let mib = |kib: u64| kib / 1024;
        out += &format!(
            "    process {} ({}): {} MiB, at most {} MiB\n",
            process.pid,
            process.name,
            mib(process.vm_rss_kib),
            mib(process.vm_hwm_kib)
        );
    }
    for line in &server.last_lines {
        out += &format!("    | {line}\n");
    }
    out
}
