//! Weight error and delta cosine over the rank, on the format with the most ranks.

use super::arm::{Pair, distinct};
use crate::{
    Figure, Result,
    figures::{Curve, Curves, CurvesPanel, Unit},
};

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
                        of(0, self.points("A", "total_relative_error")),
                        of(1, self.points("B", "total_relative_error")),
                        of(2, self.points("B", "total_bound")),
                        of(3, self.level("total_relative_error")),
                    ],
                ),
                self.panel(
                    "Delta cosine",
                    "of served − base and tuned − base, more is better",
                    Unit::Plain,
                    vec![
                        of(0, self.points("A", "total_delta_cosine")),
                        of(1, self.points("B", "total_delta_cosine")),
                        of(3, self.level("total_delta_cosine")),
                    ],
                ),
            ],
            columns: 2,
            series: ["A", "B", "least possible", "C"]
                .map(str::to_owned)
                .to_vec(),
            behind: None,
        };
        let scheme = self.pair.title(self.scheme);
        let ends = self.ranks.first().zip(self.ranks.last());
        let ends = ends.map_or_else(String::new, |(low, high)| format!("{low} to {high}"));
        let name = "methods-by-rank";
        Ok(Figure {
            name: name.to_owned(),
            caption: format!(
                "Methods A and B on {scheme} from rank {ends}; C has no rank and is a level. Where A flattens out, what is left of its \
                 error is the base's rounding noise, not the rank. B lies on the least possible error of its rank (Eckart and Young)."
            ),
            alt: format!("Weight error and delta cosine over the rank, on {scheme}."),
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
            include: vec![0.0],
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

fn of(series: usize, points: Vec<(f64, f64)>) -> Curve {
    Curve {
        series: Some(series),
        points,
    }
}
