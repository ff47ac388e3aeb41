//! How far arms are from the reference in what they expect next, over the same answers, and pairs of arms beside each other.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;
use xgraft_dataset::{Distance, Reader};
use xgraft_statistics::{Estimate, holm, ratio, two_sided};

use super::compare::{self, compare};
use super::report::Comparison;
use super::{Arm, Options, StatsError};

/// The divergence of an arm on one question.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct OfQuestion {
    /// Tokens of the answer.
    pub tokens: u64,
    /// The sum of KL(reference ‖ arm) over them, in nats.
    pub kl: f64,
}

/// Reads the distances that `xgraft calibrate compare` left in a folder.
///
/// # Errors
/// The file cannot be read, or has a row that is none.
pub fn read_distances(dir: &Path) -> Result<BTreeMap<String, OfQuestion>, StatsError> {
    let path = dir.join("distances.jsonl");
    let rows = |error: xgraft_dataset::Error| StatsError::Rows {
        path: path.clone(),
        source: error.into(),
    };
    let mut distances: BTreeMap<String, OfQuestion> = BTreeMap::new();
    for row in Reader::<Distance>::open(&path).map_err(rows)? {
        let row = row.map_err(rows)?;
        // Repeated attempts at a question are of one question.
        let of = distances.entry(row.question).or_default();
        of.tokens += row.tokens;
        of.kl += row.kl;
    }
    Ok(distances)
}

/// An arm's mean divergence a token; the tokens of a question, and of a cluster of questions, belong together.
#[derive(Debug, Serialize)]
pub struct Divergence {
    /// Nats a token, with the interval over questions.
    #[serde(flatten)]
    pub kl: Estimate,
    /// Tokens of the answers.
    pub tokens: u64,
    /// Questions.
    pub questions: u64,
}

/// Two arms beside each other. Differences are the first less the second.
#[derive(Debug, Serialize)]
pub struct Pair {
    /// Their answers; `p_holm` is over all pairs.
    #[serde(flatten)]
    pub answers: Comparison,
    /// Their divergences from the reference, where both are known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub divergence: Option<Further>,
}

/// How much further one arm is from the reference than another.
#[derive(Debug, Serialize)]
pub struct Further {
    /// The difference of the mean divergences in nats a token, paired by question.
    #[serde(flatten)]
    pub kl: Estimate,
    /// p of the normal test by questions.
    pub p: f64,
    /// The same by Holm over all pairs.
    pub p_holm: f64,
}

pub(super) fn of_arm(arm: &Arm, level: f64) -> Option<Divergence> {
    let tokens = arm.distances.values().map(|of| of.tokens).sum::<u64>();
    let clusters = clusters(arm);
    let known = arm.distances.iter();
    let parts = known.map(|(question, of)| (cluster(&clusters, question), of.kl, of.tokens));
    (tokens > 0).then(|| Divergence {
        kl: ratio(parts.map(|(c, kl, tokens)| (c, kl, tokens as f64)), level),
        tokens,
        questions: arm.distances.len() as u64,
    })
}

pub(super) fn pairs(
    arms: &[Arm],
    wanted: &[[String; 2]],
    options: &Options,
) -> Result<Vec<Pair>, StatsError> {
    let pair = |[one, other]: &[String; 2]| -> Result<Pair, StatsError> {
        let (one, other) = (super::find(arms, one)?, super::find(arms, other)?);
        Ok(Pair {
            answers: compare(one, other, options)?,
            divergence: further(one, other, options.level())?,
        })
    };
    let mut pairs = wanted.iter().map(pair).collect::<Result<Vec<_>, _>>()?;
    let p: Vec<f64> = pairs.iter().map(|pair| pair.answers.p).collect();
    for (pair, adjusted) in pairs.iter_mut().zip(holm(&p)) {
        pair.answers.p_holm = adjusted;
        pair.answers.outcome = compare::outcome(&pair.answers, options.alpha);
    }
    let known = || pairs.iter().filter_map(|pair| pair.divergence.as_ref());
    let mut adjusted = holm(&known().map(|d| d.p).collect::<Vec<_>>()).into_iter();
    for divergence in pairs.iter_mut().filter_map(|p| p.divergence.as_mut()) {
        divergence.p_holm = adjusted.next().unwrap_or(1.0);
    }
    Ok(pairs)
}

fn further(one: &Arm, other: &Arm, level: f64) -> Result<Option<Further>, StatsError> {
    let clusters = clusters(one);
    let mut parts = Vec::new();
    for (question, of) in &one.distances {
        let Some(beside) = other.distances.get(question) else {
            continue;
        };
        if of.tokens != beside.tokens {
            return Err(StatsError::OtherAnswers {
                question: question.clone(),
                arm: one.name.clone(),
                tokens: of.tokens,
                other: other.name.clone(),
                other_tokens: beside.tokens,
            });
        }
        let cluster = cluster(&clusters, question);
        parts.push((cluster, of.kl - beside.kl, of.tokens as f64));
    }
    if parts.iter().all(|(_, _, tokens)| *tokens == 0.0) {
        return Ok(None);
    }
    let kl = ratio(parts, level);
    // Two arms with the same distributions differ by nothing, for certain.
    let p = if kl.value == 0.0 {
        1.0
    } else {
        two_sided(kl.value / kl.se)
    };
    Ok(Some(Further { kl, p, p_holm: p }))
}

fn clusters(arm: &Arm) -> BTreeMap<&str, &str> {
    let known = arm.questions.iter();
    known
        .filter_map(|((_, question), of)| Some((question.as_str(), of.cluster.as_deref()?)))
        .collect()
}

/// What a question hangs together with.
fn cluster(clusters: &BTreeMap<&str, &str>, question: &str) -> String {
    match clusters.get(question) {
        Some(cluster) => format!("cluster {cluster}"),
        None => format!("question {question}"),
    }
}
