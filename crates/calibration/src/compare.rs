//! How far a model's next-token distributions are from another's, on a set.

use rayon::prelude::*;
use serde::Serialize;
use xgraft_model::{LoraAdapter, Model, Tap};

use crate::batch::{Piece, Runner, each_batch};
use crate::observe::Observation;
use crate::rounding::Rounding;
use crate::set::Tokenized;
use crate::{Error, Result};

/// Bytes of logits of one model that are held at a time.
const LOGITS: usize = 256 << 20;

/// How far the distributions are apart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Divergence {
    /// Samples.
    pub samples: u64,
    /// Positions that were compared.
    pub tokens: u64,
    /// Mean of KL(reference ‖ candidate), in nats.
    pub kl: f64,
    /// Largest of a sample's mean KL.
    pub worst_sample_kl: f64,
    /// Share of positions whose likeliest token is the same.
    pub same_best: f64,
    /// Positions that have a next token in the sample.
    pub predicted: u64,
    /// Mean of −ln p(next token) by the reference.
    pub reference_nll: f64,
    /// The same by the candidate.
    pub candidate_nll: f64,
}

/// What is held against the reference.
#[derive(Debug)]
pub struct Candidate<'a> {
    /// The quantized model.
    pub model: &'a Model,
    /// What is served with it.
    pub adapter: Option<&'a LoraAdapter>,
    /// How the inputs of its linear layers are rounded.
    pub rounding: &'a mut Rounding,
}

/// How far the distributions of one sample are apart.
#[derive(Debug, Clone, PartialEq)]
pub struct OfSample {
    /// The question that it answers, where the file says so.
    pub question: Option<String>,
    /// Positions that were compared.
    pub tokens: u64,
    /// The sum of KL(reference ‖ candidate) over them, in nats.
    pub kl: f64,
}

/// Where distributions are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Positions {
    /// At every token.
    All,
    /// Where a token of the sample's last answer comes next; the samples must say where it begins
    /// ([`TokenizedSet::with_answers`](crate::TokenizedSet::with_answers)).
    Answers,
}

/// One row of logits.
struct Place {
    sample: usize,
    next: Option<u32>,
    wanted: bool,
}

/// What one position says.
#[derive(Clone, Copy)]
struct Position {
    kl: f64,
    same_best: bool,
    /// By reference and candidate; where there is a next token.
    nll: Option<[f64; 2]>,
}

/// Runs the samples through both models, which must have one vocabulary.
///
/// # Errors
/// Those of the samples, [`Error::OtherTokenizer`] for an id beyond the vocabulary, [`Error::OtherVocabulary`],
/// [`Error::NoTokens`], and those of `on_batch`, which is given the samples of each batch in their order.
pub fn compare(
    reference: &Model,
    candidate: Candidate<'_>,
    samples: impl Iterator<Item = Result<Tokenized>>,
    (how, wanted): (Observation, Positions),
    on_batch: &mut dyn FnMut(&[OfSample]) -> Result<()>,
) -> Result<Divergence> {
    let vocab = reference.spec().vocab;
    let Candidate {
        model: candidate,
        adapter,
        rounding,
    } = candidate;
    if candidate.spec().vocab != vocab {
        return Err(Error::OtherVocabulary {
            expected: vocab,
            found: candidate.spec().vocab,
        });
    }
    let rows = how.batch_tokens.min(LOGITS / 4 / vocab).max(1);
    let runner = |model| Runner::new(model, rows, how.longest);
    let mut runners = [runner(reference), runner(candidate).with_adapter(adapter)];
    let mut all = Divergence::default();
    let fits = runners[0].fits();
    each_batch(&fits, reference, samples, 0, &mut |samples| {
        let mut of_samples: Vec<OfSample> = samples.iter().map(OfSample::none).collect();
        for piece in runners[0].pieces(samples) {
            let [before, after] = &mut runners;
            let before = before.piece(samples, &piece, None, true);
            let tap: &mut dyn Tap = &mut *rounding;
            let after = after.piece(samples, &piece, Some(tap), true);
            let places = places(samples, &piece, wanted);
            for (sample, position) in positions(before, after, vocab, &places) {
                of_samples[sample].kl += position.kl;
                of_samples[sample].tokens += 1;
                all.add(position);
            }
        }
        for sample in &of_samples {
            let kl = sample.kl / sample.tokens.max(1) as f64;
            all.worst_sample_kl = all.worst_sample_kl.max(kl);
        }
        all.samples += samples.len() as u64;
        on_batch(&of_samples)
    })?;
    match all.tokens {
        0 => Err(Error::NoTokens),
        _ => Ok(all.mean()),
    }
}

