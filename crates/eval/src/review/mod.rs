//! The review page: a person looks at an answer and says whether it is right.
//!
//! One page without any asset of the network, served on the loopback address alone. Every decision is on the disk before the
//! page goes on. The page does not say which arm an answer is of.
//!
//! **Invariant:** a request whose `Host` is not the loopback address is refused, so that no page of another site can reach it.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::extract::{Path as At, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::net::TcpListener;

use crate::annotate::judge::Judgement;
use crate::annotate::{Decision, Item, Key, Log, LogError, Opinion, Signals, Triage};

const PAGE: &str = include_str!("page.html");
/// Nothing is loaded from anywhere; scripts and styles are those of the page.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// One answer to be looked at.
#[derive(Clone, Debug)]
pub struct Case {
    /// The attempt.
    pub item: Item,
    /// What was found in its text.
    pub signals: Signals,
    /// What the judge said last.
    pub judgement: Option<Judgement>,
}

/// A review that cannot be opened or has ended badly.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReviewError {
    /// There is nothing to look at.
    #[error("no answer is left to be reviewed; --all shows settled ones too")]
    Nothing,
    /// The decisions cannot be kept.
    #[error("cannot keep decisions")]
    Log {
        /// The cause.
        #[from]
        source: LogError,
    },
    /// The port cannot be taken.
    #[error("cannot listen on 127.0.0.1:{port}")]
    Listen {
        /// The port.
        port: u16,
        /// The cause.
        source: std::io::Error,
    },
    /// Serving failed.
    #[error("the review page stopped")]
    Serve {
        /// The cause.
        source: std::io::Error,
    },
}

/// The cases that a person should see: what the rules left open and what the judge decided, in an order that begins with what
/// has no label and does not follow the arms. With `all`, settled ones at the end too.
#[must_use]
pub fn queue(cases: Vec<Case>, all: bool) -> Vec<Case> {
    let rank = |case: &Case| match (case.signals.triage, &case.judgement) {
        (Triage::Unclear, None) => Some(0),
        (Triage::Unclear, Some(judgement)) if judgement.opinion.is_none() => Some(0),
        (Triage::Unclear, Some(_)) => Some(1),
        (Triage::Right | Triage::Wrong, _) if all => Some(2),
        _ => None,
    };
    let mixed = |case: &Case| {
        let key = &case.item.key;
        let text = format!("{}\n{}\n{}", key.question, key.run, key.arm);
        *blake3::hash(text.as_bytes()).as_bytes()
    };
    let ranked = cases
        .into_iter()
        .filter_map(|case| Some((rank(&case)?, case)));
    let mut ranked: Vec<(i32, Case)> = ranked.collect();
    ranked.sort_by_cached_key(|(rank, case)| (*rank, mixed(case)));
    ranked.into_iter().map(|(_, case)| case).collect()
}

/// An open review.
#[derive(Debug)]
pub struct Review {
    cases: Vec<Case>,
    reviewer: String,
    log: Log,
    decided: Mutex<HashMap<Key, Opinion>>,
}

impl Review {
    /// Opens the log of decisions, which may have some already; those of `reviewer` are shown as done.
    ///
    /// # Errors
    /// There is no case, or the log cannot be opened.
    pub fn open(cases: Vec<Case>, reviewer: &str, log: &Path) -> Result<Self, ReviewError> {
        if cases.is_empty() {
            return Err(ReviewError::Nothing);
        }
        let (log, decisions) = Log::open::<Decision>(log)?;
        let mine = decisions.into_iter().filter(|d| d.who == reviewer);
        Ok(Self {
            cases,
            reviewer: reviewer.to_owned(),
            log,
            decided: Mutex::new(mine.map(|d| (d.key, d.opinion)).collect()),
        })
    }

    /// Takes a port of the loopback address, any for 0.
    ///
    /// # Errors
    /// The port is taken.
    pub async fn listen(port: u16) -> Result<(TcpListener, SocketAddr), ReviewError> {
        let failed = |source| ReviewError::Listen { port, source };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
            .await
            .map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok((listener, address))
    }

    /// Serves the page until `stop` is done.
    ///
    /// # Errors
    /// The socket failed.
    pub async fn serve(
        self: Arc<Self>,
        listener: TcpListener,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), ReviewError> {
        axum::serve(listener, routes(self))
            .with_graceful_shutdown(stop)
            .await
            .map_err(|source| ReviewError::Serve { source })
    }

