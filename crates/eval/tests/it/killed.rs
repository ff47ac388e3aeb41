//! A harness that dies, and one that shows what it costs.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::endpoint::{Endpoint, Reply, prompt_of};

const PROGRAM: &str = env!("CARGO_BIN_EXE_xgraft-eval-test-program");

fn questions(name: &str) -> PathBuf {
    xgraft_fixtures::dir().join("tiny-qwen3-text").join(name)
}

fn harness(endpoint: &Endpoint, data: &str, out: &Path) -> Command {
    let mut command = Command::new(PROGRAM);
    command
        .args(["run", &endpoint.url])
        .arg(questions(data))
        .arg(out);
    command
}

/// An answer that depends on the prompt and the seed alone.
fn by_prompt(request: &Value) -> Reply {
    let sum: u64 = prompt_of(request).bytes().map(u64::from).sum();
    let seed = request["seed"].as_u64().unwrap();
    let letter = char::from(b'A' + ((sum + seed) % 6) as u8);
    Reply::says(&format!("<solution>{letter}</solution>")).after(Duration::from_millis(150))
}

#[test]
fn a_run_that_is_killed_five_times_equals_an_unbroken_one() {
    let endpoint = Endpoint::start(by_prompt);
    let folder = tempfile::tempdir().unwrap();
    let (whole, broken) = (folder.path().join("whole"), folder.path().join("broken"));
    let data = "eval1_mini.jsonl";
    assert!(harness(&endpoint, data, &whole).status().unwrap().success());
    assert_eq!(endpoint.asked().len(), 433);

    let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let mut random = clock.as_nanos() as u64 | 1;
    let mut counts = Vec::new();
    for _ in 0..5 {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let wait = Duration::from_millis(100 + (random >> 33) % 250);
        let mut child = harness(&endpoint, data, &broken).spawn().unwrap();
        std::thread::sleep(wait);
        child.kill().unwrap();
        child.wait().unwrap();
        counts.push(endpoint.asked().len() - 433);
    }
    assert!(
        harness(&endpoint, data, &broken)
            .status()
            .unwrap()
            .success()
    );
    let asked = endpoint.asked().len() - 433;
    println!("asked when it was killed: {counts:?}; in all {asked} for 433 questions");
    // Only what was in work when the process died is asked again, and what was not yet on its way to the disk.
    assert!(asked <= 433 + 5 * 2 * 72, "{asked}");
    for file in ["answers.jsonl", "report.json"] {
        let read = |out: &Path| std::fs::read_to_string(out.join(file)).unwrap();
        assert!(read(&whole) == read(&broken), "{file} differs");
    }
}

#[test]
#[ignore = "slow: measures questions a second and processor time against an endpoint of 0 ms"]
fn the_harness_itself_costs_little() {
    let endpoint = Endpoint::start(|_| Reply::says("<solution>A</solution>"));
    let folder = tempfile::tempdir().unwrap();
    let line = format!(
        "TIMEFORMAT='real %R user %U sys %S'; time {PROGRAM} run {} {} {}",
        endpoint.url,
        questions("eval1_mini_extended.jsonl").display(),
        folder.path().display()
    );
    let output = Command::new("bash").args(["-c", &line]).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    println!("2300 questions: {}", errors.trim());
}

/// The command lines of all processes with these words in them.
fn running(words: &str) -> usize {
    let listed = Command::new("ps").args(["-eo", "args"]).output().unwrap();
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    text.lines().filter(|line| line.contains(words)).count()
}

fn within(patience: Duration, is: impl Fn() -> bool) -> bool {
    let start = Instant::now();
    while start.elapsed() < patience {
        if is() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    false
}

/// A program that works, a daemon of its own, and a child that forks: each says so in its command line.
const BUSY: &str = "<execute>import subprocess, sys
loop = 'import os\\nif MANY: os.fork()\\nwhile True: pass'
subprocess.Popen([sys.executable, '-c', loop.replace('MANY', 'True'), 'MARKER'])
subprocess.Popen([sys.executable, '-c', loop.replace('MANY', 'False'), 'MARKER'], start_new_session=True)
while True: pass";

fn a_killed_harness_takes_all_with_it(kernel: bool) {
    let marker = format!("busy-{}-{}", std::process::id(), u8::from(kernel));
    let program = BUSY.replace("MARKER", &marker);
    let endpoint = Endpoint::start(move |_| Reply::says(&program));
    let folder = tempfile::tempdir().unwrap();
    let temporary = folder.path().join("temporary");
    std::fs::create_dir(&temporary).unwrap();
    let data = folder.path().join("one.jsonl");
    let row = "{\"id\":\"0\",\"task\":\"lab_bench_dbqa\",\"prompt\":\"?\",\"answer\":\"A\"}\n";
    std::fs::write(&data, row).unwrap();
    let mut command = Command::new(PROGRAM);
    command
        .args(["run", &endpoint.url])
        .arg(&data)
        .arg(folder.path().join("out"))
        .arg("python3")
        .env("TMPDIR", &temporary);
    if kernel {
        command.env("XGRAFT_TEST_KERNEL", "1");
    }
    let mut child = command.spawn().unwrap();
    let began = within(Duration::from_secs(30), || running(&marker) >= 3);
    child.kill().unwrap();
    child.wait().unwrap();
    let ended = within(Duration::from_secs(10), || running(&marker) == 0);
    let left = || std::fs::read_dir(&temporary).unwrap().count();
    let removed = within(Duration::from_secs(5), || left() == 0);
    assert!(began, "the program never started");
    assert!(ended, "{} processes outlived the harness", running(&marker));
    assert!(removed, "{} folders are left", left());
}

#[test]
#[ignore = "slow: starts Python in sandboxes"]
fn a_harness_that_is_killed_ends_its_programs() {
    a_killed_harness_takes_all_with_it(false);
}

#[test]
#[ignore = "slow: starts Python in sandboxes"]
fn a_harness_that_is_killed_ends_its_programs_without_namespaces_too() {
    a_killed_harness_takes_all_with_it(true);
}
