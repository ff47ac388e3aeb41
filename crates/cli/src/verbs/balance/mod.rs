//! `xgraft balance`

mod access_log;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use serde::Serialize;
use tokio::net::TcpListener;
use xgraft_balancer::{ApiKey, BackendUrl, Config, Health, Limits, Retries};

use crate::args::{Always, Balance};
use crate::descriptors;
use crate::interrupt;
use crate::output::{note, say_json};

/// Open files of a client: its own connection, and one to a backend.
const FILES: u64 = 2;

/// What is printed once, when the balancer listens and nothing is wrong with what it was told.
#[derive(Debug, Serialize)]
struct Ready {
    schema: &'static str,
    url: String,
    backends: Vec<String>,
    workers: usize,
    /// Clients that are let in at once, and the open files that the process may have.
    connections: usize,
    open_files: u64,
}

pub(crate) fn run(args: &Balance, always: &Always) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start a runtime")?;
    runtime.block_on(serve(args, always))?;
    Ok(ExitCode::SUCCESS)
}

/// Until the process is asked to end, and what runs then has ended.
pub(crate) async fn serve(args: &Balance, always: &Always) -> anyhow::Result<()> {
    let files = descriptors::raise();
    let config = config(args, files)?;
    let log = args.access_log.as_deref().map(access_log::open);
    let log = log.transpose()?;
    let address = format!("{}:{}", args.listen.host, args.port);
    let listener = TcpListener::bind((args.listen.host.as_str(), args.port))
        .await
        .with_context(|| format!("cannot listen on {address}"))?;
    let mut announced = Ready {
        schema: "xgraft.balance/1",
        url: format!("http://{}", listener.local_addr()?),
        backends: Vec::new(),
        workers: config.workers,
        connections: config.limits.connections,
        open_files: files,
    };
    let mut said = Ok(());
    let ready = |backends: &[BackendUrl]| {
        let urls = backends.iter().map(|url| url.as_str().to_owned());
        announced.backends = urls.collect();
        said = announced.say(always);
    };
    xgraft_balancer::serve(listener, config, log, ready, asked_to_end()).await?;
    said
}

async fn asked_to_end() {
    while interrupt::check().is_continue() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

impl Ready {
    fn say(&self, always: &Always) -> anyhow::Result<()> {
        if always.json {
            return say_json(self);
        }
        let (count, clients) = (self.backends.len(), self.connections);
        note(&format!(
            "{count} backends; up to {clients} clients at once, of {} open files; listening on {}",
            self.open_files, self.url
        ));
        Ok(())
    }
}

fn config(args: &Balance, files: u64) -> anyhow::Result<Config> {
    let clients = args.max_connections;
    if clients.is_some_and(|clients| clients > descriptors::clients(files, FILES)) {
        tracing::warn!(
            files,
            "--max-connections: more than two open files each allow"
        );
    }
    let key = |key: &String| ApiKey::new(key);
    let keys = |keys: &[String]| keys.iter().map(key).collect::<Result<Vec<_>, _>>();
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    Ok(Config {
        backends_file: args.backends_file.clone(),
        api_keys: keys(&args.listen.api_key)?,
        admin_keys: keys(&args.listen.admin_key)?,
        backend_key: args.backend_key.as_ref().map(key).transpose()?,
        backend_admin_key: args.backend_admin_key.as_ref().map(key).transpose()?,
        workers: args.pool.threads.unwrap_or_else(cores),
        prefix_affinity: args.prefix_affinity,
        health: Health {
            path: args.health_path.clone(),
            interval: args.health_interval,
            timeout: args.health_timeout,
            slow_start: args.slow_start,
            ..Health::default()
        },
        retries: Retries {
            replays: args.replays,
            losses: args.losses,
            ..Retries::default()
        },
        limits: Limits {
            in_flight: args.max_in_flight,
            queue: args.max_waiting,
            queue_timeout: args.queue_timeout,
            request_timeout: args.request_timeout,
            stall_timeout: args.stall_timeout,
            drain_timeout: args.drain_timeout,
            adapter_timeout: args.adapter_timeout,
            connections: clients.unwrap_or_else(|| descriptors::clients(files, FILES)),
            body: usize::try_from(args.max_body)?,
            ..Limits::default()
        },
        ..Config::new(args.backends.clone())
    })
}
