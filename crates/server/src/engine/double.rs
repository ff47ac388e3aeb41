//! A scripted double of a model: a [`Forward`] whose next token is a function of the tokens so far and the adapter.
//!
//! Its pool holds, for each position, the token, the position and the adapter that were computed there. Logits come from
//! what is read back from there, so a block that holds another sequence's tokens gives other logits than
//! [`Script::logits`]; a position or an adapter that is not the sequence's, and a block that two sequences write,
//! are panics.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use super::{AdapterLoader, Capacity, Forward, ForwardError, Segment, TokenId};
use crate::sampling::mix;

/// What the double does.
#[derive(Debug, Clone, Copy)]
pub struct Script {
    /// Its limits.
    pub capacity: Capacity,
    /// How long a step takes.
    pub step_time: Duration,
    /// How long a step takes for each of its tokens, besides.
    pub token_time: Duration,
    /// How long an adapter takes to be read.
    pub load_time: Duration,
    /// How the step of that number fails, counted from 0.
    pub failure: Option<(u64, Failure)>,
}

/// How a step fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// With an error.
    Error,
    /// With a panic.
    Panic,
    /// With NaN for all logits.
    NotANumber,
}

impl Script {
    /// A small model without any delay.
    #[must_use]
    pub fn new(blocks: usize) -> Self {
        Self {
            capacity: Capacity {
                vocab_size: 97,
                max_positions: 4096,
                block_tokens: 4,
                blocks,
            },
            step_time: Duration::ZERO,
            token_time: Duration::ZERO,
            load_time: Duration::ZERO,
            failure: None,
        }
    }

    /// The logits after some tokens, between −4 and 4; 0 is the base's adapter.
    #[must_use]
    pub fn logits(&self, adapter: u64, tokens: &[TokenId]) -> Vec<f32> {
        let mut logits = Vec::new();
        self.extend(&mut logits, adapter, tokens.iter().copied());
        logits
    }

    /// What greedy decoding gives, unless something ends it.
    #[must_use]
    pub fn greedy(&self, adapter: u64, prompt: &[TokenId], count: usize) -> Vec<TokenId> {
        let mut tokens = prompt.to_vec();
        for _ in 0..count {
            let logits = self.logits(adapter, &tokens);
            let best = logits.iter().copied().fold(f32::MIN, f32::max);
            let token = logits.iter().position(|&logit| logit == best);
            tokens.extend(token.map(|token| token as TokenId));
        }
        tokens.split_off(prompt.len())
    }

    fn extend(&self, logits: &mut Vec<f32>, adapter: u64, tokens: impl Iterator<Item = TokenId>) {
        let state = tokens.fold(mix(adapter ^ 0x5851_f42d_4c95_7f2d), |state, token| {
            mix(state.rotate_left(17) ^ u64::from(token))
        });
        let numbers = (0..self.capacity.vocab_size as u64).map(|i| mix(state ^ mix(i)));
        logits.extend(numbers.map(|n| (n >> 40) as f32 / (1 << 21) as f32 - 4.0));
    }
}

/// The double.
#[derive(Debug)]
pub struct ScriptedForward {
    script: Script,
    pool: Vec<Option<Slot>>,
    writers: Vec<Option<usize>>,
    steps: Arc<AtomicU64>,
}

/// What stands for the keys and values of a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Slot {
    token: TokenId,
    position: usize,
    adapter: u64,
}

/// An adapter of the double: a number that decides what it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScriptedAdapter(pub u64);

/// Reads an adapter out of the last part of its directory's name: `anything/17` is adapter 17, of rank 17.
#[derive(Debug, Clone)]
pub struct ScriptedLoader {
    load_time: Duration,
}

impl ScriptedForward {
    /// With an empty pool.
    #[must_use]
    pub fn new(script: Script) -> Self {
        let Capacity {
            blocks,
            block_tokens,
            ..
        } = script.capacity;
        Self {
            script,
            pool: vec![None; blocks * block_tokens],
            writers: vec![None; blocks],
            steps: Arc::default(),
        }
    }

