//! Rows of modules as a grid: arm by module by metric.

use crate::{
    ModulePath,
    figures::{Group, Heatmap, HeatmapPanel, Panel, Series, Strips, Unit},
    inputs::Inputs,
};
use std::collections::{BTreeSet, HashMap};

/// The values of some metrics for every arm and module.
#[derive(Debug, Default)]
pub(super) struct Grid {
    /// In the order of the rows.
    pub(super) arms: Vec<String>,
    /// In the order of the rows, which is the model's.
    pub(super) modules: Vec<String>,
    values: HashMap<(&'static str, usize, usize), f64>,
}

impl Grid {
    /// The grid of these metrics.
    pub(super) fn of(inputs: &Inputs, metrics: &[&'static str]) -> Self {
        let mut grid = Self::default();
        for metric in metrics {
            for (arm, row) in inputs.by_module(metric) {
                let arm = index_of(&mut grid.arms, &arm);
                let module = row.module.as_deref().unwrap_or_default();
                let module = index_of(&mut grid.modules, module);
                grid.values.insert((metric, arm, module), row.value);
            }
        }
        grid
    }

    pub(super) fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// One value.
    pub(super) fn get(&self, metric: &'static str, arm: usize, module: usize) -> Option<f64> {
        self.values.get(&(metric, arm, module)).copied()
    }

    /// The values of one metric for these modules, where there are some.
    pub(super) fn all<'a>(
        &'a self,
        metric: &'static str,
        arm: usize,
        modules: &'a [usize],
    ) -> impl Iterator<Item = f64> + 'a {
        let value = move |module: &usize| self.get(metric, arm, *module);
        modules.iter().filter_map(value)
    }

    /// The arms that have values of this metric.
    pub(super) fn arms_with(&self, metric: &'static str) -> Vec<usize> {
        let mut arms: Vec<usize> = self
            .values
            .keys()
            .filter(|key| key.0 == metric)
            .map(|key| key.1)
            .collect();
        arms.sort_unstable();
        arms.dedup();
        arms
    }

    /// The positions of all modules.
    pub(super) fn every_module(&self) -> Vec<usize> {
        (0..self.modules.len()).collect()
    }

    /// The roles in the order in which data flows, each with its modules.
    pub(super) fn roles(&self) -> Vec<(&str, Vec<usize>)> {
        let paths: Vec<_> = self.modules.iter().map(|m| ModulePath::parse(m)).collect();
        let roles: BTreeSet<_> = paths.iter().map(ModulePath::role_order).collect();
        let members = |role: &str| {
            let all = paths.iter().enumerate();
            all.filter(|(_, path)| path.role == role)
                .map(|(module, _)| module)
                .collect()
        };
        roles
            .into_iter()
            .map(|(_, role)| (role, members(role)))
            .collect()
    }

    /// Modules that belong to no layer, which a figure along the layers cannot show.
    pub(super) fn outside_layers(&self) -> Vec<&str> {
        let outside = |module: &&String| ModulePath::parse(module).layer.is_none();
        self.modules
            .iter()
            .filter(outside)
            .map(String::as_str)
            .collect()
    }

