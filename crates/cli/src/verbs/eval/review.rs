//! `xgraft eval review`

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::json;
use xgraft_eval::annotate::Annotation;
use xgraft_eval::review::{self as page, queue};

use crate::args::{Always, Review};
use crate::interrupt;
use crate::output::{note, say, say_json};

pub(crate) fn run(args: &Review, always: &Always) -> anyhow::Result<ExitCode> {
    let annotation = Annotation::open(&args.run)?;
    let (cases, log) = annotation.cases()?;
    let mut cases = queue(cases, args.all);
    cases.truncate(args.limit.unwrap_or(cases.len()));
    let review = Arc::new(page::Review::open(cases, &args.reviewer, &log)?);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("cannot start the network")?;
    runtime.block_on(serve(Arc::clone(&review), args.port))?;
    let (cases, decided) = review.progress();
    drop(review);
    annotation.finish()?;
    if always.json {
        say_json(&json!({"schema": "xgraft.review/1", "cases": cases, "decided": decided}))?;
    } else {
        say(&format!(
            "{decided} of {cases} answers decided; the labels are made again"
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn serve(review: Arc<page::Review>, port: u16) -> anyhow::Result<()> {
    let (listener, address) = page::Review::listen(port).await?;
    let (cases, decided) = review.progress();
    note(&format!(
        "http://{address}/ has {cases} answers, {decided} of them decided; Ctrl-C ends the review"
    ));
    let stopped = async {
        while interrupt::check().is_continue() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    Ok(review.serve(listener, stopped).await?)
}
