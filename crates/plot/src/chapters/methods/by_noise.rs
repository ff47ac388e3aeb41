//! Delta cosine and weight error over the noise ratio.

use super::arm::{Arm, Pair, distinct, stroke};
use crate::{
    Figure, Result,
    figures::{Curve, Curves, CurvesPanel, Unit, log_ticks},
};
use xgraft_results::human::number;

/// Panels side by side.
const COLUMNS: usize = 3;

/// The quantities of every pair that has two formats or more, for the series that are there on every format.
pub(super) fn figure(pairs: &[Pair<'_>]) -> Result<Option<Figure>> {
    let several = pairs.iter().filter(|pair| places(pair).len() > 1);
    let pairs: Vec<&Pair<'_>> = several.collect();
    let series = series(&pairs);
    if pairs.is_empty() || series.is_empty() {
        return Ok(None);
    }
    let arms = pairs.iter().flat_map(|pair| &pair.arms);
    let shown = arms.filter(|arm| series.contains(&arm.series()));
    let largest = shown.filter_map(|arm| arm.rank).max();
    let figure = Curves {
        panels: pairs
            .iter()
            .flat_map(|pair| panels(pair, &series))
            .collect(),
        columns: COLUMNS,
        series: series
            .iter()
            .map(|name| (name.clone(), stroke(name, largest)))
            .collect(),
        behind: None,
    };
    let spans: Vec<String> = pairs.iter().map(|pair| span(pair)).collect();
    let spans = spans.join("; ");
    let name = "methods-by-noise";
    Ok(Some(Figure {
        name: name.to_owned(),
        caption: format!(
            "How much of the fine-tune is served (left), how near the weights come (middle), and B's weight error over A's of the same \
             rank (right), as quantization noise outgrows the fine-tune from left to right. At ‖N‖/‖ΔW‖ = 1 the noise is as large as \
             what was learnt. On the right B is never above 1: it is nearer to the tuned weights even where it serves less of the \
             fine-tune. ‖N‖/‖ΔW‖: {spans}.",
        ),
        alt: format!(
            "Delta cosine, weight error and B's error over A's of {} over the noise ratio: {spans}.",
            series.join(", "),
        ),
        svg: figure.render(name)?,
    }))
}

/// By rank; C last.
fn series(pairs: &[&Pair<'_>]) -> Vec<String> {
    let arms = pairs.iter().flat_map(|pair| &pair.arms);
    let mut arms: Vec<&Arm<'_>> = arms.collect();
    arms.sort_by_key(|arm| (arm.rank.is_none(), arm.rank, arm.method));
    let mut series = distinct(arms.into_iter().map(Arm::series));
    series.retain(|name| {
        let everywhere = |pair: &&Pair<'_>| {
            let mut schemes = pair.schemes().into_iter();
            schemes.all(|scheme| pair.find(scheme, name).is_some())
        };
        pairs.iter().all(everywhere)
    });
    series
}

/// The formats where the noise of the base puts them.
fn places(pair: &Pair<'_>) -> Vec<(f64, String)> {
    let schemes = pair.schemes().into_iter();
    let place = |scheme: &str| Some((pair.noise(scheme)?, scheme.to_owned()));
    let mut places: Vec<(f64, String)> = schemes.filter_map(place).collect();
    places.retain(|(x, _)| *x > 0.0);
    places.sort_by(|a, b| a.0.total_cmp(&b.0));
    places
}

/// `int8 0.0962, fp8-block 0.336`, with the pair's name in front where it has one.
fn span(pair: &Pair<'_>) -> String {
    let places = places(pair).into_iter();
    let places: Vec<String> = places
        .map(|(x, scheme)| format!("{scheme} {}", number(x)))
        .collect();
    match pair.name {
        "" => places.join(", "),
        name => format!("{name}: {}", places.join(", ")),
    }
}

/// B's error over A's of the same rank, where both are.
fn ratio(pair: &Pair<'_>, scheme: &str, series: &str) -> Option<f64> {
    let metric = "total_relative_error";
    let rank = series.strip_prefix("B ")?;
    let a = pair.find(scheme, &format!("A {rank}"))?.get(metric)?;
    let b = pair.find(scheme, series)?.get(metric)?;
    (a > 0.0).then(|| b / a)
}

fn panels(pair: &Pair<'_>, series: &[String]) -> [CurvesPanel; 3] {
    let places = places(pair);
    let ratios = |(at, name): (usize, &String)| Curve {
        series: Some(at),
        points: places
            .iter()
            .filter_map(|(x, scheme)| Some((*x, ratio(pair, scheme, name)?)))
            .collect(),
    };
    let curves = |metric: &str| {
        let point = |(x, scheme): &(f64, String), name: &str| {
            Some((*x, pair.find(scheme, name)?.get(metric)?))
        };
        let curve = |(at, name): (usize, &String)| Curve {
            series: Some(at),
            points: places
                .iter()
                .filter_map(|place| point(place, name))
                .collect(),
        };
        series.iter().enumerate().map(curve).collect()
    };
    let ends = places.first().zip(places.last());
    let ticks = ends.map_or_else(Vec::new, |(low, high)| log_ticks(low.0, high.0));
    let panel = |title: &str, note: &str, unit, curves| CurvesPanel {
        title: pair.title(title),
        note: note.to_owned(),
        unit,
        below: "‖N‖/‖ΔW‖ of the base, logarithmic".to_owned(),
        ticks: ticks.clone(),
        places: places.clone(),
        log: unit == Unit::Percent,
        include: vec![0.0, 1.0],
        curves,
    };
    [
        panel(
            "Delta cosine",
            "with the fine-tune, more is better",
            Unit::Plain,
            curves("total_delta_cosine"),
        ),
        panel(
            "Weight error",
            "‖served − tuned‖ / ‖tuned‖, less is better",
            Unit::Percent,
            curves("total_relative_error"),
        ),
        panel(
            "B's error over A's",
            "of the same rank, below 1 B is nearer",
            Unit::Plain,
            series.iter().enumerate().map(ratios).collect(),
        ),
    ]
}
