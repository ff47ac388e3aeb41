//! What models answer: arms beside each other, by task, by how their questions ended, and by what they cost.

use crate::{
    Figure, Result, Section, Table,
    figures::{Cloud, Dot, Interval, Intervals, IntervalsPanel, Matrix, Portions, Unit},
    inputs::{Input, Inputs},
};
use xgraft_results::{
    Row,
    human::{bytes, number, percent},
};

/// How questions end, as the rows call it and as people do.
const CLASSES: [(&str, &str); 6] = [
    ("questions_right", "right"),
    ("questions_wrong", "wrong"),
    ("questions_unparsed", "no answer of the form"),
    ("questions_overflow", "a limit was reached"),
    ("questions_infrastructure", "the endpoint failed"),
    ("questions_unlabelled", "not labelled"),
];

pub(super) fn section(inputs: &Inputs) -> Result<Option<Section>> {
    let evaluated: Vec<&Input> = inputs.0.iter().filter(|input| has(input)).collect();
    if evaluated.is_empty() {
        return Ok(None);
    }
    let mut section = Section::new("Answers").say(
        "Share of right answers, with Wilson's interval for all questions, and the mean over tasks with the interval of independent binomials. \
         An interval that holds another arm's dot is no proof that both are equal; the table has the tests.",
    );
    for input in evaluated {
        if input.total("synthetic").is_some() {
            let label = &input.label;
            section = section.say(format!(
                "{label}: synthetic questions, made up in the form of these tasks. They show what a method keeps of a fine-tune, and nothing of \
                 what a model knows."
            ));
        }
        let arms = Arms::of(input);
        section = section.figure(arms.accuracy()?).figure(arms.by_task()?);
        section = section.figure(arms.endings()?);
        if let Some(figure) = arms.by_memory()? {
            section = section.figure(figure);
        }
        if let Some(figure) = arms.divergence()? {
            section = section.figure(figure);
        }
        let tables = [arms.comparisons(), arms.pairs()];
        for table in tables.into_iter().flatten() {
            section = section.table(table);
        }
    }
    Ok(Some(section))
}

fn has(input: &Input) -> bool {
    input.rows.iter().any(|row| row.metric == "accuracy_micro")
}

/// The arms of one source.
struct Arms<'a> {
    input: &'a Input,
    names: Vec<&'a str>,
}

impl<'a> Arms<'a> {
    fn of(input: &'a Input) -> Self {
        let rows = input
            .rows
            .iter()
            .filter(|row| row.metric == "accuracy_micro");
        let names = rows.filter_map(|row| row.arm.as_deref()).collect();
        Self { input, names }
    }

