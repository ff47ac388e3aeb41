//! How near base + adapter comes to the tuned weights, measured from the files.

use super::grid::{CellsOf, Grid, PanelOf, cell, largest, mean};
use crate::{
    Figure, Result, Section, Table,
    figures::{Strips, Unit},
    inputs::Inputs,
};
use xgraft_results::human::percent;

const METRICS: &[&str] = &["relative_error", "base_error", "update_residual", "optimum"];

pub(super) fn section(inputs: &Inputs) -> Result<Option<Section>> {
    let grid = Grid::of(inputs, METRICS);
    if grid.is_empty() {
        return Ok(None);
    }
    let section = Section::new("Base + adapter against the tuned model")
        .say(
            "Recomputed from the files by another path than the extraction's. The error of a module is ‖Ŵ − W‖/‖W‖, where W are the \
             tuned weights and Ŵ the base's as it will be served: alone, and with the adapter. A quantized base carries its own \
             rounding error, which no adapter of a full-precision difference can remove.",
        )
        .figure(figure(&grid)?)
        .figure(by_layer(&grid)?)
        .table(by_role(&grid));
    Ok(Some(section))
}

fn figure(grid: &Grid) -> Result<Figure> {
    // The base alone is the same for every adapter on it: one series tells it.
    let alone = grid
        .arms_with("base_error")
        .into_iter()
        .take(1)
        .map(|arm| ("base_error", arm));
    let adapted = grid
        .arms_with("relative_error")
        .into_iter()
        .map(|arm| ("relative_error", arm));
    let series: Vec<_> = alone.chain(adapted).collect();
    let many = grid.arms.len() > 1;
    let names = series.iter().map(|(metric, arm)| match *metric {
        "base_error" => "base alone".to_owned(),
        _ if many => format!("base + {}", grid.arms[*arm]),
        _ => "base + adapter".to_owned(),
    });
    let panel = PanelOf {
        title: "Relative error to the tuned weights",
        note: "‖Ŵ − W‖ / ‖W‖, less is better",
        unit: Unit::Percent,
        include: 0.0,
        series: series.clone(),
    };
    let name = "error-against-tuned";
    let strips = Strips {
        reference: series
            .first()
            .is_some_and(|(metric, _)| *metric == "base_error"),
        ..grid.strips(&[panel], names.collect())
    };
    let svg = strips.render(name)?;
    Ok(Figure {
        name: name.to_owned(),
        caption: "Every dot is one module; a strip is a role, from the first layer to the last.".to_owned(),
        alt: "Relative error of every module, of the base alone and with the adapter, by role and layer.".to_owned(),
        svg,
    })
}

/// Where in the model the served weights are farthest from the tuned ones.
fn by_layer(grid: &Grid) -> Result<Figure> {
    let quantities = [
        ("Error with adapter", "‖Ŵ − W‖ / ‖W‖", "relative_error"),
        (
            "Left of the update",
            "‖W − Ŵ‖ / ‖W − base‖",
            "update_residual",
        ),
    ];
    let mut panels = Vec::new();
    for (title, note, metric) in quantities {
        let arms = grid.arms_with(metric);
        for arm in &arms {
            let arm = *arm;
            panels.push(CellsOf {
                title: match arms.len() {
                    1 => title.to_owned(),
                    _ => format!("{title}, {}", grid.arms[arm]),
                },
                note,
                symbol: "",
                unit: Unit::Percent,
                ratios: true,
                value: Box::new(move |module| grid.get(metric, arm, module)),
            });
        }
    }
    let name = "error-by-layer";
    Ok(Figure {
        name: name.to_owned(),
        caption: "One cell a module, darker is farther from the tuned weights: relative to the weights, and relative to the distance that \
                  the base alone has. The served model is worst where the first is darkest."
            .to_owned(),
        alt: "Error with the adapter, relative to the weights and to the update, by layer and projection.".to_owned(),
        svg: grid.heatmap(&panels).render(name)?,
    })
}

fn by_role(grid: &Grid) -> Table {
    let mut table = Table::new(
        "By role: means over the layers. The update's residual is ‖W − Ŵ‖ over ‖W − base‖; its optimum is the least that a pair of \
         that rank can reach on this base.",
        [
            ("adapter", false),
            ("role", false),
            ("error, base alone", true),
            ("error, with adapter", true),
            ("largest", true),
            ("update residual", true),
            ("optimum", true),
        ],
    );
    for (arm, name) in grid.arms.iter().enumerate() {
        for (role, modules) in grid.roles() {
            let average = |metric| cell(mean(grid.all(metric, arm, &modules)), percent);
            table.push([
                name.clone(),
                role.to_owned(),
                average("base_error"),
                average("relative_error"),
                cell(largest(grid.all("relative_error", arm, &modules)), percent),
                average("update_residual"),
                average("optimum"),
            ]);
        }
    }
    table
}
