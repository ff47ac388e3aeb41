//! How the noise of a quantized base lies to an adapter, each quantity beside what chance gives for it.

use super::{
    grid::{CellsOf, Grid, PanelOf, cell, mean},
    spectra,
};
use crate::{
    Figure, Result, Section, Table,
    figures::{Level, Levels, LevelsPanel, Unit},
    inputs::Inputs,
};
use xgraft_results::human::{number, percent};

const METRICS: &[&str] = &[
    "noise_over_adapter",
    "noise_over_weight",
    "adapter_over_weight",
    "noise_stable_rank",
    "snr_inside",
    "leakage_left",
    "leakage_left_chance",
    "leakage_left_norm",
    "leakage_left_norm_chance",
    "leakage_right",
    "leakage_right_chance",
    "leakage_right_norm",
    "leakage_right_norm_chance",
    "cosine_noise_adapter",
    "cosine_noise_adapter_chance",
    "cosine_noise_random",
    "cosine_noise_shuffled",
    "cosine_noise_other_layer",
    "cosine_noise_noise",
    "cosine_noise_noise_chance",
    "cosine_adapters",
    "cosine_adapters_chance",
    "overlap_left",
    "overlap_left_chance",
    "overlap_right",
    "overlap_right_chance",
];

/// A cosine, its chance level, what it is called, and whether it is a control.
const COSINES: &[(&str, &str, &str, bool)] = &[
    (
        "cosine_noise_adapter",
        "cosine_noise_adapter_chance",
        "noise · adapter",
        false,
    ),
    (
        "cosine_noise_noise",
        "cosine_noise_noise_chance",
        "noise · noise",
        false,
    ),
    (
        "cosine_adapters",
        "cosine_adapters_chance",
        "adapter · adapter",
        false,
    ),
    (
        "cosine_noise_random",
        "cosine_noise_adapter_chance",
        "noise · random matrix",
        true,
    ),
    (
        "cosine_noise_shuffled",
        "cosine_noise_adapter_chance",
        "noise · shuffled adapter",
        true,
    ),
    (
        "cosine_noise_other_layer",
        "cosine_noise_adapter_chance",
        "noise · other layer's adapter",
        true,
    ),
];

pub(super) fn section(inputs: &Inputs) -> Result<Option<Section>> {
    let grid = Grid::of(inputs, METRICS);
    if grid.is_empty() {
        return Ok(None);
    }
    let mut section = Section::new("The noise beside the adapter").say(
        "N = dequantized − original is the rounding noise of a layer's weights W, always with this sign; L = s·B·A is the adapter's \
         update. Two unrelated matrices of m × n elements have a cosine near 1/√(mn), so a small cosine proves nothing by itself: \
         every quantity stands beside what chance gives for it, and beside controls that have nothing to do with the noise.",
    );
    let noises = grid.arms_with("noise_over_adapter");
    if !noises.is_empty() {
        section = section.figure(sizes(&grid, &noises)?);
    }
    section = section.figure(cosines(&grid)?);
    if !noises.is_empty() {
        section = section.figure(by_layer(&grid, &noises)?);
    }
    if !noises.is_empty() {
        section = section
            .figure(leakage(&grid, &noises)?)
            .table(by_role(&grid, &noises))
            .table(leakages(&grid, &noises));
    }
    if let Some(spectra) = spectra::figure(inputs)? {
        section = section.figure(spectra);
    }
    let adapters = grid.arms_with("overlap_left");
    if !adapters.is_empty() {
        section = section.table(overlap(&grid, &adapters));
    }
    Ok(Some(section))
}

fn sizes(grid: &Grid, noises: &[usize]) -> Result<Figure> {
    let panel = PanelOf {
        title: "Size of the noise beside the update",
        note: "‖N‖ / ‖L‖, Frobenius norms",
        unit: Unit::Plain,
        include: 0.0,
        series: noises
            .iter()
            .map(|arm| ("noise_over_adapter", *arm))
            .collect(),
    };
    let names = noises.iter().map(|arm| grid.arms[*arm].clone());
    let name = "noise-over-adapter";
    Ok(Figure {
        name: name.to_owned(),
        caption: "Every dot is one layer's weight; a strip is a projection, from the first layer to the last, on one scale."
            .to_owned(),
        alt: "Norm of the quantization noise over the norm of the adapter's update, by projection and layer.".to_owned(),
        svg: grid.strips(&[panel], names.collect()).render(name)?,
    })
}

