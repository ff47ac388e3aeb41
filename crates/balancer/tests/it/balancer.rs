//! A balancer of a test.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use xgraft_balancer::{BackendUrl, Config, LogWriter, serve};

use crate::client::{self, Answer};
use crate::scripted::Scripted;

pub(crate) struct Balancer {
    pub(crate) address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

/// Backends at these addresses, watched ten times faster than usual.
pub(crate) fn config(urls: &[String]) -> Config {
    let urls = urls.iter().map(|url| BackendUrl::parse(url).unwrap());
    let mut config = Config::new(urls.collect());
    config.health.interval = Duration::from_millis(200);
    config.health.timeout = Duration::from_millis(500);
    config.health.slow_start = Duration::from_millis(200);
    config.health.models = Duration::from_millis(300);
    config.limits.queue_timeout = Duration::from_secs(5);
    config.limits.drain_timeout = Duration::from_secs(2);
    config
}

impl Balancer {
    pub(crate) async fn start(config: Config) -> Self {
        Self::start_with_log(config, None).await
    }

    pub(crate) async fn start_with_log(config: Config, log: Option<LogWriter>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(async move {
            let stopped = async {
                let _ = stopped.await;
            };
            serve(listener, config, log, |_| {}, stopped).await.unwrap();
        });
        Self {
            address,
            stop: Some(stop),
            task,
        }
    }

    /// Over these, once it knows them all.
    pub(crate) async fn over(backends: &[&Scripted]) -> Self {
        let urls: Vec<String> = backends.iter().map(|backend| backend.url()).collect();
        let balancer = Self::start(config(&urls)).await;
        balancer.until_up(backends.len()).await;
        balancer
    }

    pub(crate) async fn status(&self) -> Value {
        client::get(self.address, "/lb_status").await.json()
    }

    /// Waits for a state of all backends.
    pub(crate) async fn until(&self, what: &str, is: impl Fn(&Value) -> bool) {
        let start = Instant::now();
        loop {
            let status = self.status().await;
            if is(&status) {
                return;
            }
            assert!(
                start.elapsed() < Duration::from_secs(20),
                "never {what}: {status}"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub(crate) async fn until_up(&self, count: usize) {
        let up = |status: &Value| backends(status).filter(|b| b["state"] == "up").count();
        self.until("all up", |status| up(status) == count).await;
    }

    pub(crate) async fn until_state(&self, of: &Scripted, state: &str) {
        let url = of.url();
        self.until(state, |status| status["backends"][&url]["state"] == state)
            .await;
    }

    /// Waits until nothing is in flight or waits.
    pub(crate) async fn until_at_rest(&self) {
        self.until("at rest", |status| {
            status["total_in_flight"] == 0 && status["waiting"] == 0
        })
        .await;
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        client::send(self.address, "POST", path, "", &body).await
    }

    pub(crate) async fn chat(&self, more: Value) -> Answer {
        self.post("/v1/chat/completions", chat(more)).await
    }

    /// Stops it, and waits for its end.
    pub(crate) async fn stop(mut self) {
        drop(self.stop.take());
        self.task.await.unwrap();
    }
}

pub(crate) fn backends(status: &Value) -> impl Iterator<Item = &Value> {
    status["backends"].as_object().unwrap().values()
}

pub(crate) fn chat(more: Value) -> Value {
    let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]});
    let Value::Object(more) = more else {
        panic!("an object")
    };
    body.as_object_mut().unwrap().extend(more);
    body
}
