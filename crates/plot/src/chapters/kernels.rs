//! Products on a GPU: time over the floor, and rates under the roof.

use std::collections::BTreeMap;

use crate::{
    Figure, Result, Section, Table,
    figures::{Curve, Curves, CurvesPanel, Stroke, Unit, log_ticks},
    inputs::{Input, Inputs},
};
use xgraft_results::Row;

pub(super) fn section(inputs: &Inputs) -> Result<Option<Section>> {
    let inputs: Vec<Kernels<'_>> = inputs.0.iter().filter_map(Kernels::of).collect();
    if inputs.is_empty() {
        return Ok(None);
    }
    let mut section = Section::new("Products on a GPU").say(
        "Medians of launches in a graph, on weights that no cache holds, ours and theirs by turns. The floor is the longer of moving \
         codes, scales and results once at the data sheet's bandwidth and of computing at its FP8 rate; no kernel reaches it. An \
         implementation with scales for whole tensors, or in BF16, computes another product and is here for comparison.",
    );
    for kernels in inputs {
        section = section.figure(kernels.over_floor()?);
        section = section.figure(kernels.roofline()?);
        section = section.table(kernels.table());
    }
    Ok(Some(section))
}

/// Of microseconds and of units.
const MEGA: u64 = 1_000_000;
const TERA: u64 = 1_000_000_000_000;
/// The right end of the roofline, in operations a byte.
const MOST_INTENSE: u64 = 10_000;
/// Longer tables are folded.
const LONG: usize = 30;

/// A time of one implementation.
struct Time<'a> {
    arm: &'a str,
    layer: &'a str,
    tokens: u32,
    row: &'a Row,
}

/// What a product costs at least.
#[derive(Clone, Copy, Default)]
struct Cost {
    floor_us: f64,
    bytes: f64,
    flops: f64,
}

/// The times of one source.
struct Kernels<'a> {
    input: &'a Input,
    times: Vec<Time<'a>>,
    costs: BTreeMap<(&'a str, u32), Cost>,
    /// Those without an adapter.
    arms: Vec<&'a str>,
    /// Those of which there is a cost.
    layers: Vec<&'a str>,
}

/// The layer and number of tokens of a row.
fn place(row: &Row) -> Option<(&str, u32)> {
    let tokens = row.task.as_deref()?.strip_prefix("m=")?;
    Some((row.module.as_deref()?, tokens.parse().ok()?))
}

impl<'a> Kernels<'a> {
    fn of(input: &'a Input) -> Option<Self> {
        let mut this = Self {
            input,
            times: Vec::new(),
            costs: BTreeMap::new(),
            arms: Vec::new(),
            layers: Vec::new(),
        };
        for row in &input.rows {
            let Some((layer, tokens)) = place(row) else {
                continue;
            };
            let cost = this.costs.entry((layer, tokens));
            match row.metric.as_str() {
                "kernel_floor_us" => cost.or_default().floor_us = row.value,
                "kernel_bytes" => cost.or_default().bytes = row.value,
                "kernel_flops" => cost.or_default().flops = row.value,
                "kernel_us" => {
                    let arm = row.arm.as_deref().unwrap_or("unknown");
                    this.times.push(Time {
                        arm,
                        layer,
                        tokens,
                        row,
                    });
                    if !this.arms.contains(&arm) && !is_variant(arm) {
                        this.arms.push(arm);
                    }
                }
                _ => {}
            }
        }
        for (layer, _) in this.costs.keys() {
            if !this.layers.contains(layer) {
                this.layers.push(layer);
            }
        }
        (!this.times.is_empty()).then_some(this)
    }

    fn series(&self) -> Vec<(String, Stroke)> {
        let arms = self.arms.iter().enumerate();
        arms.map(|(at, arm)| ((*arm).to_owned(), Stroke::of_place(at)))
            .collect()
    }

    /// The points of an implementation in a layer, by tokens.
    fn points(
        &self,
        layer: &str,
        arm: &str,
        point: impl Fn(u32, f64, Cost) -> (f64, f64),
    ) -> Vec<(f64, f64)> {
        let times = self.times.iter();
        let times = times.filter(|time| (time.layer, time.arm) == (layer, arm));
        let mut times: Vec<_> = times
            .filter_map(|time| {
                let cost = self.costs.get(&(layer, time.tokens))?;
                Some((time.tokens, point(time.tokens, time.row.value, *cost)))
            })
            .collect();
        times.sort_by_key(|(tokens, _)| *tokens);
        times.into_iter().map(|(_, point)| point).collect()
    }

