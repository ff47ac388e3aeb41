//! Small multiples: one strip a group, the layers along it, panels side by side.
//!
//! All strips of a panel share their scale, so that groups compare by eye; the mean of each series stands at the strip's end,
//! so that no eye needs to measure. It reads the same for 4 layers and for 64.

use super::{
    canvas::{Canvas, Lettering, Point, draw},
    palette::{GRID, Ink, MUTED, TEXT, of_series},
    scale::{Scale, index_ticks},
    unit::Unit,
};
use crate::Result;

/// The whole figure. Series are matched over panels by their position.
#[derive(Clone, Debug)]
pub(crate) struct Strips {
    /// Names of the groups, top to bottom.
    pub(crate) groups: Vec<String>,
    /// Names of the series.
    pub(crate) series: Vec<String>,
    /// The panels, left to right.
    pub(crate) panels: Vec<Panel>,
    /// Whether the first series is what the others are held against, and drawn as such.
    pub(crate) reference: bool,
    /// How many layers there are.
    pub(crate) layers: usize,
}

/// One quantity for every group.
#[derive(Clone, Debug)]
pub(crate) struct Panel {
    /// The quantity.
    pub(crate) title: String,
    /// What it means, in one line.
    pub(crate) note: String,
    /// How its numbers are written.
    pub(crate) unit: Unit,
    /// Values that the scale must hold beside the data's.
    pub(crate) include: Vec<f64>,
    /// As many as the figure has groups.
    pub(crate) groups: Vec<Group>,
}

/// One strip: as many series as the figure has.
#[derive(Clone, Debug, Default)]
pub(crate) struct Group(pub(crate) Vec<Series>);

/// Values at layers, in the order of layers; a layer may have several or none.
#[derive(Clone, Debug, Default)]
pub(crate) struct Series(pub(crate) Vec<(usize, f64)>);

const WIDTH: f64 = 960.0;
/// Room for the names of the groups.
const NAMES: f64 = 86.0;
/// Room of a panel for its tick labels.
const TICKS: f64 = 52.0;
/// Room of a panel for the means.
const MEANS: f64 = 58.0;
const GAP: f64 = 18.0;
const STRIP: f64 = 46.0;
/// From strip to strip.
const PITCH: f64 = 60.0;
const FOOT: f64 = 44.0;

impl Strips {
    /// Draws it.
    pub(crate) fn render(&self, name: &str) -> Result<String> {
        let height = self.top() + PITCH * self.groups.len() as f64 - (PITCH - STRIP) + FOOT;
        draw(name, (WIDTH, height), |canvas| {
            self.legend(canvas);
            self.names(canvas);
            for (index, panel) in self.panels.iter().enumerate() {
                self.panel(canvas, panel, self.left_of(index));
            }
        })
    }

    fn ink(&self, series: usize) -> Ink {
        match (self.reference, series) {
            (true, 0) => MUTED,
            (true, other) => of_series(other - 1),
            (false, other) => of_series(other),
        }
    }

    fn has_legend(&self) -> bool {
        self.series.len() > 1
    }

    fn top(&self) -> f64 {
        if self.has_legend() { 92.0 } else { 62.0 }
    }

    fn strip_top(&self, group: usize) -> f64 {
        self.top() + PITCH * group as f64
    }

    fn pitch_of_panels(&self) -> f64 {
        (WIDTH - NAMES) / self.panels.len().max(1) as f64
    }

    /// Where the plot area of a panel begins.
    fn left_of(&self, panel: usize) -> f64 {
        NAMES + TICKS + self.pitch_of_panels() * panel as f64
    }

    fn plot_width(&self) -> f64 {
        self.pitch_of_panels() - TICKS - MEANS - GAP
    }

    /// Half a step of room at both ends.
    fn x(&self, left: f64, layer: usize) -> f64 {
        left + self.plot_width() * (layer as f64 + 0.5) / self.layers.max(1) as f64
    }

    fn legend(&self, canvas: &mut Canvas<'_>) {
        if !self.has_legend() {
            return;
        }
        let mut x = NAMES + TICKS;
        for (index, name) in self.series.iter().enumerate() {
            let color = self.ink(index).into();
            canvas.line((x, 20.0), (x + 18.0, 20.0), color, 2.0);
            canvas.mark(index, (x + 9.0, 20.0), 3.6, color);
            canvas.text(name, (x + 25.0, 20.0), Lettering::new(13.0, TEXT));
            x += 25.0 + 7.2 * name.chars().count() as f64 + 26.0;
        }
    }

