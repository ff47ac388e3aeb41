//! `xgraft eval run`

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::{Map, Value};
use xgraft_dataset::{Question, read_questions};
use xgraft_eval::agent::{Agent, AgentConfig, Parts};
use xgraft_eval::client::{Client, Sampling};
use xgraft_eval::run::{Limits, Plan, Progress, Report, Retries, Stop, Work};
use xgraft_eval::sandbox::{Caps, Isolation, Launcher, Python};
use xgraft_eval::task::Tasks;
use xgraft_results::human;

use super::{keys, show};
use crate::args::{Always, EvalRun, SandboxArg};
use crate::output::{note, say_json};
use crate::{SANDBOX, interrupt};

/// As many different failures are told.
const FAILURES: usize = 3;
/// How long the endpoint has to say which models it has.
const FIRST_ANSWER: Duration = Duration::from_secs(30);

pub(crate) fn run(args: &EvalRun, always: &Always) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start a runtime")?;
    let report = runtime.block_on(work(args))?;
    if always.json {
        say_json(&report)?;
    } else {
        show::table(&report)?;
    }
    if !report.complete {
        let mut failures: Vec<_> = report.failures.iter().collect();
        failures.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        for (why, count) in failures.into_iter().take(FAILURES) {
            note(&format!("{count} failed: {why}"));
        }
        let missing = report.missing();
        note(&format!(
            "{missing} attempts have no score; the same command makes them"
        ));
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

async fn work(args: &EvalRun) -> anyhow::Result<Report> {
    let questions = select(read_questions(&args.data)?, args)?;
    let tasks = Tasks::named(&args.tasks)?;
    for question in &questions {
        let known = tasks.of(question);
        known.with_context(|| args.data.display().to_string())?;
    }
    let key = keys::api_key(&args.api_key_env, args.env_file.as_deref())?;
    let client = Client::new(&args.endpoint, key)?;
    client.check(&args.model, FIRST_ANSWER).await?;
    let agent = if args.agent {
        Some(agent(args).await?)
    } else {
        None
    };
    let plan = plan(args, tasks, &questions, agent.as_ref())?;
    let work = Work {
        out: args.out.clone(),
        concurrency: usize::from(args.concurrency),
        lease: args.lease,
        request_timeout: args.request_timeout,
        retries: Retries {
            attempts: args.attempts.max(1),
            first: args.retry_wait,
            ..Retries::default()
        },
    };
    let (progress, stop) = (Progress::default(), Stop::default());
    let showing = tokio::spawn(show::follow(progress.clone()));
    let listening = tokio::spawn(listen(stop.clone()));
    let report = xgraft_eval::run::run(plan, work, client, questions, agent, progress, stop).await;
    showing.abort();
    listening.abort();
    Ok(report?)
}

async fn listen(stop: Stop) {
    while interrupt::check().is_continue() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    stop.stop();
}

/// The questions that are asked, in the order of the file.
fn select(questions: Vec<Question>, args: &EvalRun) -> anyhow::Result<Vec<Question>> {
    for id in &args.ids {
        if !questions.iter().any(|question| question.id == *id) {
            bail!("{}: no question {id}", args.data.display());
        }
    }
    for task in &args.task {
        if !questions.iter().any(|question| question.task == *task) {
            bail!("{}: no question of the task {task}", args.data.display());
        }
    }
    let mut counts = std::collections::HashMap::new();
    let mut selected = questions;
    selected.retain(|question| {
        let named = args.ids.is_empty() || args.ids.contains(&question.id);
        let of_task = args.task.is_empty() || args.task.contains(&question.task);
        if !(named && of_task) {
            return false;
        }
        let count: &mut usize = counts.entry(question.task.clone()).or_default();
        *count += 1;
        args.limit.is_none_or(|limit| *count <= limit)
    });
    if selected.is_empty() {
        bail!("no question is left of {}", args.data.display());
    }
    Ok(selected)
}

fn plan(
    args: &EvalRun,
    tasks: Tasks,
    questions: &[Question],
    agent: Option<&Agent>,
) -> anyhow::Result<Plan> {
    let usual = if agent.is_some() { 0.7 } else { 0.0 };
    let extra: Map<String, Value> = match &args.extra_body {
        Some(text) => serde_json::from_str(text).context("--extra-body is no JSON object")?,
        None => Map::new(),
    };
    Ok(Plan {
        schema: Plan::SCHEMA.to_owned(),
        model: args.model.clone(),
        arm: args.arm.clone().unwrap_or_else(|| args.model.clone()),
        data: Plan::digest(questions),
        questions: questions.len(),
        repeat: args.repeat,
        seed: args.random.seed,
        synthetic: args.synthetic,
        tasks,
        sampling: Sampling {
            temperature: args.temperature.unwrap_or(usual),
            top_p: args.top_p,
            max_tokens: args.max_tokens,
            extra,
        },
        limits: Limits {
            seconds: args.time_limit.as_secs().max(1),
            tokens: args.token_limit,
            turns: args.turn_limit,
        },
        agent: agent.map(|agent| agent.config().clone()),
        system: if agent.is_some() { None } else { system(args)? },
    })
}

fn system(args: &EvalRun) -> anyhow::Result<Option<String>> {
    match &args.system_file {
        Some(path) => Ok(Some(fs_err::read_to_string(path)?)),
        None => Ok(args.system.clone()),
    }
}

async fn agent(args: &EvalRun) -> anyhow::Result<Agent> {
    let a1 = &args.a1;
    let tools = all_real(&a1.tools)?;
    let data = a1.data_folder.as_deref().map(real).transpose()?;
    let launcher = Launcher {
        program: vec![std::env::current_exe()?.into(), SANDBOX.into()],
        python: Python::find(&a1.python)?,
        isolation: match a1.sandbox {
            SandboxArg::Auto | SandboxArg::Namespaces => Isolation::Namespaces,
            SandboxArg::Kernel => Isolation::Kernel,
            SandboxArg::Off => Isolation::Off,
        },
        caps: Caps {
            memory: a1.memory,
            disk: a1.disk,
            processes: a1.processes,
            ..Caps::default()
        },
        tools: tools.clone(),
        preload: all_real(&a1.preload)?,
        readable: data.iter().cloned().collect(),
        compat: a1.a1_compat,
        keep_chars: a1.output_chars + 1,
    };
    let launcher = match a1.sandbox {
        SandboxArg::Auto => launcher.strictest().await?,
        _ => launcher,
    };
    if a1.sandbox == SandboxArg::Auto && launcher.isolation == Isolation::Kernel {
        note(
            "sandbox: the system refuses namespaces; Landlock, seccomp and limits keep programs in",
        );
    }
    if let Some(text) = too_much(args.concurrency.into(), a1.memory, machine_memory()) {
        note(&text);
    }
    let config = AgentConfig {
        compat: a1.a1_compat,
        steps: a1.steps,
        program_seconds: a1.program_timeout.as_secs().max(1),
        output_chars: a1.output_chars,
        retrieve: !a1.no_retriever,
        prompt: String::new(),
    };
    let parts = Parts {
        system: system(args)?,
        tools,
        data,
        know_how: a1.know_how.clone(),
    };
    Ok(Agent::new(config, parts, launcher).await?)
}

/// What to say where the programs of all questions in work may together use more memory than there is.
fn too_much(at_a_time: usize, each: u64, there: Option<u64>) -> Option<String> {
    let sum = each.saturating_mul(at_a_time as u64);
    let there = there.filter(|there| sum > *there)?;
    Some(format!(
        "sandbox: {at_a_time} questions at a time may use {} each, {} in all, and this machine has {}; lower --memory or --concurrency if programs need that much",
        human::bytes(each),
        human::bytes(sum),
        human::bytes(there),
    ))
}

/// Bytes of memory of this machine, where it says so.
fn machine_memory() -> Option<u64> {
    let text = fs_err::read_to_string("/proc/meminfo").ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

fn real(path: &Path) -> anyhow::Result<PathBuf> {
    Ok(fs_err::canonicalize(path)?)
}

fn all_real(paths: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    paths.iter().map(|path| real(path)).collect()
}

#[cfg(test)]
mod tests {
    use super::too_much;

    #[test]
    fn more_memory_than_there_is_is_said_with_its_sum() {
        let said = too_much(72, 4 << 30, Some(64 << 30)).unwrap();
        assert!(said.contains("309\u{a0}GB in all"), "{said}");
        assert!(said.contains("--memory or --concurrency"), "{said}");
        assert_eq!(too_much(16, 4 << 30, Some(64 << 30)), None);
        assert_eq!(too_much(72, 4 << 30, None), None);
    }
}
