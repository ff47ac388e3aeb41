//! What the low rank keeps of each module's update.

use super::{
    energy,
    grid::{CellsOf, Grid, PanelOf, cell, largest, mean},
};
use crate::{Figure, Result, Section, Table, figures::Unit, inputs::Inputs};
use xgraft_results::human::{bytes, number, percent, seconds};

const METRICS: &[&str] = &[
    "energy_kept",
    "residual",
    "delta_ratio",
    "delta_norm",
    "rank",
    "excess",
    "excess_certified",
    "excess_estimated",
    "adapter_bytes",
    "seconds",
];

/// Longer tables are folded.
const LISTED: usize = 40;

pub(super) fn section(inputs: &Inputs) -> Result<Option<Section>> {
    let grid = Grid::of(inputs, METRICS);
    if grid.arms_with("energy_kept").is_empty() {
        return Ok(None);
    }
    let mut section = Section::new("What the adapter keeps, per module")
        .say(
            "ΔW is the difference of the tuned and the base weights of one module. Energy kept is the share of ‖ΔW‖² in the adapter's \
             rank; the residual is ‖ΔW − BA‖/‖ΔW‖, so that residual² = 1 − energy kept. Excess is how much larger the residual is \
             than the best possible one of that rank.",
        )
        .figure(figure(&grid)?);
    if let Some(figure) = energy::figure(inputs)? {
        section = section.figure(figure);
    }
    Ok(Some(
        section
            .figure(by_layer(&grid)?)
            .table(by_role(&grid))
            .table(by_module(&grid).folded_above(LISTED)),
    ))
}

/// Where in the model the update is large, and where its rank is short of it.
fn by_layer(grid: &Grid) -> Result<Figure> {
    let quantities = [
        ("Size of the update", "‖ΔW‖ / ‖W‖", "delta_ratio"),
        ("Residual", "‖ΔW − BA‖ / ‖ΔW‖, less is better", "residual"),
    ];
    let mut panels = Vec::new();
    for (title, note, metric) in quantities {
        for arm in grid.arms_with(metric) {
            panels.push(CellsOf {
                title: format!("{title}, {}", grid.arms[arm]),
                note,
                symbol: "",
                unit: Unit::Percent,
                ratios: true,
                value: Box::new(move |module| grid.get(metric, arm, module)),
            });
        }
    }
    let name = "update-by-layer";
    Ok(Figure {
        name: name.to_owned(),
        caption: "One cell a module, darker is more: on the left how large the update is, on the right what the rank leaves of it. Where \
                  both are dark, a higher rank would help most."
            .to_owned(),
        alt: "Size of the update and residual of every module, by layer and projection.".to_owned(),
        svg: grid.heatmap(&panels).render(name)?,
    })
}

fn figure(grid: &Grid) -> Result<Figure> {
    let all = |metric| (0..grid.arms.len()).map(|arm| (metric, arm)).collect();
    let panels = [
        PanelOf {
            title: "Energy kept",
            note: "share of ‖ΔW‖², more is better",
            unit: Unit::Percent,
            include: 1.0,
            series: all("energy_kept"),
        },
        PanelOf {
            title: "Residual",
            note: "‖ΔW − BA‖ / ‖ΔW‖, less is better",
            unit: Unit::Percent,
            include: 0.0,
            series: all("residual"),
        },
    ];
    let name = "energy-and-residual";
    let svg = grid.strips(&panels, grid.arms.clone()).render(name)?;
    let mut caption =
        "Every dot is one module; a strip is a role, from the first layer to the last. \
        Strips of a column share their scale."
            .to_owned();
    let outside = grid.outside_layers();
    if !outside.is_empty() {
        caption += &format!(" Not drawn, for want of a layer: {}.", outside.join(", "));
    }
    Ok(Figure {
        name: name.to_owned(),
        caption,
        alt: alt(grid),
        svg,
    })
}

fn alt(grid: &Grid) -> String {
    let every = grid.every_module();
    let arms = grid.arms.iter().enumerate().filter_map(|(arm, name)| {
        let kept = || grid.all("energy_kept", arm, &every);
        let (low, high) = (kept().reduce(f64::min)?, kept().reduce(f64::max)?);
        let (low, high) = (percent(low), percent(high));
        Some(format!("{name}: energy kept between {low} and {high}"))
    });
    let arms: Vec<String> = arms.collect();
    format!(
        "Energy kept and residual of every module by role and layer. {}.",
        arms.join("; ")
    )
}

/// The stated excess, and the sign that says how sure it is.
fn excess(grid: &Grid, arm: usize, module: usize) -> Option<(f64, &'static str)> {
    let kinds = [
        ("excess_certified", "≤ "),
        ("excess_estimated", "≈ "),
        ("excess", ""),
    ];
    kinds
        .into_iter()
        .find_map(|(metric, sign)| Some((grid.get(metric, arm, module)?, sign)))
}

fn by_role(grid: &Grid) -> Table {
    let mut table = Table::new(
        "By role: means over the layers, and the worst excess.",
        [
            ("adapter", false),
            ("role", false),
            ("modules", true),
            ("‖ΔW‖/‖W‖", true),
            ("energy kept", true),
            ("residual", true),
            ("worst excess", true),
        ],
    );
    for (arm, name) in grid.arms.iter().enumerate() {
        for (role, modules) in grid.roles() {
            let average = |metric| cell(mean(grid.all(metric, arm, &modules)), percent);
            let worst = modules
                .iter()
                .filter_map(|module| excess(grid, arm, *module));
            table.push([
                name.clone(),
                role.to_owned(),
                grid.all("energy_kept", arm, &modules).count().to_string(),
                average("delta_ratio"),
                average("energy_kept"),
                average("residual"),
                cell(largest(worst.map(|(value, _)| value)), percent),
            ]);
        }
    }
    table
}

fn by_module(grid: &Grid) -> Table {
    let mut table = Table::new(
        "Every module. An excess is certified (≤) or estimated (≈).",
        [
            ("adapter", false),
            ("module", false),
            ("rank", true),
            ("‖ΔW‖", true),
            ("‖ΔW‖/‖W‖", true),
            ("energy kept", true),
            ("residual", true),
            ("excess", true),
            ("size", true),
            ("time", true),
        ],
    );
    for (arm, name) in grid.arms.iter().enumerate() {
        for (module, path) in grid.modules.iter().enumerate() {
            let get = |metric, show| cell(grid.get(metric, arm, module), show);
            let excess = excess(grid, arm, module);
            table.push([
                name.clone(),
                path.clone(),
                get("rank", number),
                get("delta_norm", number),
                get("delta_ratio", percent),
                get("energy_kept", percent),
                get("residual", percent),
                excess.map_or_else(
                    || cell(None, percent),
                    |(value, sign)| sign.to_owned() + &percent(value),
                ),
                get("adapter_bytes", |x| bytes(x as u64)),
                get("seconds", seconds),
            ]);
        }
    }
    table
}
