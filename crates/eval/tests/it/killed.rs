//! A harness that dies, and one that shows what it costs.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

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
