//! How many singular values a module keeps: the rules, vLLM's ladder, and the byte budget.

use xgraft_adapter_sanitize::ladder_up;

/// How ranks are chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RankRule {
    /// The same rank everywhere, clamped to `min(out, in)` of a module. Never snapped.
    Fixed(usize),
    /// Per module, the smallest rank that keeps this share of ‖ΔW‖², snapped up to vLLM's ladder.
    Energy(f64),
    /// Per module, the singular values above the edge of the tuned checkpoint's own rounding
    /// noise, snapped up to vLLM's ladder. See [`crate::noise_edge`].
    Noise,
    /// One total of adapter bytes, spread over the modules by water-filling on σ² per byte,
    /// in steps of vLLM's ladder.
    Budget(u64),
}

/// What the budget knows of one module.
#[derive(Debug, Clone)]
pub struct Spectrum {
    /// Singular values, descending; no more ranks than these can be bought.
    pub singular_values: Vec<f64>,
    /// Adapter bytes that one rank of this module costs: (out + in) × bytes per element.
    pub bytes_per_rank: u64,
}

/// The smallest rank whose σ² reach `share` of `norm2`, or `None` when all of them do not.
#[must_use]
pub fn rank_for_energy(singular_values: &[f64], norm2: f64, share: f64) -> Option<usize> {
    if norm2 <= 0.0 {
        return Some(0);
    }
    let mut kept = 0.0;
    for (i, s) in singular_values.iter().enumerate() {
        if kept >= share * norm2 {
            return Some(i);
        }
        kept += s * s;
    }
    (kept >= share * norm2).then_some(singular_values.len())
}

/// `rank` snapped up to vLLM's ladder, but never above `limit` (what the matrix has).
#[must_use]
pub fn snap(rank: usize, limit: usize) -> usize {
    ladder_up(rank).unwrap_or(rank).min(limit)
}

/// Ranks per module that keep the most energy within `budget` bytes.
///
/// Water-filling: every module climbs vLLM's ladder one step at a time, and the step with the
/// most σ² per byte goes first. σ² falls along a spectrum, so a module's steps come in falling
/// order of worth and the greedy order is the optimum of the ladder relaxed by at most one step
/// per module; steps that no longer fit are passed over for cheaper ones. Ties go to the earlier
/// module, so that the result is a function of its input alone.
#[must_use]
pub fn spread_budget(modules: &[Spectrum], budget: u64) -> Vec<usize> {
    let mut steps: Vec<(f64, usize, usize, usize)> = Vec::new();
    for (index, module) in modules.iter().enumerate() {
        let mut from = 0;
        while from < module.singular_values.len() {
            let to = snap(from + 1, module.singular_values.len());
            let gain: f64 = module.singular_values[from..to].iter().map(|s| s * s).sum();
            let worth = gain / ((to - from) as f64 * module.bytes_per_rank as f64);
            steps.push((worth, index, from, to));
            from = to;
        }
    }
    steps.sort_by(|a, b| b.0.total_cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
    let mut ranks = vec![0; modules.len()];
    let mut left = budget;
    for (_, index, from, to) in steps {
        let cost = (to - from) as u64 * modules[index].bytes_per_rank;
        if ranks[index] == from && cost <= left {
            ranks[index] = to;
            left -= cost;
        }
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(values: &[f64], bytes: u64) -> Spectrum {
        Spectrum {
            singular_values: values.to_vec(),
            bytes_per_rank: bytes,
        }
    }

    #[test]
    fn energy_rank_is_the_smallest_that_reaches_the_share() {
        let s = [3.0, 2.0, 1.0]; // σ² 9, 4, 1
        assert_eq!(rank_for_energy(&s, 14.0, 9.0 / 14.0), Some(1));
        assert_eq!(rank_for_energy(&s, 14.0, 0.65), Some(2));
        assert_eq!(rank_for_energy(&s, 14.0, 1.0), Some(3));
        assert_eq!(rank_for_energy(&s, 20.0, 0.99), None);
        assert_eq!(rank_for_energy(&s, 0.0, 0.9), Some(0));
    }

    #[test]
    fn snapping_climbs_the_ladder_and_stops_at_the_matrix() {
        assert_eq!(snap(0, 100), 0);
        assert_eq!(snap(1, 100), 1);
        assert_eq!(snap(2, 100), 8);
        assert_eq!(snap(65, 100), 100);
        assert_eq!(snap(257, 5120), 320);
    }

    #[test]
    fn the_budget_goes_where_energy_per_byte_is_greatest() {
        let strong = module(&[10.0; 64], 10);
        let weak = module(&[1.0; 64], 10);
        assert_eq!(spread_budget(&[weak.clone(), strong.clone()], 640), [0, 64]);
        assert_eq!(spread_budget(&[weak.clone(), strong.clone()], 720), [8, 64]);
        assert_eq!(spread_budget(&[weak, strong], 0), [0, 0]);
    }

    #[test]
    fn the_budget_is_never_exceeded_and_never_beaten_by_a_uniform_rank() {
        let power = |p: f64, scale: f64| -> Vec<f64> {
            (1..=128).map(|k| scale * f64::from(k).powf(-p)).collect()
        };
        let modules = [
            module(&power(0.8, 1.0), 100),
            module(&power(0.3, 0.5), 40),
            module(&power(1.5, 2.0), 300),
        ];
        let kept = |ranks: &[usize]| -> f64 {
            ranks
                .iter()
                .zip(&modules)
                .map(|(&r, m)| m.singular_values[..r].iter().map(|s| s * s).sum::<f64>())
                .sum()
        };
        for uniform in [8, 16, 32, 64] {
            let budget: u64 = modules.iter().map(|m| m.bytes_per_rank * uniform).sum();
            let ranks = spread_budget(&modules, budget);
            let spent: u64 = ranks
                .iter()
                .zip(&modules)
                .map(|(&r, m)| r as u64 * m.bytes_per_rank)
                .sum();
            assert!(spent <= budget);
            assert!(kept(&ranks) >= kept(&[uniform as usize; 3]));
        }
    }
}
