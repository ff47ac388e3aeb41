//! Agent A1 with a scripted model and a real interpreter in its sandbox.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value};
use xgraft_dataset::{Class, Question, Reader, Trajectory};
use xgraft_eval::agent::{Agent, AgentConfig, Parts};
use xgraft_eval::client::{Client, Sampling};
use xgraft_eval::run::{Limits, Plan, Progress, Retries, Stop, Work, run};
use xgraft_eval::sandbox::{Caps, Isolation, Launcher};
use xgraft_eval::task::Tasks;

use crate::endpoint::{Endpoint, Reply};
use crate::{hostile, runtime};

/// What one test changes.
#[derive(Default)]
struct Case {
    compat: bool,
    tools: Vec<PathBuf>,
    data: Option<PathBuf>,
    preload: Vec<PathBuf>,
}

/// The trajectory of one question to an agent whose model says these things in turn.
fn solve(case: Case, says: &'static [&'static str]) -> (Trajectory, Vec<Value>) {
    let scripted = Endpoint::start(move |request| {
        let messages = request["messages"].as_array().unwrap();
        let spoken = messages.iter().filter(|message| {
            let text = message["content"].as_str().unwrap();
            message["role"] == "assistant" && !text.starts_with("<observation>")
        });
        // The retriever's question comes alone, before the conversation.
        match (messages.len(), spoken.count()) {
            (1, _) => Reply::says("TOOLS: [0]\nDATA: [0]\nKNOW_HOW: []"),
            (_, place) => Reply::says(says[place.min(says.len() - 1)]),
        }
    });
    let out = tempfile::tempdir().unwrap();
    runtime().block_on(work(&scripted.url, case, out.path()));
    let mut rows = Reader::<Trajectory>::open(&out.path().join("answers.jsonl")).unwrap();
    (rows.next().unwrap().unwrap(), scripted.asked())
}

/// An agent's own limits, in namespaces.
fn launcher() -> Launcher {
    Launcher {
        caps: Caps::default(),
        ..hostile::launcher(Isolation::Namespaces)
    }
}

async fn work(url: &str, case: Case, out: &Path) {
    let launcher = Launcher {
        tools: case.tools.clone(),
        preload: case.preload,
        readable: case.data.iter().cloned().collect(),
        compat: case.compat,
        ..launcher()
    };
    let config = AgentConfig {
        compat: case.compat,
        steps: 30,
        program_seconds: 3,
        output_chars: 10_000,
        retrieve: true,
        prompt: String::new(),
    };
    let parts = Parts {
        tools: case.tools,
        data: case.data,
        ..Parts::default()
    };
    let agent = Agent::new(config, parts, launcher).await.unwrap();
    let questions = vec![Question {
        id: "0".to_owned(),
        task: "lab_bench_dbqa".to_owned(),
        prompt: "which?".to_owned(),
        answer: "A".to_owned(),
        choices: Vec::new(),
        split: None,
        meta: Map::new(),
    }];
    let plan = Plan {
        schema: Plan::SCHEMA.to_owned(),
        model: "m".to_owned(),
        arm: "m".to_owned(),
        data: Plan::digest(&questions),
        questions: 1,
        repeat: 1,
        seed: 0,
        synthetic: false,
        tasks: Tasks::eval1(),
        sampling: Sampling {
            temperature: 0.7,
            top_p: None,
            max_tokens: 8192,
            extra: Map::new(),
        },
        limits: Limits {
            seconds: 60,
            tokens: 100_000,
            turns: 50,
        },
        agent: Some(agent.config().clone()),
        system: None,
    };
    let work = Work {
        out: out.to_owned(),
        concurrency: 1,
        lease: Duration::from_secs(60),
        request_timeout: Duration::from_secs(10),
        retries: Retries::default(),
    };
    let client = Client::new(url, None).unwrap();
    let (progress, stop) = (Progress::default(), Stop::default());
    let report = run(plan, work, client, questions, Some(agent), progress, stop).await;
    assert!(report.unwrap().complete);
}