/// Where in the model the noise is large beside the update, and where it is not without direction.
fn by_layer(grid: &Grid, noises: &[usize]) -> Result<Figure> {
    // The mean absolute value of a normal variable is √(2/π) of its standard deviation.
    let z_of_chance = std::f64::consts::FRAC_2_PI.sqrt();
    let mut panels = Vec::new();
    for arm in noises.iter().copied() {
        let name = &grid.arms[arm];
        panels.push(CellsOf {
            title: format!("Size of the noise, {name}"),
            note: "‖N‖ / ‖L‖",
            symbol: "‖N‖/‖L‖",
            unit: Unit::Plain,
            ratios: true,
            value: Box::new(move |module| grid.get("noise_over_adapter", arm, module)),
        });
        panels.push(CellsOf {
            title: format!("Cosine with the adapter, {name}"),
            note: "|z|, in units of 1/√(mn)",
            symbol: "|z|",
            unit: Unit::Plain,
            ratios: false,
            value: Box::new(move |module| {
                let (metric, chance, ..) = COSINES[0];
                let value = grid.get(metric, arm, module)?.abs();
                Some(value / grid.get(chance, arm, module)? * z_of_chance)
            }),
        });
    }
    let name = "noise-by-layer";
    Ok(Figure {
        name: name.to_owned(),
        caption: "One cell a layer's weight, darker is more: how large the noise is beside the update, and how far its cosine with the \
                  update lies from 0 in standard deviations of chance. By chance one cell in twenty is above 2; a dark row or column is structure. Panels of one quantity share their scale."
            .to_owned(),
        alt: "Noise over update and absolute z of their cosine, by layer and projection.".to_owned(),
        svg: grid.heatmap(&panels).render(name)?,
    })
}

/// Mean |cosine| over some modules, and the mean of the chance levels.
fn cosine(
    grid: &Grid,
    arm: usize,
    modules: &[usize],
    metric: &'static str,
    chance: &'static str,
) -> Option<[f64; 2]> {
    let both: Vec<[f64; 2]> = modules
        .iter()
        .filter_map(|m| Some([grid.get(metric, arm, *m)?.abs(), grid.get(chance, arm, *m)?]))
        .collect();
    let [value, chance] = [0, 1].map(|i| mean(both.iter().map(|pair| pair[i])));
    Some([value?, chance?])
}

fn cosines(grid: &Grid) -> Result<Figure> {
    let every = grid.every_module();
    let (mut rows, mut levels) = (Vec::new(), Vec::new());
    for (metric, chance, called, control) in COSINES {
        for arm in grid.arms_with(metric) {
            if let Some([value, chance]) = cosine(grid, arm, &every, metric, chance) {
                rows.push(match *metric {
                    "cosine_noise_noise" => format!("noises of {}", grid.arms[arm]),
                    "cosine_adapters" => (*called).to_owned(),
                    _ => called.replacen("noise", &format!("noise of {}", grid.arms[arm]), 1),
                });
                levels.push(vec![Level {
                    series: usize::from(*control),
                    value,
                    chance,
                }]);
            }
        }
    }
    let figure = Levels {
        rows,
        series: vec!["measured".to_owned(), "control".to_owned()],
        panels: vec![LevelsPanel {
            title: "Cosine of two matrices as vectors".to_owned(),
            note: "mean |cosine| over the layers, logarithmic".to_owned(),
            unit: Unit::Plain,
            log: true,
            levels,
        }],
    };
    let name = "cosines";
    Ok(Figure {
        name: name.to_owned(),
        caption: "A dot is the mean over all layers of the absolute cosine, the upright stroke what independent matrices of these \
                  sizes have, √(2/(π·mn)). Controls have nothing to do with the noise and must lie at their strokes."
            .to_owned(),
        alt: "Mean absolute cosines of noise, adapter and controls beside their chance levels.".to_owned(),
        svg: figure.render(name)?,
    })
}

