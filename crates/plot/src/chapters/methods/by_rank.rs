//! Weight error and delta cosine over the rank, on the format with the most ranks.

use super::arm::{Pair, distinct, stroke};
use crate::{
    Figure, Result,
    figures::{Curve, Curves, CurvesPanel, Stroke, Unit},
};

/// Panels side by side.
const COLUMNS: usize = 3;

/// What a curve is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    A,
    B,
    Least,
    C,
}

impl Line {
    const ALL: [Self; 4] = [Self::A, Self::B, Self::Least, Self::C];

    fn name(self) -> &'static str {
        match self {
            Self::A => "A",
            Self::B => "B",
            Self::Least => "least possible",
            Self::C => "C",
        }
    }

    fn stroke(self) -> Stroke {
        match self {
            Self::Least => Stroke::band(),
            _ => stroke(self.name(), None),
        }
    }
}

/// One format of one pair, with its ranks.
struct Choice<'a> {
    pair: &'a Pair<'a>,
    scheme: &'a str,
    ranks: Vec<u32>,
}

/// Nothing where no format has three ranks.
pub(super) fn figure(pairs: &[Pair<'_>]) -> Result<Option<Figure>> {
    let choices = pairs.iter().flat_map(|pair| {
        let schemes = pair.schemes().into_iter();
        schemes.map(move |scheme| Choice::of(pair, scheme))
    });
    // The first of those with the most.
    let most = choices.reduce(|best, next| {
        let more = next.ranks.len() > best.ranks.len();
        if more { next } else { best }
    });
    match most.filter(|choice| choice.ranks.len() > 2) {
        Some(choice) => choice.figure().map(Some),
        None => Ok(None),
    }
}

impl<'a> Choice<'a> {
    fn of(pair: &'a Pair<'a>, scheme: &'a str) -> Self {
        let arms = pair.arms.iter().filter(|arm| arm.scheme == scheme);
        let mut ranks = distinct(arms.filter_map(|arm| arm.rank));
        ranks.sort_unstable();
        Self {
            pair,
            scheme,
            ranks,
        }
    }

    fn figure(&self) -> Result<Figure> {
        let figure = Curves {
            panels: vec![
                self.panel(
                    "Weight error",
                    "‖served − tuned‖ / ‖tuned‖, less is better",
                    Unit::Percent,
                    vec![
                        of(Line::A, self.points("A", "total_relative_error")),
                        of(Line::B, self.points("B", "total_relative_error")),
                        of(Line::Least, self.points("B", "total_bound")),
                        of(Line::C, self.level("total_relative_error")),
                    ],
                ),
                self.panel(
                    "B's error over A's",
                    "of the same rank, below 1 B is nearer",
                    Unit::Plain,
                    vec![of(Line::B, self.ratios())],
                ),
                self.panel(
                    "Delta cosine",
                    "with the fine-tune, more is better",
                    Unit::Plain,
                    vec![
                        of(Line::A, self.points("A", "total_delta_cosine")),
                        of(Line::B, self.points("B", "total_delta_cosine")),
                        of(Line::C, self.level("total_delta_cosine")),
                    ],
                ),
            ],
            columns: COLUMNS,
            series: Line::ALL
                .map(|line| (line.name().to_owned(), line.stroke()))
                .to_vec(),
            behind: None,
        };
        let scheme = match self.pair.name {
            "" => self.scheme.to_owned(),
            pair => format!("{} of the pair {pair}", self.scheme),
        };
        let ends = self.ranks.first().zip(self.ranks.last());
        let ends = ends.map_or_else(String::new, |(low, high)| format!("{low} to {high}"));
        let name = "methods-by-rank";
        Ok(Figure {
            name: name.to_owned(),
            caption: format!(
                "Methods A and B on {scheme}, from rank {ends}; C has no rank and is a level. Where A flattens out, what is left of its \
                 error is the base's rounding noise, not the rank. B lies on the least possible error of its rank (the grey band, Eckart and \
                 Young), and so never above A: the middle panel has B's error over A's."
            ),
            alt: format!(
                "Weight error, B's error over A's, and delta cosine over the rank, on {scheme}."
            ),
            svg: figure.render(name)?,
        })
    }

    fn panel(&self, title: &str, note: &str, unit: Unit, curves: Vec<Curve>) -> CurvesPanel {
        let ticks = self.ranks.iter();
        CurvesPanel {
            title: self.pair.title(title),
            note: note.to_owned(),
            unit,
            below: "rank, logarithmic".to_owned(),
            ticks: ticks
                .map(|rank| (f64::from(*rank), rank.to_string()))
                .collect(),
            places: Vec::new(),
            log: false,
            include: match unit {
                Unit::Plain => vec![0.0, 1.0],
                Unit::Percent => vec![0.0],
            },
            curves,
        }
    }

    fn points(&self, method: &str, metric: &str) -> Vec<(f64, f64)> {
        let point = |rank: &u32| {
            let arm = self.pair.find(self.scheme, &format!("{method} r{rank}"))?;
            Some((f64::from(*rank), arm.get(metric)?))
        };
        self.ranks.iter().filter_map(point).collect()
    }

    /// B's error over A's.
    fn ratios(&self) -> Vec<(f64, f64)> {
        let [a, b] = ["A", "B"].map(|method| self.points(method, "total_relative_error"));
        let of_a = |rank: f64| a.iter().find(|point| point.0.total_cmp(&rank).is_eq());
        let ratio = |(rank, b): &(f64, f64)| {
            let (_, a) = of_a(*rank).filter(|(_, a)| *a > 0.0)?;
            Some((*rank, b / a))
        };
        b.iter().filter_map(ratio).collect()
    }

    /// C has no rank: a level over all of them.
    fn level(&self, metric: &str) -> Vec<(f64, f64)> {
        let c = self.pair.find(self.scheme, "C");
        let value = c.and_then(|arm| arm.get(metric));
        let ends = [self.ranks.first(), self.ranks.last()]
            .into_iter()
            .flatten();
        ends.filter_map(|rank| Some((f64::from(*rank), value?)))
            .collect()
    }
}

fn of(line: Line, points: Vec<(f64, f64)>) -> Curve {
    Curve {
        series: Line::ALL.iter().position(|known| *known == line),
        points,
    }
}
