//! Tests over whole directories and against transformers' results.

mod detokenizing;
mod entry;
mod files;
mod golden;
mod hostile_templates;
mod templates;
mod texts;