    /// Counts the steps from outside while it runs.
    #[must_use]
    pub fn steps(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.steps)
    }

    fn slot(&self, blocks: &[u32], position: usize) -> usize {
        let block_tokens = self.script.capacity.block_tokens;
        blocks[position / block_tokens] as usize * block_tokens + position % block_tokens
    }

    fn write(&mut self, number: usize, segment: &Segment<'_, ScriptedAdapter>) {
        for (position, &token) in (segment.first_position..).zip(segment.tokens) {
            let slot = self.slot(segment.blocks, position);
            let writer = &mut self.writers[slot / self.script.capacity.block_tokens];
            let others = writer.replace(number).is_some_and(|other| other != number);
            assert!(!others, "two sequences write into one block");
            self.pool[slot] = Some(Slot {
                token,
                position,
                adapter: adapter(segment),
            });
        }
    }

    /// Reads every position back, and appends the logits that are wanted.
    fn read(&self, segment: &Segment<'_, ScriptedAdapter>, logits: &mut Vec<f32>) {
        let end = segment.first_position + segment.tokens.len();
        let slots = (0..end).map(|position| {
            let slot = self.pool[self.slot(segment.blocks, position)];
            let Some(slot) = slot else {
                panic!("nothing was computed for position {position}");
            };
            assert_eq!(
                (slot.position, slot.adapter),
                (position, adapter(segment)),
                "position and adapter of what a sequence's block holds"
            );
            slot.token
        });
        let tokens: Vec<_> = slots.collect();
        assert!(
            segment.logits <= segment.tokens.len(),
            "rows of other tokens"
        );
        for last in end - segment.logits..end {
            let before = tokens[..=last].iter().copied();
            self.script.extend(logits, adapter(segment), before);
        }
    }
}

/// The adapter's number, 0 for the base.
fn adapter(segment: &Segment<'_, ScriptedAdapter>) -> u64 {
    segment.adapter.map_or(0, |adapter| adapter.0)
}

impl Forward for ScriptedForward {
    type Adapter = ScriptedAdapter;
    type Loader = ScriptedLoader;

    fn capacity(&self) -> Capacity {
        self.script.capacity
    }

    fn loader(&self) -> ScriptedLoader {
        ScriptedLoader {
            load_time: self.script.load_time,
        }
    }

    #[expect(
        clippy::panic_in_result_fn,
        reason = "a wrong block is the caller's bug, and a panic is one of the scripts"
    )]
    fn run(
        &mut self,
        batch: &[Segment<'_, ScriptedAdapter>],
        logits: &mut Vec<f32>,
    ) -> Result<(), ForwardError> {
        logits.clear();
        let step = self.steps.fetch_add(1, Ordering::Relaxed);
        let failure = self.script.failure.filter(|&(at, _)| at == step);
        match failure.map(|(_, failure)| failure) {
            Some(Failure::Error) => return Err(ForwardError("the script says so".to_owned())),
            Some(Failure::Panic) => panic!("the script says so"),
            Some(Failure::NotANumber) | None => {}
        }
        let tokens: usize = batch.iter().map(|segment| segment.tokens.len()).sum();
        let time = self.script.step_time + self.script.token_time * tokens as u32;
        if !time.is_zero() {
            thread::sleep(time);
        }
        self.writers.fill(None);
        for (number, segment) in batch.iter().enumerate() {
            self.write(number, segment);
        }
        for segment in batch {
            self.read(segment, logits);
        }
        if failure.is_some() {
            logits.fill(f32::NAN);
        }
        Ok(())
    }
}

impl AdapterLoader for ScriptedLoader {
    type Adapter = ScriptedAdapter;

    fn load(&self, dir: &Path) -> Result<(ScriptedAdapter, usize), ForwardError> {
        thread::sleep(self.load_time);
        let name = dir.file_name().and_then(|name| name.to_str());
        let number = name.and_then(|name| name.parse().ok()).filter(|&n| n > 0);
        match number {
            Some(number) => Ok((ScriptedAdapter(number), number as usize)),
            None => Err(ForwardError(format!(
                "{}: its name is no adapter of the double, expected a number above 0",
                dir.display()
            ))),
        }
    }
}
