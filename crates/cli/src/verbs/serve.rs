//! `xgraft serve`

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};
use xgraft_results::human::bytes;

use anyhow::{Context as _, bail, ensure};
use serde::Serialize;
use tokio::net::TcpListener;
use xgraft_model::{Model, Options};
use xgraft_server::engine::{CpuForward, Engine, EngineConfig, LocalEngine};
use xgraft_server::{ApiKey, GenerationDefaults, RuntimeAdapters, ServerConfig};
use xgraft_tokenizer::{ChatTemplate, Tokenizer};

use crate::args::{Always, Serve};
use crate::descriptors;
use crate::interrupt;
use crate::output::say_json;

/// What was loaded, printed once when the server is ready.
#[derive(Debug, Serialize)]
struct Ready {
    schema: &'static str,
    url: String,
    model: String,
    /// Of the matrices, as stored.
    weight_bytes: usize,
    adapters: Vec<String>,
    max_model_len: usize,
    kv_tokens: usize,
    seconds: f64,
}

pub(crate) fn run(args: &Serve, always: &Always) -> anyhow::Result<ExitCode> {
    let started = Instant::now();
    let files = descriptors::raise();
    let mut config = config(args)?;
    let connections = &mut config.limits.connections;
    *connections = descriptors::clients(files, 1).min(*connections);
    let tokenizer = Arc::new(Tokenizer::open(&args.dir)?);
    let template = ChatTemplate::open(&args.dir).map_or_else(no_template, |t| Ok(Some(t)))?;
    let options = Options {
        threads: args.pool.threads.unwrap_or(0),
        ..Options::default()
    };
    let model = Model::open(&args.dir, &options)?;
    let weight_bytes = model.bytes();
    ensure!(
        tokenizer.vocab_size() <= model.spec().vocab,
        "{}: expected a tokenizer of at most {} tokens, as config.json says, found {}",
        args.dir.display(),
        model.spec().vocab,
        tokenizer.vocab_size()
    );
    let forward = CpuForward::new(model, args.kv_dtype.into(), args.kv_memory as usize)
        .context("--kv-memory")?;
    let engine = LocalEngine::start(forward, engine_config(args))?;
    for (name, dir) in &args.lora {
        engine
            .load_adapter(name, dir, false)
            .with_context(|| format!("--lora {name}={}", dir.display()))?;
    }
    let stats = engine.stats();
    let ready = Ready {
        schema: "xgraft.serve/1",
        url: String::new(),
        model: config.model_names[0].clone(),
        weight_bytes,
        adapters: args.lora.iter().map(|(name, _)| name.clone()).collect(),
        max_model_len: engine.model().max_model_len,
        kv_tokens: stats.blocks * CpuForward::BLOCK_TOKENS,
        seconds: started.elapsed().as_secs_f64(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("http")
        .enable_all()
        .build()
        .context("cannot start the threads of HTTP")?;
    let served = runtime.block_on(async {
        let address = format!("{}:{}", args.listen.host, args.port);
        let listener = TcpListener::bind((args.listen.host.as_str(), args.port))
            .await
            .with_context(|| format!("cannot listen on {address}"))?;
        announce(ready, &listener, always)?;
        xgraft_server::serve(
            listener,
            Arc::new(engine),
            tokenizer,
            template,
            config,
            asked_to_end(),
        )
        .await?;
        Ok(ExitCode::SUCCESS)
    });
    // What still reads a file must not keep the process.
    runtime.shutdown_background();
    served
}

/// A model without a template can complete, but not chat.
fn no_template(error: xgraft_tokenizer::TemplateError) -> anyhow::Result<Option<ChatTemplate>> {
    match error {
        xgraft_tokenizer::TemplateError::Missing { .. } => {
            tracing::warn!("no chat template: /v1/chat/completions answers with an error");
            Ok(None)
        }
        other => Err(other.into()),
    }
}

async fn asked_to_end() {
    while interrupt::check().is_continue() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn announce(mut ready: Ready, listener: &TcpListener, always: &Always) -> anyhow::Result<()> {
    ready.url = format!("http://{}", listener.local_addr()?);
    if always.json {
        return say_json(&ready);
    }
    let loaded = format!(
        "{}: {} of weights and {} adapters in {:.1} s; room for {} tokens, {} a request",
        ready.model,
        bytes(ready.weight_bytes as u64),
        ready.adapters.len(),
        ready.seconds,
        ready.kv_tokens,
        ready.max_model_len
    );
    crate::output::note(&format!("{loaded}\nlistening on {}", ready.url));
    Ok(())
}

fn engine_config(args: &Serve) -> EngineConfig {
    let defaults = EngineConfig::default();
    EngineConfig {
        max_num_seqs: args.max_num_seqs,
        max_step_tokens: args.max_step_tokens.max(args.max_num_seqs + 1),
        max_waiting: args.max_waiting,
        max_model_len: args.max_model_len,
        prefix_cache: !args.no_prefix_cache,
        ..defaults
    }
}

fn config(args: &Serve) -> anyhow::Result<ServerConfig> {
    let own_name = || {
        let dir = args.dir.canonicalize().ok()?;
        Some(dir.file_name()?.to_str()?.to_owned())
    };
    let names = match args.served_model_name.as_slice() {
        [] => vec![own_name().unwrap_or_else(|| "model".to_owned())],
        given => given.to_vec(),
    };
    if let Some((name, _)) = args.lora.iter().find(|(name, _)| names.contains(name)) {
        bail!("--lora {name}: this is the base's own name; choose another, or --served-model-name");
    }
    let key = |key: &String| ApiKey::new(key);
    let keys = |keys: &[String]| keys.iter().map(key).collect::<Result<Vec<_>, _>>();
    let mut config = ServerConfig::new(names[0].clone(), &args.dir);
    config.model_names = names;
    config.defaults = GenerationDefaults::open(&args.dir)?;
    config.api_keys = keys(&args.listen.api_key)?;
    config.admin_keys = keys(&args.listen.admin_key)?;
    config.max_logprobs = usize::try_from(args.max_logprobs).ok();
    config.limits.drain_timeout = Duration::from_secs(args.drain_timeout);
    config.runtime_adapters = match &args.lora_root {
        Some(root) => RuntimeAdapters::Below(root.clone()),
        None => RuntimeAdapters::Refused,
    };
    Ok(config)
}

/// `NAME=DIR`.
pub(crate) fn parse_lora(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, dir)) if !name.is_empty() && !dir.is_empty() => {
            Ok((name.to_owned(), dir.into()))
        }
        _ => Err("expected NAME=DIR".to_owned()),
    }
}
