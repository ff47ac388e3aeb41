//! Transposing the rows of a result.

use crate::element::Element;

/// Side of the squares that are transposed at a time: a cache line of f32, so that neither matrix is touched line by line across.
const SIDE: usize = 16;

/// `to[j * to_ld + i] = from[i * from_ld + j]` for `i` below `rows` and `j` below `cols`.
pub(crate) fn transpose<T: Element>(
    from: &[T],
    from_ld: usize,
    to: &mut [T],
    to_ld: usize,
    rows: usize,
    cols: usize,
) {
    for i in (0..rows).step_by(SIDE) {
        for j in (0..cols).step_by(SIDE) {
            let (from, to) = (&from[i * from_ld + j..], &mut to[j * to_ld + i..]);
            let (height, width) = (SIDE.min(rows - i), SIDE.min(cols - j));
            if height == SIDE && width == SIDE {
                whole_square(from, from_ld, to, to_ld);
            } else {
                part_of_square(from, from_ld, to, to_ld, height, width);
            }
        }
    }
}

/// With lengths that the compiler knows.
#[inline]
fn whole_square<T: Element>(from: &[T], from_ld: usize, to: &mut [T], to_ld: usize) {
    let mut square = [[T::default(); SIDE]; SIDE];
    for (line, from) in square.iter_mut().zip(from.chunks(from_ld)) {
        if let Some(from) = from.first_chunk() {
            *line = *from;
        }
    }
    for (k, to) in to.chunks_mut(to_ld).take(SIDE).enumerate() {
        if let Some(to) = to.first_chunk_mut::<SIDE>() {
            for (to, line) in to.iter_mut().zip(&square) {
                *to = line[k];
            }
        }
    }
}

fn part_of_square<T: Element>(
    from: &[T],
    from_ld: usize,
    to: &mut [T],
    to_ld: usize,
    height: usize,
    width: usize,
) {
    for i in 0..height {
        for j in 0..width {
            to[j * to_ld + i] = from[i * from_ld + j];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::transpose;

    #[test]
    fn every_element_goes_to_its_place() {
        for (rows, cols) in [(1, 1), (16, 16), (33, 20), (5, 40), (48, 16)] {
            let (from_ld, to_ld) = (cols + 3, rows + 5);
            let from: Vec<f32> = (0..rows * from_ld).map(|x| x as f32).collect();
            let mut to = vec![-1.0; cols * to_ld];
            transpose(&from, from_ld, &mut to, to_ld, rows, cols);
            for i in 0..rows {
                for j in 0..cols {
                    assert_eq!(
                        to[j * to_ld + i],
                        from[i * from_ld + j],
                        "{rows} x {cols}: ({i}, {j})"
                    );
                }
            }
        }
    }
}
