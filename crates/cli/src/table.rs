//! Plain text tables.

use std::fmt::Write as _;

/// A table whose columns are as wide as their widest cell; the first is left-aligned, the others right.
#[derive(Debug, Default)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(header: &[&str]) -> Self {
        Self {
            rows: vec![header.iter().map(|&h| h.to_owned()).collect()],
        }
    }

    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    pub(crate) fn render(&self) -> String {
        let columns = self.rows[0].len();
        let width = |c: usize| {
            self.rows
                .iter()
                .map(|r| r.get(c).map_or(0, |s| s.chars().count()))
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = String::new();
        for (i, row) in self.rows.iter().enumerate() {
            let mut line = String::new();
            for (c, cell) in row.iter().enumerate() {
                let pad = widths[c].saturating_sub(cell.chars().count());
                let _ = match c {
                    0 => write!(line, "{cell}{}", " ".repeat(pad)),
                    _ => write!(line, "  {}{cell}", " ".repeat(pad)),
                };
            }
            let _ = writeln!(text, "{}", line.trim_end());
            if i == 0 {
                let rule: usize = widths.iter().sum::<usize>() + 2 * (columns - 1);
                let _ = writeln!(text, "{}", "─".repeat(rule));
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_under_their_heads() {
        let mut table = Table::new(&["module", "rank"]);
        table.row(vec!["q".into(), "32".into()]);
        assert_eq!(table.render(), "module  rank\n────────────\nq         32\n");
    }
}
