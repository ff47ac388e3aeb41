//! `xgraft eval run` as a person starts it, against a scripted endpoint.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use xgraft_dataset::{Class, Reader, Trajectory};

use crate::endpoint::{Endpoint, Reply, prompt_of};

fn xgraft() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xgraft"));
    command.env_remove("XGRAFT_API_KEY");
    command
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fixtures/tiny-qwen3-text")
        .join(name)
}

fn eval(endpoint: &Endpoint, out: &Path) -> Command {
    let mut command = xgraft();
    command
        .args(["eval", "run", "--model", "m", "--endpoint", &endpoint.url])
        .args(["--concurrency", "8", "--retry-wait", "10ms"])
        .arg("--data")
        .arg(fixture("eval1_mini.jsonl"))
        .arg("--out")
        .arg(out)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Standard output of a command that succeeds.
fn succeeds(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// Standard error of a command that fails.
fn fails(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8(output.stderr).unwrap()
}

fn answers(out: &Path) -> Vec<Trajectory> {
    let reader = Reader::<Trajectory>::open(&out.join("answers.jsonl")).unwrap();
    reader.map(Result::unwrap).collect()
}

/// An answer that depends on the prompt and the seed alone, right now and then.
fn by_prompt(request: &Value) -> Reply {
    let prompt = prompt_of(request);
    let sum: u64 = prompt.bytes().map(u64::from).sum::<u64>() + request["seed"].as_u64().unwrap();
    let letter = char::from(b'A' + (sum % 6) as u8);
    Reply::says(&format!("<solution>{letter}</solution>")).after(Duration::from_millis(25))
}

#[test]
fn asked_to_stop_it_gives_its_questions_back() {
    let endpoint = Endpoint::start(|request| by_prompt(request).after(Duration::from_millis(300)));
    let folder = TempDir::new().unwrap();
    let mut child = eval(&endpoint, folder.path())
        .args(["--limit", "3"])
        .spawn()
        .unwrap();
    while endpoint.asked().len() < 8 {
        std::thread::sleep(Duration::from_millis(10));
    }
    let pid = child.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-INT", &pid])
            .status()
            .unwrap()
            .success()
    );
    assert_eq!(child.wait().unwrap().code(), Some(1));
    let table = succeeds(eval(&endpoint, folder.path()).args(["--limit", "3"]));
    assert!(table.contains("lab_bench_seqqa"), "{table}");
    assert_eq!(answers(folder.path()).len(), 30);
}

#[test]
fn a_wrong_address_a_wrong_model_and_wrong_data_are_told() {
    let endpoint = Endpoint::start(by_prompt);
    let folder = TempDir::new().unwrap();
    let error = fails(eval(&endpoint, folder.path()).args(["--ids", "0,9999"]));
    assert!(error.contains("no question 9999"), "{error}");
    let torn = folder.path().join("torn.jsonl");
    std::fs::write(&torn, "{\"instance_id\": 1, \"ta").unwrap();
    let of = |data: &Path, model: &str, endpoint: &str| {
        let mut command = xgraft();
        command.args(["eval", "run", "--model", model, "--endpoint", endpoint]);
        command.arg("--data").arg(data);
        fails(command.arg("--out").arg(folder.path().join("x")))
    };
    let data = fixture("eval1_mini.jsonl");
    let error = of(&data, "n", &endpoint.url);
    assert!(error.contains("has no model `n`, it has m"), "{error}");
    let error = of(&data, "m", "http://127.0.0.1:9");
    assert!(
        error.contains("127.0.0.1:9/v1/models does not answer"),
        "{error}"
    );
    let error = of(&torn, "m", &endpoint.url);
    assert!(
        error.contains("torn.jsonl:1: the last line ends in its middle"),
        "{error}"
    );
}

/// A model that looks a probe up in the preloaded table: `DB` of the fixture.
fn looks_up(request: &Value) -> Reply {
    let messages = request["messages"].as_array().unwrap();
    let last = messages.last().unwrap()["content"].as_str().unwrap();
    if let Some(observed) = last.strip_prefix("<observation>") {
        let letter = observed.trim_end_matches("</observation>").trim();
        return Reply::says(&format!("<solution>{letter}"));
    }
    let prompt = prompt_of(request);
    let at = prompt.find("probe k").unwrap() + 6;
    let probe = &prompt[at..at + 3];
    Reply::says(&format!(
        "It is in the table. <execute>print(DB['{probe}'])"
    ))
}

#[test]
#[ignore = "slow: starts Python in sandboxes"]
fn an_agent_looks_up_in_the_sandbox_what_it_answers() {
    let endpoint = Endpoint::start(looks_up);
    let folder = TempDir::new().unwrap();
    let mut command = eval(&endpoint, folder.path());
    command.args([
        "--agent",
        "--task",
        "lab_bench_dbqa",
        "--limit",
        "8",
        "--preload",
    ]);
    let table = succeeds(command.arg(fixture("agent_helpers.py")));
    assert!(table.contains("100"), "{table}");
    for row in answers(folder.path()) {
        assert_eq!((row.class, row.executions), (Class::Right, 1));
        let observed = &row.messages[3].content;
        assert!(observed.starts_with("<observation>") && observed.ends_with("\n</observation>"));
        assert!(row.messages[2].content.ends_with("</execute>"));
    }
    assert_eq!(endpoint.asked()[0]["stop"][0], "</execute>");
    assert_eq!(endpoint.asked()[0]["temperature"], 0.7);
}

#[test]
#[ignore = "slow: starts Python in sandboxes"]
fn tools_are_described_chosen_and_called() {
    let folder = TempDir::new().unwrap();
    let tools = folder.path().join("tools");
    std::fs::create_dir_all(tools.join("tool_description")).unwrap();
    std::fs::write(
        tools.join("shapes.py"),
        "def area(side, scale=1):\n    return side * side * scale\n",
    )
    .unwrap();
    let description = "description = [\n    {'name': 'area', 'description': 'Area of a square.', 'required_parameters': [{'name': 'side', 'type': 'int', 'description': 'Its side', 'default': None}], 'optional_parameters': [{'name': 'scale', 'type': 'int', 'description': 'A factor', 'default': 1}]},\n    {'name': 'perimeter', 'description': 'Not there.', 'required_parameters': [], 'optional_parameters': []},\n]\n";
    std::fs::write(tools.join("tool_description/shapes.py"), description).unwrap();
    std::fs::write(
        tools.join("tool_description/broken.py"),
        "description = [1 / 0]\n",
    )
    .unwrap();
    let data = folder.path().join("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("sides.csv"), "7\n").unwrap();

    let path = data.display().to_string();
    let endpoint = Endpoint::start(move |request| {
        let messages = request["messages"].as_array().unwrap();
        match messages.len() {
            1 => Reply::says("TOOLS: [0]\nDATA: [0]\nKNOW_HOW: []"),
            2 => Reply::says(&format!(
                "<execute>from shapes import area\nside = int(open('{path}/sides.csv').read())\nprint(area(side))"
            )),
            4 => Reply::says("<execute>print(side + 1)"),
            _ => Reply::says("<solution>A</solution>"),
        }
    });
    let out = folder.path().join("out");
    let mut command = eval(&endpoint, &out);
    command
        .args(["--agent", "--ids", "283", "--tools"])
        .arg(&tools);
    let errors = command.arg("--data-folder").arg(&data).output().unwrap();
    let errors = String::from_utf8_lossy(&errors.stderr).into_owned();
    assert!(errors.contains("broken"), "{errors}");
    let row = answers(&out).remove(0);
    let text: Vec<&str> = row.messages.iter().map(|m| m.content.as_str()).collect();
    assert!(text[0].contains("- area: Area of a square."), "{}", text[0]);
    assert!(text[0].contains("scale (int, optional, 1 by default): A factor"));
    assert!(!text[0].contains("perimeter"));
    assert_eq!(text[3], "<observation>49\n</observation>");
    assert_eq!(text[5], "<observation>8\n</observation>");
}

#[test]
#[ignore = "slow: starts Python in sandboxes"]
fn faults_of_the_model_are_corrected_or_end_the_question() {
    let endpoint = Endpoint::start(|request| {
        let messages = request["messages"].as_array().unwrap();
        match (prompt_of(request).len() % 2, messages.len()) {
            (_, 2) => Reply::says("I do not know tags."),
            (0, _) => Reply::says("Still none."),
            (_, 4) => Reply::says("```bash\necho out; exit 3\n```"),
            (_, 6) => Reply::says("<execute>import os, sys\nprint('x' * 20000)\nsys.exit(1)"),
            (_, 8) => Reply::says("<execute>os._exit(9)"),
            (_, 10) => Reply::says("<execute>print(len(dir()))"),
            _ => Reply::says("<solution>B</solution>"),
        }
    });
    let folder = TempDir::new().unwrap();
    let mut command = eval(&endpoint, folder.path());
    succeeds(command.args([
        "--agent",
        "--task",
        "lab_bench_seqqa",
        "--limit",
        "6",
        "--no-retriever",
    ]));
    let rows = answers(folder.path());
    let lost = rows.iter().filter(|row| row.class == Class::Unparsed);
    for row in lost {
        assert_eq!(row.detail.as_deref(), Some("three messages have no tags"));
    }
    let row = rows
        .iter()
        .find(|row| row.class != Class::Unparsed)
        .unwrap();
    let text: Vec<&str> = row.messages.iter().map(|m| m.content.as_str()).collect();
    assert!(text[3].contains("no tags"), "{}", text[3]);
    assert!(
        text[5].contains("out\n") && text[5].contains("exit code 3"),
        "{}",
        text[5]
    );
    assert!(text[7].contains("The output is too long. Its first 10000 characters:\nxxx"));
    assert!(text[9].contains("ended the interpreter"), "{}", text[9]);
    assert_eq!(row.executions, 4);
}
