//! Methods A, B and C beside each other, by the weights that they serve.

use crate::figures::curves::{Curve, Curves, Panel};
use crate::inputs::{Input, Inputs};
use crate::quantity::{number, percent};
use crate::{Figure, Result, Section, Table};

/// One method on one format, with one rank.
#[derive(Clone, Debug)]
struct Arm<'a> {
    /// `A`, `B` or `C`.
    method: &'a str,
    scheme: &'a str,
    rank: Option<u32>,
    input: &'a Input,
}

impl<'a> Arm<'a> {
    /// Of a label such as `A-fp8-block-r32` or `C-int4`.
    fn of(input: &'a Input) -> Option<Self> {
        let (method, rest) = input.label.split_once('-')?;
        if !["A", "B", "C"].contains(&method) {
            return None;
        }
        let split = rest.rsplit_once("-r");
        let ranked = split.and_then(|(scheme, rank)| Some((scheme, rank.parse().ok()?)));
        let (scheme, rank) = match ranked {
            Some((scheme, rank)) => (scheme, Some(rank)),
            None => (rest, None),
        };
        input.total("total_relative_error")?;
        Some(Self {
            method,
            scheme,
            rank,
            input,
        })
    }

    fn get(&self, metric: &str) -> Option<f64> {
        self.input.total(metric)
    }

    /// `A r32`, `C`.
    fn series(&self) -> String {
        match self.rank {
            Some(rank) => format!("{} r{rank}", self.method),
            None => self.method.to_owned(),
        }
    }
}

pub(super) fn section(inputs: &Inputs) -> Result<Option<Section>> {
    let arms: Vec<Arm<'_>> = inputs.0.iter().filter_map(Arm::of).collect();
    if arms.is_empty() {
        return Ok(None);
    }
    let mut section = Section::new("Methods A, B and C, by the weights that they serve")
        .say(
            "A extracts the delta of the tuned and the base weights and serves it on the quantized base. B extracts the delta of the \
             tuned and the quantized base, so that its pair also corrects quantization noise. C quantizes the tuned weights themselves. \
             N is the noise of quantization, dequantized − original, and ΔW the fine-tune, tuned − base; both over all linear layers.",
        )
        .say(
            "Weight error is ‖served − tuned‖/‖tuned‖. By Eckart and Young no pair of its rank comes nearer to the tuned weights than \
             B's, so B's error is never above A's; that says nothing of accuracy. Delta cosine is that of served − base and tuned − base: \
             how much of what is served, beside the base, is the fine-tune.",
        );
    if let Some(figure) = by_noise(&arms)? {
        section = section.figure(figure);
    }
    if let Some(figure) = by_rank(&arms)? {
        section = section.figure(figure);
    }
    Ok(Some(section.table(table(&arms))))
}

