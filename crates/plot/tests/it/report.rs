//! The whole way: directories to files.

use crate::made_up;
use std::path::{Path, PathBuf};
use xgraft_plot::{Error, Rendered, Source, report};
use xgraft_results::{Row, jsonl};

fn rendered(layers: usize, arms: &[(&str, f64)]) -> Rendered {
    let dir = tempfile::tempdir().expect("a directory");
    let steps = |(arm, lost): &(&str, f64)| made_up::steps(dir.path(), layers, arm, *lost);
    let sources: Vec<Source> = arms.iter().flat_map(steps).collect();
    let rendered = report("A report", &sources).expect("renders");
    // Look at them: XGRAFT_PLOT_OUT=dir cargo test -p xgraft-plot
    if let Some(out) = std::env::var_os("XGRAFT_PLOT_OUT") {
        let name = format!("{layers}-layers-{}-arms", arms.len());
        rendered
            .write(&PathBuf::from(out).join(name))
            .expect("writes");
    }
    rendered
}

fn text<'a>(rendered: &'a Rendered, name: &str) -> &'a str {
    let mut files = rendered.files.iter();
    let (_, text) = files
        .find(|(path, _)| path == Path::new(name))
        .expect("the file is there");
    text
}

#[test]
fn the_page_loads_nothing_and_has_every_section() {
    let rendered = rendered(4, &[("r32", 0.0)]);
    let html = text(&rendered, Rendered::HTML);
    for outside in ["src=", "href=\"http", "@import", "url(", "<script", "<link"] {
        assert!(!html.contains(outside), "{outside}");
    }
    for heading in [
        "Summary",
        "What the adapter keeps, per module",
        "Base + adapter against the tuned model",
        "Findings",
        "How this was made",
    ] {
        assert!(html.contains(heading), "{heading}");
        assert!(
            text(&rendered, Rendered::MARKDOWN).contains(heading),
            "{heading}"
        );
    }
}

#[test]
fn figures_are_in_the_page_and_files_of_their_own() {
    let rendered = rendered(64, &[("r256", 0.0)]);
    let svg = text(&rendered, "figures/energy-and-residual.svg");
    assert_eq!(svg.matches("<circle").count(), 2 * 448);
    assert!(svg.contains("#1F2328"), "a file of its own has fixed inks");
    let html = text(&rendered, Rendered::HTML);
    assert_eq!(html.matches("<svg ").count(), 5);
    assert!(
        html.contains("var(--text)"),
        "in the page they follow the scheme"
    );
    let markdown = text(&rendered, Rendered::MARKDOWN);
    assert!(markdown.contains("(figures/energy-and-residual.svg)"));
}

#[test]
fn long_tables_are_folded_and_many_findings_are_counted() {
    let rendered = rendered(64, &[("r256", 0.0)]);
    let html = text(&rendered, Rendered::HTML);
    assert!(html.contains("<details>"));
    assert!(html.contains("60 more"));
    let warning = html.find("dropped-energy").expect("the warning is there");
    let info = html.find("dropped-norm").expect("the note is there");
    assert!(warning < info, "the gravest come first");
}

#[test]
fn several_arms_share_the_figures() {
    let rendered = rendered(4, &[("r32", 0.0), ("r16", 0.04), ("r8", 0.11)]);
    let svg = text(&rendered, "figures/energy-and-residual.svg");
    assert_eq!(
        svg.matches("<polyline").count() - grid_lines(svg),
        3 * 2 * 7 + 3
    );
    assert!(svg.contains("r16"));
}

/// Lines in the grid's ink or as axis ticks, which are polylines too.
fn grid_lines(svg: &str) -> usize {
    let lines = svg.lines().filter(|line| line.starts_with("<polyline"));
    lines
        .filter(|line| line.contains("#D9DEE4") || line.contains("#59636E"))
        .count()
}

#[test]
fn modules_outside_the_layers_are_named_instead_of_drawn() {
    let dir = tempfile::tempdir().expect("a directory");
    let kept = |module: &str| Row::new("energy_kept", 0.9).module(module);
    let rows = [kept("model.layers.0.mlp.up_proj"), kept("lm_head")];
    jsonl::write_file(&dir.path().join("rows.jsonl"), &rows).expect("writes");
    let source = Source::parse(&dir.path().display().to_string());
    let rendered = report("x", &[source]).expect("renders");
    let svg = text(&rendered, "figures/energy-and-residual.svg");
    assert_eq!(svg.matches("<circle").count(), 1);
    assert!(text(&rendered, Rendered::HTML).contains("for want of a layer: lm_head."));
}

#[test]
fn equal_inputs_give_equal_files() {
    assert_eq!(rendered(4, &[("r32", 0.0)]), rendered(4, &[("r32", 0.0)]));
}

#[test]
fn a_source_with_nothing_to_read_is_named() {
    let error = report("x", &[Source::parse("/nowhere/at-all")]).expect_err("is refused");
    assert!(matches!(error, Error::NothingToRead { .. }));
    assert!(
        error
            .to_string()
            .starts_with("/nowhere/at-all: expected rows.jsonl")
    );
}
