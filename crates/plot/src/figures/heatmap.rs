//! One cell for every layer and projection, as dark as its value is large.
//!
//! Cells that are wide enough say their numbers; the colour bar beside a panel has them in every case.

use super::{
    axis::Axis,
    canvas::{Canvas, Lettering, draw},
    palette::{MUTED, TEXT},
    ramp,
    scale::index_ticks,
    unit::Unit,
};
use crate::Result;

/// The whole figure.
#[derive(Clone, Debug)]
pub(crate) struct Heatmap {
    /// Names of the rows of every panel, top to bottom.
    pub(crate) groups: Vec<String>,
    /// How many layers there are.
    pub(crate) layers: usize,
    pub(crate) panels: Vec<HeatmapPanel>,
}

/// One quantity for every group and layer.
#[derive(Clone, Debug)]
pub(crate) struct HeatmapPanel {
    /// The quantity.
    pub(crate) title: String,
    /// What it means, in one line. Panels of one meaning share their scale, so that they compare by eye.
    pub(crate) note: String,
    /// What stands above the colour bar.
    pub(crate) symbol: String,
    /// How its numbers are written.
    pub(crate) unit: Unit,
    /// Whether the ratios of its values matter more than their differences: where they are far apart, it is logarithmic.
    pub(crate) ratios: bool,
    /// For each group, one value a layer.
    pub(crate) values: Vec<Vec<Option<f64>>>,
}

const WIDTH: f64 = 960.0;
/// Room for the names of the groups.
const NAMES: f64 = 86.0;
const CELL: f64 = 24.0;
const HEAD: f64 = 54.0;
const FOOT: f64 = 48.0;
/// Room for the colour bar with its numbers.
const BAR: f64 = 92.0;
const BAR_WIDTH: f64 = 13.0;
/// Steps of the colour bar.
const STEPS: usize = 48;
/// Panels stand side by side up to this many layers.
const NARROW: usize = 12;
/// Narrower cells have no numbers.
const NUMBER: f64 = 50.0;
/// Ratios of this size and more need a logarithmic scale: on another one, all but the largest values would be pale.
const SPREAD: f64 = 30.0;

impl Heatmap {
    /// Draws it.
    pub(crate) fn render(&self, name: &str) -> Result<String> {
        let columns = if self.layers > NARROW { 1 } else { 2 };
        let (width, height) = (WIDTH / columns as f64, HEAD + self.height() + FOOT);
        let rows = self.panels.len().div_ceil(columns) as f64;
        draw(name, (WIDTH, height * rows), |canvas| {
            for (at, panel) in self.panels.iter().enumerate() {
                let (row, column) = (at / columns, at % columns);
                let left = width * column as f64 + NAMES;
                let top = height * row as f64 + HEAD;
                let cell = (width - NAMES - BAR) / self.layers.max(1) as f64;
                self.panel(canvas, panel, (left, top), cell);
            }
        })
    }

    /// From zero, so that darkness is amount, and what is alike looks alike; over all panels that mean the same.
    fn axis(&self, panel: &HeatmapPanel) -> Axis {
        let alike = |other: &&HeatmapPanel| other.note == panel.note && other.unit == panel.unit;
        let values = || {
            let panels = self.panels.iter().filter(alike);
            panels.flat_map(|p| p.values.iter().flatten().flatten().copied())
        };
        let largest = values().fold(0.0, f64::max);
        let least = values().fold(f64::INFINITY, f64::min);
        if panel.ratios && least > 0.0 && largest > SPREAD * least {
            Axis::log(values())
        } else {
            Axis::linear(values(), &[0.0])
        }
    }

    fn height(&self) -> f64 {
        CELL * self.groups.len() as f64
    }

    fn panel(
        &self,
        canvas: &mut Canvas<'_>,
        panel: &HeatmapPanel,
        (left, top): (f64, f64),
        cell: f64,
    ) {
        let title = Lettering::new(15.0, TEXT).bold();
        canvas.text(&panel.title, (left, top - 36.0), title);
        canvas.text(&panel.note, (left, top - 16.0), Lettering::new(12.0, MUTED));
        let axis = self.axis(panel);
        for (group, name) in self.groups.iter().enumerate() {
            let y = top + CELL * group as f64;
            let label = Lettering::new(12.0, TEXT).bold().right();
            canvas.text(name, (left - 8.0, y + 0.5 * CELL), label);
            for (layer, value) in panel.values[group].iter().enumerate() {
                let x = left + cell * layer as f64;
                draw_cell(canvas, panel.unit, &axis, *value, (x, y), cell);
            }
        }
        self.layer_axis(canvas, (left, top + self.height()), cell);
        let right = left + cell * self.layers as f64;
        let symbol = Lettering::new(11.0, MUTED);
        canvas.text(&panel.symbol, (right + 14.0, top - 12.0), symbol);
        self.bar(canvas, panel.unit, &axis, (right + 16.0, top));
    }

