//! `xgraft eval annotate`

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::{Map, json};
use xgraft_dataset::{Message, Role};
use xgraft_eval::annotate::judge::{AskError, Done, Pace, SYSTEM};
use xgraft_eval::annotate::{Agreed, Annotation, By, Summary};
use xgraft_eval::client::{Ask, Client, ClientError, Kind, Sampling};
use xgraft_results::human::percent;

use super::keys::api_key;
use crate::args::{Always, Annotate};
use crate::interrupt;
use crate::output::{note, say, say_json};
use crate::table::Table;

pub(crate) fn run(args: &Annotate, always: &Always) -> anyhow::Result<ExitCode> {
    let runs = args.runs.iter().map(|run| Annotation::open(run));
    let runs: Vec<Annotation> = runs.collect::<Result<_, _>>()?;
    let judge = Judge::open(args)?;
    let mut elsewhere = Vec::new();
    for run in &runs {
        elsewhere.extend(run.judgements()?);
    }
    let (mut summaries, mut done) = (Vec::new(), Vec::new());
    for (run, path) in runs.iter().zip(&args.runs) {
        if let Some(judge) = &judge {
            let name = path.display();
            let progress = |finished: usize, all: usize| {
                if finished == all || finished.is_multiple_of(25) {
                    note(&format!("{name}: {finished} of {all} judged"));
                }
            };
            let asked = run.judge(
                &judge.model,
                &elsewhere,
                judge.pace,
                &|p| judge.ask(p),
                &progress,
            )?;
            elsewhere.extend(run.judgements()?);
            done.push(asked);
        }
        summaries.extend(run.finish()?);
    }
    if always.json {
        say_json(&json!({"schema": "xgraft.annotation/1", "judging": done, "arms": summaries}))?;
    } else {
        say(table(&summaries).trim_end())?;
        done.iter().try_for_each(|done| say(&asked(done)))?;
        summaries
            .iter()
            .try_for_each(|summary| say(&agreement(summary)))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The judge's endpoint and how it is asked.
struct Judge {
    client: Client,
    runtime: tokio::runtime::Runtime,
    model: String,
    sampling: Sampling,
    patience: Duration,
    pace: Pace,
}

impl Judge {
    fn open(args: &Annotate) -> anyhow::Result<Option<Self>> {
        let (Some(url), Some(model)) = (&args.judge, &args.judge_model) else {
            return Ok(None);
        };
        let key = api_key(&args.judge_key, None)?;
        Ok(Some(Self {
            client: Client::new(url, key)?,
            runtime: tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()
                .context("cannot start the network")?,
            model: model.clone(),
            sampling: Sampling {
                temperature: 0.0,
                top_p: None,
                max_tokens: args.max_tokens,
                extra: Map::new(),
            },
            patience: Duration::from_secs(args.patience),
            pace: Pace {
                workers: usize::from(args.concurrency),
                between: Duration::from_secs(60) / args.per_minute,
                ..Pace::default()
            },
        }))
    }

    fn ask(&self, prompt: &str) -> Result<String, AskError> {
        if interrupt::check().is_break() {
            return Err(AskError::Fatal("stopped by you".to_owned()));
        }
        let messages = [
            Message::new(Role::System, SYSTEM),
            Message::new(Role::User, prompt),
        ];
        let ask = Ask {
            model: &self.model,
            messages: &messages,
            sampling: &self.sampling,
            max_tokens: self.sampling.max_tokens,
            seed: 0,
            stop: &[],
        };
        let said = self.runtime.block_on(self.client.ask(&ask, self.patience));
        said.map(|said| said.text).map_err(|error| failure(&error))
    }
}

fn failure(error: &ClientError) -> AskError {
    match (error.kind(), error.wait()) {
        (Kind::Passing, Some(wait)) => AskError::Busy(Some(wait.as_secs())),
        (Kind::Passing, None) => AskError::Passing(error.to_string()),
        _ => AskError::Fatal(error.to_string()),
    }
}

fn table(summaries: &[Summary]) -> String {
    let mut table = Table::new(&[
        "arm",
        "of",
        "strict",
        "judged",
        "by rules",
        "by judge",
        "by people",
        "by class",
        "open",
    ]);
    for summary in summaries {
        let by = |by: By| summary.by.get(&by).copied().unwrap_or(0).to_string();
        table.row(vec![
            summary.arm.clone(),
            summary.strict.n.to_string(),
            percent(summary.strict.value),
            percent(summary.judged.value),
            by(By::Triage),
            by(By::Judge),
            by(By::Human),
            by(By::Class),
            by(By::Nobody),
        ]);
    }
    table.render()
}

fn asked(done: &Done) -> String {
    format!(
        "judge: {} asked, {} of them without a label; {} known before, {} taken from equal questions",
        done.asked, done.unlabelled, done.kept, done.cached
    )
}

fn agreement(summary: &Summary) -> String {
    let mut text = match &summary.judge_human {
        Some(agreed) => format!("{}: {}", summary.arm, shown("people", agreed)),
        None => format!("{}: nobody has reviewed what the judge said", summary.arm),
    };
    if let Some(agreed) = &summary.judge_strict {
        text += &format!("\n{}: {}", summary.arm, shown("official score", agreed));
    }
    text
}

fn shown(with: &str, Agreed { n, observed, kappa }: &Agreed) -> String {
    let kappa = kappa.map_or("undefined".to_owned(), |kappa| {
        let range = kappa.interval;
        format!("{:.2} [{:.2}, {:.2}]", kappa.value, range.lo, range.hi)
    });
    format!(
        "judge and {with} agree on {} of {n} answers, kappa {kappa}",
        percent(*observed)
    )
}
