//! One request's generations: tokens from the engine to pieces of text, in the order in which they come.

mod choice;
mod finder;
mod job;
mod run;
mod stop;

pub(crate) use choice::{End, Piece};
use choice::{Choice, TextOptions};
pub(crate) use finder::Splitter;
pub(crate) use job::{Job, Plan, Text};
use run::UsageCount;
pub(crate) use run::{Run, Update};
