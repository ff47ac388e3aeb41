//! Two raters of the same answers.

use crate::Estimate;

/// A square table: how often the first rater said the row and the second the column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agreement {
    categories: usize,
    table: Vec<u64>,
}

impl Agreement {
    /// # Panics
    /// When the table is not square.
    #[must_use]
    pub fn new(rows: &[Vec<u64>]) -> Self {
        assert!(
            rows.iter().all(|row| row.len() == rows.len()),
            "a square table"
        );
        Self {
            categories: rows.len(),
            table: rows.concat(),
        }
    }

    /// Counts of two raters who said right or wrong.
    #[must_use]
    pub fn of_verdicts(verdicts: impl IntoIterator<Item = (bool, bool)>) -> Self {
        let mut table = vec![0; 4];
        for (first, second) in verdicts {
            table[2 * usize::from(first) + usize::from(second)] += 1;
        }
        Self {
            categories: 2,
            table,
        }
    }

    /// How many answers both rated.
    #[must_use]
    pub fn n(&self) -> u64 {
        self.table.iter().sum()
    }

    /// The share on which they agree.
    #[must_use]
    pub fn observed(&self) -> f64 {
        (0..self.categories).map(|i| self.share(i, i)).sum()
    }

    /// Cohen's kappa: agreement beyond chance, over what chance leaves. `None` where both always say the same one word.
    ///
    /// **Source** Cohen 1960; the standard error Fleiss, Cohen, Everitt 1969.
    #[must_use]
    pub fn kappa(&self, level: f64) -> Option<Estimate> {
        let all = 0..self.categories;
        let rows: Vec<f64> = all.clone().map(|i| self.row(i)).collect();
        let columns: Vec<f64> = all.clone().map(|j| self.column(j)).collect();
        let chance: f64 = all.clone().map(|i| rows[i] * columns[i]).sum();
        let seen = self.observed();
        if self.n() == 0 || chance >= 1.0 {
            return None;
        }
        let kappa = (seen - chance) / (1.0 - chance);
        let rest = 1.0 - kappa;
        let mut sum = -(kappa - chance * rest).powi(2);
        for i in all.clone() {
            for j in all.clone() {
                sum += self.share(i, j)
                    * if i == j {
                        (1.0 - (rows[i] + columns[i]) * rest).powi(2)
                    } else {
                        (rest * (columns[i] + rows[j])).powi(2)
                    };
            }
        }
        let se = (sum.max(0.0) / self.n() as f64).sqrt() / (1.0 - chance);
        Some(Estimate::normal(kappa, se, level))
    }

    fn share(&self, i: usize, j: usize) -> f64 {
        self.table[i * self.categories + j] as f64 / self.n() as f64
    }

    fn row(&self, i: usize) -> f64 {
        (0..self.categories).map(|j| self.share(i, j)).sum()
    }

    fn column(&self, j: usize) -> f64 {
        (0..self.categories).map(|i| self.share(i, j)).sum()
    }
}
