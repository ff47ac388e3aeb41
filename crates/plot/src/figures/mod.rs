//! Drawings. Each kind of figure is one file and takes plain numbers; which rows go into it is a chapter's business.

mod axis;
mod canvas;
mod cloud;
mod curves;
mod heatmap;
mod intervals;
mod levels;
mod matrix;
pub(crate) mod palette;
mod portions;
mod ramp;
mod scale;
mod strips;
mod stroke;
mod unit;

pub(crate) use cloud::{Cloud, Dot};
pub(crate) use curves::{Curve, Curves, CurvesPanel};
pub(crate) use heatmap::{Heatmap, HeatmapPanel};
pub(crate) use intervals::{Interval, Intervals, IntervalsPanel};
pub(crate) use levels::{Level, Levels, LevelsPanel};
pub(crate) use matrix::Matrix;
pub(crate) use portions::Portions;
pub(crate) use scale::log_ticks;
pub(crate) use strips::{Group, Panel, Series, Strips};
pub(crate) use stroke::Stroke;
pub(crate) use unit::Unit;