    /// The strips of some panels: title, note, values that the scale must hold, and the metric and arm of each series.
    pub(super) fn strips(&self, panels: &[PanelOf<'_>], series: Vec<String>) -> Strips {
        let layer = |module: usize| self.layer(module);
        let mut roles = self.roles();
        roles.retain(|(_, modules)| modules.iter().any(|module| layer(*module).is_some()));
        let layers = (0..self.modules.len()).filter_map(layer).max();
        Strips {
            groups: roles.iter().map(|(role, _)| (*role).to_owned()).collect(),
            panels: panels
                .iter()
                .map(|panel| self.panel(panel, &roles))
                .collect(),
            series,
            reference: false,
            layers: layers.map_or(0, |last| last + 1),
        }
    }

    /// One cell for every layer and role, a panel for each quantity. Two modules of one cell show their mean.
    pub(super) fn heatmap(&self, panels: &[CellsOf<'_>]) -> Heatmap {
        // The strips have the same roles and layers.
        let Strips { groups, layers, .. } = self.strips(&[], Vec::new());
        let roles = self.roles();
        let row = |panel: &CellsOf<'_>, group: &String| {
            let of_group = roles.iter().filter(|(role, _)| role == group);
            let modules: Vec<usize> = of_group.flat_map(|(_, modules)| modules.clone()).collect();
            let cell = |layer| {
                let here = modules
                    .iter()
                    .filter(|module| self.layer(**module) == Some(layer));
                mean(here.filter_map(|module| (panel.value)(*module)))
            };
            (0..layers).map(cell).collect()
        };
        let panels = panels.iter().map(|panel| HeatmapPanel {
            title: panel.title.clone(),
            note: panel.note.to_owned(),
            symbol: panel.symbol.to_owned(),
            unit: panel.unit,
            ratios: panel.ratios,
            values: groups.iter().map(|group| row(panel, group)).collect(),
        });
        Heatmap {
            panels: panels.collect(),
            groups,
            layers,
        }
    }

    fn layer(&self, module: usize) -> Option<usize> {
        ModulePath::parse(&self.modules[module]).layer
    }

    fn panel(&self, panel: &PanelOf<'_>, roles: &[(&str, Vec<usize>)]) -> Panel {
        let group = |(_, modules): &(&str, Vec<usize>)| {
            let series = panel.series.iter();
            Group(
                series
                    .map(|(metric, arm)| self.series(metric, *arm, modules))
                    .collect(),
            )
        };
        Panel {
            title: panel.title.to_owned(),
            note: panel.note.to_owned(),
            unit: panel.unit,
            include: vec![panel.include],
            groups: roles.iter().map(group).collect(),
        }
    }

    fn series(&self, metric: &'static str, arm: usize, modules: &[usize]) -> Series {
        let mut points: Vec<(usize, f64)> = modules
            .iter()
            .filter_map(|module| {
                let layer = self.layer(*module)?;
                Some((layer, self.get(metric, arm, *module)?))
            })
            .collect();
        points.sort_by_key(|(layer, _)| *layer);
        Series(points)
    }
}

/// What a panel shows.
pub(super) struct PanelOf<'a> {
    pub(super) title: &'a str,
    pub(super) note: &'a str,
    /// How its numbers are written.
    pub(super) unit: Unit,
    /// A value that the scale must hold.
    pub(super) include: f64,
    /// Metric and arm of each series.
    pub(super) series: Vec<(&'static str, usize)>,
}

/// What a panel of a heatmap shows.
pub(super) struct CellsOf<'a> {
    pub(super) title: String,
    /// What it means; panels of one meaning share their scale.
    pub(super) note: &'a str,
    /// What stands above the colour bar.
    pub(super) symbol: &'a str,
    /// How its numbers are written.
    pub(super) unit: Unit,
    /// Whether the ratios of its values matter more than their differences.
    pub(super) ratios: bool,
    /// The value of a module.
    pub(super) value: Box<dyn Fn(usize) -> Option<f64> + 'a>,
}

fn index_of(names: &mut Vec<String>, name: &str) -> usize {
    names
        .iter()
        .position(|known| known == name)
        .unwrap_or_else(|| {
            names.push(name.to_owned());
            names.len() - 1
        })
}

/// The mean, or nothing of nothing.
pub(super) fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (mut sum, mut count) = (0.0, 0u32);
    for value in values {
        sum += value;
        count += 1;
    }
    (count > 0).then(|| sum / f64::from(count))
}

/// The largest, or nothing of nothing.
pub(super) fn largest(values: impl Iterator<Item = f64>) -> Option<f64> {
    values.reduce(f64::max)
}

/// A cell for a value that may be missing.
pub(super) fn cell(value: Option<f64>, show: fn(f64) -> String) -> String {
    value.map_or_else(|| "–".to_owned(), show)
}
