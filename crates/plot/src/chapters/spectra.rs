//! The leading singular values of noise and update, by projection.

use crate::{
    Figure, ModulePath, Result,
    figures::{Curve, Curves, CurvesPanel, Stroke, Unit},
    inputs::Inputs,
};

/// Panels side by side.
const COLUMNS: usize = 4;
/// From tick to tick of the place.
const TICKS: u64 = 2;
/// What the rows call the mean over a projection.
const PROJECTION: &str = "*.";

/// One spectrum of one projection.
struct Spectrum {
    arm: String,
    projection: String,
    /// Place and σ over the norm.
    points: Vec<(f64, f64)>,
}

impl Spectrum {
    /// The points at the ticks, and the last: more would lie on each other at the right.
    fn at(&self, ticks: &[(f64, String)]) -> Vec<(f64, f64)> {
        let last = self.points.last().map(|(place, _)| *place);
        let ticks = ticks.iter().map(|(place, _)| *place).chain(last);
        let places: Vec<u64> = ticks.map(|place| place as u64).collect();
        let kept = |(place, _): &&(f64, f64)| places.contains(&(*place as u64));
        self.points.iter().filter(kept).copied().collect()
    }
}

/// One panel a projection; nothing if no row has a spectrum.
pub(super) fn figure(inputs: &Inputs) -> Result<Option<Figure>> {
    let noises = spectra(inputs, "summary_noise_spectrum");
    let mut all = noises;
    let updates = spectra(inputs, "summary_adapter_spectrum").into_iter();
    let several = inputs_with_adapters(inputs) > 1;
    for mut update in updates {
        update.arm = match several {
            true => format!("adapter, {}", update.arm),
            false => "adapter".to_owned(),
        };
        let same = |s: &Spectrum| s.arm == update.arm && s.projection == update.projection;
        if !all.iter().any(same) {
            all.push(update);
        }
    }
    let arms = distinct(all.iter().map(|s| &s.arm));
    let mut projections = distinct(all.iter().map(|s| &s.projection));
    projections.sort_by_key(|name| {
        let (order, role) = ModulePath::parse(name).role_order();
        (order, role.to_owned())
    });
    let points = all.iter().flat_map(|s| &s.points);
    let largest = points.map(|(_, value)| *value).fold(0.0, f64::max);
    if all.is_empty() {
        return Ok(None);
    }
    let panel = |projection: &String| CurvesPanel {
        title: projection.clone(),
        note: "σᵢ over the norm".to_owned(),
        unit: Unit::Plain,
        below: "place i, logarithmic".to_owned(),
        ticks: ticks(&all),
        places: Vec::new(),
        log: false,
        include: vec![0.0, largest],
        curves: all
            .iter()
            .filter(|s| s.projection == *projection)
            .map(|s| Curve {
                series: arms.iter().position(|arm| *arm == s.arm),
                points: s.at(&ticks(&all)),
            })
            .collect(),
    };
    let figure = Curves {
        panels: projections.iter().map(panel).collect(),
        columns: COLUMNS,
        series: arms
            .iter()
            .enumerate()
            .map(|(at, arm)| (arm.clone(), Stroke::of_place(at)))
            .collect(),
        behind: None,
    };
    let name = "spectra";
    Ok(Some(Figure {
        name: name.to_owned(),
        caption: "Leading singular values over the norm of their matrix, means over the layers. An update of few directions falls from \
                  high on the left; rounding noise is flat and low, and where it is not, it has structure."
            .to_owned(),
        alt: format!("Leading singular values of {}, by projection.", arms.join(", ")),
        svg: figure.render(name)?,
    }))
}

/// Sources that compare an adapter with noises.
fn inputs_with_adapters(inputs: &Inputs) -> usize {
    let has = |input: &&crate::inputs::Input| {
        let mut rows = input.rows.iter();
        rows.any(|row| row.metric == "summary_adapter_spectrum")
    };
    inputs.0.iter().filter(has).count()
}

fn spectra(inputs: &Inputs, metric: &str) -> Vec<Spectrum> {
    let mut spectra: Vec<Spectrum> = Vec::new();
    for (arm, row) in inputs.by_module(metric) {
        let module = row.module.as_deref().unwrap_or_default();
        let (Some(projection), Some(place)) = (module.strip_prefix(PROJECTION), row.n) else {
            continue;
        };
        let at = spectra
            .iter()
            .position(|s| s.arm == arm && s.projection == projection);
        let at = at.unwrap_or_else(|| {
            spectra.push(Spectrum {
                arm,
                projection: projection.to_owned(),
                points: Vec::new(),
            });
            spectra.len() - 1
        });
        spectra[at].points.push((place as f64, row.value));
    }
    spectra
}

/// Powers of two up to the last place.
fn ticks(all: &[Spectrum]) -> Vec<(f64, String)> {
    let last = all.iter().filter_map(|s| s.points.last());
    let last = last.map(|(place, _)| *place).fold(1.0, f64::max);
    std::iter::successors(Some(1_u64), |place| place.checked_mul(TICKS))
        .take_while(|place| *place as f64 <= last)
        .map(|place| (place as f64, place.to_string()))
        .collect()
}

fn distinct<'a>(names: impl Iterator<Item = &'a String>) -> Vec<String> {
    let mut once: Vec<String> = Vec::new();
    for name in names {
        if !once.contains(name) {
            once.push(name.clone());
        }
    }
    once
}
