//! What both endpoints have in common once the engine works.

use super::error::Result;
use super::stream::{Events, Gone};
use crate::generate::{Job, Run};

/// Makes of a request's tokens what its client reads.
pub(crate) trait Answer: Send + Sync + 'static {
    /// All that the engine gave.
    type Whole: Send + 'static;

    /// What it says besides the tokens.
    fn job(&self) -> &Job;

    /// Collects all, up to its end.
    fn whole(&self, run: &mut Run<'_>) -> impl Future<Output = Result<Self::Whole>> + Send;

    /// All as the text of one object; takes a while if it has many logprobs.
    fn write(&self, whole: Self::Whole) -> serde_json::Result<String>;

    /// In events, up to its end or the reader's.
    fn events(
        &self,
        run: &mut Run<'_>,
        events: &Events,
    ) -> impl Future<Output = Result<(), Gone>> + Send;
}
