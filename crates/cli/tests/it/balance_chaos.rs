//! Real servers that are killed, frozen, drained and ended all the time under a crowd of clients.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::process::{Process, SetAtEnd, free_ports, open, read, states};
use crate::support::{extract, fixture, succeed};

const ADMIN: &str = "authorization: Bearer admin\r\n";

/// How much of it.
struct Size {
    clients: usize,
    /// Between two requests of a client.
    pause: Duration,
    time: Duration,
    /// From one blow to the next; half of it those that are hit are away.
    turn: Duration,
    /// Of a look at a backend.
    interval: &'static str,
}

/// Four servers of one model, the adapter `mine` and whatever is loaded later.
struct Servers {
    base: String,
    root: String,
    ports: [u16; 4],
    alive: Vec<Option<Process>>,
}

impl Servers {
    fn start(temp: &Path) -> Self {
        let (base, tuned) = (
            fixture("tiny-qwen3-text/base"),
            fixture("tiny-qwen3-text/tuned"),
        );
        let adapter = temp.join("mine");
        extract((&base, &tuned), 8, adapter.to_str().unwrap(), &[]);
        let fp8 = temp.join("fp8").to_str().unwrap().to_owned();
        succeed(&["quantize", &base, "--scheme", "fp8-block", "--out", &fp8]);
        let mut servers = Self {
            base: fp8,
            root: temp.to_str().unwrap().to_owned(),
            ports: free_ports(),
            alive: (0..4).map(|_| None).collect(),
        };
        (0..4).for_each(|at| servers.bring(at));
        servers
    }

    /// Starts one if it is not there.
    fn bring(&mut self, at: usize) {
        if self.alive[at].is_some() {
            return;
        }
        let (port, lora) = (
            self.ports[at].to_string(),
            format!("mine={}/mine", self.root),
        );
        let args = ["serve", &self.base, "--served-model-name", "tiny"];
        let more = ["--port", &port, "--lora", &lora, "--lora-root", &self.root];
        let limits = [
            "--admin-key",
            "admin",
            "--threads",
            "1",
            "--kv-memory",
            "64MiB",
        ];
        self.alive[at] = Some(Process::start(&[&args[..], &more, &limits].concat()));
    }

    fn url(&self, at: usize) -> String {
        format!("http://127.0.0.1:{}", self.ports[at])
    }
}

/// What can be done to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Blow {
    Kill,
    Freeze,
    Drain,
    End,
}

const BLOWS: [Blow; 4] = [Blow::Kill, Blow::Freeze, Blow::Drain, Blow::End];

impl Blow {
    fn strike(self, servers: &mut Servers, balancer: &Process, at: usize) {
        let url = json!({"url": servers.url(at)});
        match self {
            Self::Kill => servers.alive[at] = None,
            Self::Freeze => servers.alive[at].as_ref().unwrap().signal("STOP"),
            Self::Drain => assert_eq!(balancer.post_with("/admin/drain", ADMIN, &url).0, 200),
            Self::End => servers.alive[at].as_ref().unwrap().signal("TERM"),
        }
    }

    fn heal(self, servers: &mut Servers, balancer: &Process, at: usize) {
        let url = json!({"url": servers.url(at)});
        match self {
            Self::Kill => servers.bring(at),
            Self::Freeze => servers.alive[at].as_ref().unwrap().signal("CONT"),
            Self::Drain => assert_eq!(balancer.post_with("/admin/undrain", ADMIN, &url).0, 200),
            Self::End => {
                let mut server = servers.alive[at].take().unwrap();
                assert!(server.end().success());
                servers.bring(at);
            }
        }
    }
}

/// What the crowd saw.
#[derive(Debug, Default)]
struct Tally {
    plain: AtomicUsize,
    plain_failed: AtomicUsize,
    streams_whole: AtomicUsize,
    streams_flagged: AtomicUsize,
    /// Neither whole nor flagged.
    streams_wrong: AtomicUsize,
    /// The first few of what should not be.
    seen: Mutex<Vec<String>>,
}

impl Tally {
    fn fault(&self, count: &AtomicUsize, what: String) {
        count.fetch_add(1, Ordering::Relaxed);
        let mut seen = self.seen.lock().unwrap();
        if seen.len() < 5 {
            seen.push(what);
        }
    }
}

/// A request, and the text that every server answers it with.
struct Question {
    body: Value,
    text: String,
}

fn questions(server: &Process) -> Vec<Question> {
    let mut all = Vec::new();
    for model in ["tiny", "mine"] {
        for seed in 0..3 {
            let body = json!({
                "model": model, "prompt": "Pick", "max_tokens": 300, "temperature": 0.7,
                "seed": seed, "ignore_eos": true,
            });
            let (status, answer) = server.post("/v1/completions", &body);
            assert_eq!(status, 200, "{answer}");
            let answer: Value = serde_json::from_str(&answer).unwrap();
            let text = answer["choices"][0]["text"].as_str().unwrap().to_owned();
            all.push(Question { body, text });
        }
    }
    all
}