fn table(arms: &[Arm<'_>]) -> Table {
    let mut table = Table::new(
        "Every arm. The least error is the Eckart-Young bound of the rank on that base.",
        [
            ("format", false),
            ("‖N‖/‖ΔW‖", true),
            ("method", false),
            ("rank", true),
            ("weight error", true),
            ("least error", true),
            ("without adapter", true),
            ("delta cosine", true),
            ("sign kept", true),
        ],
    );
    for arm in arms {
        let cell =
            |metric, show: fn(f64) -> String| arm.get(metric).map_or_else(|| "–".to_owned(), show);
        table.push([
            arm.scheme.to_owned(),
            cell("total_noise_ratio", number),
            arm.method.to_owned(),
            arm.rank
                .map_or_else(|| "–".to_owned(), |rank| rank.to_string()),
            cell("total_relative_error", percent),
            cell("total_bound", percent),
            cell("total_base_error", percent),
            cell("total_delta_cosine", number),
            cell("total_delta_sign_agreement", percent),
        ]);
    }
    table
}

/// Names in the order in which they first appear.
fn distinct(names: impl Iterator<Item = String>) -> Vec<String> {
    let mut all = Vec::new();
    for name in names {
        if !all.contains(&name) {
            all.push(name);
        }
    }
    all
}

/// Delta cosine and weight error over the noise ratio, for the series that are there on every format.
fn by_noise(arms: &[Arm<'_>]) -> Result<Option<Figure>> {
    let schemes = distinct(arms.iter().map(|arm| arm.scheme.to_owned()));
    let mut series = distinct(arms.iter().map(Arm::series));
    series.retain(|name| {
        schemes.iter().all(|scheme| {
            arms.iter()
                .any(|arm| arm.scheme == scheme && arm.series() == *name)
        })
    });
    let key = |name: &String| {
        let rank = name
            .split_once(" r")
            .and_then(|(_, rank)| rank.parse::<u32>().ok());
        (rank, name.clone())
    };
    series.sort_by_key(key);
    // C last, and so broadest and below the others.
    series.sort_by_key(|name| name.starts_with('C'));
    if schemes.len() < 2 || series.is_empty() {
        return Ok(None);
    }
    // C's noise is that of another model; a format stands where the noise of the base puts it.
    let place = |scheme: &str| {
        let of_base = arms
            .iter()
            .filter(|arm| arm.scheme == scheme && arm.method != "C");
        of_base
            .chain(arms.iter().filter(|arm| arm.scheme == scheme))
            .find_map(|arm| arm.get("total_noise_ratio"))
    };
    let mut ticks: Vec<(f64, String)> = schemes
        .iter()
        .filter_map(|scheme| Some((place(scheme)?, scheme.clone())))
        .collect();
    ticks.retain(|(x, _)| *x > 0.0);
    ticks.sort_by(|a, b| a.0.total_cmp(&b.0));
    let curves = |metric: &str| {
        let curve = |(at, name): (usize, &String)| Curve {
            series: at,
            points: ticks
                .iter()
                .filter_map(|(x, scheme)| {
                    let arm = arms
                        .iter()
                        .find(|arm| arm.scheme == scheme && arm.series() == *name);
                    Some((*x, arm?.get(metric)?))
                })
                .collect(),
        };
        series.iter().enumerate().map(curve).collect()
    };
    let named = ticks
        .iter()
        .map(|(x, scheme)| (*x, format!("{scheme} {}", number(*x))))
        .collect::<Vec<_>>();
    let panel = |title: &str, note: &str, metric| Panel {
        title: title.to_owned(),
        note: note.to_owned(),
        below: "‖N‖/‖ΔW‖ of the base in that format, logarithmic".to_owned(),
        ticks: ticks
            .iter()
            .map(|(x, scheme)| (*x, scheme.clone()))
            .collect(),
        include: vec![0.0],
        curves: curves(metric),
    };
    let figure = Curves {
        panels: vec![
            panel(
                "Delta cosine",
                "of served − base and tuned − base, more is better",
                "total_delta_cosine",
            ),
            panel(
                "Weight error",
                "‖served − tuned‖ / ‖tuned‖, less is better",
                "total_relative_error",
            ),
        ],
        series,
    };
    let name = "methods-by-noise";
    let places: Vec<String> = named.into_iter().map(|(_, text)| text).collect();
    Ok(Some(Figure {
        name: name.to_owned(),
        caption: format!(
            "How much of the fine-tune is served, and how near the weights come, as quantization noise outgrows it. ‖N‖/‖ΔW‖: {}.",
            places.join(", ")
        ),
        alt: format!(
            "Delta cosine and weight error of {} over formats from {} to {}.",
            figure.series.join(", "),
            places.first().cloned().unwrap_or_default(),
            places.last().cloned().unwrap_or_default()
        ),
        svg: figure.render(name)?,
    }))
}

/// Weight error and delta cosine over the rank, on the format with the most ranks.
fn by_rank(arms: &[Arm<'_>]) -> Result<Option<Figure>> {
    let ranks_of = |scheme: &str| {
        let mut ranks: Vec<u32> = arms
            .iter()
            .filter(|arm| arm.scheme == scheme)
            .filter_map(|arm| arm.rank)
            .collect();
        ranks.sort_unstable();
        ranks.dedup();
        ranks
    };
    let schemes = distinct(arms.iter().map(|arm| arm.scheme.to_owned()));
    let Some((scheme, ranks)) = schemes
        .iter()
        .map(|scheme| (scheme, ranks_of(scheme)))
        .reduce(|best, next| {
            if next.1.len() > best.1.len() {
                next
            } else {
                best
            }
        })
        .filter(|(_, ranks)| ranks.len() > 2)
    else {
        return Ok(None);
    };
    let series = ["A", "B", "least possible", "C"];
    let points = |method: &str, metric: &str| {
        let point = |rank: &u32| {
            let arm = arms.iter().find(|arm| {
                arm.scheme == scheme && arm.method == method && arm.rank == Some(*rank)
            });
            Some((f64::from(*rank), arm?.get(metric)?))
        };
        ranks.iter().filter_map(point).collect::<Vec<_>>()
    };
    // C has no rank: a level over all of them.
    let level = |metric: &str| {
        let c = arms
            .iter()
            .find(|arm| arm.scheme == scheme && arm.method == "C");
        let value = c.and_then(|arm| arm.get(metric));
        let ends = [ranks.first(), ranks.last()].into_iter().flatten();
        ends.filter_map(|rank| Some((f64::from(*rank), value?)))
            .collect::<Vec<_>>()
    };
    let panel = |title: &str, note: &str, curves: Vec<Curve>| Panel {
        title: title.to_owned(),
        note: note.to_owned(),
        below: "rank, logarithmic".to_owned(),
        ticks: ranks
            .iter()
            .map(|rank| (f64::from(*rank), rank.to_string()))
            .collect(),
        include: vec![0.0],
        curves,
    };
    let of = |series, points| Curve { series, points };
    let figure = Curves {
        panels: vec![
            panel(
                "Weight error",
                "‖served − tuned‖ / ‖tuned‖, less is better",
                vec![
                    of(0, points("A", "total_relative_error")),
                    of(2, points("B", "total_bound")),
                    of(1, points("B", "total_relative_error")),
                    of(3, level("total_relative_error")),
                ],
            ),
            panel(
                "Delta cosine",
                "of served − base and tuned − base, more is better",
                vec![
                    of(0, points("A", "total_delta_cosine")),
                    of(1, points("B", "total_delta_cosine")),
                    of(3, level("total_delta_cosine")),
                ],
            ),
        ],
        series: series.map(str::to_owned).to_vec(),
    };
    let name = "methods-by-rank";
    Ok(Some(Figure {
        name: name.to_owned(),
        caption: format!(
            "Methods A and B on {scheme} from rank {} to {}; C has no rank. B lies on the least possible error of its rank (Eckart and Young).",
            ranks[0],
            ranks[ranks.len() - 1]
        ),
        alt: format!("Weight error and delta cosine over the rank, on {scheme}."),
        svg: figure.render(name)?,
    }))
}
