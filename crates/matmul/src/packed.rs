//! Rows of activations in the order in which the loops read them.

use crate::lanes::LANES;

/// A vector's worth of numbers, on a cache line of its own.
#[derive(Clone, Copy, Debug, Default)]
#[repr(align(64))]
pub(crate) struct Line(pub(crate) [f32; LANES]);

/// Rows of activations in groups, a group's rows interleaved vector by vector: `[groups][vectors of a row][rows of the group]`.
///
/// Rows that lie one after the other in memory begin at the same place of a page when their width is a power of two, and
/// push each other out of the first-level cache; their vectors also straddle cache lines. Here neither happens, and a loop
/// reads straight on.
#[derive(Debug)]
pub(crate) struct Packed {
    lines: Vec<Line>,
    vectors: usize,
    groups: Vec<Group>,
}

/// Where a group of rows is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Group {
    /// Its first row.
    pub(crate) first: usize,
    /// Its rows.
    pub(crate) rows: usize,
    /// Its rows and those that are filled up with zeros.
    pub(crate) size: usize,
    start: usize,
}

impl Packed {
    /// Packs `rows` of equal length, filled up with zeros to whole vectors, in groups of the largest of `sizes` while there
    /// are as many rows and at last of the smallest that holds the rest. `sizes` grow.
    pub(crate) fn new<'a>(rows: impl ExactSizeIterator<Item = &'a [f32]>, sizes: &[usize]) -> Self {
        let largest = *sizes.last().expect("a size");
        let count = rows.len();
        let mut packed = Self {
            lines: Vec::new(),
            vectors: 0,
            groups: Vec::with_capacity(count.div_ceil(largest)),
        };
        for (index, row) in rows.enumerate() {
            if index.is_multiple_of(largest) {
                let rows = largest.min(count - index);
                let size = sizes.iter().find(|size| **size >= rows);
                packed.open(index, rows, *size.expect("a size"), row.len());
            }
            packed.put(index % largest, row);
        }
        packed
    }

    fn open(&mut self, first: usize, rows: usize, size: usize, cols: usize) {
        let start = self.lines.len();
        self.vectors = cols.div_ceil(LANES);
        self.lines
            .resize(start + self.vectors * size, Line::default());
        self.groups.push(Group {
            first,
            rows,
            size,
            start,
        });
    }

    /// Writes a row to its place in the last group.
    fn put(&mut self, place: usize, row: &[f32]) {
        let group = *self.groups.last().expect("a group");
        let lines = self.lines[group.start + place..]
            .iter_mut()
            .step_by(group.size);
        for (line, part) in lines.zip(row.chunks(LANES)) {
            line.0[..part.len()].copy_from_slice(part);
        }
    }

    /// Rows.
    pub(crate) fn rows(&self) -> usize {
        self.groups.iter().map(|group| group.rows).sum()
    }

    /// The groups, in order of their rows.
    pub(crate) fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// The vectors of a group: `[vectors of a row][size]`.
    pub(crate) fn lines(&self, group: &Group) -> &[Line] {
        &self.lines[group.start..][..self.vectors * group.size]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_interleaved_in_groups_and_filled_up() {
        let data: Vec<f32> = (0..7 * 20).map(|i| i as f32 + 1.0).collect();
        let packed = Packed::new(data.chunks(20), &[1, 2, 4]);
        let sizes = packed.groups().iter().map(|g| (g.first, g.rows, g.size));
        assert_eq!(sizes.collect::<Vec<_>>(), [(0, 4, 4), (4, 3, 4)]);
        assert_eq!(packed.rows(), 7);

        let last = packed.lines(&packed.groups()[1]);
        assert_eq!(last.len(), 8);
        assert_eq!(last[1].0, *data[5 * 20..].first_chunk().unwrap());
        assert_eq!(last[4 + 2].0[..4], data[6 * 20 + 16..]);
        assert_eq!(last[4 + 2].0[4..], [0.0; 12]);
        assert_eq!(last[3].0, [0.0; 16]);
    }
}