fn leakage(grid: &Grid, noises: &[usize]) -> Result<Figure> {
    let roles = grid.roles();
    let panel = |title: &str, note: &str, metric: &'static str, chance: &'static str| {
        let level = |(series, arm): (usize, &usize), modules: &[usize]| {
            Some(Level {
                series,
                value: mean(grid.all(metric, *arm, modules))?,
                chance: mean(grid.all(chance, *arm, modules))?,
            })
        };
        LevelsPanel {
            title: title.to_owned(),
            note: note.to_owned(),
            unit: Unit::Percent,
            log: false,
            levels: roles
                .iter()
                .map(|(_, modules)| {
                    let arms = noises.iter().enumerate();
                    arms.filter_map(|arm| level(arm, modules)).collect()
                })
                .collect(),
        }
    };
    let figure = Levels {
        rows: roles.iter().map(|(role, _)| (*role).to_owned()).collect(),
        series: noises.iter().map(|arm| grid.arms[*arm].clone()).collect(),
        panels: vec![
            panel(
                "In the adapter's column space",
                "‖UᵀN‖² / ‖N‖², share of energy",
                "leakage_left",
                "leakage_left_chance",
            ),
            panel(
                "In the adapter's row space",
                "‖NV‖² / ‖N‖², share of energy",
                "leakage_right",
                "leakage_right_chance",
            ),
        ],
    };
    let name = "leakage";
    Ok(Figure {
        name: name.to_owned(),
        caption: "Share of the noise's energy in the column space U and the row space V of the update, mean over the layers. The \
                  stroke is what noise without direction has: rank over dimension."
            .to_owned(),
        alt: "Share of the noise's energy in the adapter's subspaces beside rank over dimension, by projection.".to_owned(),
        svg: figure.render(name)?,
    })
}

fn by_role(grid: &Grid, noises: &[usize]) -> Table {
    let mut table = Table::new(
        "By projection: means over the layers. The cosine is the mean absolute one in units of its chance level; SNR is ‖L‖² over the energy of the noise inside both of the update's spaces.",
        [
            ("noise", false),
            ("projection", false),
            ("layers", true),
            ("‖N‖/‖L‖", true),
            ("‖N‖/‖W‖", true),
            ("‖L‖/‖W‖", true),
            ("|cosine| × chance", true),
            ("stable rank N", true),
            ("SNR (dB)", true),
        ],
    );
    for arm in noises {
        for (role, modules) in grid.roles() {
            let average = |metric, show: fn(f64) -> String| {
                cell(mean(grid.all(metric, *arm, &modules)), show)
            };
            let (metric, chance, ..) = COSINES[0];
            let times = cosine(grid, *arm, &modules, metric, chance);
            table.push([
                grid.arms[*arm].clone(),
                role.to_owned(),
                grid.all("noise_over_adapter", *arm, &modules)
                    .count()
                    .to_string(),
                average("noise_over_adapter", number),
                average("noise_over_weight", percent),
                average("adapter_over_weight", percent),
                cell(times.map(|[value, chance]| value / chance), number),
                average("noise_stable_rank", number),
                average("snr_inside", number),
            ]);
        }
    }
    table
}

/// Both meanings of leakage, each beside its own chance level.
fn leakages(grid: &Grid, noises: &[usize]) -> Table {
    let mut table = Table::new(
        "Leakage by projection, means over the layers: the share of the noise's energy in the update's column space U and row space V, \
         whose chance level is r/d, and the ratio of norms, whose chance level is √(r/d).",
        [
            ("noise", false),
            ("projection", false),
            ("energy in U", true),
            ("r/d", true),
            ("norm in U", true),
            ("√(r/d)", true),
            ("energy in V", true),
            ("r/d", true),
            ("norm in V", true),
            ("√(r/d)", true),
        ],
    );
    const COLUMNS: [&str; 8] = [
        "leakage_left",
        "leakage_left_chance",
        "leakage_left_norm",
        "leakage_left_norm_chance",
        "leakage_right",
        "leakage_right_chance",
        "leakage_right_norm",
        "leakage_right_norm_chance",
    ];
    for arm in noises {
        for (role, modules) in grid.roles() {
            let mut row = vec![grid.arms[*arm].clone(), role.to_owned()];
            let value = |metric| cell(mean(grid.all(metric, *arm, &modules)), percent);
            row.extend(COLUMNS.map(value));
            table.rows.push(row);
        }
    }
    table
}

fn overlap(grid: &Grid, adapters: &[usize]) -> Table {
    let mut table = Table::new(
        "Two adapters, by projection: mean squared cosine of the principal angles of their column and row spaces, beside what \
         random subspaces have.",
        [
            ("projection", false),
            ("layers", true),
            ("column spaces", true),
            ("by chance", true),
            ("row spaces", true),
            ("by chance", true),
            ("mean cosine", true),
        ],
    );
    for arm in adapters {
        for (role, modules) in grid.roles() {
            let average = |metric| cell(mean(grid.all(metric, *arm, &modules)), number);
            table.push([
                role.to_owned(),
                grid.all("overlap_left", *arm, &modules).count().to_string(),
                average("overlap_left"),
                average("overlap_left_chance"),
                average("overlap_right"),
                average("overlap_right_chance"),
                average("cosine_adapters"),
            ]);
        }
    }
    table
}
