//! `/metrics`: what was counted over all requests and by backend, in Prometheus' text form.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::backend::{Backend, State};
use crate::backends::Backends;
use crate::shared::Shared;

/// Upper ends of the buckets, in seconds.
const BOUNDS: [f64; 14] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 600.0,
];

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How many took how long.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    /// Of each bucket alone; the last has no end.
    buckets: [AtomicU64; BOUNDS.len() + 1],
    micros: AtomicU64,
}

impl Histogram {
    pub(crate) fn observe(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let at = BOUNDS
            .iter()
            .position(|bound| seconds <= *bound)
            .unwrap_or(BOUNDS.len());
        self.buckets[at].fetch_add(1, Ordering::Relaxed);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.micros.fetch_add(micros, Ordering::Relaxed);
    }

    fn write(&self, page: &mut String, name: &str) {
        let mut count = 0;
        for (at, bucket) in self.buckets.iter().enumerate() {
            count += bucket.load(Ordering::Relaxed);
            let bound = BOUNDS.get(at).map_or("+Inf".to_owned(), f64::to_string);
            let _ = writeln!(page, "{name}_bucket{{le=\"{bound}\"}} {count}");
        }
        let sum = self.micros.load(Ordering::Relaxed) as f64 / 1e6;
        let _ = writeln!(page, "{name}_sum {sum}\n{name}_count {count}");
    }
}

/// Over all requests.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    /// Requests that were passed on, or would have been.
    pub(crate) requests: Counter,
    /// Requests that the balancer answered itself because no backend could.
    pub(crate) failed: Counter,
    /// Requests whose client left before the end.
    pub(crate) left: Counter,
    /// Requests that the balancer refused, such as for want of a key.
    pub(crate) refused: Counter,
    /// Whether the file of backends is not obeyed because of what stands in it.
    pub(crate) list_refused: AtomicBool,
    /// Requests that were asked of a backend again.
    pub(crate) replays: Counter,
    /// Replays that were not made because too many had been.
    pub(crate) denied: Counter,
    /// Sockets that could not be opened for want of descriptors, ports or memory.
    pub(crate) local_errors: Counter,
    /// Streams that broke after the client had seen something.
    pub(crate) cut: Counter,
    /// Those of them that went on at another backend.
    pub(crate) resumed: Counter,
    /// Those of them that ended with an error in the stream.
    pub(crate) flagged: Counter,
    /// To the head of the answer.
    pub(crate) head: Histogram,
    /// To the end of the answer.
    pub(crate) whole: Histogram,
}

impl Metrics {
    /// The page.
    pub(crate) fn page(&self, shared: &Shared) -> String {
        let mut page = String::new();
        let totals = [
            ("requests", "Requests for backends", &self.requests),
            ("failed", "Requests that no backend answered", &self.failed),
            (
                "left",
                "Requests whose client left before the end",
                &self.left,
            ),
            (
                "refused",
                "Requests that the balancer refused",
                &self.refused,
            ),
            (
                "replays",
                "Requests that were asked again elsewhere",
                &self.replays,
            ),
            (
                "replays_denied",
                "Replays that the budget did not allow",
                &self.denied,
            ),
            (
                "local_errors",
                "Sockets that this machine could not open",
                &self.local_errors,
            ),
            (
                "streams_cut",
                "Streams that broke after the client had seen a part",
                &self.cut,
            ),
            (
                "streams_resumed",
                "Cut streams that went on elsewhere",
                &self.resumed,
            ),
            (
                "streams_flagged",
                "Cut streams that ended with an error event",
                &self.flagged,
            ),
        ];
        for (name, help, counter) in totals {
            let name = format!("xgraft_balancer_{name}_total");
            head(&mut page, &name, "counter", help);
            let _ = writeln!(page, "{name} {}", counter.get());
        }
        let times = [
            ("head", "From arrival to the head of the answer", &self.head),
            (
                "request",
                "From arrival to the end of the answer",
                &self.whole,
            ),
        ];
        for (name, help, histogram) in times {
            let name = format!("xgraft_balancer_{name}_seconds");
            head(&mut page, &name, "histogram", help);
            histogram.write(&mut page, &name);
        }
        head(
            &mut page,
            "xgraft_balancer_waiting",
            "gauge",
            "Requests in the queue",
        );
        let _ = writeln!(
            page,
            "xgraft_balancer_waiting {}",
            shared.backends.waiting()
        );
        head(
            &mut page,
            "xgraft_balancer_tasks",
            "gauge",
            "Connections of clients and to backends, and what watches the backends",
        );
        let _ = writeln!(page, "xgraft_balancer_tasks {}", shared.tasks());
        head(
            &mut page,
            "xgraft_balancer_list_refused",
            "gauge",
            "Whether the file of backends is not obeyed because of what stands in it",
        );
        let refused = u8::from(self.list_refused.load(Ordering::Relaxed));
        let _ = writeln!(page, "xgraft_balancer_list_refused {refused}");
        of_backends(&mut page, &shared.backends);
        page
    }
}

fn of_backends(page: &mut String, backends: &Backends) {
    let table = backends.table();
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    type Value = fn(&Backend, fn(&AtomicU64) -> u64) -> u64;
    let columns: [(&str, &str, &str, Value); 6] = [
        ("up", "gauge", "Whether it takes requests", |b, _| {
            u64::from(b.state() == State::Up && !b.is_drained())
        }),
        ("in_flight", "gauge", "Requests in flight", |b, _| {
            b.in_flight().into()
        }),
        (
            "requests_total",
            "counter",
            "Requests given to it",
            |b, get| get(&b.counts.requests),
        ),
        (
            "completed_total",
            "counter",
            "Requests it answered to the end",
            |b, get| get(&b.counts.completed),
        ),
        ("errors_total", "counter", "Requests it failed", |b, get| {
            get(&b.counts.errors)
        }),
        (
            "ejections_total",
            "counter",
            "Times it was taken out",
            |b, get| get(&b.counts.ejections),
        ),
    ];
    for (name, kind, help, value) in columns {
        let name = format!("xgraft_balancer_backend_{name}");
        head(page, &name, kind, help);
        for backend in &table.all {
            let url = backend.url.as_str();
            let _ = writeln!(
                page,
                "{name}{{backend=\"{url}\"}} {}",
                value(backend, count)
            );
        }
    }
}

fn head(page: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(page, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_cumulative() {
        let histogram = Histogram::default();
        for millis in [1, 3, 3, 1_000_000] {
            histogram.observe(Duration::from_millis(millis));
        }
        let mut page = String::new();
        histogram.write(&mut page, "x");
        assert!(page.starts_with("x_bucket{le=\"0.001\"} 1\n"), "{page}");
        assert!(page.contains("x_bucket{le=\"0.005\"} 3\n"), "{page}");
        assert!(page.contains("x_bucket{le=\"600\"} 3\nx_bucket{le=\"+Inf\"} 4\n"));
        assert!(page.ends_with("x_sum 1000.007\nx_count 4\n"), "{page}");
    }
}
