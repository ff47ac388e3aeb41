//! A report as GitHub-flavoured Markdown.

use crate::{Report, Section, Table};
use std::fmt::Write as _;

pub(crate) fn markdown(report: &Report) -> String {
    let mut out = format!("# {}\n", inline(&report.title));
    for section in &report.sections {
        write_section(&mut out, section);
    }
    out
}

fn write_section(out: &mut String, section: &Section) {
    let _ = write!(out, "\n## {}\n", inline(&section.heading));
    for paragraph in &section.prose {
        let _ = write!(out, "\n{}\n", inline(paragraph));
    }
    for figure in &section.figures {
        let alt = inline(&figure.alt);
        let _ = write!(out, "\n![{alt}](figures/{}.svg)\n", figure.name);
        let _ = write!(out, "\n{}\n", inline(&figure.caption));
    }
    for table in &section.tables {
        write_table(out, table);
    }
}

fn write_table(out: &mut String, table: &Table) {
    let caption = inline(&table.caption);
    if table.folded {
        let _ = write!(out, "\n<details><summary>{caption}</summary>\n");
    } else {
        let _ = write!(out, "\n{caption}\n");
    }
    let names: Vec<String> = table.columns.iter().map(|c| cell(&c.name)).collect();
    let rules = table
        .columns
        .iter()
        .map(|c| if c.numeric { "--:" } else { "---" });
    let rules: Vec<String> = rules.map(str::to_owned).collect();
    out.push('\n');
    write_row(out, &names);
    write_row(out, &rules);
    for row in &table.rows {
        write_row(out, &row.iter().map(|text| cell(text)).collect::<Vec<_>>());
    }
    if table.folded {
        out.push_str("\n</details>\n");
    }
}

fn write_row(out: &mut String, cells: &[String]) {
    let _ = writeln!(out, "| {} |", cells.join(" | "));
}

fn cell(text: &str) -> String {
    inline(text).replace('|', "\\|")
}

/// Text as it is: what Markdown would read as markup is escaped, and line breaks become spaces.
fn inline(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\r' => out.push(' '),
            '\\' | '`' | '*' | '[' | ']' | '<' => {
                out.push('\\');
                out.push(c);
            }
            _ => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_in_text_is_escaped_and_names_stay_readable() {
        assert_eq!(inline("a *b* <c>\nq_proj"), "a \\*b\\* \\<c> q_proj");
        assert_eq!(cell("a|b"), "a\\|b");
    }

    #[test]
    fn numeric_columns_are_aligned_right_and_long_tables_fold() {
        let mut table = Table::new("T", [("a", false), ("b", true)]);
        table.push(["x", "1"]);
        let mut out = String::new();
        write_table(&mut out, &table.clone());
        assert_eq!(out, "\nT\n\n| a | b |\n| --- | --: |\n| x | 1 |\n");
        let mut out = String::new();
        write_table(&mut out, &table.folded_above(0));
        assert!(out.starts_with("\n<details>") && out.ends_with("</details>\n"));
    }
}