/// Asks for one thing after the other.
fn client(
    address: &str,
    questions: &[Question],
    tally: &Tally,
    (first, pause): (usize, Duration),
    over: &AtomicBool,
) {
    // Not all at once, so that at any time some wait for an answer and others do not.
    std::thread::sleep(pause * (first as u32 % 16) / 8);
    for question in questions.iter().cycle().skip(first) {
        if over.load(Ordering::Relaxed) {
            return;
        }
        ask_plain(address, question, tally);
        std::thread::sleep(pause);
        ask_stream(address, question, tally);
        std::thread::sleep(pause);
    }
}

fn ask(address: &str, body: &Value) -> std::io::Result<(u16, String)> {
    read(open(
        address,
        "POST",
        "/v1/completions",
        "",
        &body.to_string(),
    )?)
}

fn ask_plain(address: &str, question: &Question, tally: &Tally) {
    tally.plain.fetch_add(1, Ordering::Relaxed);
    let answer = ask(address, &question.body);
    let text = |body: &str| -> Option<String> {
        let body: Value = serde_json::from_str(body).ok()?;
        Some(body["choices"][0]["text"].as_str()?.to_owned())
    };
    match &answer {
        Ok((200, body)) if text(body).as_ref() == Some(&question.text) => {}
        other => tally.fault(&tally.plain_failed, format!("plain: {other:?}")),
    }
}

fn ask_stream(address: &str, question: &Question, tally: &Tally) {
    let mut body = question.body.clone();
    body["stream"] = json!(true);
    let answer = ask(address, &body);
    let Ok((200, body)) = &answer else {
        return tally.fault(&tally.streams_wrong, format!("stream: {answer:?}"));
    };
    let events: Vec<&str> = body.split_terminator("\n\n").collect();
    let text: String = events.iter().filter_map(|event| text_of(event)).collect();
    let last = events.last().copied().unwrap_or_default();
    if last == "data: [DONE]" && text == question.text {
        tally.streams_whole.fetch_add(1, Ordering::Relaxed);
    } else if last.starts_with("data: {\"error\":")
        && !body.contains("[DONE]")
        && question.text.starts_with(&text)
    {
        tally.streams_flagged.fetch_add(1, Ordering::Relaxed);
    } else {
        tally.fault(&tally.streams_wrong, format!("stream: {body}"));
    }
}

fn text_of(event: &str) -> Option<String> {
    let event: Value = serde_json::from_str(event.strip_prefix("data: ")?).ok()?;
    Some(event["choices"][0]["text"].as_str()?.to_owned())
}

/// What the balancer's process holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Held {
    files: usize,
    threads: usize,
    tasks: usize,
}

fn held(balancer: &Process) -> Held {
    let count = |of: &str| {
        let folder = format!("/proc/{}/{of}", balancer.child.id());
        std::fs::read_dir(folder).unwrap().count()
    };
    let (_, metrics) = balancer.get("/metrics");
    let tasks = metrics
        .lines()
        .find_map(|line| line.strip_prefix("xgraft_balancer_tasks "));
    Held {
        files: count("fd"),
        threads: count("task"),
        tasks: tasks.unwrap().parse().unwrap(),
    }
}

fn resident_kib(balancer: &Process) -> u64 {
    let path = format!("/proc/{}/status", balancer.child.id());
    let status = std::fs::read_to_string(path).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.unwrap().trim().strip_suffix(" kB").unwrap();
    kib.parse().unwrap()
}

