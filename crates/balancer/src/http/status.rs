//! What the balancer says of itself and its backends.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use hyper::{Response, StatusCode};
use serde_json::{Map, Value, json};

use super::reply::{self, Reply};
use super::routes::fine;
use crate::backend::{Backend, State};
use crate::clock;
use crate::shared::Shared;

const PAGE: &str = include_str!("page.html");

/// `GET /`: a page that asks for `/lb_status` again and again.
pub(super) fn page() -> Response<Reply> {
    let page = Bytes::from_static(PAGE.as_bytes());
    reply::of(StatusCode::OK, "text/html; charset=utf-8", page)
}

/// `GET /health`: whether somebody takes requests.
pub(super) fn health(shared: &Shared) -> Response<Reply> {
    let now = clock::now();
    let table = shared.backends.table();
    let any = table.all.iter().any(|backend| backend.takes_requests(now));
    let status = if any {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    reply::of(status, "text/plain", Bytes::new())
}

/// `GET /metrics`.
pub(super) fn metrics(shared: &Shared) -> Response<Reply> {
    let page = shared.metrics.page(shared);
    reply::of(StatusCode::OK, "text/plain; version=0.0.4", page.into())
}

/// `GET /lb_status`.
pub(super) fn lb_status(shared: &Shared) -> Response<Reply> {
    let table = shared.backends.table();
    let backends: Map<String, Value> = table
        .all
        .iter()
        .map(|backend| (backend.url.as_str().to_owned(), of(backend)))
        .collect();
    let total: u64 = table.all.iter().map(|b| u64::from(b.in_flight())).sum();
    let metrics = &shared.metrics;
    fine(&json!({
        "timestamp": rfc3339(clock::unix_time().as_secs()),
        "backends": backends,
        "total_in_flight": total,
        "waiting": shared.backends.waiting(),
        "requests": metrics.requests.get(),
        "failed": metrics.failed.get(),
        "left": metrics.left.get(),
        "replays": metrics.replays.get(),
        "streams_cut": metrics.cut.get(),
        "streams_resumed": metrics.resumed.get(),
        "streams_flagged": metrics.flagged.get(),
    }))
}

fn of(backend: &Backend) -> Value {
    let counts = &backend.counts;
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let state = match backend.state() {
        State::Unknown => "unknown",
        State::Up => "up",
        State::HalfOpen => "half-open",
        State::Down => "down",
    };
    json!({
        "status": &*backend.status(),
        "in_flight": backend.in_flight(),
        "paused_ms": backend.paused(clock::now()),
        "total_requests": count(&counts.requests),
        "total_completed": count(&counts.completed),
        "error_count": count(&counts.errors),
        "state": state,
        "drained": backend.is_drained(),
        "ejections": count(&counts.ejections),
        "head_ms": count(&counts.head_micros) as f64 / 1e3,
        "models": backend.models().names().collect::<Vec<_>>(),
    })
}

/// `GET /v1/models`: what any backend has; nothing if none has said.
pub(super) fn models(shared: &Shared) -> Option<Response<Reply>> {
    let table = shared.backends.table();
    let mut cards: Vec<Value> = Vec::new();
    for backend in &table.all {
        for card in backend.models().cards() {
            if !cards.iter().any(|known| known["id"] == card["id"]) {
                cards.push(card.clone());
            }
        }
    }
    (!cards.is_empty()).then(|| fine(&json!({"object": "list", "data": cards})))
}

/// A time since 1970 as people write it, in UTC.
fn rfc3339(seconds: u64) -> String {
    let (days, rest) = (seconds / 86400, seconds % 86400);
    // Years that begin in March, so that the leap day is a year's last.
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::rfc3339;

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(rfc3339(1_795_259_167), "2026-11-21T11:06:07Z");
    }
}
