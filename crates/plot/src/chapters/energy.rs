//! How much of each projection's update a low rank keeps, rank by rank.

use super::grid::mean;
use crate::{
    Figure, ModulePath, Result,
    figures::{Curve, Curves, CurvesPanel, Stroke, Unit},
    inputs::Inputs,
};
use std::collections::BTreeMap;
use xgraft_results::human::percent;

/// Panels side by side.
const COLUMNS: usize = 4;

/// Energy kept over the rank of every module of one arm.
struct Arm {
    name: String,
    modules: Vec<(String, BTreeMap<u64, f64>)>,
}

/// One panel a projection; nothing if no row has an energy at a rank.
pub(super) fn figure(inputs: &Inputs) -> Result<Option<Figure>> {
    let arms = arms(inputs);
    let roles = roles(&arms);
    if arms.is_empty() {
        return Ok(None);
    }
    let one = arms.len() == 1;
    let figure = Curves {
        panels: roles.iter().map(|role| panel(&arms, role)).collect(),
        columns: COLUMNS,
        series: if one {
            vec![("mean over the layers".to_owned(), Stroke::of_place(0))]
        } else {
            let names = arms.iter().map(|arm| arm.name.clone());
            names
                .enumerate()
                .map(|(at, name)| (name, Stroke::of_place(at)))
                .collect()
        },
        behind: one.then(|| "one layer".to_owned()),
    };
    let name = "energy-by-rank";
    Ok(Some(Figure {
        name: name.to_owned(),
        caption: "Share of ‖ΔW‖² in the r largest singular values of ΔW, by projection: a curve that is high on the left is an update \
                  of few directions, one that still climbs at its right end loses energy to this rank. No pair of rank r keeps more."
            .to_owned(),
        alt: alt(&arms, &roles),
        svg: figure.render(name)?,
    }))
}

fn arms(inputs: &Inputs) -> Vec<Arm> {
    let mut arms: Vec<Arm> = Vec::new();
    for (name, row) in inputs.by_module("energy_at_rank") {
        let (Some(module), Some(rank)) = (&row.module, row.n) else {
            continue;
        };
        let at = arms.iter().position(|arm| arm.name == name);
        let at = at.unwrap_or_else(|| {
            let modules = Vec::new();
            arms.push(Arm { name, modules });
            arms.len() - 1
        });
        let modules = &mut arms[at].modules;
        match modules.iter_mut().find(|(known, _)| known == module) {
            Some((_, points)) => drop(points.insert(rank, row.value)),
            None => modules.push((module.clone(), BTreeMap::from([(rank, row.value)]))),
        }
    }
    arms
}

fn roles(arms: &[Arm]) -> Vec<String> {
    let modules = arms.iter().flat_map(|arm| &arm.modules);
    let mut paths: Vec<ModulePath<'_>> = modules.map(|(path, _)| ModulePath::parse(path)).collect();
    paths.sort_by_key(ModulePath::role_order);
    paths.dedup_by_key(|path| path.role);
    paths.iter().map(|path| path.role.to_owned()).collect()
}

impl Arm {
    fn of_role<'a>(&'a self, role: &'a str) -> impl Iterator<Item = &'a BTreeMap<u64, f64>> {
        let modules = self.modules.iter();
        let these = modules.filter(move |(path, _)| ModulePath::parse(path).role == role);
        these.map(|(_, points)| points)
    }

    /// The mean over the role's modules, at the ranks that all of them have.
    fn mean(&self, role: &str) -> Vec<(f64, f64)> {
        let Some(first) = self.of_role(role).next() else {
            return Vec::new();
        };
        let at = |rank: &u64| -> Option<(f64, f64)> {
            let values: Option<Vec<f64>> = self
                .of_role(role)
                .map(|points| points.get(rank).copied())
                .collect();
            Some((*rank as f64, mean(values?.into_iter())?))
        };
        first.keys().filter_map(at).collect()
    }
}

fn panel(arms: &[Arm], role: &str) -> CurvesPanel {
    let mut curves: Vec<Curve> = Vec::new();
    if let [arm] = arms {
        curves.extend(arm.of_role(role).map(|points| Curve {
            series: None,
            points: points.iter().map(|(x, y)| (*x as f64, *y)).collect(),
        }));
    }
    curves.extend(arms.iter().enumerate().map(|(series, arm)| Curve {
        series: Some(series),
        points: arm.mean(role),
    }));
    CurvesPanel {
        title: role.to_owned(),
        note: "share of ‖ΔW‖² kept".to_owned(),
        unit: Unit::Percent,
        below: "rank r, logarithmic".to_owned(),
        ticks: ticks(arms),
        places: Vec::new(),
        log: false,
        include: vec![0.0, 1.0],
        curves,
    }
}

/// From tick to tick of the rank.
const TICKS: u64 = 4;

/// Powers of four, which leave room between their names, and the largest rank; the same on every panel.
fn ticks(arms: &[Arm]) -> Vec<(f64, String)> {
    let modules = arms.iter().flat_map(|arm| &arm.modules);
    let largest = modules.filter_map(|(_, points)| points.keys().next_back().copied());
    let largest = largest.max().unwrap_or(1);
    let mut ranks: Vec<u64> = std::iter::successors(Some(1_u64), |rank| rank.checked_mul(TICKS))
        .take_while(|rank| 2 * rank <= largest)
        .collect();
    ranks.push(largest);
    ranks
        .into_iter()
        .map(|rank| (rank as f64, rank.to_string()))
        .collect()
}

fn alt(arms: &[Arm], roles: &[String]) -> String {
    let ends = arms.iter().flat_map(|arm| {
        roles.iter().filter_map(|role| {
            let (rank, kept) = *arm.mean(role).last()?;
            Some(format!(
                "{}, {role}: {} at rank {rank}",
                arm.name,
                percent(kept)
            ))
        })
    });
    let ends: Vec<String> = ends.collect();
    format!(
        "Energy kept over the rank, mean over the layers of each projection: {}.",
        ends.join("; ")
    )
}
