//! What both endpoints have in common once the engine works.

use serde_json::Value;

use super::error::Result;
use super::stream::{Events, Gone};
use crate::generate::{Job, Run};

/// Makes of a request's tokens what its client reads.
pub(crate) trait Answer: Send + Sync + 'static {
    /// What it says besides the tokens.
    fn job(&self) -> &Job;

    /// All as one object.
    fn whole(&self, run: &mut Run<'_>) -> impl Future<Output = Result<Value>> + Send;

    /// In events, up to its end or the reader's.
    fn events(
        &self,
        run: &mut Run<'_>,
        events: &Events,
    ) -> impl Future<Output = Result<(), Gone>> + Send;
}
