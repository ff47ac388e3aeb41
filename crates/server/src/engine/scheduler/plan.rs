//! How many tokens of which sequence a step computes.

use super::Scheduler;
use crate::engine::Forward;

/// A part of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Planned {
    /// Which running sequence.
    pub(super) index: usize,
    /// Tokens to compute.
    pub(super) count: usize,
    /// Rows of logits, of the last so many of them.
    pub(super) rows: usize,
}

impl<F: Forward> Scheduler<F> {
    /// All that decode, and prompts as far as the budget goes.
    pub(super) fn plan(&self) -> Vec<Planned> {
        let (decoding, prompts): (Vec<_>, Vec<_>) = self.scheduled().into_iter().partition(|&i| {
            let sequence = &self.running[i];
            sequence.need() == 1 && sequence.first_prompt_row().is_none()
        });
        let budget = self.config.max_step_tokens - decoding.len();
        let mut rows = self.config.max_prompt_rows;
        let needs: Vec<_> = prompts
            .iter()
            .map(|&i| self.prompt_need(i, &mut rows))
            .collect();
        let shares = share(&needs, budget);
        let decoding = decoding.into_iter().map(|index| (index, 1));
        let all = decoding.chain(prompts.into_iter().zip(shares));
        let planned = |(index, count)| Planned {
            index,
            count,
            rows: self.running[index].rows(count),
        };
        all.filter(|&(_, count)| count > 0).map(planned).collect()
    }

    /// What a prompt can use, within the rows of logits that older ones leave.
    fn prompt_need(&self, index: usize, rows: &mut usize) -> usize {
        let sequence = &self.running[index];
        let need = sequence.within_rows(*rows);
        if sequence.first_prompt_row().is_some() {
            *rows -= sequence.rows(need).min(*rows);
        }
        need
    }
}

/// Half of the budget to the first, the rest to the others from the smallest need up, and what they leave to the first.
fn share(needs: &[usize], budget: usize) -> Vec<usize> {
    let mut shares = vec![0; needs.len()];
    let Some(&first) = needs.first() else {
        return shares;
    };
    shares[0] = first.min(budget.div_ceil(2));
    let mut left = budget - shares[0];
    let mut others: Vec<_> = (1..needs.len()).collect();
    others.sort_by_key(|&i| needs[i]);
    for i in others {
        shares[i] = needs[i].min(left);
        left -= shares[i];
    }
    shares[0] += left.min(first - shares[0]);
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lone_prompt_gets_all_and_a_short_one_passes_a_long_one() {
        assert_eq!(share(&[], 8), [0; 0]);
        assert_eq!(share(&[100], 9), [9]);
        assert_eq!(share(&[100, 3], 9), [6, 3]);
        assert_eq!(share(&[100, 50, 3], 9), [5, 1, 3]);
        assert_eq!(share(&[1, 50, 60], 9), [1, 8, 0]);
        assert_eq!(share(&[0, 5], 9), [0, 5]);
        assert_eq!(share(&[100, 3], 1), [1, 0]);
    }
}
