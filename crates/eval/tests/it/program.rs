//! What the tests start as a process of its own: `__sandbox …` is a launcher, `run URL DATA OUT [PYTHON [TOOLS]]` a harness,
//! without namespaces where the environment has `XGRAFT_TEST_KERNEL`.
#![expect(clippy::unwrap_used, reason = "a program of tests fails by panicking")]

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use xgraft_dataset::read_questions;
use xgraft_eval::agent::{Agent, AgentConfig, Parts};
use xgraft_eval::client::{Client, Sampling};
use xgraft_eval::run::{Limits, Plan, Progress, Retries, Stop, Work, run};
use xgraft_eval::sandbox::{Caps, Isolation, Launcher, Python, enter};
use xgraft_eval::task::Tasks;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    match arguments.first().and_then(|first| first.to_str()) {
        Some("__sandbox") => ExitCode::from(enter(&arguments[1..])),
        Some("run") => harness(&arguments[1..]),
        _ => ExitCode::from(2),
    }
}

fn harness(arguments: &[OsString]) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let report = runtime.unwrap().block_on(async {
        let path = |place: usize| PathBuf::from(&arguments[place]);
        let agent = match arguments.get(3) {
            Some(python) => Some(agent(Path::new(python), &arguments[4..]).await),
            None => None,
        };
        let questions = read_questions(&path(1)).unwrap();
        let plan = Plan {
            schema: Plan::SCHEMA.to_owned(),
            model: "m".to_owned(),
            arm: "m".to_owned(),
            data: Plan::digest(&questions),
            questions: questions.len(),
            repeat: 1,
            seed: 0,
            synthetic: false,
            tasks: Tasks::eval1(),
            sampling: Sampling {
                temperature: 0.0,
                top_p: None,
                max_tokens: 100,
                extra: serde_json::Map::new(),
            },
            limits: Limits {
                seconds: 600,
                tokens: 100_000,
                turns: 50,
            },
            agent: agent.as_ref().map(|agent| agent.config().clone()),
            system: None,
        };
        let work = Work {
            out: path(2),
            concurrency: 72,
            lease: Duration::from_secs(60),
            request_timeout: Duration::from_secs(60),
            retries: Retries::default(),
        };
        let client = Client::new(arguments[0].to_str().unwrap(), None).unwrap();
        let (progress, stop) = (Progress::default(), Stop::default());
        run(plan, work, client, questions, agent, progress, stop).await
    });
    ExitCode::from(u8::from(!report.unwrap().complete))
}

async fn agent(python: &Path, tools: &[OsString]) -> Agent {
    let tools: Vec<PathBuf> = tools.iter().map(PathBuf::from).collect();
    let launcher = Launcher {
        program: vec![std::env::current_exe().unwrap().into(), "__sandbox".into()],
        python: Python::find(python).unwrap(),
        isolation: match std::env::var_os("XGRAFT_TEST_KERNEL") {
            Some(_) => Isolation::Kernel,
            None => Isolation::Namespaces,
        },
        caps: Caps::default(),
        tools: tools.clone(),
        preload: Vec::new(),
        readable: Vec::new(),
        compat: false,
        keep_chars: 10_001,
    };
    let config = AgentConfig {
        compat: false,
        steps: 500,
        program_seconds: 60,
        output_chars: 10_000,
        retrieve: !tools.is_empty(),
        prompt: String::new(),
    };
    let parts = Parts {
        tools,
        ..Parts::default()
    };
    Agent::new(config, parts, launcher).await.unwrap()
}
