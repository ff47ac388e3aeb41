//! `/metrics`, under the names that dashboards of vLLM have.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::chance::unix_time;
use crate::engine::Engine;

type Label = [(&'static str, String); 1];

/// Upper ends of the histograms' buckets, in seconds.
const FIRST_TOKEN: [f64; 15] = [
    0.001, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.5, 5.0, 10.0, 40.0, 160.0,
];
const BETWEEN_TOKENS: [f64; 13] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 5.0, 20.0,
];
const REQUEST: [f64; 14] = [
    0.05, 0.1, 0.3, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 40.0, 60.0, 120.0, 480.0, 1920.0,
];

/// All of a server's measurements. The only label with values from outside is the list of adapters, which has a limit.
pub(crate) struct Metrics {
    registry: Registry,
    first_token: Histogram,
    between_tokens: Histogram,
    request: Histogram,
    queue: Histogram,
    ended: Family<Label, Counter>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

impl Metrics {
    /// `adapters`: the most names that are listed.
    pub(crate) fn new(model: &str, engine: Arc<dyn Engine>, adapters: usize) -> Self {
        let mut root = Registry::default();
        let registry = root.sub_registry_with_label(("model_name".into(), model.to_owned().into()));
        let mut histogram = |name: &str, help: &str, buckets: &[f64]| {
            let histogram = Histogram::new(buckets.iter().copied());
            registry.register(format!("vllm:{name}"), help, histogram.clone());
            histogram
        };
        let first_token = histogram(
            "time_to_first_token_seconds",
            "From arrival to the first token",
            &FIRST_TOKEN,
        );
        let between_tokens = histogram(
            "inter_token_latency_seconds",
            "Between two tokens of a choice",
            &BETWEEN_TOKENS,
        );
        let request = histogram(
            "e2e_request_latency_seconds",
            "From arrival to the end of a choice",
            &REQUEST,
        );
        let queue = histogram(
            "request_queue_time_seconds",
            "Before the first computation",
            &REQUEST,
        );
        let ended = Family::<Label, Counter>::default();
        registry.register(
            "vllm:request_success",
            "Choices that ended, by reason",
            ended.clone(),
        );
        registry.register_collector(Box::new(OfEngine { engine, adapters }));
        Self {
            registry: root,
            first_token,
            between_tokens,
            request,
            queue,
            ended,
        }
    }

    /// The page, in OpenMetrics' text form.
    pub(crate) fn page(&self) -> Result<String, fmt::Error> {
        let mut page = String::new();
        prometheus_client::encoding::text::encode(&mut page, &self.registry)?;
        Ok(page)
    }
}

/// What is asked of the engine at every look.
struct OfEngine {
    engine: Arc<dyn Engine>,
    adapters: usize,
}

impl fmt::Debug for OfEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OfEngine")
    }
}

impl Collector for OfEngine {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let stats = self.engine.stats();
        let used = stats.blocks_used as f64 / stats.blocks.max(1) as f64;
        let gauges = [
            (
                "num_requests_running",
                "Sequences that are computed",
                stats.running as f64,
            ),
            (
                "num_requests_waiting",
                "Sequences that wait",
                stats.waiting as f64,
            ),
            (
                "kv_cache_usage_perc",
                "Share of the cache's blocks in use, 1 for all",
                used,
            ),
        ];
        for (name, help, value) in gauges {
            let name = format!("vllm:{name}");
            let encoder = encoder.encode_descriptor(&name, help, None, MetricType::Gauge)?;
            ConstGauge::new(value).encode(encoder)?;
        }
        let counters = [
            (
                "num_preemptions",
                "Times that a sequence lost its blocks",
                stats.preemptions,
            ),
            (
                "prefix_cache_queries",
                "Prompt tokens looked up in the prefix cache",
                stats.prefix_queries,
            ),
            (
                "prefix_cache_hits",
                "Prompt tokens found there",
                stats.prefix_hits,
            ),
            ("prompt_tokens", "Prompt tokens", stats.prompt_tokens),
            (
                "generation_tokens",
                "Tokens generated",
                stats.generation_tokens,
            ),
        ];
        for (name, help, value) in counters {
            let name = format!("vllm:{name}");
            let encoder = encoder.encode_descriptor(&name, help, None, MetricType::Counter)?;
            ConstCounter::new(value).encode(encoder)?;
        }
        self.adapters(encoder)
    }
}

impl OfEngine {
    /// The adapters in use. The engine does not say which of their requests wait, so all are listed as running.
    fn adapters(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let cards = self.engine.adapters();
        let busy = cards
            .iter()
            .filter(|card| card.requests > 0)
            .take(self.adapters);
        let names: Vec<&str> = busy.map(|card| card.name.as_str()).collect();
        let labels = [
            ("max_lora", self.adapters.to_string()),
            ("running_lora_adapters", names.join(",")),
            ("waiting_lora_adapters", String::new()),
        ];
        let help = "Adapters in use; the value is the time of this look";
        let mut encoder =
            encoder.encode_descriptor("vllm:lora_requests_info", help, None, MetricType::Gauge)?;
        let encoder = encoder.encode_family(&labels)?;
        ConstGauge::new(unix_time()).encode(encoder)
    }
}

/// The times of one choice. A choice that is dropped before its end counts as aborted.
#[derive(Debug)]
pub(crate) struct Watch {
    metrics: Arc<Metrics>,
    arrived: Instant,
    last_token: Option<Instant>,
    queued: bool,
}

impl Watch {
    /// Of a request that arrives now.
    pub(crate) fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            metrics,
            arrived: Instant::now(),
            last_token: None,
            queued: false,
        }
    }

    /// The same for another choice of the request.
    pub(crate) fn another(&self) -> Self {
        Self {
            metrics: self.metrics.clone(),
            arrived: self.arrived,
            last_token: None,
            queued: false,
        }
    }

    /// The engine has it.
    pub(crate) fn queued(&mut self) {
        self.queued = true;
    }

    /// A token came.
    pub(crate) fn token(&mut self) {
        let now = Instant::now();
        match self.last_token.replace(now) {
            None => self
                .metrics
                .first_token
                .observe((now - self.arrived).as_secs_f64()),
            Some(last) => self
                .metrics
                .between_tokens
                .observe((now - last).as_secs_f64()),
        }
    }

    /// The engine said how long it waited.
    pub(crate) fn started(&self, queued: Duration) {
        self.metrics.queue.observe(queued.as_secs_f64());
    }

    /// It ended; the second time says nothing.
    pub(crate) fn ended(&mut self, reason: &'static str) {
        if std::mem::take(&mut self.queued) {
            self.metrics
                .request
                .observe(self.arrived.elapsed().as_secs_f64());
            self.metrics
                .ended
                .get_or_create(&[("finished_reason", reason.to_owned())])
                .inc();
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.ended("abort");
    }
}