    fn layer_axis(&self, canvas: &mut Canvas<'_>, (left, y): (f64, f64), cell: f64) {
        let label = Lettering::new(11.0, MUTED).centred();
        for layer in index_ticks(self.layers, 16) {
            let x = left + cell * (layer as f64 + 0.5);
            canvas.text(&layer.to_string(), (x, y + 11.0), label);
        }
        let middle = (left + 0.5 * cell * self.layers as f64, y + 28.0);
        canvas.text("layer", middle, Lettering::new(12.0, MUTED).centred());
    }

    /// The colours beside their numbers, the largest on top.
    fn bar(&self, canvas: &mut Canvas<'_>, unit: Unit, axis: &Axis, (left, top): (f64, f64)) {
        let height = self.height();
        let step = height / STEPS as f64;
        // Each reaches down to the foot and the next one covers it, so that no line of paper shows between two.
        for at in 0..STEPS {
            let share = 1.0 - (at as f64 + 0.5) / STEPS as f64;
            let from = (left, top + step * at as f64);
            canvas.rectangle(from, (left + BAR_WIDTH, top + height), ramp::colour(share));
        }
        for (tick, text) in axis.ticks(unit) {
            let y = top + height * (1.0 - axis.position(tick));
            let right = left + BAR_WIDTH;
            canvas.line((right, y), (right + 4.0, y), MUTED.into(), 1.0);
            canvas.text(&text, (right + 8.0, y), Lettering::new(11.0, MUTED));
        }
    }
}

fn draw_cell(
    canvas: &mut Canvas<'_>,
    unit: Unit,
    axis: &Axis,
    value: Option<f64>,
    (x, y): (f64, f64),
    width: f64,
) {
    let middle = (x + 0.5 * width, y + 0.5 * CELL);
    let Some(value) = value else {
        canvas.text("–", middle, Lettering::new(11.0, MUTED).centred());
        return;
    };
    let share = axis.position(value).clamp(0.0, 1.0);
    // A line of paper between the cells.
    let gap = if width > 6.0 { 1.0 } else { 0.0 };
    canvas.rectangle(
        (x, y),
        (x + width - gap, y + CELL - 1.0),
        ramp::colour(share),
    );
    if width >= NUMBER {
        let label = Lettering::new(11.0, ramp::ink(share)).bold().centred();
        canvas.text(&unit.value(value), middle, label);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(layers: usize, value: impl Fn(usize, usize) -> Option<f64>) -> String {
        let row = |group| (0..layers).map(|layer| value(group, layer)).collect();
        let heatmap = Heatmap {
            groups: vec!["q_proj".to_owned(), "up_proj".to_owned()],
            layers,
            panels: vec![HeatmapPanel {
                title: "Residual".to_owned(),
                note: "less is better".to_owned(),
                symbol: "‖·‖".to_owned(),
                unit: Unit::Percent,
                ratios: true,
                values: (0..2).map(row).collect(),
            }],
        };
        heatmap.render("x").expect("draws")
    }

    /// The paper and the colour bar are rectangles too.
    fn cells(svg: &str) -> usize {
        svg.matches("<rect").count() - STEPS - 1
    }

    #[test]
    fn every_value_is_a_cell_and_wide_cells_say_it() {
        let svg = figure(3, |group, layer| Some(0.1 + 0.03 * (group + layer) as f64));
        assert_eq!(cells(&svg), 2 * 3);
        assert!(svg.contains("13.0\u{a0}%"));
        let svg = figure(64, |group, layer| Some(0.1 + 0.03 * (group + layer) as f64));
        assert_eq!(cells(&svg), 2 * 64);
        assert!(!svg.contains("13.0\u{a0}%"));
    }

    #[test]
    fn the_colour_bar_has_numbers_with_their_unit() {
        let svg = figure(64, |_, layer| Some(0.01 * layer as f64));
        assert!(svg.contains("\n0 %\n") && svg.contains("\n50 %\n"));
        let wide = figure(64, |_, layer| Some(1e-4 * 10f64.powi(layer as i32 % 3)));
        assert!(wide.contains("\n0.01 %\n"), "a logarithmic bar");
    }

    #[test]
    fn what_is_missing_is_a_dash_and_nothing_still_draws() {
        let svg = figure(3, |group, _| (group == 0).then_some(0.5));
        assert_eq!(cells(&svg), 3);
        assert_eq!(svg.matches("\n–\n").count(), 3);
        assert!(figure(0, |_, _| None).starts_with("<svg"));
    }

    #[test]
    fn panels_of_one_meaning_share_their_scale() {
        let panel = |title: &str, note: &str, value: f64| HeatmapPanel {
            title: title.to_owned(),
            note: note.to_owned(),
            symbol: "z".to_owned(),
            unit: Unit::Plain,
            ratios: false,
            values: vec![vec![Some(value)]],
        };
        let heatmap = |note: &str| Heatmap {
            groups: vec!["q_proj".to_owned()],
            layers: 1,
            panels: vec![panel("one", "the same", 1.0), panel("other", note, 4.0)],
        };
        let (shared, own) = (heatmap("the same"), heatmap("another"));
        assert_eq!(
            shared.axis(&shared.panels[0]),
            shared.axis(&shared.panels[1])
        );
        assert_ne!(own.axis(&own.panels[0]), own.axis(&own.panels[1]));
    }
}
