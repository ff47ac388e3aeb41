//! How a run is shown: while it works, and when it has ended.

use std::time::Duration;

use xgraft_dataset::Class;
use xgraft_eval::run::{Progress, Report, Snapshot, TaskCounts};
use xgraft_results::human;

use crate::output::say;
use crate::progress::Progress as Bar;
use crate::table::Table;

/// How often the bar is drawn again.
const TICK: Duration = Duration::from_millis(250);

/// Shows the counters until it is dropped.
pub(super) async fn follow(counters: Progress) {
    let bar = Bar::new("eval", "question");
    let (mut begun, mut shown) = (false, 0);
    loop {
        tokio::time::sleep(TICK).await;
        let now = counters.snapshot();
        if now.total == 0 {
            continue;
        }
        if !begun {
            bar.begin(now.total, now.before);
            (begun, shown) = (true, now.before);
        }
        bar.advance(now.done().saturating_sub(shown));
        shown = now.done().max(shown);
        bar.subject(&line(&now));
    }
}

fn line(now: &Snapshot) -> String {
    let tokens = now.usage.prompt_tokens + now.usage.completion_tokens;
    format!(
        "{} right, {} unparsed, {} overflow, {} failed, {} retries, {} tokens",
        now.of(Class::Right),
        now.of(Class::Unparsed),
        now.of(Class::Overflow),
        now.of(Class::Infrastructure),
        now.retries,
        human::number(tokens as f64),
    )
}

/// The counts by task.
pub(super) fn table(report: &Report) -> anyhow::Result<()> {
    let mut table = Table::new(&[
        "task", "scored", "right", "wrong", "unparsed", "overflow", "accuracy",
    ]);
    for (task, counts) in &report.tasks {
        table.row(row(task, counts));
    }
    table.row(row("all", &report.all));
    say(table.render().trim_end())?;
    if let Some(mean) = report.macro_accuracy() {
        say(&format!("mean of the tasks: {}", human::percent(mean)))?;
    }
    Ok(())
}

fn row(name: &str, counts: &TaskCounts) -> Vec<String> {
    let numbers = [
        counts.scored(),
        counts.right,
        counts.wrong,
        counts.unparsed,
        counts.overflow,
    ];
    let mut cells = vec![name.to_owned()];
    cells.extend(numbers.iter().map(u64::to_string));
    cells.push(counts.accuracy().map_or_else(String::new, human::percent));
    cells
}
