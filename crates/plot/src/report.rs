//! What a report is: plain data between the chapters that write it and the renderers that print it.

use crate::{Error, Result, Source, chapters, inputs::Inputs, render};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Title and sections.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The heading of the page.
    pub title: String,
    /// The sections in reading order.
    pub sections: Vec<Section>,
}

/// A heading with prose, figures and tables below it, in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Section {
    /// The heading.
    pub heading: String,
    /// Paragraphs of plain text.
    pub prose: Vec<String>,
    /// Figures.
    pub figures: Vec<Figure>,
    /// Tables.
    pub tables: Vec<Table>,
}

/// A table of plain text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// What it shows.
    pub caption: String,
    /// The columns.
    pub columns: Vec<Column>,
    /// The cells, as many a row as there are columns.
    pub rows: Vec<Vec<String>>,
    /// Shown folded, for long tables that are looked things up in.
    pub folded: bool,
}

/// A column of a [`Table`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Column {
    /// Its heading.
    pub name: String,
    /// Whether its cells are numbers, which are aligned to the right.
    pub numeric: bool,
}

/// A drawing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figure {
    /// File name without extension, unique in the report.
    pub name: String,
    /// What it shows, and how to read it.
    pub caption: String,
    /// The same in words, for those who cannot see it.
    pub alt: String,
    /// A complete SVG document.
    pub svg: String,
}

impl Report {
    /// One HTML page that loads nothing: styles and figures are in it.
    #[must_use]
    pub fn html(&self) -> String {
        render::html(self)
    }

    /// Markdown whose figures are the files `figures/<name>.svg`.
    #[must_use]
    pub fn markdown(&self) -> String {
        render::markdown(self)
    }
}

impl Section {
    /// An empty section.
    pub fn new(heading: impl Into<String>) -> Self {
        Self {
            heading: heading.into(),
            ..Self::default()
        }
    }

    /// The section with one more paragraph.
    #[must_use]
    pub fn say(mut self, paragraph: impl Into<String>) -> Self {
        self.prose.push(paragraph.into());
        self
    }

    /// The section with one more figure.
    #[must_use]
    pub fn figure(mut self, figure: Figure) -> Self {
        self.figures.push(figure);
        self
    }

    /// The section with one more table.
    #[must_use]
    pub fn table(mut self, table: Table) -> Self {
        self.tables.push(table);
        self
    }
}

impl Table {
    /// A table without rows; each column has a name, and whether its cells are numbers.
    pub fn new<'a>(
        caption: impl Into<String>,
        columns: impl IntoIterator<Item = (&'a str, bool)>,
    ) -> Self {
        let columns = columns.into_iter().map(|(name, numeric)| Column {
            name: name.to_owned(),
            numeric,
        });
        Self {
            caption: caption.into(),
            columns: columns.collect(),
            ..Self::default()
        }
    }

    /// Adds a row.
    ///
    /// # Panics
    /// There are not as many cells as columns.
    pub fn push<T: Into<String>>(&mut self, cells: impl IntoIterator<Item = T>) {
        let cells: Vec<String> = cells.into_iter().map(Into::into).collect();
        assert_eq!(cells.len(), self.columns.len(), "cells of a row");
        self.rows.push(cells);
    }

    /// The table, folded when it has more than this many rows.
    #[must_use]
    pub fn folded_above(mut self, rows: usize) -> Self {
        self.folded = self.rows.len() > rows;
        self
    }
}

/// A report and its files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// The report.
    pub report: Report,
    /// Every file, by path relative to the report's directory: `report.html`, `report.md`, `figures/*.svg`.
    pub files: Vec<(PathBuf, String)>,
}

impl Rendered {
    /// The file name of the HTML page.
    pub const HTML: &'static str = "report.html";
    /// The file name of the Markdown page.
    pub const MARKDOWN: &'static str = "report.md";

    /// The HTML page with more at its end: complete markup, which is trusted.
    #[must_use]
    pub fn with_appendix(mut self, markup: &str) -> Self {
        let pages = self.files.iter_mut();
        for (_, page) in pages.filter(|(path, _)| path == Path::new(Self::HTML)) {
            *page = page.replacen("</main>", &format!("{markup}</main>"), 1);
        }
        self
    }

    /// Writes every file below `dir`, which must exist.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn write(&self, dir: &Path) -> Result<()> {
        for (name, text) in &self.files {
            let path = dir.join(name);
            write_file(&path, text).map_err(|source| Error::Write { path, source })?;
        }
        Ok(())
    }
}

fn write_file(path: &Path, text: &str) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(path, text)
}

/// Reads the sources and renders all that can be said of them.
///
/// # Errors
/// A source cannot be read or has nothing to read, or a figure cannot be drawn.
pub fn report(title: &str, sources: &[Source]) -> Result<Rendered> {
    let inputs = Inputs::read(sources)?;
    let mut sections = Vec::new();
    for chapter in chapters::ALL {
        sections.extend(chapter(&inputs)?);
    }
    let report = Report {
        title: title.to_owned(),
        sections,
    };
    let files = files_of(&report);
    Ok(Rendered { report, files })
}

fn files_of(report: &Report) -> Vec<(PathBuf, String)> {
    let figures = report.sections.iter().flat_map(|section| &section.figures);
    let figures = figures.map(|figure| {
        let path = Path::new("figures").join(&figure.name);
        (path.with_extension("svg"), figure.svg.clone())
    });
    [
        (Rendered::HTML.into(), report.html()),
        (Rendered::MARKDOWN.into(), report.markdown()),
    ]
    .into_iter()
    .chain(figures)
    .collect()
}
