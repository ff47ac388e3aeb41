//! A rectangle of a row-major matrix, so that one call covers a block.

/// Rows of equal width at equal distance in a slice; a plain slice is one row.
///
/// **Shapes** row `i` is `data[i * stride..][..width]`; `data` ends with the last row.
#[derive(Debug)]
pub struct Rows<'a, T> {
    data: &'a [T],
    width: usize,
    stride: usize,
}

/// [`Rows`] to write to.
#[derive(Debug)]
pub struct RowsMut<'a, T> {
    data: &'a mut [T],
    width: usize,
    stride: usize,
}

impl<T> Clone for Rows<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Rows<'_, T> {}

impl<'a, T> Rows<'a, T> {
    /// Rows of `width` elements that begin `stride` elements apart.
    ///
    /// # Panics
    /// Unless `data` is empty, or `width <= stride` and `data` ends exactly where a row does.
    pub fn new(data: &'a [T], width: usize, stride: usize) -> Self {
        assert_ends_with_a_row(data.len(), width, stride);
        Self {
            data,
            width,
            stride,
        }
    }

    /// Number of rows.
    pub fn count(&self) -> usize {
        self.data.len().div_ceil(self.stride)
    }

    /// Elements of a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Elements from one row's first to the next one's.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// The rows, first to last.
    #[inline]
    pub fn iter(&self) -> impl Iterator<Item = &'a [T]> + use<'a, T> {
        let width = self.width;
        self.data.chunks(self.stride).map(move |row| &row[..width])
    }
}

impl<'a, T> RowsMut<'a, T> {
    /// Rows of `width` elements that begin `stride` elements apart.
    ///
    /// # Panics
    /// Unless `data` is empty, or `width <= stride` and `data` ends exactly where a row does.
    pub fn new(data: &'a mut [T], width: usize, stride: usize) -> Self {
        assert_ends_with_a_row(data.len(), width, stride);
        Self {
            data,
            width,
            stride,
        }
    }

    /// Number of rows.
    pub fn count(&self) -> usize {
        self.data.len().div_ceil(self.stride)
    }

    /// Elements of a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Elements from one row's first to the next one's.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// The rows, first to last.
    #[inline]
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut [T]> {
        let width = self.width;
        self.data
            .chunks_mut(self.stride)
            .map(move |row| &mut row[..width])
    }
}

impl<'a, T> From<&'a [T]> for Rows<'a, T> {
    fn from(data: &'a [T]) -> Self {
        Self {
            data,
            width: data.len(),
            stride: data.len().max(1),
        }
    }
}

impl<'a, T, const N: usize> From<&'a [T; N]> for Rows<'a, T> {
    fn from(data: &'a [T; N]) -> Self {
        data.as_slice().into()
    }
}

impl<'a, T> From<&'a Vec<T>> for Rows<'a, T> {
    fn from(data: &'a Vec<T>) -> Self {
        data.as_slice().into()
    }
}

impl<'a, T> From<&'a mut [T]> for RowsMut<'a, T> {
    fn from(data: &'a mut [T]) -> Self {
        let width = data.len();
        Self {
            data,
            width,
            stride: width.max(1),
        }
    }
}

impl<'a, T, const N: usize> From<&'a mut [T; N]> for RowsMut<'a, T> {
    fn from(data: &'a mut [T; N]) -> Self {
        data.as_mut_slice().into()
    }
}

impl<'a, T> From<&'a mut Vec<T>> for RowsMut<'a, T> {
    fn from(data: &'a mut Vec<T>) -> Self {
        data.as_mut_slice().into()
    }
}

fn assert_ends_with_a_row(len: usize, width: usize, stride: usize) {
    assert!(
        stride > 0 && width <= stride,
        "rows of {width} elements cannot begin {stride} elements apart"
    );
    assert!(
        len == 0 || len % stride == width % stride,
        "{len} elements do not end with a row of {width} at stride {stride}"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gap_between_rows_belongs_to_none() {
        let data = [1, 2, 0, 3, 4, 0, 5, 6];
        let rows = Rows::new(&data, 2, 3);
        assert_eq!(rows.count(), 3);
        assert_eq!(
            rows.iter().collect::<Vec<_>>(),
            [&[1, 2][..], &[3, 4], &[5, 6]]
        );
    }

    #[test]
    fn a_slice_is_one_row_and_an_empty_slice_is_none() {
        assert_eq!(
            Rows::from(&[7, 8, 9]).iter().collect::<Vec<_>>(),
            [[7, 8, 9]]
        );
        assert_eq!(Rows::<u8>::from(&[]).count(), 0);
    }

    #[test]
    #[should_panic(expected = "do not end with a row")]
    fn a_trailing_gap_is_refused() {
        let _ = Rows::new(&[1, 2, 0], 2, 3);
    }
}
