//! Drawings. Each kind of figure is one file and takes plain numbers; which rows go into it is a chapter's business.

mod canvas;
pub(crate) mod curves;
mod levels;
pub(crate) mod palette;
pub(crate) mod scale;
mod strips;
mod unit;

pub(crate) use levels::{Level, Levels, LevelsPanel};
pub(crate) use strips::{Group, Panel, Series, Strips};
pub(crate) use unit::Unit;
