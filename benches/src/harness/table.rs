//! The table of a run: what was measured against what was asked for.

use std::fmt::Write as _;

/// What a number is asked to be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Goal {
    /// At least this.
    AtLeast(f64),
    /// At most this.
    AtMost(f64),
}

/// How a number is written.
pub type Show = fn(f64) -> String;

/// One line of the table: a number and what it is asked to be.
#[derive(Clone, Debug)]
pub struct Line {
    /// A name for the number, in `snake_case`, the same in every run.
    pub metric: &'static str,
    /// What was measured.
    pub what: String,
    /// Where the number comes from: ours and theirs.
    pub from: String,
    /// The number; `None` where a part of it is missing.
    pub value: Option<f64>,
    /// How it is written.
    pub show: Show,
    /// What it must be.
    pub must: Option<Goal>,
    /// What it should be.
    pub aim: Option<Goal>,
}

/// The whole table.
#[derive(Clone, Debug, Default)]
pub struct Table(pub Vec<Line>);

impl Goal {
    fn holds(self, value: f64) -> bool {
        match self {
            Self::AtLeast(least) => value >= least,
            Self::AtMost(most) => value <= most,
        }
    }

    fn shown(self, show: Show) -> String {
        match self {
            Self::AtLeast(least) => format!("≥ {}", show(least)),
            Self::AtMost(most) => format!("≤ {}", show(most)),
        }
    }
}

impl Line {
    /// `aim`, `must`, `MISSED`, `not measured`, or nothing where nothing is asked.
    fn verdict(&self) -> &'static str {
        let Some(value) = self.value else {
            return "not measured";
        };
        let holds = |goal: Option<Goal>| goal.map(|goal| goal.holds(value));
        match (holds(self.must), holds(self.aim)) {
            (Some(false), _) => "MISSED",
            (_, Some(true)) => "aim",
            (Some(true), _) => "must",
            _ => "",
        }
    }

    fn cells(&self) -> [String; 6] {
        let goal = |goal: Option<Goal>| goal.map_or_else(String::new, |goal| goal.shown(self.show));
        let value = self
            .value
            .map_or_else(|| "not measured".to_owned(), self.show);
        let verdict = self.verdict().to_owned();
        [
            self.what.clone(),
            value,
            goal(self.must),
            goal(self.aim),
            verdict,
            self.from.clone(),
        ]
    }
}

const HEAD: [&str; 6] = ["what", "measured", "must", "aim", "reached", "from"];

impl Line {
    /// A line of a ratio of which nothing is known yet.
    pub(super) fn new(what: String) -> Self {
        Self {
            metric: "",
            what,
            from: String::new(),
            value: None,
            show: times,
            must: None,
            aim: None,
        }
    }

    pub(super) fn named(self, metric: &'static str) -> Self {
        Self { metric, ..self }
    }

    pub(super) fn must(self, goal: Goal) -> Self {
        Self {
            must: Some(goal),
            ..self
        }
    }

    pub(super) fn aim(self, goal: Goal) -> Self {
        Self {
            aim: Some(goal),
            ..self
        }
    }
}

impl Table {
    /// As Markdown, aligned for the terminal too.
    #[must_use]
    pub fn markdown(&self) -> String {
        let lines: Vec<_> = self.0.iter().map(Line::cells).collect();
        let head = HEAD.map(str::to_owned);
        let width = |column: usize| {
            let cells = lines
                .iter()
                .chain([&head])
                .map(|cells| cells[column].chars().count());
            cells.max().unwrap_or(0)
        };
        let widths: [usize; 6] = std::array::from_fn(width);
        let mut out = String::new();
        write_line(&mut out, &head, &widths);
        write_line(&mut out, &widths.map(|width| "-".repeat(width)), &widths);
        for cells in &lines {
            write_line(&mut out, cells, &widths);
        }
        out
    }

    /// How many numbers are not what they must be.
    #[must_use]
    pub fn missed(&self) -> usize {
        self.0
            .iter()
            .filter(|line| line.verdict() == "MISSED")
            .count()
    }
}

fn write_line(out: &mut String, cells: &[String; 6], widths: &[usize; 6]) {
    for (cell, width) in cells.iter().zip(widths) {
        let room = width - cell.chars().count();
        let _ = write!(out, "| {cell}{} ", " ".repeat(room));
    }
    out.push_str("|\n");
}

/// `12.3x`.
pub(super) fn times(value: f64) -> String {
    if value >= 99.5 {
        format!("{value:.0}x")
    } else {
        format!("{value:.2}x")
    }
}

/// `800 MiB`.
pub(super) fn mib(value: f64) -> String {
    format!("{value:.0} MiB")
}

/// `12.3 min`.
pub(super) fn minutes(value: f64) -> String {
    format!("{value:.1} min")
}

/// `0.61 and 67.5 CPU s`.
pub(super) fn seconds(mine: Option<f64>, other: Option<f64>) -> String {
    let show =
        |seconds: Option<f64>| seconds.map_or_else(|| "missing".to_owned(), |s| format!("{s:.3}"));
    format!("{} and {} CPU s", show(mine), show(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(value: Option<f64>) -> Line {
        Line {
            metric: "m",
            what: "rank".to_owned(),
            from: "ours".to_owned(),
            value,
            show: times,
            must: Some(Goal::AtLeast(8.0)),
            aim: Some(Goal::AtLeast(15.0)),
        }
    }

    #[test]
    fn verdicts_tell_aim_from_must_from_missed() {
        let verdict = |value| line(value).verdict();
        assert_eq!(verdict(Some(20.0)), "aim");
        assert_eq!(verdict(Some(9.0)), "must");
        assert_eq!(verdict(Some(7.0)), "MISSED");
        assert_eq!(verdict(None), "not measured");
    }

    #[test]
    fn only_what_was_measured_can_be_missed() {
        assert_eq!(Table(vec![line(None), line(Some(1.0))]).missed(), 1);
    }

    #[test]
    fn the_table_is_aligned() {
        let text = Table(vec![line(Some(9.0)), line(None)]).markdown();
        let lengths: Vec<_> = text.lines().map(|line| line.chars().count()).collect();
        assert!(lengths.iter().all(|length| *length == lengths[0]), "{text}");
    }
}
