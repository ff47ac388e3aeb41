//! Which blocks of a matrix differ from their neighbours, by medians, so that the faulty ones do not hide each other.

/// A line of fewer values has no median worth comparing with.
pub(crate) const LINE: usize = 4;

/// How far each value is from what its neighbours suggest; NaN stays NaN.
///
/// Rows and columns of a trained matrix differ (heads, outlier channels), and that is no fault. So a value is compared
/// with the median of its row of blocks, of its column, of both together, and of all, and the smallest deviation counts.
///
/// **Shapes** `values` row-major with `cols` columns; NaN where there is no value.
pub(crate) fn deviations(values: &[f64], cols: usize) -> Vec<f64> {
    let all = median(values.iter().copied());
    let rows = row_medians(values, cols);
    let columns = column_medians(values, cols);
    let deviation = |(at, &value): (usize, &f64)| {
        let (row, column) = (rows[at / cols], columns[at % cols]);
        let both = row.zip(column).zip(all).map(|((r, c), all)| r + c - all);
        [row, column, both, all]
            .into_iter()
            .flatten()
            .map(|centre| value - centre)
            .min_by(|a, b| a.abs().total_cmp(&b.abs()))
            .unwrap_or(0.0)
    };
    values.iter().enumerate().map(deviation).collect()
}

/// The median of each row of blocks, where there are enough values.
pub(crate) fn row_medians(values: &[f64], cols: usize) -> Vec<Option<f64>> {
    values
        .chunks(cols)
        .map(|row| line_median(row.iter().copied()))
        .collect()
}

/// The median of each column of blocks, where there are enough values.
pub(crate) fn column_medians(values: &[f64], cols: usize) -> Vec<Option<f64>> {
    (0..cols)
        .map(|j| line_median(values.iter().skip(j).step_by(cols).copied()))
        .collect()
}

fn line_median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let present: Vec<f64> = values.filter(|v| !v.is_nan()).collect();
    (present.len() >= LINE).then(|| median(present.into_iter()))?
}

/// The median of the values that are not NaN; of an even number of them the mean of the middle two.
pub(crate) fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.filter(|v| !v.is_nan()).collect();
    let middle = values.len() / 2;
    if values.is_empty() {
        return None;
    }
    let (below, &mut high, _) = values.select_nth_unstable_by(middle, f64::total_cmp);
    let odd = below.len() * 2 == values.len() - 1;
    if odd {
        return Some(high);
    }
    let low = values[..middle].iter().copied().max_by(f64::total_cmp)?;
    Some(low.midpoint(high))
}

/// The standard deviation of normal numbers with this median magnitude of deviations: 1.4826 times it.
pub(crate) fn robust_sigma(deviations: &[f64]) -> f64 {
    1.4826 * median(deviations.iter().map(|d| d.abs())).unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_skips_what_is_missing() {
        assert_eq!(median([3.0, f64::NAN, 1.0, 2.0].into_iter()), Some(2.0));
        assert_eq!(median([4.0, 1.0, 2.0, 3.0].into_iter()), Some(2.5));
        assert_eq!(median([f64::NAN].into_iter()), None);
    }

    #[test]
    fn rows_and_columns_of_their_own_level_are_no_outliers_but_a_block_is() {
        // Row 2 and column 5 stand out as a whole; the block (7, 1) alone.
        let mut values: Vec<f64> = (0..80)
            .map(|at| f64::from(at / 8 == 2) * 3.0 + f64::from(at % 8 == 5) * 2.0)
            .collect();
        values[7 * 8 + 1] += 6.0;
        let found = deviations(&values, 8);
        for (at, d) in found.iter().enumerate() {
            let expected = f64::from(at == 57) * 6.0;
            assert!((d - expected).abs() < 1e-12, "{at}: {d}");
        }
    }

    #[test]
    fn in_a_grid_without_lines_the_whole_is_the_neighbourhood() {
        assert_eq!(deviations(&[0.0, 0.0, 0.0, 7.0], 2), [0.0, 0.0, 0.0, 7.0]);
        assert_eq!(deviations(&[7.0], 1), [0.0]);
    }
}
