//! What every handler can reach.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use xgraft_tokenizer::{ChatTemplate, Tokenizer};

use crate::api::error::{ApiError, Result};
use crate::config::{ConfigError, ServerConfig};
use crate::engine::{Engine, TokenId};
use crate::grammar::Grammars;
use crate::metrics::Metrics;

/// One server.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) tokenizer: Arc<Tokenizer>,
    pub(crate) template: Option<ChatTemplate>,
    pub(crate) grammars: Grammars,
    pub(crate) config: ServerConfig,
    pub(crate) metrics: Arc<Metrics>,
    /// When it started, in seconds since 1970.
    pub(crate) started: i64,
    /// Requests that are read and tokenized at once.
    preparing: Arc<Semaphore>,
    /// Adapters that are read at once; a disk that is slow holds up nothing else.
    loading: Arc<Semaphore>,
    draining: watch::Sender<bool>,
}

/// Adapters that are read at once.
const LOADS: usize = 4;

/// How long a request may still be on its way once the server drains.
const READING: Duration = Duration::from_secs(1);

impl std::fmt::Debug for dyn Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("model", self.model())
            .finish_non_exhaustive()
    }
}

impl App {
    pub(crate) fn new(
        engine: Arc<dyn Engine>,
        tokenizer: Arc<Tokenizer>,
        template: Option<ChatTemplate>,
        config: ServerConfig,
    ) -> Result<Self, ConfigError> {
        let config = config.validated()?;
        let grammars = Grammars::new(
            &tokenizer,
            engine.model().vocab_size,
            &config.defaults.eos_tokens,
        )?;
        let metrics = Arc::new(Metrics::new(
            &config.model_names[0],
            engine.clone(),
            config.max_adapters,
        ));
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self {
            engine,
            tokenizer,
            template,
            grammars,
            config,
            metrics,
            started: crate::chance::unix_time(),
            preparing: Arc::new(Semaphore::new(4 * cores)),
            loading: Arc::new(Semaphore::new(LOADS)),
            draining: watch::Sender::new(false),
        })
    }

    /// Refuses new requests from now on; those that run go on.
    pub(crate) fn drain(&self) {
        self.draining.send_replace(true);
        self.engine.drain();
    }

    /// Whether new requests are refused.
    pub(crate) fn is_draining(&self) -> bool {
        *self.draining.borrow()
    }

    /// Ends a while after the server began to drain: who has not sent a whole request by then is not waited for.
    pub(crate) fn reading_ends(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut draining = self.draining.subscribe();
        async move {
            // It cannot fail while a connection holds the app.
            let _ = draining.wait_for(|draining| *draining).await;
            tokio::time::sleep(READING).await;
        }
    }

    /// Prepares a request on a thread that may block.
    pub(crate) async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let app = self.clone();
        on_a_thread(&self.preparing, move || work(&app)).await
    }

    /// Reads files, for as long as they take.
    pub(crate) async fn loading<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let app = self.clone();
        on_a_thread(&self.loading, move || work(&app)).await
    }

    /// The ids of a text that came as `param`.
    pub(crate) fn encode(
        &self,
        param: &str,
        text: &str,
        add_special: bool,
    ) -> Result<Vec<TokenId>> {
        let ids = self.tokenizer.encode(text, add_special);
        ids.map_err(|error| ApiError::invalid(param, format!("`{param}`: {error}")))
    }
}

/// Works on a thread that may block. It keeps its permit until it is done: a client that leaves does not end it.
async fn on_a_thread<T: Send + 'static>(
    permits: &Arc<Semaphore>,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let permit = permits.clone().acquire_owned().await;
    let work = move || {
        let _permit = permit;
        work()
    };
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| Err(ApiError::internal("the request could not be prepared")))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn work_that_nobody_waits_for_any_more_still_counts() {
        const LIMIT: usize = 2;
        let permits = Arc::new(Semaphore::new(LIMIT));
        let begun = Arc::new(AtomicUsize::new(0));
        let over = Arc::new(AtomicBool::new(false));
        for _ in 0..10 {
            let (begun, over) = (begun.clone(), over.clone());
            let work = move || {
                begun.fetch_add(1, Ordering::SeqCst);
                while !over.load(Ordering::SeqCst) {
                    std::thread::sleep(Duration::from_millis(1));
                }
                Ok(())
            };
            let client = on_a_thread(&permits, work);
            let left = tokio::time::timeout(Duration::from_millis(10), client).await;
            assert!(left.is_err(), "the client leaves before the work is done");
        }
        over.store(true, Ordering::SeqCst);
        let _all = permits.acquire_many(LIMIT as u32).await.unwrap();
        assert_eq!(begun.load(Ordering::SeqCst), LIMIT);
    }
}
