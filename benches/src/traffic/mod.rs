//! What stands before and behind a balancer that is measured: clients, servers that compute nothing, and a bare copy of bytes.
//!
//! All of it speaks so little HTTP that it costs less than what it measures, and is one thread each.

pub mod backends;
pub mod load;
mod message;
pub mod relay;
pub mod streams;

use std::future::Future;
use std::io;

/// Runs something on one thread.
///
/// # Errors
/// The system gives no event loop, or the work fails.
pub fn on_one_thread<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(work)
}
