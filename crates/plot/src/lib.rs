//! Measurement rows as plots and as one report: a self-contained HTML page, the same in Markdown, and the figures as SVG files.
//!
//! [`report`] reads the output directories of other tools ([`Source`]), asks every *chapter* whether it has something to say about
//! their rows, and renders what they say. A [`Report`] is plain data: sections of prose, tables and figures. So the key decision is
//! that a chapter never writes HTML, and the renderers never see a row; the alternative, a template per report, would know both.
//!
//! Figures are SVG with text as text: no fonts are needed where they are made, and they stay readable at any size. Their inks are
//! fixed in the files, and follow the reader's light or dark scheme inside the page. Series colours are safe for colour-blind readers.
//!
//! ```
//! use xgraft_plot::{Report, Section, Table};
//!
//! let mut table = Table::new("Two ranks", [("rank", true), ("energy kept", true)]);
//! table.push(["32", "97.0 %"]);
//! let report = Report {
//!     title: "An adapter".into(),
//!     sections: vec![Section::new("Result").say("It keeps most of the update.").table(table)],
//! };
//! assert!(report.markdown().contains("| 32 | 97.0 % |"));
//! assert!(report.html().starts_with("<!doctype html>"));
//! ```
//!
//! Modules: `inputs` (directories in), `chapters` (rows to sections, one file each), `figures` (rows to SVG, one file a kind),
//! `report` (what a report is), `render` (reports out), `module_path` (layer and role of a module).
//!
//! To add to the report: one file in `chapters`, and its line in `chapters::ALL`.
//!
//! **Invariant:** it depends on no producer of rows, and its pages load nothing.

mod chapters;
mod error;
mod figures;
mod inputs;
mod module_path;
mod render;
mod report;

pub use error::{Error, Result};
pub use inputs::Source;
pub use module_path::ModulePath;
pub use report::{Column, Figure, Rendered, Report, Section, Table, report};
