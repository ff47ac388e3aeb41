//! What can be counted and read in a figure.

use std::path::Path;
use xgraft_plot::Rendered;

/// A figure by its name.
pub(crate) fn figure<'a>(rendered: &'a Rendered, name: &str) -> &'a str {
    let path = format!("figures/{name}.svg");
    let mut files = rendered.files.iter();
    let (_, svg) = files
        .find(|(file, _)| file == Path::new(&path))
        .expect("the figure is there");
    svg
}

/// The bold numbers of a figure: its value labels.
pub(crate) fn values(svg: &str) -> Vec<String> {
    let bold = svg
        .split("<text ")
        .filter(|text| text.contains("font-weight=\"bold\""));
    let text = bold.filter_map(|text| Some(text.split_once('>')?.1.split_once('<')?.0.trim()));
    let number = |text: &&str| text.starts_with(|c: char| c.is_ascii_digit());
    text.filter(number).map(str::to_owned).collect()
}

/// Marks of every shape.
pub(crate) fn marks(svg: &str) -> usize {
    svg.matches("<circle").count() + svg.matches("<polygon").count()
}

/// Cells, steps of colour bars, and the paper.
pub(crate) fn rectangles(svg: &str) -> usize {
    svg.matches("<rect").count()
}

/// The corners of every curve in the ink of a series.
pub(crate) fn curves(svg: &str) -> Vec<&str> {
    let series = [
        "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9",
    ];
    let lines = svg.lines().filter(|line| line.starts_with("<polyline"));
    lines
        .filter(|line| series.iter().any(|ink| line.contains(ink)))
        .collect()
}
