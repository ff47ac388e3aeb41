//! A systematic fault comes once a layer: tensors that suffer from the same, told together.

use xgraft_results::Finding;

use crate::report::{Report, TensorReport};
use crate::verdict::Verdict;

/// So few are told one by one.
const FEW: usize = 3;

/// A name with its numbers left open: `model.layers.*.mlp.up_proj.weight`.
#[must_use]
pub fn name_pattern(name: &str) -> String {
    let open = |component: &str| match component.parse::<u64>() {
        Ok(_) => "*".to_owned(),
        Err(_) => component.to_owned(),
    };
    name.split('.').map(open).collect::<Vec<_>>().join(".")
}

impl Report {
    /// The sick tensors, those together whose names differ in numbers only and whose worst fault passes the same limit; three
    /// or fewer of them stay apart. In the order of the first of each.
    #[must_use]
    pub fn alike(&self) -> Vec<Vec<&TensorReport>> {
        let mut groups: Vec<Vec<&TensorReport>> = Vec::new();
        let sick = self
            .tensors
            .iter()
            .filter(|t| t.verdict != Verdict::Healthy);
        for tensor in sick {
            match groups.iter_mut().find(|group| key(group[0]) == key(tensor)) {
                Some(group) => group.push(tensor),
                None => groups.push(vec![tensor]),
            }
        }
        let split = |group: Vec<_>| match group.len() {
            ..=FEW => group.into_iter().map(|t| vec![t]).collect(),
            _ => vec![group],
        };
        groups.into_iter().flat_map(split).collect()
    }

    /// [`Report::findings`] for a person: one for all tensors that are [alike](Report::alike).
    #[must_use]
    pub fn gathered(&self) -> Vec<Finding> {
        let own: Vec<Finding> = self
            .tensors
            .iter()
            .filter_map(TensorReport::finding)
            .collect();
        let others = self.findings.iter().filter(|f| !own.contains(f)).cloned();
        let groups = self.alike();
        let gathered = groups.iter().filter_map(|group| {
            let mut finding = group[0].finding()?;
            if group.len() > 1 {
                finding.message = format!(
                    "{} tensors alike; in {}: {}",
                    group.len(),
                    finding.subject,
                    finding.message
                );
                finding.subject = name_pattern(&finding.subject);
            }
            Some(finding)
        });
        others.chain(gathered).collect()
    }
}

fn key(tensor: &TensorReport) -> (String, Verdict, Option<&'static str>) {
    let limit = tensor.faults.first().and_then(|fault| fault.limit);
    (name_pattern(&tensor.tensor), tensor.verdict, limit)
}