    /// How many cases there are, and how many this reviewer has decided.
    #[must_use]
    pub fn progress(&self) -> (usize, usize) {
        let decided = self.decided.lock().unwrap_or_else(PoisonError::into_inner);
        let done = self
            .cases
            .iter()
            .filter(|case| decided.contains_key(&case.item.key));
        (self.cases.len(), done.count())
    }

    fn opinion(&self, case: &Case) -> Option<Opinion> {
        let decided = self.decided.lock().unwrap_or_else(PoisonError::into_inner);
        decided.get(&case.item.key).copied()
    }

    /// Keeps a decision: on the disk first.
    fn decide(&self, case: &Case, opinion: Opinion) -> Result<(), LogError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        self.log.append(&Decision {
            key: case.item.key.clone(),
            opinion,
            who: self.reviewer.clone(),
            when: now.map_or(0, |since| since.as_secs()),
        })?;
        let mut decided = self.decided.lock().unwrap_or_else(PoisonError::into_inner);
        decided.insert(case.item.key.clone(), opinion);
        Ok(())
    }
}

fn routes(review: Arc<Review>) -> Router {
    Router::new()
        .route("/", get(page))
        .route("/api/cases", get(cases))
        .route("/api/case/{index}", get(case))
        .route("/api/case/{index}/decision", post(decision))
        .layer(middleware::from_fn(local_only))
        .with_state(review)
}

/// Refuses what a browser sends for another site's sake.
async fn local_only(request: Request, next: Next) -> Response {
    let headers = request.headers();
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let host = text(header::HOST).unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let own = format!("http://{host}");
    let foreign = text(header::ORIGIN).is_some_and(|origin| origin != own);
    if !matches!(name, "127.0.0.1" | "localhost") || foreign {
        return (StatusCode::FORBIDDEN, "only from this machine's own page").into_response();
    }
    next.run(request).await
}

async fn page() -> Response {
    let headers = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    (headers, Html(PAGE)).into_response()
}

type Shared = State<Arc<Review>>;

async fn cases(State(review): Shared) -> Response {
    let all: Vec<Option<Opinion>> = review.cases.iter().map(|c| review.opinion(c)).collect();
    Json(json!({"reviewer": review.reviewer, "opinions": all})).into_response()
}

/// What the page shows of a case; the arm is not in it.
#[derive(Serialize)]
struct Shown<'a> {
    index: usize,
    question: &'a str,
    task: &'a str,
    prompt: &'a str,
    reference: &'a str,
    answer: Option<&'a str>,
    class: &'static str,
    response: &'a str,
    solution: &'a str,
    found: crate::annotate::Solution,
    triage: Triage,
    reference_in_last_words: Option<u64>,
    candidates: &'a std::collections::BTreeMap<String, (String, u64)>,
    judge: Option<Judged<'a>>,
    opinion: Option<Opinion>,
}

#[derive(Serialize)]
struct Judged<'a> {
    model: &'a str,
    opinion: Option<Opinion>,
    reason: &'a str,
}

async fn case(State(review): Shared, At(index): At<usize>) -> Response {
    let Some(case) = review.cases.get(index) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let (item, signals) = (&case.item, &case.signals);
    let judge = case.judgement.as_ref().map(|judgement| Judged {
        model: &judgement.judge,
        opinion: judgement.opinion,
        reason: &judgement.reason,
    });
    let shown = Shown {
        index,
        question: &item.key.question,
        task: &item.task,
        prompt: &item.prompt,
        reference: &item.reference,
        answer: item.answer.as_deref(),
        class: item.class.name(),
        response: &item.response,
        solution: &signals.solution,
        found: signals.found,
        triage: signals.triage,
        reference_in_last_words: signals.reference_in_last_words,
        candidates: &signals.candidates,
        judge,
        opinion: review.opinion(case),
    };
    Json(shown).into_response()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
    opinion: Opinion,
}

async fn decision(State(review): Shared, At(index): At<usize>, Json(said): Json<Said>) -> Response {
    let kept = tokio::task::spawn_blocking(move || {
        let case = review.cases.get(index)?;
        Some(review.decide(case, said.opinion))
    });
    match kept.await {
        Ok(Some(Ok(()))) => StatusCode::NO_CONTENT.into_response(),
        Ok(None) => StatusCode::NOT_FOUND.into_response(),
        Ok(Some(Err(error))) => {
            (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
