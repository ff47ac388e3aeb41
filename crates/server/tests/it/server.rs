//! A server of a test.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use xgraft_server::engine::{Engine, Request};
use xgraft_server::{GenerationDefaults, ServerConfig, serve};
use xgraft_tokenizer::{ChatTemplate, Tokenizer};

use crate::client::{self, Answer};
use crate::double::{Act, Double};

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) engine: Arc<Double>,
    stop: Option<oneshot::Sender<()>>,
    pub(crate) task: JoinHandle<()>,
}

/// The fixture's defaults without its sampling, so that what a test does not say is neutral.
pub(crate) fn config() -> ServerConfig {
    let dir = xgraft_fixtures::TEXT.base();
    let mut config = ServerConfig::new("tiny", std::path::Path::new("models/tiny"));
    config.defaults = GenerationDefaults {
        eos_tokens: GenerationDefaults::open(&dir).unwrap().eos_tokens,
        ..GenerationDefaults::default()
    };
    config
}

pub(crate) fn ids(text: &str) -> Vec<u32> {
    Tokenizer::open(xgraft_fixtures::TEXT.base())
        .unwrap()
        .encode(text, false)
        .unwrap()
}

/// Serves the fixture's tokenizer over an engine, until the sender is dropped.
pub(crate) async fn start(
    config: ServerConfig,
    engine: Arc<dyn Engine>,
) -> (SocketAddr, oneshot::Sender<()>, JoinHandle<()>) {
    start_with(config, engine, template_with_tools()).await
}

/// The fixture's own template, as if it read tools.
fn template_with_tools() -> ChatTemplate {
    let file = xgraft_fixtures::TEXT.base().join("tokenizer_config.json");
    let config: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let own = config["chat_template"].as_str().unwrap();
    let source = format!("{{%- if tools %}}{{%- endif %}}{own}");
    ChatTemplate::from_source(&source, serde_json::Map::new()).unwrap()
}

async fn start_with(
    config: ServerConfig,
    engine: Arc<dyn Engine>,
    template: ChatTemplate,
) -> (SocketAddr, oneshot::Sender<()>, JoinHandle<()>) {
    let dir = xgraft_fixtures::TEXT.base();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let tokenizer = Arc::new(Tokenizer::open(&dir).unwrap());
    let (stop, stopped) = oneshot::channel::<()>();
    let task = tokio::spawn(async move {
        let stopped = async {
            let _ = stopped.await;
        };
        serve(listener, engine, tokenizer, Some(template), config, stopped)
            .await
            .unwrap();
    });
    (address, stop, task)
}

impl Server {
    pub(crate) async fn start(
        config: ServerConfig,
        script: impl Fn(&Request) -> Act + Send + Sync + 'static,
    ) -> Self {
        let engine = Double::new(script);
        let (address, stop, task) = start(config, engine.clone()).await;
        Self {
            address,
            engine,
            stop: Some(stop),
            task,
        }
    }

    /// A server with another chat template.
    pub(crate) async fn with_template(template: ChatTemplate) -> Self {
        let engine = Double::new(|_| Act::Say(ids("x"), Duration::ZERO));
        let (address, stop, task) = start_with(config(), engine.clone(), template).await;
        Self {
            address,
            engine,
            stop: Some(stop),
            task,
        }
    }

    /// A server that always says this.
    pub(crate) async fn saying(text: &str) -> Self {
        let tokens = ids(text);
        Self::start(config(), move |_| Act::Say(tokens.clone(), Duration::ZERO)).await
    }

    pub(crate) fn stop(&mut self) {
        drop(self.stop.take());
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        client::post_json(self.address, path, &body).await
    }

    pub(crate) async fn complete(&self, more: Value) -> Answer {
        self.post(
            "/v1/completions",
            with(
                json!({"model": "tiny", "prompt": "Pick", "max_tokens": 64}),
                more,
            ),
        )
        .await
    }

    pub(crate) async fn chat(&self, more: Value) -> Answer {
        let body = json!({"model": "tiny", "messages": [{"role": "user", "content": "Pick."}]});
        self.post("/v1/chat/completions", with(body, more)).await
    }

    /// The last request that reached the engine.
    pub(crate) fn seen(&self) -> crate::double::Seen {
        self.engine.seen.lock().unwrap().last().unwrap().clone()
    }

    /// Waits until no generation is left.
    pub(crate) async fn until_idle(&self, patience: Duration) {
        let start = Instant::now();
        while self.engine.active.load(Ordering::SeqCst) > 0 {
            assert!(start.elapsed() < patience, "generations are left");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Waits until so many generations run.
    pub(crate) async fn until_active(&self, count: usize) {
        let start = Instant::now();
        while self.engine.active.load(Ordering::SeqCst) != count {
            assert!(
                start.elapsed() < Duration::from_secs(20),
                "not {count} generations"
            );
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

pub(crate) fn with(mut body: Value, more: Value) -> Value {
    let Value::Object(more) = more else {
        panic!("an object")
    };
    body.as_object_mut().unwrap().extend(more);
    body
}

/// The answer with what differs every time made equal.
pub(crate) fn steady(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = ["\"id\":\"", "\"created\":"]
        .iter()
        .filter_map(|key| rest.find(key).map(|at| at + key.len()))
        .min()
    {
        out.push_str(&rest[..at]);
        out.push('?');
        rest = &rest[at..];
        rest = &rest[rest.find(['"', ',']).unwrap()..];
    }
    out + rest
}
