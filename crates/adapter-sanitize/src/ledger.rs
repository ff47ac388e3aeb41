//! The account of an update's energy: what is kept, what is dropped, and when that is too much.

use serde::{Deserialize, Serialize};
use xgraft_results::human::percent;
use xgraft_results::{Finding, Severity};

use crate::rules::{Policy, Reason};

/// The share of an update's energy that may be dropped before a warning.
pub const WARN_SHARE: f64 = 0.05;

/// A tensor that is not in the sanitized adapter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Dropped {
    /// The tensor or module.
    pub tensor: String,
    /// [`Reason::code`].
    pub reason: String,
    /// ‖Δ‖² of the tensor (squared Frobenius norm), or `None` where it cannot be known:
    /// a full-rank tensor without the base.
    pub energy: Option<f64>,
    /// Its share of the whole update's energy.
    pub share: Option<f64>,
}

/// Sums an update's energy (squared Frobenius norm) over kept and dropped tensors.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    kept: f64,
    dropped: Vec<(String, Reason, Option<f64>)>,
}

impl Ledger {
    /// Books a kept tensor's energy.
    pub fn keep(&mut self, energy: f64) {
        self.kept += energy;
    }

    /// Books a dropped tensor.
    pub fn drop(&mut self, tensor: impl Into<String>, reason: Reason, energy: Option<f64>) {
        self.dropped.push((tensor.into(), reason, energy));
    }

    /// Energy of the whole update, as far as it is known.
    #[must_use]
    pub fn total(&self) -> f64 {
        self.kept + self.dropped.iter().filter_map(|(_, _, e)| *e).sum::<f64>()
    }

    /// The dropped tensors with their shares, largest first, unknown ones at the end.
    #[must_use]
    pub fn dropped(&self) -> Vec<Dropped> {
        let total = self.total();
        let mut list: Vec<Dropped> = self
            .dropped
            .iter()
            .map(|(tensor, reason, energy)| Dropped {
                tensor: tensor.clone(),
                reason: reason.code().to_owned(),
                energy: *energy,
                share: energy.map(|e| if total > 0.0 { e / total } else { 0.0 }),
            })
            .collect();
        list.sort_by(|a, b| {
            let key = |d: &Dropped| d.energy.unwrap_or(-1.0);
            key(b).total_cmp(&key(a)).then(a.tensor.cmp(&b.tensor))
        });
        list
    }

    /// The share of the update's energy that is dropped, in [0, 1].
    #[must_use]
    pub fn dropped_share(&self) -> f64 {
        let total = self.total();
        if total > 0.0 {
            (total - self.kept) / total
        } else {
            0.0
        }
    }

    /// What a person must be told: a warning above [`WARN_SHARE`], an error above `max_dropped`,
    /// and a warning for tensors of unknown energy.
    #[must_use]
    pub fn findings(&self, policy: Policy, max_dropped: f64) -> Vec<Finding> {
        let mut findings = Vec::new();
        let share = self.dropped_share();
        let by_reason = self.by_reason();
        if !self.dropped.is_empty() {
            let severity = if share > max_dropped {
                Severity::Error
            } else if share > WARN_SHARE {
                Severity::Warning
            } else {
                Severity::Info
            };
            let at_least = if self.is_complete() { "" } else { "at least " };
            let mut finding = Finding::new(
                severity,
                "dropped-energy",
                "adapter",
                format!(
                    "{at_least}{} of the update's energy is dropped under policy {policy} ({} tensors: {by_reason})",
                    percent(share),
                    self.dropped.len(),
                ),
            );
            if share > WARN_SHARE {
                finding = finding.hint(
                    "the served model will miss this part of the fine-tune; measure it before you \
                     rely on it, keep embeddings with --embeddings, or serve the tuned weights themselves",
                );
            }
            findings.push(finding.value(share));
        }
        let unknown: Vec<&str> = self
            .dropped
            .iter()
            .filter(|(_, _, energy)| energy.is_none())
            .map(|(tensor, _, _)| tensor.as_str())
            .collect();
        if let Some(first) = unknown.first() {
            findings.push(
                Finding::new(
                    Severity::Warning,
                    "unknown-energy",
                    *first,
                    format!(
                        "the energy of {} dropped full-rank tensors is unknown, so the dropped share is too",
                        unknown.len()
                    ),
                )
                .hint("pass --base DIR, so that their change can be measured"),
            );
        }
        findings
    }

    /// Whether the energy of every dropped tensor is known; otherwise the dropped share is a lower bound.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.dropped.iter().all(|(_, _, energy)| energy.is_some())
    }

    fn by_reason(&self) -> String {
        let mut counts: Vec<(Reason, usize, f64)> = Vec::new();
        for (_, reason, energy) in &self.dropped {
            match counts.iter_mut().find(|(r, _, _)| r == reason) {
                Some(entry) => {
                    entry.1 += 1;
                    entry.2 += energy.unwrap_or(0.0);
                }
                None => counts.push((*reason, 1, energy.unwrap_or(0.0))),
            }
        }
        let total = self.total().max(f64::MIN_POSITIVE);
        counts
            .iter()
            .map(|(reason, n, e)| {
                let unknown = self
                    .dropped
                    .iter()
                    .any(|(_, r, e)| r == reason && e.is_none());
                let share = if unknown {
                    "unknown".to_owned()
                } else {
                    percent(e / total)
                };
                format!("{n} {} {share}", reason.code())
            })
            .collect::<Vec<_>>()
            .join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_of_the_whole_update_and_sorted_by_weight() {
        let mut ledger = Ledger::default();
        ledger.keep(90.0);
        ledger.drop("model.norm", Reason::Norm, Some(1.0));
        ledger.drop("lm_head", Reason::EmbeddingNotAsked, Some(9.0));
        let dropped = ledger.dropped();
        assert_eq!(dropped[0].tensor, "lm_head");
        assert_eq!(dropped[0].share, Some(0.09));
        assert!((ledger.dropped_share() - 0.1).abs() < 1e-15);
    }

    #[test]
    fn five_percent_warns_and_the_limit_is_an_error() {
        let severity = |dropped: f64, limit: f64| {
            let mut ledger = Ledger::default();
            ledger.keep(1.0 - dropped);
            ledger.drop("norm", Reason::Norm, Some(dropped));
            ledger.findings(Policy::Vllm, limit)[0].severity
        };
        assert_eq!(severity(0.04, 0.5), Severity::Info);
        assert_eq!(severity(0.06, 0.5), Severity::Warning);
        assert_eq!(severity(0.6, 0.5), Severity::Error);
        assert_eq!(severity(0.6, 0.7), Severity::Warning);
    }

    #[test]
    fn a_tensor_of_unknown_energy_is_said_and_not_counted_as_nothing() {
        let mut ledger = Ledger::default();
        ledger.keep(1.0);
        ledger.drop("model.norm.weight", Reason::Norm, None);
        let findings = ledger.findings(Policy::Vllm, 0.5);
        assert!(findings.iter().any(|f| f.code == "unknown-energy"));
        assert_eq!(ledger.dropped()[0].share, None);
    }
}