    fn names(&self, canvas: &mut Canvas<'_>) {
        for (index, name) in self.groups.iter().enumerate() {
            let at = (NAMES - 2.0, self.strip_top(index) + 0.5 * STRIP);
            canvas.text(name, at, Lettering::new(13.0, TEXT).bold().right());
        }
    }

    fn panel(&self, canvas: &mut Canvas<'_>, panel: &Panel, left: f64) {
        let right = left + self.plot_width();
        let values = panel.groups.iter().flat_map(Group::values);
        let scale = Scale::around(values, &panel.include);
        let head = self.top() - 44.0;
        canvas.text(
            &panel.title,
            (left, head),
            Lettering::new(15.0, TEXT).bold(),
        );
        canvas.text(
            &panel.note,
            (left, head + 19.0),
            Lettering::new(12.0, MUTED),
        );
        let means = (right + MEANS - 4.0, head + 19.0);
        canvas.text("mean", means, Lettering::new(11.0, MUTED).right());
        for (index, group) in panel.groups.iter().enumerate() {
            let top = self.strip_top(index);
            let strip = Strip {
                figure: self,
                scale: &scale,
                unit: panel.unit,
                left,
                right,
                top,
            };
            strip.grid(canvas);
            strip.marks(canvas, group);
            strip.means(canvas, group);
        }
        self.layer_axis(canvas, left, right);
    }

    fn layer_axis(&self, canvas: &mut Canvas<'_>, left: f64, right: f64) {
        let base = self.strip_top(self.groups.len()) - (PITCH - STRIP);
        for layer in index_ticks(self.layers, 8) {
            let x = self.x(left, layer);
            canvas.line((x, base + 3.0), (x, base + 7.0), MUTED.into(), 1.0);
            let label = Lettering::new(11.0, MUTED).centred();
            canvas.text(&layer.to_string(), (x, base + 15.0), label);
        }
        let middle = (0.5 * (left + right), base + 32.0);
        canvas.text("layer", middle, Lettering::new(12.0, MUTED).centred());
    }
}

impl Group {
    fn values(&self) -> impl Iterator<Item = f64> + '_ {
        self.0
            .iter()
            .flat_map(|series| series.0.iter().map(|(_, value)| *value))
    }
}

impl Series {
    fn mean(&self) -> Option<f64> {
        let sum: f64 = self.0.iter().map(|(_, value)| value).sum();
        (!self.0.is_empty()).then(|| sum / self.0.len() as f64)
    }

    /// One value a layer: the mean of those that share it.
    fn by_layer(&self) -> Vec<(usize, f64)> {
        let mut layers: Vec<(usize, Vec<f64>)> = Vec::new();
        for (layer, value) in &self.0 {
            match layers.last_mut() {
                Some((last, values)) if last == layer => values.push(*value),
                _ => layers.push((*layer, vec![*value])),
            }
        }
        let mean = |values: Vec<f64>| values.iter().sum::<f64>() / values.len() as f64;
        layers
            .into_iter()
            .map(|(layer, values)| (layer, mean(values)))
            .collect()
    }
}

/// One group of one panel, placed.
struct Strip<'a> {
    figure: &'a Strips,
    scale: &'a Scale,
    unit: Unit,
    left: f64,
    right: f64,
    top: f64,
}

