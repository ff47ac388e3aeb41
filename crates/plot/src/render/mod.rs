//! A report as text. The renderers see titles, paragraphs, tables and figures, never a row.

mod html;
mod markdown;

pub(crate) use html::html;
pub(crate) use markdown::markdown;
