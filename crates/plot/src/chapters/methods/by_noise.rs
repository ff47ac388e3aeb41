//! Delta cosine and weight error over the noise ratio.

use super::arm::{Arm, Pair, distinct};
use crate::{
    Figure, Result,
    figures::{Curve, Curves, CurvesPanel, Unit, log_ticks},
    quantity::number,
};

/// Both quantities of every pair that has two formats or more, for the series that are there on every format.
pub(super) fn figure(pairs: &[Pair<'_>]) -> Result<Option<Figure>> {
    let several = pairs.iter().filter(|pair| places(pair).len() > 1);
    let pairs: Vec<&Pair<'_>> = several.collect();
    let series = series(&pairs);
    if pairs.is_empty() || series.is_empty() {
        return Ok(None);
    }
    let figure = Curves {
        panels: pairs
            .iter()
            .flat_map(|pair| panels(pair, &series))
            .collect(),
        columns: 2,
        series,
        behind: None,
    };
    let spans: Vec<String> = pairs.iter().map(|pair| span(pair)).collect();
    let spans = spans.join("; ");
    let name = "methods-by-noise";
    Ok(Some(Figure {
        name: name.to_owned(),
        caption: format!(
            "How much of the fine-tune is served (left), and how near the weights come (right), as quantization noise outgrows the \
             fine-tune from left to right. At ‖N‖/‖ΔW‖ = 1 the noise is as large as what was learnt. ‖N‖/‖ΔW‖: {spans}.",
        ),
        alt: format!(
            "Delta cosine and weight error of {} over the noise ratio: {spans}.",
            figure.series.join(", "),
        ),
        svg: figure.render(name)?,
    }))
}

/// By rank; C last, and so broadest and below the others.
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

fn panels(pair: &Pair<'_>, series: &[String]) -> [CurvesPanel; 2] {
    let places = places(pair);
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
    let panel = |title: &str, note: &str, unit, metric| CurvesPanel {
        title: pair.title(title),
        note: note.to_owned(),
        unit,
        below: "‖N‖/‖ΔW‖ of the base in that format, logarithmic".to_owned(),
        ticks: ticks.clone(),
        places: places.clone(),
        log: unit == Unit::Percent,
        include: vec![0.0, 1.0],
        curves: curves(metric),
    };
    [
        panel(
            "Delta cosine",
            "of served − base and tuned − base, more is better",
            Unit::Plain,
            "total_delta_cosine",
        ),
        panel(
            "Weight error",
            "‖served − tuned‖ / ‖tuned‖, logarithmic, less is better",
            Unit::Percent,
            "total_relative_error",
        ),
    ]
}
