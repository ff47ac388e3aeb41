//! The official scores.

use serde::{Deserialize, Serialize};

use super::literal::Literal;

/// How an answer is compared with the reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scorer {
    /// Equal without the blanks around it.
    Exact,
    /// Equal in upper case, without the blanks around it.
    Upper,
    /// Equal in lower case, without the blanks around it.
    Lower,
    /// A dictionary whose `causal_gene` has one of the reference's genes, which stand with commas between them.
    CausalGene,
    /// A dictionary whose `OMIM_ID` is that of the reference, which is JSON.
    OmimId,
}

/// What an answer is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The score is 1.
    Right,
    /// The score is 0.
    Wrong,
    /// The score is 0, for there is no answer of the task's form.
    Unparsed,
}

impl Verdict {
    /// The official score.
    #[must_use]
    pub fn score(self) -> f64 {
        f64::from(u8::from(self == Self::Right))
    }
}

impl Scorer {
    /// Compares an answer with the reference. Nothing that an answer contains is an error.
    #[must_use]
    pub fn judge(self, answer: &str, reference: &str) -> Verdict {
        let equal = |a: String, b: String| {
            if a == b {
                Verdict::Right
            } else {
                Verdict::Wrong
            }
        };
        let (bare, truth) = (strip(answer), strip(reference));
        if bare.is_empty() {
            return Verdict::Unparsed;
        }
        match self {
            Self::Exact => equal(bare.to_owned(), truth.to_owned()),
            Self::Upper => equal(bare.to_uppercase(), truth.to_uppercase()),
            Self::Lower => equal(bare.to_lowercase(), truth.to_lowercase()),
            Self::CausalGene => dictionary(causal_gene(answer, reference)),
            Self::OmimId => dictionary(omim_id(answer, reference)),
        }
    }
}

/// Without what Python's `strip` takes away: white space, and the four separators of ASCII.
fn strip(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_whitespace() || ('\x1c'..='\x1f').contains(&c))
}

fn dictionary(right: Option<bool>) -> Verdict {
    match right {
        Some(true) => Verdict::Right,
        Some(false) => Verdict::Wrong,
        None => Verdict::Unparsed,
    }
}

/// Whether the genes of the answer and of the reference meet; nothing if the answer has no form to compare.
fn causal_gene(answer: &str, reference: &str) -> Option<bool> {
    let answer = Literal::read(answer).ok()?;
    let genes = match answer.get("causal_gene")? {
        None => return Some(false),
        Some(Literal::List(genes)) => genes.clone(),
        Some(gene) => vec![gene.clone()],
    };
    if !genes.iter().all(Literal::is_hashable) {
        return None;
    }
    let named = |truth: &str| {
        let mut genes = genes.iter();
        genes.any(|gene| matches!(gene, Literal::Text(gene) if gene == truth))
    };
    Some(if reference.contains(',') {
        reference.split(',').map(strip).any(named)
    } else {
        named(reference)
    })
}

/// Whether the numbers are equal; nothing if the answer has no form to compare. Where neither side has a number they are equal,
/// as in the original.
fn omim_id(answer: &str, reference: &str) -> Option<bool> {
    let answer = Literal::read(answer).ok()?;
    let found = answer.get("OMIM_ID")?.unwrap_or(&Literal::None);
    let reference = Literal::json(reference).ok()?;
    let expected = reference.get("OMIM_ID")?.unwrap_or(&Literal::None);
    Some(found.equals(expected))
}