fn texts(row: &Trajectory) -> Vec<&str> {
    row.messages
        .iter()
        .map(|message| message.content.as_str())
        .collect()
}

#[test]
#[ignore = "slow: starts Python in sandboxes"]
fn programs_share_variables_and_the_solution_ends_it() {
    let says = &[
        "First this.<execute>x = 41",
        "<execute>print(x + 1)",
        "<execute>#!BASH\necho from bash",
        "So <solution> A ",
    ];
    let (row, asked) = solve(Case::default(), says);
    assert_eq!((row.class, row.executions), (Class::Right, 3));
    assert_eq!(row.answer.as_deref(), Some("A"));
    let text = texts(&row);
    assert_eq!(text[2], "First this.<execute>x = 41</execute>");
    assert_eq!(text[3], "<observation></observation>");
    assert_eq!(text[5], "<observation>42\n</observation>");
    assert_eq!(text[7], "<observation>from bash\n</observation>");
    assert_eq!(text[8], "So <solution> A </solution>");
    assert_eq!(
        asked[0]["stop"],
        serde_json::json!(["</execute>", "</solution>"])
    );
    assert_eq!(asked.len(), 4);
}

#[test]
#[ignore = "slow: starts Python in sandboxes"]
fn faults_are_corrected_told_or_end_the_question() {
    let says = &[
        "I do not know tags.",
        "<think>hm",
        "```bash\necho out; exit 3\n```",
        "<execute>print('x' * 20000)\nraise ValueError('no')",
        "<execute>import os\nos._exit(9)",
        "<execute>import time\ntime.sleep(60)",
        "<execute>print('alive')",
        "<solution>B",
    ];
    let (row, _) = solve(Case::default(), says);
    let text = texts(&row);
    assert_eq!((row.class, row.executions), (Class::Wrong, 5));
    assert!(text[3].contains("no tags"), "{}", text[3]);
    assert!(
        text[6].contains("out\n") && text[6].contains("exit code 3"),
        "{}",
        text[6]
    );
    assert!(text[8].contains("The output is too long. Its first 10000 characters:\nxxx"));
    assert!(text[10].contains("ended the interpreter"), "{}", text[10]);
    assert!(text[12].contains("stopped after 3 seconds"), "{}", text[12]);
    assert_eq!(text[14], "<observation>alive\n</observation>");
}

#[test]
#[ignore = "slow: starts Python in sandboxes"]
fn a_model_without_tags_is_unparsed_and_one_without_end_overflows() {
    let (row, asked) = solve(Case::default(), &["No tags."]);
    assert_eq!(row.class, Class::Unparsed);
    assert_eq!(row.detail.as_deref(), Some("three messages have no tags"));
    assert_eq!(asked.len(), 3);
    let (row, _) = solve(Case::default(), &["<think>on and on</think>"]);
    assert_eq!(row.class, Class::Overflow);
    assert_eq!(row.detail.as_deref(), Some("30 steps are over"));
}

#[test]
#[ignore = "slow: starts Python in sandboxes"]
fn the_published_mistakes_are_there_where_they_are_asked_for() {
    let says = &[
        "no",
        "no",
        "no",
        "no",
        "```python\nprint(1)\n```",
        "<execute>print('lost')\n1 / 0",
        "<solution>A",
    ];
    let compat = Case {
        compat: true,
        ..Case::default()
    };
    let (row, _) = solve(compat, says);
    let text = texts(&row);
    assert_eq!((row.class, row.executions), (Class::Right, 1));
    assert_eq!(
        text.iter().filter(|text| text.contains("no tags")).count(),
        4
    );
    assert!(text.contains(&"<observation>Error: division by zero</observation>"));
}