fn places(samples: &[Tokenized], piece: &Piece, wanted: Positions) -> Vec<Place> {
    let places = piece.iter().flat_map(|(at, positions)| {
        let sample = &samples[*at];
        positions.clone().map(|i| {
            let next = sample.ids.get(i + 1).copied();
            Place {
                sample: *at,
                next,
                wanted: wanted == Positions::All || (next.is_some() && i + 1 >= sample.answer),
            }
        })
    });
    places.collect()
}

/// The positions that are wanted, with their samples.
fn positions(
    before: &[f32],
    after: &[f32],
    vocab: usize,
    places: &[Place],
) -> Vec<(usize, Position)> {
    let rows = before
        .par_chunks_exact(vocab)
        .zip(after.par_chunks_exact(vocab));
    let rows = rows
        .zip(places.par_iter())
        .filter(|(_, place)| place.wanted);
    rows.map(|((p, q), place)| (place.sample, position(p, q, place.next)))
        .collect()
}

/// Of two rows of logits.
fn position(p: &[f32], q: &[f32], next: Option<u32>) -> Position {
    let ((p_sum, p_best), (q_sum, q_best)) = (log_sum(p), log_sum(q));
    let terms = p.iter().zip(q).map(|(p, q)| {
        let (p, q) = (f64::from(*p) - p_sum, f64::from(*q) - q_sum);
        p.exp() * (p - q)
    });
    let nll = |row: &[f32], sum: f64, id: u32| sum - f64::from(row[id as usize]);
    Position {
        kl: terms.sum::<f64>().max(0.0),
        same_best: p_best == q_best,
        nll: next.map(|id| [nll(p, p_sum, id), nll(q, q_sum, id)]),
    }
}

/// ln Σ exp of a row, and where it is largest.
fn log_sum(row: &[f32]) -> (f64, usize) {
    let best = (0..row.len()).max_by(|a, b| row[*a].total_cmp(&row[*b]).then(b.cmp(a)));
    let best = best.unwrap_or(0);
    let most = f64::from(row[best]);
    let sum: f64 = row.iter().map(|x| (f64::from(*x) - most).exp()).sum();
    (most + sum.ln(), best)
}

impl OfSample {
    fn none(sample: &Tokenized) -> OfSample {
        OfSample {
            question: sample.question.clone(),
            tokens: 0,
            kl: 0.0,
        }
    }
}

impl Divergence {
    /// Sums until [`Self::mean`].
    fn add(&mut self, position: Position) {
        self.tokens += 1;
        self.kl += position.kl;
        self.same_best += f64::from(u8::from(position.same_best));
        if let Some([reference, candidate]) = position.nll {
            self.predicted += 1;
            self.reference_nll += reference;
            self.candidate_nll += candidate;
        }
    }

    fn mean(mut self) -> Self {
        let (tokens, predicted) = (self.tokens as f64, self.predicted.max(1) as f64);
        self.kl /= tokens;
        self.same_best /= tokens;
        self.reference_nll /= predicted;
        self.candidate_nll /= predicted;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_rows_are_compared_by_their_distributions() {
        let same = position(&[0.0, 1.0, 2.0], &[5.0, 6.0, 7.0], None);
        assert!(same.kl < 1e-12 && same.same_best && same.nll.is_none());
        // p = (1/2, 1/2), q = (1/4, 3/4): KL = ln 2 / 2 + ln(2/3) / 2.
        let other = position(&[0.0, 0.0], &[0.0, 3.0_f32.ln()], Some(1));
        let kl = 0.5 * 2.0_f64.ln() + 0.5 * (2.0_f64 / 3.0).ln();
        assert!((other.kl - kl).abs() < 1e-7, "{}", other.kl);
        assert!(!other.same_best);
        let [p, q] = other.nll.unwrap();
        assert!((p - 2.0_f64.ln()).abs() < 1e-7 && (q - (4.0_f64 / 3.0).ln()).abs() < 1e-7);
    }
}
