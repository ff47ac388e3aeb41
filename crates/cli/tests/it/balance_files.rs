//! `xgraft balance` and the limit of open files.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};

use crate::process::{Mock, Process, states};

/// This process holds the clients' ends.
fn allow_many_files() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let all = Rlimit {
        current: maximum,
        maximum,
    };
    setrlimit(Resource::Nofile, all).unwrap();
}

fn all_up(status: &Value) -> bool {
    states(status).iter().all(|state| *state == "up")
}

/// A connection that is kept.
struct Kept(BufReader<TcpStream>);

impl Kept {
    fn connect(balancer: &Process) -> Self {
        let stream = TcpStream::connect(&balancer.address).unwrap();
        Self(BufReader::new(stream))
    }

    fn ask(&mut self, path: &str) -> (u16, String, String) {
        let body = "{}";
        let method = if path.starts_with("/v1/") {
            "POST"
        } else {
            "GET"
        };
        let length = body.len();
        write!(
            self.0.get_mut(),
            "{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n{body}"
        )
        .unwrap();
        let (mut head, mut length) = (String::new(), 0);
        while !head.ends_with("\r\n\r\n") {
            let start = head.len();
            assert!(self.0.read_line(&mut head).unwrap() > 0, "{head}");
            if let Some(text) = head[start..].strip_prefix("content-length: ") {
                length = text.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, head, String::from_utf8(body).unwrap())
    }
}

/// A balancer whose shell has set a limit of open files before.
fn balancer_after(limit: &str, backends: &[&str], more: &[&str]) -> Process {
    let mut args = vec!["balance", "--port", "0", "--threads", "1"];
    args.extend(backends.iter().flat_map(|url| ["--backend", url]));
    args.extend(more);
    Process::start_after(limit, &args)
}

/// Clients that say nothing.
fn idle(balancer: &Process, count: usize) -> Vec<TcpStream> {
    let connect = |_| TcpStream::connect(&balancer.address).unwrap();
    (0..count).map(connect).collect()
}

#[test]
fn two_thousand_idle_clients_of_a_balancer_with_a_low_soft_limit_do_not_disturb() {
    allow_many_files();
    let backend = Mock::start();
    let balancer = balancer_after("ulimit -Sn 256", &[&backend], &[]);
    let said = balancer.said();
    assert!(said.contains("clients at once, of "), "{said}");
    balancer.until("up", all_up);
    let idle = idle(&balancer, 2000);
    let start = Instant::now();
    for _ in 0..20 {
        assert_eq!(balancer.post("/v1/completions", &json!({})).0, 200);
    }
    assert!(start.elapsed() < Duration::from_secs(10));
    drop(idle);
}

#[test]
fn a_balancer_without_descriptors_blames_no_backend_and_says_so() {
    let (a, b) = (Mock::start(), Mock::start());
    let more = ["--health-interval", "200ms", "--max-connections", "4096"];
    let balancer = balancer_after("ulimit -n 64", &[&a, &b], &more);
    balancer.until("up", all_up);
    let mut kept = Kept::connect(&balancer);
    assert_eq!(kept.ask("/v1/completions").0, 200);
    let idle = idle(&balancer, 100);
    // Many looks at the health of each, none of which can be taken.
    std::thread::sleep(Duration::from_millis(1500));
    let (status, head, body) = kept.ask("/v1/completions");
    assert_eq!(status, 503, "{body}");
    assert!(head.contains("retry-after: 1\r\n"), "{head}");
    assert!(
        body.contains("the balancer's machine lacks descriptors"),
        "{body}"
    );
    let (_, _, status) = kept.ask("/lb_status");
    let status: Value = serde_json::from_str(&status).unwrap();
    for backend in status["backends"].as_object().unwrap().values() {
        let seen = [
            &backend["state"],
            &backend["ejections"],
            &backend["error_count"],
        ];
        assert_eq!(seen, [&json!("up"), &json!(0), &json!(0)], "{status}");
    }
    let (_, _, metrics) = kept.ask("/metrics");
    let count = metrics
        .lines()
        .find_map(|line| line.strip_prefix("xgraft_balancer_local_errors_total "));
    assert!(count.unwrap().parse::<u64>().unwrap() > 0);
    assert!(balancer.said().contains("the backends are not to blame"));
    drop(idle);
    assert_eq!(kept.ask("/v1/completions").0, 200);
}

#[test]
fn what_is_wrong_at_the_start_is_said_before_anything_listens() {
    let output = crate::support::xgraft(&["--json", "balance", "--port", "0"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty(), "nobody is told that it listens");
}

#[test]
fn by_default_no_more_clients_are_let_in_than_there_are_descriptors_for() {
    let backend = Mock::start();
    let balancer = balancer_after("ulimit -n 64", &[&backend], &[]);
    let said = balancer.said();
    assert!(
        said.contains("up to 16 clients at once, of 64 open files"),
        "{said}"
    );
    balancer.until("up", all_up);
    let mut kept = Kept::connect(&balancer);
    assert_eq!(kept.ask("/v1/completions").0, 200);
    let idle = idle(&balancer, 100);
    std::thread::sleep(Duration::from_millis(300));
    for _ in 0..20 {
        assert_eq!(kept.ask("/v1/completions").0, 200);
    }
    drop(idle);
}
