//! What the scheduler asks of a model.

use std::path::Path;

use super::TokenId;

/// A model that computes logits for pieces of several sequences at once, and keeps their keys and values.
///
/// It holds a pool of [`Capacity::blocks`] blocks of keys and values, each for [`Capacity::block_tokens`] consecutive
/// positions of one sequence. Which sequence has which blocks is the caller's business: several may share a block whose
/// tokens, positions and adapter are the same.
///
/// The logits of a token depend on the tokens before it, its adapter and nothing else: not on what else is in the batch,
/// nor on how its prompt was cut into pieces. That holds to the bit.
pub trait Forward: Send + 'static {
    /// One immutable version of an adapter's weights.
    type Adapter: Send + Sync + 'static;
    /// Reads adapters while the model runs.
    type Loader: AdapterLoader<Adapter = Self::Adapter>;

    /// Its limits.
    fn capacity(&self) -> Capacity;

    /// What reads adapters for it, on any thread.
    fn loader(&self) -> Self::Loader;

    /// Computes the pieces, stores their keys and values in their blocks, and puts the logits that were asked for
    /// into `logits`, which is cleared first.
    ///
    /// **Shapes** `logits` becomes `[sum of Segment::logits, vocab_size]`, row-major, in the order of the batch.
    ///
    /// # Errors
    /// When the device failed; the pool's content is then unknown.
    fn run(
        &mut self,
        batch: &[Segment<'_, Self::Adapter>],
        logits: &mut Vec<f32>,
    ) -> Result<(), ForwardError>;
}

/// Consecutive tokens of one sequence: a piece of a prompt, or the one token of a decoding step.
#[derive(Debug)]
pub struct Segment<'a, A> {
    /// The tokens.
    pub tokens: &'a [TokenId],
    /// Position of the first of them; all before it are in the blocks already.
    pub first_position: usize,
    /// The sequence's blocks from position 0 on, enough for all of `tokens`.
    pub blocks: &'a [u32],
    /// The adapter of the whole sequence.
    pub adapter: Option<&'a A>,
    /// Logits are wanted for the last so many tokens.
    pub logits: usize,
}

/// What a model can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// Logits of a token.
    pub vocab_size: usize,
    /// Positions of a sequence.
    pub max_positions: usize,
    /// Positions in a block of keys and values.
    pub block_tokens: usize,
    /// Blocks in the pool.
    pub blocks: usize,
}

/// Reads and checks adapters.
pub trait AdapterLoader: Clone + Send + Sync + 'static {
    /// One immutable version of an adapter's weights.
    type Adapter;

    /// Reads the adapter in `dir`; nothing is kept if anything is wrong with it. Returns its rank too.
    ///
    /// # Errors
    /// One message that names the file or tensor, what was expected and what was found.
    fn load(&self, dir: &Path) -> Result<(Self::Adapter, usize), ForwardError>;
}

/// What went wrong, for a person.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ForwardError(pub String);
