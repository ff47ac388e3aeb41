//! Ctrl-C: the first asks the work to stop at the next safe point, the second ends the process.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use signal_hook::consts::{SIGINT, SIGTERM};

static ASKED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// Starts to listen for SIGINT and SIGTERM.
pub(crate) fn catch() -> anyhow::Result<()> {
    let asked = ASKED.get_or_init(Arc::default);
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, 1, Arc::clone(asked))?;
        signal_hook::flag::register(signal, Arc::clone(asked))?;
    }
    Ok(())
}

/// Whether the work should go on.
pub(crate) fn check() -> ControlFlow<()> {
    if ASKED.get().is_some_and(|a| a.load(Ordering::Relaxed)) {
        ControlFlow::Break(())
    } else {
        ControlFlow::Continue(())
    }
}