    fn curves(
        &self,
        layer: &str,
        point: impl Fn(u32, f64, Cost) -> (f64, f64) + Copy,
    ) -> Vec<Curve> {
        let arms = self.arms.iter().enumerate();
        arms.map(|(at, arm)| Curve {
            series: Some(at),
            points: self.points(layer, arm, point),
        })
        .filter(|curve| !curve.points.is_empty())
        .collect()
    }

    fn named(&self, figure: &str) -> String {
        let label = self.input.label.replace(['/', ' ', '.'], "-");
        format!("{figure}-{label}")
    }

    fn over_floor(&self) -> Result<Figure> {
        let most = self.costs.keys().map(|(_, tokens)| *tokens).max();
        let panel = |layer: &&str| CurvesPanel {
            title: (*layer).to_owned(),
            note: "time over the floor".to_owned(),
            unit: Unit::Plain,
            below: "tokens, logarithmic".to_owned(),
            ticks: log_ticks(1.0, f64::from(most.unwrap_or(1).max(2))),
            places: Vec::new(),
            log: false,
            include: vec![1.0],
            curves: self.curves(layer, |tokens, us, cost| {
                (f64::from(tokens), us / cost.floor_us)
            }),
        };
        let figure = Curves {
            panels: self.layers.iter().map(panel).collect(),
            columns: 2,
            series: self.series(),
            behind: None,
        };
        let name = self.named("kernels-floor");
        Ok(Figure {
            svg: figure.render(&name)?,
            caption: format!(
                "{}: time over the floor; lower is better.",
                self.input.label
            ),
            alt: "Time over the floor by number of tokens, one panel a layer".to_owned(),
            name,
        })
    }

    fn roofline(&self) -> Result<Figure> {
        let of = |metric| self.input.total(metric).unwrap_or(f64::NAN);
        let (bytes_per_s, flops_per_s) = (of("peak_bytes"), of("peak_flops"));
        let at = |flops_per_byte: f64| flops_per_s.min(flops_per_byte * bytes_per_s) / TERA as f64;
        let (low, high) = (1.0, MOST_INTENSE as f64);
        let panel = |layer: &&str| {
            let mut curves = self.curves(layer, |_, us, cost| {
                (cost.flops / cost.bytes, tera_a_second(cost.flops, us))
            });
            let ridge = flops_per_s / bytes_per_s;
            curves.push(Curve {
                series: None,
                points: [low, ridge, high].map(|x| (x, at(x))).into(),
            });
            CurvesPanel {
                title: (*layer).to_owned(),
                note: "TFLOPS, logarithmic".to_owned(),
                unit: Unit::Plain,
                below: "operations a byte, logarithmic".to_owned(),
                ticks: log_ticks(low, high),
                places: Vec::new(),
                log: true,
                include: Vec::new(),
                curves,
            }
        };
        let figure = Curves {
            panels: self.layers.iter().map(panel).collect(),
            columns: 2,
            series: self.series(),
            behind: Some("roof".to_owned()),
        };
        let name = self.named("kernels-roofline");
        Ok(Figure {
            svg: figure.render(&name)?,
            caption: format!(
                "{}: rates under the data sheet's roof of memory and arithmetic.",
                self.input.label
            ),
            alt: "Rates by operations a byte, one panel a layer".to_owned(),
            name,
        })
    }

    fn table(&self) -> Table {
        let columns = [
            "layer",
            "tokens",
            "implementation",
            "µs",
            "tenth to ninetieth percentile",
            "over the floor",
            "TFLOPS",
            "TB/s",
        ];
        let numeric = |name: &&str| !["layer", "implementation"].contains(name);
        let columns = columns.iter().map(|name| (*name, numeric(name)));
        let mut table = Table::new(format!("{}: every median", self.input.label), columns);
        for time in &self.times {
            let us = time.row.value;
            let cost = self.costs.get(&(time.layer, time.tokens));
            let of = |number: Option<f64>, decimals: usize| {
                number.map_or_else(String::new, |number| format!("{number:.decimals$}"))
            };
            let ends = (time.row.lo.unwrap_or(us), time.row.hi.unwrap_or(us));
            table.push([
                time.layer.to_owned(),
                time.tokens.to_string(),
                time.arm.to_owned(),
                format!("{us:.1}"),
                format!("{:.1} to {:.1}", ends.0, ends.1),
                of(cost.map(|cost| us / cost.floor_us), 2),
                of(cost.map(|cost| tera_a_second(cost.flops, us)), 0),
                of(cost.map(|cost| tera_a_second(cost.bytes, us)), 2),
            ]);
        }
        table.folded_above(LONG)
    }
}

fn tera_a_second(count: f64, us: f64) -> f64 {
    count / us * MEGA as f64 / TERA as f64
}

/// Ours with something more in it than the product.
fn is_variant(arm: &str) -> bool {
    arm.strip_prefix("xgraft")
        .is_some_and(|rest| !rest.is_empty())
}
