//! A sheet to draw on, in pixels with fractions, over the SVG backend of plotters.

use super::palette;
use crate::{Error, Result};
use plotters::{
    coord::Shift,
    prelude::{
        Circle, DrawingArea, FontFamily, FontStyle, IntoDrawingArea, IntoTextStyle, PathElement,
        Polygon, RGBColor, Rectangle, SVGBackend, Text,
    },
    style::{
        Color,
        text_anchor::{HPos, Pos, VPos},
    },
};

/// The backend counts in whole units; this many make a pixel.
const UNITS: f64 = 8.0;
/// The backend divides font sizes by this.
const FONT: f64 = 1.24;

/// A sheet under work.
pub(super) struct Canvas<'a> {
    area: DrawingArea<SVGBackend<'a>, Shift>,
    fault: Option<String>,
}

/// How a text stands on its point.
#[derive(Clone, Copy)]
pub(super) struct Lettering {
    pub(super) size: f64,
    pub(super) bold: bool,
    pub(super) color: RGBColor,
    pub(super) align: HPos,
}

pub(super) type Point = (f64, f64);

/// Draws a figure of the given width and height in pixels.
pub(super) fn draw(
    name: &str,
    (width, height): (f64, f64),
    paint: impl FnOnce(&mut Canvas<'_>),
) -> Result<String> {
    let mut svg = String::new();
    let fault = {
        let size = (unit(width) as u32, unit(height) as u32);
        let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        let mut canvas = Canvas { area, fault: None };
        canvas.rectangle((0.0, 0.0), (width, height), palette::PAPER.into());
        paint(&mut canvas);
        let Canvas { area, fault } = canvas;
        fault.or(area.present().err().map(|e| e.to_string()))
    };
    match fault {
        Some(message) => Err(Error::Draw {
            figure: name.to_owned(),
            message,
        }),
        None => Ok(in_pixels(&svg, width, height)),
    }
}

/// The root element with its size in pixels; the view box stays in units.
fn in_pixels(svg: &str, width: f64, height: f64) -> String {
    let Some((root, body)) = svg.split_once('>') else {
        return svg.to_owned();
    };
    let view = root.split_once("viewBox").map_or("", |(_, rest)| rest);
    format!("<svg width=\"{width}\" height=\"{height}\" viewBox{view}>{body}")
}

fn unit(pixels: f64) -> i32 {
    (UNITS * pixels).round() as i32
}

fn units((x, y): Point) -> (i32, i32) {
    (unit(x), unit(y))
}

impl Canvas<'_> {
    pub(super) fn line(&mut self, from: Point, to: Point, color: RGBColor, width: f64) {
        self.path(&[from, to], color, width);
    }

    pub(super) fn path(&mut self, points: &[Point], color: RGBColor, width: f64) {
        let points: Vec<_> = points.iter().copied().map(units).collect();
        let style = color.stroke_width(unit(width).max(1) as u32);
        let outcome = self.area.draw(&PathElement::new(points, style));
        self.note(outcome.map_err(|e| e.to_string()));
    }

    pub(super) fn dot(&mut self, at: Point, radius: f64, color: RGBColor) {
        let radius = unit(radius).max(1);
        let outcome = self
            .area
            .draw(&Circle::new(units(at), radius, color.filled()));
        self.note(outcome.map_err(|e| e.to_string()));
    }

    /// The mark of a series: each has a shape of its own, so that it is told apart without colours too.
    pub(super) fn mark(&mut self, series: usize, at: Point, radius: f64, color: RGBColor) {
        let corners: &[Point] = match series % 6 {
            0 => return self.dot(at, radius, color),
            1 => &[(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)],
            2 => &[(0.0, -1.25), (1.15, 0.8), (-1.15, 0.8)],
            3 => &[(0.0, -1.3), (1.1, 0.0), (0.0, 1.3), (-1.1, 0.0)],
            4 => &[(0.0, 1.25), (1.15, -0.8), (-1.15, -0.8)],
            _ => &[(-0.5, -1.2), (0.5, -1.2), (0.5, 1.2), (-0.5, 1.2)],
        };
        let place = |(x, y): &Point| units((at.0 + radius * x, at.1 + radius * y));
        let corners: Vec<_> = corners.iter().map(place).collect();
        let outcome = self.area.draw(&Polygon::new(corners, color.filled()));
        self.note(outcome.map_err(|e| e.to_string()));
    }

    pub(super) fn rectangle(&mut self, from: Point, to: Point, color: RGBColor) {
        let corners = [units(from), units(to)];
        let outcome = self.area.draw(&Rectangle::new(corners, color.filled()));
        self.note(outcome.map_err(|e| e.to_string()));
    }

    /// Text whose middle line goes through the point.
    pub(super) fn text(&mut self, text: &str, at: Point, lettering: Lettering) {
        let style = if lettering.bold {
            FontStyle::Bold
        } else {
            FontStyle::Normal
        };
        let font = (FontFamily::SansSerif, UNITS * FONT * lettering.size, style);
        let style = font
            .into_text_style(&self.area)
            .color(&lettering.color)
            .pos(Pos::new(lettering.align, VPos::Center));
        let outcome = self
            .area
            .draw(&Text::new(text.to_owned(), units(at), style));
        self.note(outcome.map_err(|e| e.to_string()));
    }

    fn note(&mut self, outcome: Result<(), String>) {
        if let Err(message) = outcome {
            self.fault.get_or_insert(message);
        }
    }
}

impl Lettering {
    pub(super) fn new(size: f64, color: impl Into<RGBColor>) -> Self {
        Self {
            size,
            bold: false,
            color: color.into(),
            align: HPos::Left,
        }
    }

    pub(super) fn bold(mut self) -> Self {
        self.bold = true;
        self
    }

    pub(super) fn right(mut self) -> Self {
        self.align = HPos::Right;
        self
    }

    pub(super) fn centred(mut self) -> Self {
        self.align = HPos::Center;
        self
    }
}
