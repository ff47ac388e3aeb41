//! Dense matrices in f64, the plain way.

/// Row-major.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Mat {
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    pub(crate) data: Vec<f64>,
}

impl Mat {
    /// Independent normal numbers, rounded to f32 as the files will hold them.
    pub(crate) fn normal(rows: usize, cols: usize, seed: u64) -> Self {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d;
        let mut uniform = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            ((state >> 11) as f64 + 0.5) / (1u64 << 53) as f64
        };
        let mut normal =
            || (-2.0 * uniform().ln()).sqrt() * (std::f64::consts::TAU * uniform()).cos();
        let data = (0..rows * cols).map(|_| f64::from(normal() as f32));
        Self {
            rows,
            cols,
            data: data.collect(),
        }
    }

    pub(crate) fn narrow(&self) -> Vec<f32> {
        self.data.iter().map(|x| *x as f32).collect()
    }

    /// The matrix as a file in F32 holds it.
    pub(crate) fn stored(&self) -> Self {
        self.map(|x| f64::from(x as f32))
    }

    pub(crate) fn map(&self, f: impl Fn(f64) -> f64) -> Self {
        Self {
            data: self.data.iter().map(|x| f(*x)).collect(),
            ..*self
        }
    }

    pub(crate) fn scale(&self, by: f64) -> Self {
        self.map(|x| by * x)
    }

    pub(crate) fn plus(&self, other: &Self) -> Self {
        let data = self.data.iter().zip(&other.data).map(|(x, y)| x + y);
        Self {
            data: data.collect(),
            ..*self
        }
    }

    pub(crate) fn minus(&self, other: &Self) -> Self {
        self.plus(&other.scale(-1.0))
    }

    pub(crate) fn times(&self, other: &Self) -> Self {
        let mut data = vec![0.0; self.rows * other.cols];
        for i in 0..self.rows {
            for k in 0..self.cols {
                let x = self.data[i * self.cols + k];
                for j in 0..other.cols {
                    data[i * other.cols + j] += x * other.data[k * other.cols + j];
                }
            }
        }
        Self {
            rows: self.rows,
            cols: other.cols,
            data,
        }
    }

    pub(crate) fn t(&self) -> Self {
        let data = (0..self.cols).flat_map(|j| (0..self.rows).map(move |i| (i, j)));
        let data = data.map(|(i, j)| self.data[i * self.cols + j]);
        Self {
            rows: self.cols,
            cols: self.rows,
            data: data.collect(),
        }
    }

    pub(crate) fn inner(&self, other: &Self) -> f64 {
        self.data.iter().zip(&other.data).map(|(x, y)| x * y).sum()
    }

    pub(crate) fn norm(&self) -> f64 {
        self.inner(self).sqrt()
    }

    /// An orthonormal basis of the columns, by Gram-Schmidt, twice.
    pub(crate) fn basis(&self) -> Self {
        let mut columns: Vec<Vec<f64>> = Vec::new();
        for j in 0..self.cols {
            let mut c: Vec<f64> = (0..self.rows)
                .map(|i| self.data[i * self.cols + j])
                .collect();
            for _ in 0..2 {
                for q in &columns {
                    let along: f64 = c.iter().zip(q).map(|(x, y)| x * y).sum();
                    c.iter_mut().zip(q).for_each(|(x, y)| *x -= along * y);
                }
            }
            let norm = c.iter().map(|x| x * x).sum::<f64>().sqrt();
            columns.push(c.into_iter().map(|x| x / norm).collect());
        }
        let data = (0..self.rows)
            .flat_map(|i| columns.iter().map(move |c| c[i]))
            .collect();
        Self {
            rows: self.rows,
            cols: self.cols,
            data,
        }
    }

    /// The largest singular value, by power iteration until it stands still.
    pub(crate) fn spectral_norm(&self) -> f64 {
        let mut x = Self::normal(self.cols, 1, 99);
        let t = self.t();
        let mut last = 0.0;
        for _ in 0..5000 {
            let y = t.times(&self.times(&x));
            let norm = y.norm();
            x = y.scale(1.0 / norm);
            if (norm - last).abs() < 1e-14 * norm {
                break;
            }
            last = norm;
        }
        self.times(&x).norm()
    }
}

#[track_caller]
pub(crate) fn near(found: f64, expected: f64, relative: f64) {
    assert!(
        (found - expected).abs() <= relative * expected.abs(),
        "found {found:e}, expected {expected:e}"
    );
}
