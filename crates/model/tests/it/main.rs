//! The decoder against what transformers and PEFT compute, and against itself however a batch is put together.

mod formats;
mod golden;
mod independence;
mod refusals;
mod sequence;
