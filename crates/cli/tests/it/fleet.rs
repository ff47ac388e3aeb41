//! `xgraft fleet` and `xgraft diagnose` with real servers, and with servers of a line of shell.

use std::fs::{read_to_string, write};
use std::net::TcpStream;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::process::{Process, free_ports, signal, states};
use crate::support::{copy, extract, fixture, stdout};

const PROGRAM: &str = env!("CARGO_BIN_EXE_xgraft");

/// Runs `xgraft`, in a folder where it has nothing to find.
fn command(args: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(args).current_dir("/");
    command
}

fn all_up(status: &Value) -> bool {
    let states = states(status);
    states
        .iter()
        .all(|state| ["up", "half-open"].contains(state))
}

/// The servers' processes.
fn children(fleet: &Process) -> Vec<u32> {
    let pid = fleet.child.id();
    let text = read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    text.split_whitespace()
        .map(|id| id.parse().unwrap())
        .collect()
}

fn lives(pid: u32) -> bool {
    let stat = read_to_string(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}

fn until(what: &str, is: impl Fn() -> bool) {
    let start = Instant::now();
    while !is() {
        assert!(start.elapsed() < Duration::from_secs(60), "never {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A fleet of two real servers, each found by a relative path.
fn two_servers(dir: &Path) -> (PathBuf, [u16; 3]) {
    symlink(fixture("tiny-qwen3-text/base"), dir.join("base")).unwrap();
    let ports: [u16; 3] = free_ports();
    let server = |port: u16| {
        format!(
            "[[server]]\nport = {port}\nmodel = \"base\"\nargs = [\"--threads\", \"1\", \"--served-model-name\", \"tiny\"]\n"
        )
    };
    let text = format!(
        "port = {}\nhung_after = 2\nbalance = [\"--health-interval\", \"200ms\", \"--access-log\", \"access.jsonl\"]\n{}{}",
        ports[0],
        server(ports[1]),
        server(ports[2])
    );
    let file = dir.join("fleet.toml");
    write(&file, text).unwrap();
    (file, ports)
}

#[test]
fn a_fleet_with_keys_starts_is_diagnosed_restarts_what_dies_or_hangs_and_ends_whole() {
    let temp = tempfile::tempdir().unwrap();
    let (file, ports) = two_servers(temp.path());
    let file = file.to_str().unwrap();
    let with_key = |args: &[&str], key: &str| {
        let mut command = command(args);
        command.env("XGRAFT_API_KEY", key);
        command
    };
    let mut fleet = Process::run(with_key(&["fleet", file], "mine").arg("-v"));
    fleet.until("all up", all_up);

    let mine = "authorization: Bearer mine\r\n";
    let ask = json!({"model": "tiny", "prompt": "a", "max_tokens": 2});
    for (headers, expected) in [("", 401), (mine, 200)] {
        let (status, answer) = fleet.post_with("/v1/completions", headers, &ask);
        assert_eq!(status, expected, "{answer}");
        let address = format!("127.0.0.1:{}", ports[1]);
        let direct = crate::process::open(&address, "GET", "/v1/models", headers, "").unwrap();
        assert_eq!(crate::process::read(direct).unwrap().0, expected);
    }
    until("a log", || {
        read_to_string(temp.path().join("access.jsonl"))
            .unwrap()
            .contains("complete")
    });

    let diagnose = |key: &str, more: &[&str]| -> Output {
        with_key(&["diagnose", file], key)
            .args(more)
            .output()
            .unwrap()
    };
    let diagnosis = diagnose("mine", &["--json"]);
    assert!(diagnosis.status.success());
    let diagnosis: Value = serde_json::from_str(&stdout(&diagnosis)).unwrap();
    let servers = diagnosis["servers"].as_array().unwrap();
    assert_eq!(servers.len(), 3);
    for server in servers {
        assert_eq!(
            (&server["health"], &server["models"]),
            (&json!(200), &json!(["tiny"]))
        );
        let process = &server["processes"][0];
        assert!(process["vm_rss_kib"].as_u64().unwrap() > 1000, "{server}");
        assert_eq!(process["name"], "xgraft");
    }
    assert_eq!(servers[0]["processes"][0]["pid"], fleet.child.id());
    let last = servers[1]["last_lines"].to_string();
    assert!(last.contains("listening on"), "{last}");
    let wrong = stdout(&diagnose("yours", &[]));
    assert_eq!(wrong.matches("it wants another key").count(), 3, "{wrong}");

    let row = |port: u16, state: &'static str, restarts: u32| {
        let port = port.to_string();
        let restarts = restarts.to_string();
        move |said: &str| {
            said.lines().any(|line| {
                let cells: Vec<&str> = line.split_whitespace().collect();
                cells.get(2) == Some(&&*port)
                    && cells.contains(&"base")
                    && cells.windows(2).any(|two| two == [state, &restarts])
            })
        }
    };
    for port in [ports[1], ports[2]] {
        fleet.until_said("a table of all", row(port, "well", 0));
    }
    let pids = children(&fleet);
    assert_eq!(pids.len(), 2);
    signal(pids[0], "KILL");
    fleet.until_said("one started again", row(ports[1], "well", 1));
    signal(pids[1], "STOP");
    fleet.until_said("a hung one started again", row(ports[2], "well", 1));
    assert!(fleet.said().contains("hung and was ended"));
    fleet.until("all up again", all_up);

    let pids = children(&fleet);
    fleet.signal("TERM");
    assert!(fleet.end().success());
    assert!(!pids.into_iter().any(lives));
    for port in [ports[1], ports[2]] {
        assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    }
    let diagnosis = diagnose("mine", &[]);
    assert!(!diagnosis.status.success());
    assert!(stdout(&diagnosis).contains("nobody listens"));
}

/// A fleet of one server that is a script, which writes its own number and that of a worker into its log.
struct Scripted {
    temp: tempfile::TempDir,
    fleet: Process,
}

impl Scripted {
    fn start(on_end: &str) -> Self {
        let temp = tempfile::tempdir().unwrap();
        let [port, server] = free_ports();
        let script = format!(
            "trap {on_end:?} TERM; (trap '' TERM; sleep 1000) & echo $$ $!; while :; do sleep 0.05; done"
        );
        let quoted = Value::from(script);
        let text = format!(
            "port = {port}\n[[server]]\nname = \"one\"\nport = {server}\ncommand = [\"sh\", \"-c\", {quoted}]\n"
        );
        let file = temp.path().join("fleet.toml");
        write(&file, text).unwrap();
        let fleet = Process::run(&mut command(&["fleet", file.to_str().unwrap()]));
        let scripted = Self { temp, fleet };
        until("it runs", || scripted.log().contains('\n'));
        scripted
    }

    fn log(&self) -> String {
        read_to_string(self.temp.path().join("logs/one.log")).unwrap_or_default()
    }

    /// The server and its worker.
    fn pids(&self) -> Vec<u32> {
        let log = self.log();
        let first = log.lines().next().unwrap().split(' ');
        first.map(|pid| pid.parse().unwrap()).collect()
    }
}

#[test]
fn a_fleet_whose_terminal_goes_away_ends_as_if_it_were_asked() {
    let mut one = Scripted::start("echo asked; exit 0");
    let pids = one.pids();
    // The table comes half a second after the start, and nobody reads what is said after its first line.
    one.fleet.stop_listening();
    std::thread::sleep(Duration::from_secs(1));
    one.fleet.signal("HUP");
    assert!(one.fleet.end().success());
    assert!(one.log().contains("asked"));
    assert!(!pids.into_iter().any(lives));
}

#[test]
fn a_second_ctrl_c_ends_servers_that_do_not_want_to_end() {
    let mut one = Scripted::start("");
    let pids = one.pids();
    assert!(pids.iter().all(|pid| lives(*pid)));
    one.fleet.signal("INT");
    one.fleet
        .until_said("nothing more", |said| said.contains("listening on"));
    std::thread::sleep(Duration::from_millis(300));
    assert!(pids.iter().all(|pid| lives(*pid)), "it has 30 seconds");
    let start = Instant::now();
    one.fleet.signal("INT");
    assert_eq!(one.fleet.end().code(), Some(1));
    assert!(start.elapsed() < Duration::from_secs(5));
    until("all gone", || !pids.iter().any(|pid| lives(*pid)));
}

#[test]
fn the_server_of_a_fleet_that_is_killed_is_asked_to_end() {
    let mut one = Scripted::start("echo asked; kill -9 0");
    let pids = one.pids();
    one.fleet.signal("KILL");
    one.fleet.end();
    until("all gone", || !pids.iter().any(|pid| lives(*pid)));
    assert!(one.log().contains("asked"));
}

/// The folder of the documentation's examples.
fn deploy(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/deploy");
    read_to_string(path.join(name)).unwrap()
}

#[test]
fn the_unit_and_the_example_of_the_documentation_run_together() {
    let temp = tempfile::tempdir().unwrap();
    let (state, bin) = (temp.path().join("var/lib/xgraft"), temp.path().join("bin"));
    std::fs::create_dir_all(&state).unwrap();
    std::fs::create_dir_all(&bin).unwrap();
    // In place of vLLM, which is not here: ours, with the arguments that it is given.
    let vllm =
        "#!/bin/sh\nexec xgraft serve \"$2\" --port \"$4\" --threads 1 --lora biomni=biomni-lora\n";
    write(bin.join("vllm"), vllm).unwrap();
    std::fs::set_permissions(bin.join("vllm"), PermissionsExt::from_mode(0o755)).unwrap();
    symlink(PROGRAM, bin.join("xgraft")).unwrap();
    let (base, tuned) = (
        fixture("tiny-qwen3-text/base"),
        fixture("tiny-qwen3-text/tuned"),
    );
    copy(&base, &state.join("Qwen3-32B-FP8"));
    let lora = state.join("biomni-lora");
    extract((&base, &tuned), 8, lora.to_str().unwrap(), &[]);
    let ports: [u16; 5] = free_ports();
    let mut example = deploy("fleet.toml");
    let marks = ["8080", "8000", "8001", "8002", "8003"];
    for mark in marks {
        example = example.replace(mark, &format!("<{mark}>"));
    }
    for (mark, port) in marks.iter().zip(ports) {
        example = example.replace(&format!("<{mark}>"), &port.to_string());
    }
    write(state.join("fleet.toml"), example).unwrap();

    // As systemd does: this line, in the root folder.
    let unit = deploy("xgraft-fleet.service");
    let start = unit
        .lines()
        .find_map(|line| line.strip_prefix("ExecStart="));
    let words: Vec<&str> = start.unwrap().split(' ').collect();
    assert_eq!(words[..2], ["/usr/local/bin/xgraft", "fleet"]);
    assert!(unit.contains("StateDirectory=xgraft\n"), "{words:?}");
    let file = words[2].strip_prefix('/').unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let mut command = command(&["fleet", temp.path().join(file).to_str().unwrap()]);
    let mut fleet = Process::run(command.env("PATH", path));
    fleet.until("all up", |status| {
        states(status).len() == 4 && all_up(status)
    });
    let ask = json!({"model": "biomni", "prompt": "a", "max_tokens": 2});
    assert_eq!(fleet.post("/v1/completions", &ask).0, 200);
    until("a log", || {
        read_to_string(state.join("access.jsonl"))
            .unwrap()
            .contains("biomni")
    });
    assert!(state.join("logs/gpu0.log").exists());
    fleet.signal("TERM");
    assert!(fleet.end().success());
}