#[test]
#[ignore = "slow: starts Python in sandboxes"]
fn tools_are_described_chosen_and_called() {
    let folder = tempfile::tempdir().unwrap();
    let (tools, data) = (folder.path().join("tools"), folder.path().join("data"));
    std::fs::create_dir_all(tools.join("tool_description")).unwrap();
    let code = "def area(side, scale=1):\n    return side * side * scale\n";
    std::fs::write(tools.join("shapes.py"), code).unwrap();
    let description = "description = [
        {'name': 'area', 'description': 'Area of a square.',
         'required_parameters': [{'name': 'side', 'type': 'int', 'description': 'Its side', 'default': None}],
         'optional_parameters': [{'name': 'scale', 'type': 'int', 'description': 'A factor', 'default': 1}]},
        {'name': 'perimeter', 'description': 'Not chosen.', 'required_parameters': [], 'optional_parameters': []},
    ]";
    std::fs::write(tools.join("tool_description/shapes.py"), description).unwrap();
    std::fs::write(
        tools.join("tool_description/broken.py"),
        "description = [1 / 0]",
    )
    .unwrap();
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("sides.csv"), "7\n").unwrap();
    let preload = folder.path().join("first.py");
    std::fs::write(
        &preload,
        format!("DATA = {:?}\n", data.display().to_string()),
    )
    .unwrap();
    let case = Case {
        tools: vec![tools],
        data: Some(data),
        preload: vec![preload],
        compat: false,
    };
    let says = &[
        "<execute>from shapes import area\nside = int(open(DATA + '/sides.csv').read())\nprint(area(side))",
        "<execute>open(DATA + '/sides.csv', 'w')",
        "<solution>A",
    ];
    let (row, asked) = solve(case, says);
    let text = texts(&row);
    assert!(text[0].contains("- area: Area of a square."), "{}", text[0]);
    assert!(text[0].contains("scale (int, optional, 1 by default): A factor"));
    assert!(!text[0].contains("perimeter"));
    assert_eq!(text[3], "<observation>49\n</observation>");
    assert!(text[5].contains("Read-only file system"), "{}", text[5]);
    let sides = folder.path().join("data/sides.csv");
    assert_eq!(std::fs::read_to_string(sides).unwrap(), "7\n");
    let choice = asked[0]["messages"][0]["content"].as_str().unwrap();
    assert!(choice.contains("1. perimeter: Not chosen.") && choice.contains("0. sides.csv"));
}

#[test]
#[ignore = "slow: starts Python in sandboxes"]
fn a_module_that_never_describes_its_tools_is_named() {
    let refused = |name: &str, code: &str| {
        let tools = tempfile::tempdir().unwrap();
        std::fs::write(tools.path().join("able.py"), "description = []").unwrap();
        std::fs::write(tools.path().join(name), code).unwrap();
        let folders = vec![tools.path().to_owned()];
        let launcher = Launcher {
            tools: folders.clone(),
            ..launcher()
        };
        let config = AgentConfig {
            compat: false,
            steps: 1,
            program_seconds: 3,
            output_chars: 1,
            retrieve: false,
            prompt: String::new(),
        };
        let parts = Parts {
            tools: folders,
            ..Parts::default()
        };
        let made = runtime().block_on(async {
            let made = Agent::new(config, parts, launcher);
            tokio::time::timeout(Duration::from_secs(30), made).await
        });
        made.expect("it waits without an end")
            .unwrap_err()
            .to_string()
    };
    let said = refused("hangs.py", "while True: pass");
    assert!(
        said.contains("module hangs: no description after 3 s"),
        "{said}"
    );
    let said = refused("quits.py", "import os\nos._exit(3)");
    assert!(said.contains("module quits: "), "{said}");
    // What is no JSON is that module's own fault.
    let said = refused(
        "odd.py",
        "description = [{'name': 'x', 'description': float('nan')}]",
    );
    assert!(said.contains("found no module with a list"), "{said}");
}
