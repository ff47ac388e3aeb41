//! A tensor beside its peers in the same checkpoint: what no block of it shows, because all of it is wrong.
//!
//! Trained models differ from layer to layer, and norms grow with depth. So a tensor is compared with the median of the tensors
//! of its role, of those in the layers near it, and of all roles with the same limits, in the model and near it, and the smallest
//! deviation counts.
//! Of fewer than [`LINE`] tensors nothing is said: two that differ do not show which of them is wrong.

use std::collections::BTreeSet;

use xgraft_checkpoint::Role;

use crate::judge::short;
use crate::outliers::{LINE, median, robust_sigma};
use crate::report::TensorReport;
use crate::thresholds::{Group, Thresholds};
use crate::verdict::{Fault, Verdict};

/// Tensors that are near: two on either side and the tensor itself.
const NEAR: usize = 5;

/// A level is no outlier within so many robust standard deviations of the others from theirs.
const SIGMAS: f64 = 6.0;

/// Norms of a model lie above zero if their median mean/RMS is above this, and have few zeros if their median share is below.
const ABOVE_ZERO: f64 = 0.5;
const FEW_ZEROS: f64 = 0.05;

/// Adds to every tensor what its peers show.
///
/// **Shapes** `roles` has the role of each of `tensors`, which are in model order.
pub(crate) fn judge(tensors: &mut [TensorReport], roles: &[Role], thresholds: &Thresholds) {
    let levels: Vec<f64> = tensors.iter().map(level).collect();
    for group in Group::ALL {
        let limit = thresholds.of(group).peer_ratio_max;
        let members: Vec<usize> = (0..tensors.len())
            .filter(|&i| tensors[i].role == group && !levels[i].is_nan())
            .collect();
        if limit.is_infinite() || members.len() < LINE {
            continue;
        }
        let found = deviations(&levels, roles, &members);
        let limit = limit.ln().max(SIGMAS * robust_sigma(&found));
        for (&i, deviation) in members.iter().zip(found) {
            if deviation.abs() > limit {
                let side = if deviation > 0.0 { "above" } else { "below" };
                let ratio = deviation.abs().exp();
                let message = format!(
                    "RMS {} times {side} that of its peers in this checkpoint, healthy is at most {}",
                    short(ratio),
                    short(limit.exp())
                );
                push(
                    &mut tensors[i],
                    Verdict::MisScaled,
                    "peer_ratio_max",
                    ratio,
                    message,
                );
            }
        }
    }
    norms(tensors, thresholds);
}

/// ln RMS of a tensor that is to be judged by its peers; NaN of another.
fn level(tensor: &TensorReport) -> f64 {
    let rms = tensor.stats.as_ref().map(|s| s.mean.hypot(s.std));
    match rms {
        Some(rms) if rms > 0.0 && rms.is_finite() && is_judged(tensor) => rms.ln(),
        _ => f64::NAN,
    }
}

/// A reference says more than peers do, and the bias of a norm has none of its properties.
fn is_judged(tensor: &TensorReport) -> bool {
    tensor.reference.is_none() && !tensor.tensor.ends_with(".bias")
}

/// How far the level of each member is from the nearest of its medians.
fn deviations(levels: &[f64], roles: &[Role], members: &[usize]) -> Vec<f64> {
    let of = |some: &[usize]| {
        let values = some.iter().map(|&i| levels[i]);
        (some.len() >= LINE).then(|| median(values)).flatten()
    };
    let all = of(members);
    let near = |some: &[usize], k: usize| {
        let first = k.saturating_sub(NEAR / 2);
        let first = first.min(some.len().saturating_sub(NEAR));
        of(&some[first..some.len().min(first + NEAR)])
    };
    let mut found = vec![0.0; members.len()];
    for role in members.iter().map(|&i| roles[i]).collect::<BTreeSet<_>>() {
        let places: Vec<usize> = (0..members.len())
            .filter(|&place| roles[members[place]] == role)
            .collect();
        let same: Vec<usize> = places.iter().map(|&place| members[place]).collect();
        let typical = of(&same);
        for (k, &place) in places.iter().enumerate() {
            let centres = [typical, near(&same, k), near(members, place), all];
            let deviations = centres.into_iter().flatten();
            let deviations = deviations.map(|centre| levels[members[place]] - centre);
            found[place] = deviations
                .min_by(|a, b| a.abs().total_cmp(&b.abs()))
                .unwrap_or(0.0);
        }
    }
    found
}

/// A norm with another sign than the others, or with zeros where they have none.
fn norms(tensors: &mut [TensorReport], thresholds: &Thresholds) {
    let mean = |t: &TensorReport| {
        let stats = t.stats.as_ref()?;
        let rms = stats.mean.hypot(stats.std);
        (rms > 0.0).then(|| stats.mean / rms)
    };
    let zeros = |t: &TensorReport| t.stats.as_ref().map(|s| s.zero_share);
    let is_norm = |t: &&mut TensorReport| {
        matches!(t.role, Group::Norm | Group::HeadNorm) && is_judged(t) && t.stats.is_some()
    };
    let mut norms: Vec<&mut TensorReport> = tensors.iter_mut().filter(is_norm).collect();
    if norms.len() < LINE {
        return;
    }
    let above = median(norms.iter().filter_map(|t| mean(t)));
    let few = median(norms.iter().filter_map(|t| zeros(t)));
    let above = above.is_some_and(|mean| mean > ABOVE_ZERO);
    let few = few.is_some_and(|share| share < FEW_ZEROS);
    for tensor in &mut norms {
        let limits = thresholds.of(tensor.role);
        if let Some(mean) = mean(tensor).filter(|m| above && *m < limits.mean_min) {
            let message = format!(
                "mean {mean:.2} of the RMS, while the norms of this checkpoint lie above zero: its sign is wrong"
            );
            push(tensor, Verdict::Biased, "mean_min", mean, message);
        }
        if let Some(share) = zeros(tensor).filter(|s| few && *s > limits.zero_share_max) {
            let message = format!(
                "{:.0} % zeros, healthy is at most {:.0} %: each switches a channel off",
                100.0 * share,
                100.0 * limits.zero_share_max
            );
            push(tensor, Verdict::Flat, "zero_share_max", share, message);
        }
    }
}

fn push(
    tensor: &mut TensorReport,
    verdict: Verdict,
    limit: &'static str,
    measured: f64,
    message: String,
) {
    tensor.faults.push(Fault {
        verdict,
        limit: Some(limit),
        measured,
        blocks: 0,
        rows: None,
        columns: None,
        message,
    });
    tensor
        .faults
        .sort_by_key(|fault| std::cmp::Reverse(fault.verdict));
    tensor.verdict = tensor.faults[0].verdict;
}
