//! Samples through a model, many in one batch or one in pieces; a token's rows are the same bits either way.

use std::ops::Range;

use xgraft_model::{KvCache, KvType, LoraAdapter, Model, Segment, Tap};

use crate::set::Tokenized;
use crate::{Error, Result};

/// Positions of a block of the cache.
const BLOCK: usize = 64;

/// What is computed together: places in a slice of samples, with positions.
pub(crate) type Piece = Vec<(usize, Range<usize>)>;

/// A model with room for one batch.
pub(crate) struct Runner<'m> {
    model: &'m Model,
    adapter: Option<&'m LoraAdapter>,
    cache: KvCache,
    logits: Vec<f32>,
    /// The most rows that are computed together.
    rows: usize,
}

impl<'m> Runner<'m> {
    /// For samples of at most `longest` ids. Keys and values stay F32, as in the model's definition.
    pub(crate) fn new(model: &'m Model, rows: usize, longest: usize) -> Self {
        // Of every sample the last block may be filled in part.
        let blocks = 2 * rows.max(longest).div_ceil(BLOCK);
        Runner {
            model,
            adapter: None,
            cache: KvCache::new(model.spec(), KvType::F32, blocks, BLOCK),
            logits: Vec::new(),
            rows,
        }
    }

    /// The same with an adapter in every row.
    pub(crate) fn with_adapter(self, adapter: Option<&'m LoraAdapter>) -> Self {
        Runner { adapter, ..self }
    }

    /// What fits into a batch.
    pub(crate) fn fits(&self) -> Fits {
        Fits {
            rows: self.rows,
            blocks: self.cache.blocks(),
        }
    }

    /// Computes one of the [`Self::pieces`] of the samples, after those before it, and gives its logits `[rows, vocab]` if they
    /// are wanted.
    pub(crate) fn piece(
        &mut self,
        samples: &[Tokenized],
        piece: &Piece,
        tap: Option<&mut dyn Tap>,
        wanted: bool,
    ) -> &[f32] {
        let mut next = 0;
        let blocks: Vec<Vec<u32>> = samples
            .iter()
            .map(|sample| {
                let first = next;
                next += sample.ids.len().div_ceil(BLOCK) as u32;
                (first..next).collect()
            })
            .collect();
        let segments: Vec<Segment<'_>> = piece
            .iter()
            .map(|(at, positions)| Segment {
                tokens: &samples[*at].ids[positions.clone()],
                first_position: positions.start,
                blocks: &blocks[*at],
                adapter: self.adapter,
                logits: if wanted { positions.len() } else { 0 },
            })
            .collect();
        self.model
            .forward_tapped(&mut self.cache, &segments, &mut self.logits, tap);
        &self.logits
    }

    /// All samples at once, or the only one in pieces.
    pub(crate) fn pieces(&self, samples: &[Tokenized]) -> Vec<Piece> {
        let rows: usize = samples.iter().map(|sample| sample.ids.len()).sum();
        if rows <= self.rows {
            let filled = samples.iter().enumerate();
            let filled = filled.filter(|(_, sample)| !sample.ids.is_empty());
            let all: Vec<_> = filled.map(|(at, s)| (at, 0..s.ids.len())).collect();
            return if all.is_empty() {
                Vec::new()
            } else {
                vec![all]
            };
        }
        let starts = (0..rows).step_by(self.rows);
        starts
            .map(|start| vec![(0, start..rows.min(start + self.rows))])
            .collect()
    }
}

/// What fits into a batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fits {
    rows: usize,
    blocks: usize,
}

impl Fits {
    /// How many of the first samples; at least one.
    fn count(&self, samples: &[Tokenized]) -> usize {
        let (mut rows, mut blocks) = (0, 0);
        let fits = samples.iter().take_while(|sample| {
            rows += sample.ids.len();
            blocks += sample.ids.len().div_ceil(BLOCK);
            rows <= self.rows && blocks <= self.blocks
        });
        fits.count().max(1)
    }
}

/// Gives the samples to `run`, as many at a time as fit; the first is number `before` + 1.
pub(crate) fn each_batch(
    fits: &Fits,
    model: &Model,
    samples: impl Iterator<Item = Result<Tokenized>>,
    before: u64,
    run: &mut dyn FnMut(&[Tokenized]) -> Result<()>,
) -> Result<()> {
    let mut waiting: Vec<Tokenized> = Vec::new();
    for (number, sample) in (before + 1..).zip(samples) {
        let sample = sample?;
        check_ids(model, &sample, number)?;
        waiting.push(sample);
        if fits.count(&waiting) < waiting.len() {
            let last = waiting.split_off(waiting.len() - 1);
            run(&waiting)?;
            waiting = last;
        }
    }
    match waiting.is_empty() {
        true => Ok(()),
        false => run(&waiting),
    }
}

/// Refuses ids that the model has no embedding for.
fn check_ids(model: &Model, sample: &Tokenized, number: u64) -> Result<()> {
    let vocab = model.spec().vocab;
    match sample.ids.iter().find(|id| **id as usize >= vocab) {
        None => Ok(()),
        Some(&id) => Err(Error::OtherTokenizer {
            sample: number,
            id,
            vocab,
        }),
    }
}
