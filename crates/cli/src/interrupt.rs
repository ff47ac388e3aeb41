//! Ctrl-C: the first asks the work to stop at the next safe point, the second ends the process.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use anyhow::Context as _;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

static ASKED: OnceLock<Arc<AtomicBool>> = OnceLock::new();
/// The second signal has come.
static HASTE: AtomicBool = AtomicBool::new(false);

/// Starts to listen for SIGINT and SIGTERM.
pub(crate) fn catch() -> anyhow::Result<()> {
    let asked = ASKED.get_or_init(Arc::default);
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, 1, Arc::clone(asked))?;
        signal_hook::flag::register(signal, Arc::clone(asked))?;
    }
    Ok(())
}

/// Starts to listen for SIGINT, SIGTERM and SIGHUP in place of [`catch`]: before the second of them ends the process, `last`
/// is done, on a thread of its own. A SIGHUP that is ignored, as after `nohup`, stays so.
pub(crate) fn catch_with(last: impl FnOnce() + Send + 'static) -> anyhow::Result<()> {
    let asked = Arc::clone(ASKED.get_or_init(Arc::default));
    let hangup = (!is_ignored(SIGHUP)).then_some(SIGHUP);
    let mut signals = Signals::new([SIGINT, SIGTERM].into_iter().chain(hangup))?;
    let wait = move || {
        let mut signals = signals.forever();
        signals.next();
        asked.store(true, Ordering::Relaxed);
        signals.next();
        HASTE.store(true, Ordering::Relaxed);
        last();
        #[expect(clippy::exit, reason = "the second signal asks for just that")]
        std::process::exit(1);
    };
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(wait)
        .context("cannot start the thread that hears signals")?;
    Ok(())
}

/// Whether the second signal of [`catch_with`] has come: what ends meanwhile has not ended well.
pub(crate) fn in_haste() -> bool {
    HASTE.load(Ordering::Relaxed)
}

/// Whether this process was started with the signal ignored.
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

/// A flag that is raised at every SIGHUP, which ends the process no more.
pub(crate) fn hangups() -> anyhow::Result<Arc<AtomicBool>> {
    let flag = Arc::default();
    signal_hook::flag::register(SIGHUP, Arc::clone(&flag))?;
    Ok(flag)
}

/// Whether the work should go on.
pub(crate) fn check() -> ControlFlow<()> {
    if ASKED.get().is_some_and(|a| a.load(Ordering::Relaxed)) {
        ControlFlow::Break(())
    } else {
        ControlFlow::Continue(())
    }
}