    fn row(&self, metric: &str, arm: &str, task: Option<&str>) -> Option<&'a Row> {
        self.input.rows.iter().find(|row| {
            row.metric == metric && row.arm.as_deref() == Some(arm) && row.task.as_deref() == task
        })
    }

    fn interval(&self, metric: &str, arm: &str) -> Option<Interval> {
        let row = self.row(metric, arm, None)?;
        Some(Interval {
            value: row.value,
            lo: row.lo.unwrap_or(row.value),
            hi: row.hi.unwrap_or(row.value),
        })
    }

    /// Of all intervals.
    fn level(&self) -> String {
        let level = self.input.total("interval_level");
        level.map_or_else(|| "an unknown level".to_owned(), percent)
    }

    /// The arm that the others are compared with.
    fn reference(&self) -> Option<usize> {
        let row = self
            .input
            .rows
            .iter()
            .find(|row| row.metric == "difference_micro")?;
        let name = row.model.as_deref()?;
        self.names.iter().position(|arm| *arm == name)
    }

    fn named(&self, figure: &str) -> String {
        format!(
            "{figure}-{}",
            self.input.label.replace(['/', ' ', '.'], "-")
        )
    }

    fn accuracy(&self) -> Result<Figure> {
        let panel = |metric: &str, title: &str, note: &str| IntervalsPanel {
            title: title.to_owned(),
            note: note.to_owned(),
            unit: Unit::Percent,
            values: self
                .names
                .iter()
                .map(|arm| self.interval(metric, arm))
                .collect(),
            reference: self.reference(),
        };
        let rows = self.names.iter();
        let figure = Intervals {
            rows: rows.map(|arm| ((*arm).to_owned(), series(arm))).collect(),
            panels: vec![
                panel(
                    "accuracy_micro",
                    "all questions",
                    "right of all, Wilson's interval",
                ),
                panel(
                    "accuracy_macro",
                    "mean of the tasks",
                    "every task counts the same",
                ),
            ],
        };
        let name = self.named("accuracy");
        Ok(Figure {
            svg: figure.render(&name)?,
            caption: format!(
                "{}: right answers. Lines are intervals of {} of one arm alone; the upright line is the arm that the others are compared with.",
                self.input.label,
                self.level()
            ),
            alt: "Share of right answers by arm, with intervals".to_owned(),
            name,
        })
    }

    fn by_task(&self) -> Result<Figure> {
        let mut tasks: Vec<&str> = self
            .input
            .rows
            .iter()
            .filter_map(|row| row.task.as_deref())
            .collect();
        tasks.sort_unstable();
        tasks.dedup();
        let value = |arm: &str, task: &str| Some(self.row("accuracy", arm, Some(task))?.value);
        let values = self.names.iter();
        let figure = Matrix {
            rows: self.names.iter().map(|arm| (*arm).to_owned()).collect(),
            values: values
                .map(|arm| tasks.iter().map(|task| value(arm, task)).collect())
                .collect(),
            columns: tasks.iter().map(|task| (*task).to_owned()).collect(),
        };
        let name = self.named("tasks");
        Ok(Figure {
            svg: figure.render(&name)?,
            caption: format!("{}: right answers by task.", self.input.label),
            alt: "Share of right answers by arm and task".to_owned(),
            name,
        })
    }

    fn endings(&self) -> Result<Figure> {
        let count =
            |arm: &str, metric: &str| self.row(metric, arm, None).map_or(0.0, |row| row.value);
        let ended = CLASSES
            .iter()
            .filter(|(metric, _)| self.names.iter().any(|arm| count(arm, metric) > 0.0));
        let ended: Vec<_> = ended.collect();
        let arms = self.names.iter();
        let figure = Portions {
            rows: self.names.iter().map(|arm| (*arm).to_owned()).collect(),
            pieces: ended.iter().map(|(_, name)| (*name).to_owned()).collect(),
            counts: arms
                .map(|arm| ended.iter().map(|(metric, _)| count(arm, metric)).collect())
                .collect(),
        };
        let name = self.named("endings");
        Ok(Figure {
            svg: figure.render(&name)?,
            caption: format!("{}: how questions ended.", self.input.label),
            alt: "How questions ended, by arm".to_owned(),
            name,
        })
    }

    fn by_memory(&self) -> Result<Option<Figure>> {
        let dot = |arm: &&str| {
            Some(Dot {
                name: (*arm).to_owned(),
                series: series(arm),
                bytes: self.row("memory", arm, None)?.value,
                y: self.interval("accuracy_macro", arm)?,
            })
        };
        let dots: Vec<Dot> = self.names.iter().filter_map(dot).collect();
        if dots.len() < 2 {
            return Ok(None);
        }
        let figure = Cloud {
            across: "memory of weights and adapter".to_owned(),
            up: "right answers, mean of the tasks".to_owned(),
            dots,
        };
        let name = self.named("memory");
        Ok(Some(Figure {
            svg: figure.render(&name)?,
            caption: format!("{}: what arms give and what they cost.", self.input.label),
            alt: "Right answers over memory, by arm".to_owned(),
            name,
        }))
    }

    /// How far arms are from the reference in their distributions.
    fn divergence(&self) -> Result<Option<Figure>> {
        let known = |arm: &&&str| self.row("kl", arm, None).is_some_and(|row| row.value > 0.0);
        let arms: Vec<&&str> = self.names.iter().filter(known).collect();
        if arms.is_empty() {
            return Ok(None);
        }
        let figure = Intervals {
            rows: arms
                .iter()
                .map(|arm| ((**arm).to_owned(), series(arm)))
                .collect(),
            panels: vec![IntervalsPanel {
                title: "KL from the reference".to_owned(),
                note: "nats a token of its answers; intervals over questions".to_owned(),
                unit: Unit::Plain,
                values: arms.iter().map(|arm| self.interval("kl", arm)).collect(),
                reference: None,
            }],
        };
        let name = self.named("divergence");
        Ok(Some(Figure {
            svg: figure.render(&name)?,
            caption: format!(
                "{}: the mean divergence of an arm's next token from the reference's, over the tokens of the reference's own answers. Lines are intervals of {}.",
                self.input.label,
                self.level()
            ),
            alt: "Divergence from the reference by arm, with intervals".to_owned(),
            name,
        }))
    }

    /// Pairs of arms that were held against each other.
    fn pairs(&self) -> Option<Table> {
        let rows = self.input.rows.iter();
        let pairs: Vec<&Row> = rows.filter(|row| row.metric == "pair_difference").collect();
        if pairs.is_empty() {
            return None;
        }
        let level = format!("interval of {}", self.level());
        let mut table = Table::new(
            format!(
                "{}: pairs of arms, the first less the second; points of right answers, and nats a token of the divergence from the reference, paired by question. Each p is by Holm over all pairs.",
                self.input.label
            ),
            [
                ("pair", false),
                ("points", true),
                (&level, true),
                ("p", true),
                ("KL", true),
                (&level, true),
                ("p of KL", true),
            ],
        );
        for pair in pairs {
            let (arm, beside) = (pair.arm.as_deref()?, pair.model.as_deref()?);
            let row = |metric: &str| {
                let mut rows = self.input.rows.iter();
                rows.find(|row| {
                    row.metric == metric
                        && row.arm.as_deref() == Some(arm)
                        && row.model.as_deref() == Some(beside)
                })
            };
            let (kl, unknown) = (row("pair_kl_difference"), "–");
            let value = |row: Option<&Row>| row.map_or(unknown.to_owned(), |row| number(row.value));
            let ends = |row: Option<&Row>, show: &dyn Fn(f64) -> String| {
                let ends = row.and_then(|row| row.lo.zip(row.hi));
                ends.map_or(unknown.to_owned(), |(lo, hi)| {
                    format!("{} to {}", show(lo), show(hi))
                })
            };
            let points = |share: f64| format!("{:+.1}", 100.0 * share);
            table.push([
                format!("{arm} against {beside}"),
                points(pair.value),
                ends(Some(pair), &points),
                value(row("pair_p_holm")),
                value(kl),
                ends(kl, &number),
                value(row("pair_kl_p_holm")),
            ]);
        }
        Some(table)
    }

    /// What paired tests say.
    fn comparisons(&self) -> Option<Table> {
        let reference = self.names.get(self.reference()?)?;
        let level = format!("interval of {}", self.level());
        let mut table = Table::new(
            format!(
                "{}: against {reference}. Points are of all questions; p by exact McNemar where the same questions are known and else by the stratified test of counts, and by Holm over the family; KL from {reference} in nats a token of its answers; memory of weights and adapter, and the resident memory of the server with all adapters that it had.",
                self.input.label
            ),
            [
                ("arm", false),
                ("right", true),
                ("points", true),
                (&level, true),
                ("p", true),
                ("p by Holm", true),
                ("p of equality", true),
                ("KL", true),
                ("memory", true),
                ("resident", true),
            ],
        );
        let value = |metric: &str, arm: &str| self.row(metric, arm, None).map(|row| row.value);
        let p = |metric: &str, arm: &str| value(metric, arm).map_or("–".to_owned(), number);
        for arm in &self.names {
            let right =
                value("questions_right", arm).map_or("–".to_owned(), |n| format!("{n:.0}"));
            let difference = self.row("difference_micro", arm, None);
            let points =
                difference.map_or("–".to_owned(), |row| format!("{:+.1}", 100.0 * row.value));
            let interval = difference.and_then(|row| row.lo.zip(row.hi));
            let memory = |metric| value(metric, arm).map_or("–".to_owned(), |b| bytes(b as u64));
            table.push([
                (*arm).to_owned(),
                right,
                points,
                interval.map_or("–".to_owned(), |(lo, hi)| {
                    format!("{:+.1} to {:+.1}", 100.0 * lo, 100.0 * hi)
                }),
                p("p", arm),
                p("p_holm", arm),
                p("p_equivalence", arm),
                p("kl", arm),
                memory("memory"),
                memory("memory_resident"),
            ]);
        }
        Some(table)
    }
}

/// The ink of what is none of the methods.
const OTHER: usize = 3;

/// The ink of a method, by the name of its arm; the same as in the figures of weights.
fn series(arm: &str) -> usize {
    let name = arm.strip_prefix("method_").unwrap_or(arm);
    match name.split(['-', '_']).next() {
        Some("A" | "a") => 0,
        Some("B" | "b") => 1,
        Some("C" | "c") => 2,
        _ => OTHER,
    }
}