impl Strip<'_> {
    fn y(&self, value: f64) -> f64 {
        self.top + STRIP * (1.0 - self.scale.position(value))
    }

    fn point(&self, (layer, value): (usize, f64)) -> Point {
        (self.figure.x(self.left, layer), self.y(value))
    }

    fn grid(&self, canvas: &mut Canvas<'_>) {
        for tick in &self.scale.ticks {
            let y = self.y(*tick);
            canvas.line((self.left, y), (self.right, y), GRID.into(), 1.0);
            let text = self.unit.tick(self.scale, *tick);
            let label = Lettering::new(10.0, MUTED).right();
            canvas.text(&text, (self.left - 6.0, y), label);
        }
    }

    fn marks(&self, canvas: &mut Canvas<'_>, group: &Group) {
        let crowded = self.figure.layers > 24;
        let (radius, width) = if crowded { (1.9, 1.2) } else { (3.6, 1.8) };
        for (index, series) in group.0.iter().enumerate() {
            let color = self.figure.ink(index).into();
            let line: Vec<Point> = series
                .by_layer()
                .into_iter()
                .map(|p| self.point(p))
                .collect();
            if line.len() > 1 {
                canvas.path(&line, color, width);
            }
            for point in &series.0 {
                canvas.mark(index, self.point(*point), radius, color);
            }
        }
    }

    /// The means, spread so that no two overlap, in the order of their values.
    fn means(&self, canvas: &mut Canvas<'_>, group: &Group) {
        let mut means: Vec<(f64, usize)> = group
            .0
            .iter()
            .enumerate()
            .filter_map(|(index, series)| Some((series.mean()?, index)))
            .collect();
        means.sort_by(|a, b| b.0.total_cmp(&a.0));
        let wanted: Vec<f64> = means.iter().map(|(mean, _)| self.y(*mean)).collect();
        let placed = spread(&wanted, 13.0, (self.top - 4.0, self.top + STRIP + 4.0));
        for ((mean, index), y) in means.into_iter().zip(placed) {
            let color = if self.figure.has_legend() {
                self.figure.ink(index)
            } else {
                TEXT
            };
            let label = Lettering::new(12.0, color).bold().right();
            let text = self.unit.value(mean);
            canvas.text(&text, (self.right + MEANS - 4.0, y), label);
        }
    }
}

/// Moves rising positions apart to at least `least`, as little as that needs, within bounds where they fit.
fn spread(wanted: &[f64], least: f64, (low, high): (f64, f64)) -> Vec<f64> {
    let mut placed = wanted.to_vec();
    for i in 1..placed.len() {
        placed[i] = placed[i].max(placed[i - 1] + least);
    }
    let over = placed.last().map_or(0.0, |last| last - high).max(0.0);
    if let Some(last) = placed.last_mut() {
        *last -= over;
    }
    for i in (1..placed.len()).rev() {
        placed[i - 1] = placed[i - 1].min(placed[i] - least);
    }
    let under = placed.first().map_or(0.0, |first| low - first).max(0.0);
    placed.into_iter().map(|y| y + under).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(layers: usize, series: usize) -> Strips {
        let line = Series((0..layers).map(|l| (l, 0.9 + 0.001 * l as f64)).collect());
        let panel = Panel {
            title: "Energy <kept>".to_owned(),
            note: "share".to_owned(),
            unit: Unit::Percent,
            include: vec![1.0],
            groups: vec![Group(vec![line; series]); 2],
        };
        Strips {
            groups: vec!["q_proj".to_owned(), "up_proj".to_owned()],
            series: (0..series).map(|s| format!("r{s}")).collect(),
            panels: vec![panel.clone(), panel],
            reference: false,
            layers,
        }
    }

    #[test]
    fn every_value_is_a_dot_and_text_is_escaped() {
        let svg = figure(64, 1).render("x").expect("draws");
        assert_eq!(svg.matches("<circle").count(), 2 * 2 * 64);
        assert!(svg.contains("Energy &lt;kept&gt;"));
        assert!(svg.starts_with("<svg width=\"960\""));
    }

    #[test]
    fn one_series_needs_no_legend() {
        assert!(
            !figure(4, 1)
                .render("x")
                .expect("draws")
                .contains(">\nr0\n<")
        );
        assert!(figure(4, 2).render("x").expect("draws").contains("r1"));
    }

    #[test]
    fn no_layers_and_no_groups_still_draw() {
        let empty = Strips {
            groups: Vec::new(),
            series: Vec::new(),
            panels: Vec::new(),
            reference: true,
            layers: 0,
        };
        assert!(empty.render("x").is_ok());
    }

    #[test]
    fn several_values_of_a_layer_are_joined_by_their_mean() {
        let series = Series(vec![(0, 1.0), (0, 3.0), (1, 5.0)]);
        assert_eq!(series.by_layer(), [(0, 2.0), (1, 5.0)]);
    }

    #[test]
    fn labels_are_moved_apart_and_stay_inside() {
        assert_eq!(spread(&[10.0, 40.0], 13.0, (0.0, 50.0)), [10.0, 40.0]);
        assert_eq!(spread(&[45.0, 46.0], 13.0, (0.0, 50.0)), [37.0, 50.0]);
        assert_eq!(spread(&[0.0, 1.0], 13.0, (0.0, 50.0)), [0.0, 13.0]);
    }
}
