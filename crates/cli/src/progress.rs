//! How far the work is: a bar on a terminal, a line now and then elsewhere.

use std::cell::RefCell;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};
use xgraft_checkpoint::RewriteEvent;

use crate::interrupt;

/// How often a line is printed when stderr is no terminal.
const QUIET_INTERVAL: Duration = Duration::from_secs(15);

/// Progress over a total of some unit.
pub(crate) struct Progress {
    verb: &'static str,
    unit: &'static str,
    state: RefCell<State>,
}

struct State {
    bar: ProgressBar,
    total: u64,
    done: u64,
    skipped: u64,
    /// Size of the item in work, for partial progress.
    subject: String,
    start: Instant,
    last_line: Instant,
}

impl Progress {
    /// `unit` is what is counted, in singular: `weight`, `byte`.
    pub(crate) fn new(verb: &'static str, unit: &'static str) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let bar = ProgressBar::with_draw_target(
            Some(0),
            if terminal {
                ProgressDrawTarget::stderr_with_hz(8)
            } else {
                ProgressDrawTarget::hidden()
            },
        );
        let style = ProgressStyle::with_template(
            "{prefix} [{elapsed}] {bar:30.cyan/black} {percent:>3} %  {msg}",
        )
        .unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.set_style(style.progress_chars("━━╌"));
        bar.set_prefix(verb);
        let now = Instant::now();
        Self {
            verb,
            unit,
            state: RefCell::new(State {
                bar,
                total: 0,
                done: 0,
                skipped: 0,
                subject: String::new(),
                start: now,
                last_line: now,
            }),
        }
    }

    /// The whole of the work; `skipped` of it was done by an earlier run.
    pub(crate) fn begin(&self, total: u64, skipped: u64) {
        let mut state = self.state.borrow_mut();
        state.total = total;
        state.done = skipped;
        state.skipped = skipped;
        state.start = Instant::now();
        state.bar.set_length(total);
        state.bar.set_position(skipped);
    }

    /// What is in work now.
    pub(crate) fn subject(&self, subject: &str) {
        self.state.borrow_mut().subject = subject.to_owned();
        self.show(0);
    }

    /// `amount` more is done.
    pub(crate) fn advance(&self, amount: u64) {
        self.state.borrow_mut().done += amount;
        self.show(0);
    }

    /// Shows that `extra` of the item in work is done as well.
    pub(crate) fn show(&self, extra: u64) {
        let mut state = self.state.borrow_mut();
        let done = (state.done + extra).min(state.total);
        let elapsed = state.start.elapsed();
        let worked = done.saturating_sub(state.skipped);
        let rate = worked as f64 / elapsed.as_secs_f64().max(1e-3);
        let left = if rate > 0.0 && worked > 0 {
            let seconds = (state.total - done) as f64 / rate;
            format!(
                "{} left",
                HumanDuration(Duration::from_secs_f64(seconds.min(1e7)))
            )
        } else {
            "…".to_owned()
        };
        let message = format!("{} {left}  {}", human_rate(rate, self.unit), state.subject);
        state.bar.set_position(done);
        if state.bar.is_hidden() && state.last_line.elapsed() >= QUIET_INTERVAL {
            state.last_line = Instant::now();
            let percent = 100.0 * done as f64 / state.total.max(1) as f64;
            self.line(&format!("{percent:.1} %, {message}"));
        }
        state.bar.set_message(message);
    }

    /// Removes the bar.
    pub(crate) fn finish(&self) {
        self.state.borrow().bar.finish_and_clear();
    }

    fn line(&self, text: &str) {
        #![expect(clippy::print_stderr, reason = "progress belongs to stderr")]
        eprintln!("{}: {text}", self.verb);
    }
}

/// Shows a rewriting; `Err` when the person asked to stop.
pub(crate) fn rewriting(progress: &Progress, event: &RewriteEvent<'_>) -> Result<(), ()> {
    match event {
        RewriteEvent::Planned { bytes, resumed } => progress.begin(*bytes, *resumed),
        RewriteEvent::Begin { tensor } => progress.subject(tensor),
        RewriteEvent::Done { bytes } => progress.advance(*bytes),
        _ => {}
    }
    if interrupt::check().is_break() {
        Err(())
    } else {
        Ok(())
    }
}

fn human_rate(rate: f64, unit: &str) -> String {
    let (value, prefix) = match rate {
        r if r >= 1e9 => (r / 1e9, "G"),
        r if r >= 1e6 => (r / 1e6, "M"),
        r if r >= 1e3 => (r / 1e3, "k"),
        r => (r, ""),
    };
    format!("{value:.1} {prefix}{unit}/s")
}
