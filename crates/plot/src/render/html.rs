//! A report as one HTML page that loads nothing.

use crate::{Column, Figure, Report, Section, Table, figures::palette};
use std::fmt::Write as _;

const STYLE: &str = include_str!("report.css");

pub(crate) fn html(report: &Report) -> String {
    let title = escaped(&report.title);
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{title}</h1>\n"
    );
    write_contents(&mut out, report);
    for section in &report.sections {
        write_section(&mut out, section);
    }
    out.push_str("</main>\n</body>\n</html>\n");
    out
}

fn write_contents(out: &mut String, report: &Report) {
    if report.sections.len() < 2 {
        return;
    }
    out.push_str("<nav>");
    for section in &report.sections {
        let (id, heading) = (anchor(&section.heading), escaped(&section.heading));
        let _ = write!(out, "<a href=\"#{id}\">{heading}</a>");
    }
    out.push_str("</nav>\n");
}

fn write_section(out: &mut String, section: &Section) {
    let (id, heading) = (anchor(&section.heading), escaped(&section.heading));
    let _ = writeln!(out, "<h2 id=\"{id}\">{heading}</h2>");
    for paragraph in &section.prose {
        let _ = writeln!(out, "<p>{}</p>", escaped(paragraph));
    }
    for figure in &section.figures {
        write_figure(out, figure);
    }
    for table in &section.tables {
        write_table(out, table);
    }
}

fn write_figure(out: &mut String, figure: &Figure) {
    let alt = escaped(&figure.alt);
    let svg = palette::themed(&figure.svg);
    let svg = svg.replacen(
        "<svg ",
        &format!("<svg role=\"img\" aria-label=\"{alt}\" "),
        1,
    );
    let caption = escaped(&figure.caption);
    let _ = writeln!(
        out,
        "<figure>\n{svg}<figcaption>{caption}</figcaption>\n</figure>"
    );
}

fn write_table(out: &mut String, table: &Table) {
    let caption = escaped(&table.caption);
    if table.folded {
        let _ = writeln!(out, "<details><summary>{caption}</summary>");
    }
    out.push_str("<div class=\"table\"><table>");
    if !table.folded {
        let _ = write!(out, "<caption>{caption}</caption>");
    }
    out.push_str("<thead>");
    let names = table.columns.iter().map(|column| column.name.as_str());
    write_row(out, "th", &table.columns, names);
    out.push_str("</thead><tbody>\n");
    for row in &table.rows {
        write_row(out, "td", &table.columns, row.iter().map(String::as_str));
    }
    out.push_str("</tbody></table></div>\n");
    if table.folded {
        out.push_str("</details>\n");
    }
}

fn write_row<'a>(
    out: &mut String,
    tag: &str,
    columns: &[Column],
    cells: impl Iterator<Item = &'a str>,
) {
    out.push_str("<tr>");
    for (column, cell) in columns.iter().zip(cells) {
        let class = if column.numeric { " class=\"n\"" } else { "" };
        let _ = write!(out, "<{tag}{class}>{}</{tag}>", escaped(cell));
    }
    out.push_str("</tr>\n");
}

/// A heading as the name of a place in the page.
fn anchor(heading: &str) -> String {
    let plain = heading.to_lowercase();
    let words = plain.split(|c: char| !c.is_alphanumeric());
    words
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join("-")
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            _ => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped_everywhere() {
        let evil = "<script>\"&";
        let mut table = Table::new(evil, [(evil, true)]);
        table.push([evil]);
        let figure = Figure {
            name: "f".to_owned(),
            caption: evil.to_owned(),
            alt: evil.to_owned(),
            svg: "<svg width=\"1\"></svg>".to_owned(),
        };
        let section = Section::new(evil).say(evil).table(table).figure(figure);
        let report = Report {
            title: evil.to_owned(),
            sections: vec![section.clone(), section],
        };
        assert!(!html(&report).contains("<script>"));
    }

    #[test]
    fn figures_follow_the_readers_scheme() {
        let figure = Figure {
            svg: "<svg fill=\"#1F2328\"></svg>".to_owned(),
            ..Figure::default()
        };
        let mut out = String::new();
        write_figure(&mut out, &figure);
        assert!(out.contains("fill=\"var(--text)\""));
    }

    #[test]
    fn headings_become_anchors() {
        assert_eq!(
            anchor("What is left, per module"),
            "what-is-left-per-module"
        );
    }
}