/// Waits until the balancer holds what it held before the first request. Its own connections are kept for half a minute.
fn until_at_rest(balancer: &Process, before: Held) {
    balancer.until("at rest", |status| {
        status["total_in_flight"] == 0 && status["waiting"] == 0
    });
    let start = Instant::now();
    loop {
        let now = held(balancer);
        if now == before {
            return;
        }
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "expected {before:?}, found {now:?}"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Loads an adapter everywhere, uses it, and takes it away again.
fn broadcast(balancer: &Process, mine: &Question) {
    let load = json!({"lora_name": "extra", "lora_path": "mine"});
    let (status, report) = balancer.post_with("/v1/load_lora_adapter", ADMIN, &load);
    assert_eq!(status, 200, "{report}");
    let report: Value = serde_json::from_str(&report).unwrap();
    let all = report["backends"].as_array().unwrap();
    assert!(
        all.len() == 4 && all.iter().all(|one| one["ok"] == true),
        "{report}"
    );
    let mut body = mine.body.clone();
    body["model"] = json!("extra");
    let (status, answer) = balancer.post("/v1/completions", &body);
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(
        (status, &answer["choices"][0]["text"]),
        (200, &json!(mine.text))
    );
    let unload = json!({"lora_name": "extra"});
    let (status, report) = balancer.post_with("/v1/unload_lora_adapter", ADMIN, &unload);
    assert_eq!(status, 200, "{report}");
}

fn all_up(status: &Value) -> bool {
    let drained = status["backends"].as_object().unwrap().values();
    states(status).iter().all(|state| *state == "up")
        && drained.into_iter().all(|b| b["drained"] == false)
}

/// One blow after the other until the time is over; says how often each fell, and the longest way back.
fn blows(
    size: &Size,
    servers: &mut Servers,
    balancer: &Process,
    mine: &Question,
) -> (BTreeMap<Blow, usize>, Duration) {
    let (mut counts, mut longest) = (BTreeMap::new(), Duration::ZERO);
    let start = Instant::now();
    for round in 0.. {
        broadcast(balancer, mine);
        let next = size.turn * (round + 1);
        let blow = BLOWS[round as usize / 2 % 4];
        // One, then three of four, each time others.
        let count = if round % 2 == 0 { 1 } else { 3 };
        let hit: Vec<usize> = (0..count).map(|k| (round as usize + k) % 4).collect();
        for &at in &hit {
            blow.strike(servers, balancer, at);
            *counts.entry(blow).or_default() += 1;
        }
        std::thread::sleep((next - size.turn / 2).saturating_sub(start.elapsed()));
        for &at in &hit {
            blow.heal(servers, balancer, at);
        }
        let healed = Instant::now();
        balancer.until("all back", all_up);
        longest = longest.max(healed.elapsed());
        if next >= size.time {
            return (counts, longest);
        }
        std::thread::sleep(next.saturating_sub(start.elapsed()));
    }
    unreachable!("the time is over some day")
}

fn chaos(size: &Size) {
    let temp = tempfile::tempdir().unwrap();
    let mut servers = Servers::start(temp.path());
    let questions = questions(servers.alive[0].as_ref().unwrap());
    let urls: Vec<String> = (0..4).map(|at| servers.url(at)).collect();
    let mut args = vec!["balance", "--port", "0", "--health-interval", size.interval];
    args.extend(["--admin-key", "admin", "--backend-admin-key", "admin"]);
    args.extend(urls.iter().flat_map(|url| ["--backend", url]));
    let balancer = Process::start(&args);
    balancer.until("all up", all_up);
    let (before, over, tally) = (held(&balancer), AtomicBool::new(false), Tally::default());
    let (counts, longest, first_kib) = std::thread::scope(|scope| {
        let _over = SetAtEnd(&over);
        for number in 0..size.clients {
            let (balancer, questions, tally, over) = (&balancer, &questions, &tally, &over);
            scope.spawn(move || {
                let way = (number, size.pause);
                client(&balancer.address, questions, tally, way, over);
            });
        }
        std::thread::sleep(size.turn / 2);
        let first_kib = resident_kib(&balancer);
        let (counts, longest) = blows(size, &mut servers, &balancer, &questions[3]);
        (counts, longest, first_kib)
    });
    let status = balancer.status();
    until_at_rest(&balancer, before);
    let last_kib = resident_kib(&balancer);
    println!("{counts:?}, the longest way back {longest:.1?}\n{tally:?}");
    for name in [
        "streams_cut",
        "streams_resumed",
        "streams_flagged",
        "replays",
        "failed",
    ] {
        println!("{name} {}", status[name]);
    }
    println!(
        "before and after {before:?}; memory {first_kib} KiB in the first turn, {last_kib} KiB after the last"
    );
    let of = |count: &AtomicUsize| count.load(Ordering::Relaxed);
    assert_eq!(
        of(&tally.plain_failed) + of(&tally.streams_wrong),
        0,
        "{tally:?}"
    );
    assert!(
        of(&tally.plain) > 50 && of(&tally.streams_whole) > 50,
        "{tally:?}"
    );
    assert!(
        last_kib < first_kib + 8 * 1024,
        "{first_kib} and {last_kib} KiB"
    );
    assert_eq!(status["failed"], 0);
}

#[test]
fn a_minute_of_chaos_loses_nothing() {
    chaos(&Size {
        clients: 16,
        pause: Duration::from_millis(300),
        time: Duration::from_secs(48),
        turn: Duration::from_secs(6),
        interval: "500ms",
    });
}

#[test]
#[ignore = "slow: ten minutes of chaos"]
fn ten_minutes_of_chaos_lose_nothing() {
    let seconds = std::env::var("XGRAFT_CHAOS_SECONDS").ok();
    let seconds = seconds.map_or(600, |text| text.parse().unwrap());
    chaos(&Size {
        clients: 64,
        pause: Duration::from_secs(3),
        time: Duration::from_secs(seconds),
        turn: Duration::from_secs(20),
        interval: "2s",
    });
}
