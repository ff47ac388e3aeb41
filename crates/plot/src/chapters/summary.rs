//! The report in a few lines: what each adapter keeps and costs.

use super::grid::{Grid, cell, largest};
use crate::{Result, Section, Table, inputs::Inputs};
use xgraft_results::human::{bytes, number, percent, seconds};

const METRICS: &[&str] = &[
    "energy_kept",
    "residual",
    "delta_norm",
    "delta_ratio",
    "rank",
    "adapter_bytes",
    "seconds",
];

pub(super) fn section(inputs: &Inputs) -> Result<Option<Section>> {
    let grid = Grid::of(inputs, METRICS);
    if grid.is_empty() {
        return Ok(None);
    }
    let modules = grid.every_module();
    let mut table = Table::new(
        "Whole adapters. Energy, residual and ‖ΔW‖/‖W‖ are over all modules together, not means of ratios.",
        [
            ("adapter", false),
            ("modules", true),
            ("largest rank", true),
            ("‖ΔW‖/‖W‖", true),
            ("energy kept", true),
            ("residual", true),
            ("size", true),
            ("time", true),
        ],
    );
    let mut section = Section::new("Summary");
    for (arm, name) in grid.arms.iter().enumerate() {
        let whole = Whole::of(&grid, arm, &modules);
        if let Some(sentence) = whole.sentence(name) {
            section = section.say(sentence);
        }
        let sum = |metric| Some(grid.all(metric, arm, &modules).sum::<f64>());
        table.push([
            name.clone(),
            grid.all("rank", arm, &modules)
                .filter(|rank| *rank > 0.0)
                .count()
                .to_string(),
            cell(largest(grid.all("rank", arm, &modules)), number),
            cell(whole.delta_ratio, percent),
            cell(whole.energy_kept, percent),
            cell(whole.residual, percent),
            cell(sum("adapter_bytes"), |x| bytes(x as u64)),
            cell(sum("seconds"), seconds),
        ]);
    }
    Ok(Some(section.table(table)))
}

/// Ratios over all modules together.
struct Whole {
    delta_ratio: Option<f64>,
    energy_kept: Option<f64>,
    residual: Option<f64>,
    modules: usize,
}

impl Whole {
    fn of(grid: &Grid, arm: usize, modules: &[usize]) -> Self {
        let (mut delta2, mut base2, mut kept2, mut left2) = (0.0, 0.0, 0.0, 0.0);
        let mut counted = 0;
        for module in modules {
            let get = |metric| grid.get(metric, arm, *module);
            let (Some(delta), Some(kept), Some(left)) =
                (get("delta_norm"), get("energy_kept"), get("residual"))
            else {
                continue;
            };
            counted += 1;
            delta2 += delta * delta;
            kept2 += kept * delta * delta;
            left2 += (left * delta).powi(2);
            let ratio = get("delta_ratio").filter(|ratio| *ratio > 0.0);
            base2 += ratio.map_or(0.0, |ratio| (delta / ratio).powi(2));
        }
        let ratio = |a: f64, b: f64| (b > 0.0).then(|| a / b);
        Self {
            delta_ratio: ratio(delta2, base2).map(f64::sqrt),
            energy_kept: ratio(kept2, delta2),
            residual: ratio(left2, delta2).map(f64::sqrt),
            modules: counted,
        }
    }

    fn sentence(&self, name: &str) -> Option<String> {
        let (kept, left) = (percent(self.energy_kept?), percent(self.residual?));
        let modules = self.modules;
        Some(format!(
            "The adapter {name} keeps {kept} of the update's energy ‖ΔW‖² over {modules} modules; what it leaves has {left} of the update's norm."
        ))
    }
}
