//! One request's generations: tokens from the engine to pieces of text, in the order in which they come.

mod choice;
mod finder;
mod job;
mod plan;
mod run;
mod stop;

use choice::{Choice, TextOptions};
pub(crate) use choice::{End, Piece, StopReason};
pub(crate) use finder::Splitter;
pub(crate) use job::Job;
pub(crate) use plan::{Plan, Running, Text};
pub(crate) use run::{Run, Update, UsageCount};
