//! What every xgraft tool writes down: a measurement is a [`Row`], an observation about the data is a [`Finding`],
//! and what a directory was made from is its [`Manifest`].
//!
//! One row type for the whole project is the key decision: whoever plots or reports reads rows, and depends on no producer.
//! The alternative, one struct per experiment, makes every plot know every experiment.
//!
//! Records are JSON objects that carry their schema's name and version in the field `schema`; the JSON Schema documents
//! lie in `docs/schemas/`. Readers refuse another schema and ignore fields that they do not know, so that a field may be added
//! within a version. Rows and findings are written as JSONL ([`jsonl`]), a manifest is one JSON file.
//!
//! ```
//! use xgraft_results::{Finding, Row, jsonl};
//!
//! let rows = [
//!     Row::new("energy_kept", 0.97).module("model.layers.0.mlp.up_proj").arm("r32"),
//!     Row::new("seconds", 1.25).unit("s").source("extract"),
//! ];
//! let mut bytes = Vec::new();
//! jsonl::write(&mut bytes, &rows)?;
//! let back: Vec<Row> = jsonl::read(bytes.as_slice(), "rows.jsonl")?;
//! assert_eq!(back, rows);
//!
//! let finding = Finding::warning("dropped-energy", "model.norm", "12.5 % of the update is dropped").value(0.125);
//! assert_eq!(finding.to_string(), "warning[dropped-energy] model.norm: 12.5 % of the update is dropped");
//! # Ok::<(), xgraft_results::Error>(())
//! ```
//!
//! Modules: `row`, `finding`, `manifest` (one record each), [`jsonl`] (their files), [`human`] (numbers as text), `error`.
//!
//! **Invariant:** no record of this crate holds a time or a host name, so that equal work gives equal bytes.

mod error;
mod finding;
pub mod human;
pub mod jsonl;
mod manifest;
mod record;
mod row;

pub use error::{Error, Result};
pub use finding::{Finding, Severity};
pub use manifest::{Input, Manifest, Tool};
pub use record::Record;
pub use row::Row;
