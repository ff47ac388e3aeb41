//! Measured choices.

use super::{Choice, Gpu};
use crate::{
    Error, Result, Shape,
    kernel::{Tile, all},
};

/// One class of shapes and what was fastest for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Streaming multiprocessors of the GPU that it was measured on.
    pub multiprocessors: u32,
    /// Rows of W.
    pub n: u32,
    /// Columns of W.
    pub k: u32,
    /// Fewest and most tokens.
    pub m: (u32, u32),
    /// What was fastest, without an adapter.
    pub choice: Choice,
}

/// Measured rows, the first that fits decides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    rows: Vec<Row>,
}

impl Table {
    /// The table that comes with the crate.
    ///
    /// # Errors
    /// None as long as its test passes.
    pub fn measured() -> Result<Self> {
        Self::parse(include_str!("measured.txt"))
    }

    /// Reads rows of `multiprocessors n k least-m most-m kernel number`, the last as [`Choice::number`]; `#` begins a comment.
    ///
    /// # Errors
    /// [`Error::Table`] with the line.
    pub fn parse(text: &str) -> Result<Self> {
        let mut rows = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or("").trim();
            if line.is_empty() {
                continue;
            }
            let row = row_of(line).ok_or_else(|| Error::Table {
                line: index + 1,
                found: line.to_owned(),
            })?;
            rows.push(row);
        }
        Ok(Self { rows })
    }

    /// What was measured for a product, with or without slots for an adapter.
    pub fn choice(&self, gpu: Gpu, shape: Shape, lora: bool) -> Option<Choice> {
        let fits = |row: &&Row| {
            (row.multiprocessors, row.n, row.k) == (gpu.multiprocessors, shape.n, shape.k)
                && (row.m.0..=row.m.1).contains(&shape.m)
        };
        let row = self.rows.iter().find(fits)?;
        let with = |tile: Tile| Tile { lora, ..tile };
        Some(match row.choice {
            Choice::Prefill { tile, band, cut } => Choice::Prefill {
                tile: with(tile),
                band,
                cut,
            },
            Choice::Decode { tile, blocks } => Choice::Decode {
                tile: with(tile),
                blocks,
            },
            plain => plain,
        })
    }
}

fn row_of(line: &str) -> Option<Row> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [multiprocessors, n, k, least, most, name, number] = words.as_slice() else {
        return None;
    };
    let number: u32 = number.parse().ok()?;
    let kernel = all().into_iter().find(|kernel| kernel.name() == *name)?;
    let choice = Choice::of_number(kernel, number)?;
    if choice.kernel().tile().is_none_or(|tile| tile.lora) {
        return None;
    }
    let row = Row {
        multiprocessors: multiprocessors.parse().ok()?,
        n: n.parse().ok()?,
        k: k.parse().ok()?,
        m: (least.parse().ok()?, most.parse().ok()?),
        choice,
    };
    (row.m.0 <= row.m.1).then_some(row)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::choose;

    #[test]
    fn the_table_of_the_crate_parses() {
        Table::measured().expect("parses");
    }

    #[test]
    fn a_measured_row_goes_before_the_model_also_with_an_adapter() {
        let text = "# fastest\n132 5120 8192 1 16 decode-128x64-s8 7\n";
        let table = Table::parse(text).expect("parses");
        let shape = |m| Shape::new(m, 5120, 8192).expect("not empty");
        for (m, rank) in [(1, 0), (16, 64)] {
            let choice = choose(&table, Gpu::H100, shape(m), rank).expect("chosen");
            let Choice::Decode { tile, blocks: 7 } = choice else {
                panic!("{choice:?}")
            };
            assert_eq!((tile.rows_b, tile.lora), (64, rank > 0));
        }
        assert_eq!(table.choice(Gpu::H100, shape(17), false), None);
        let other = Gpu {
            multiprocessors: 114,
            ..Gpu::H100
        };
        assert_eq!(table.choice(other, shape(1), false), None);
    }

    #[test]
    fn a_row_that_is_none_names_its_line() {
        for row in [
            "132 5120 8192 1 16 decode-128x64-s8",
            "132 5120 8192 1 16 decode-1x1-s1 2",
            "132 5120 8192 16 1 decode-128x64-s8 2",
            "132 5120 8192 1 16 decode-128x64-s8 0",
            "132 5120 8192 1 16 decode-128x64-s8-lora 2",
            "x 5120 8192 1 16 decode-128x64-s8 2",
        ] {
            let error = Table::parse(&format!("\n{row}")).expect_err("no row");
            assert!(
                matches!(error, Error::Table { line: 2, .. }),
                "{row}: {error}"
            );
        }
    }
}
