//! What a serving engine takes of an adapter: one pure decision per tensor.

use std::fmt;

use xgraft_checkpoint::Role;

/// The ranks that vLLM's kernels are built for (`max_lora_rank`).
///
/// **Source**: vLLM 0.33 `vllm/config/lora.py`, `MaxLoRARanks`.
pub const VLLM_RANKS: [usize; 9] = [1, 8, 16, 32, 64, 128, 256, 320, 512];

/// The largest vocabulary for which vLLM runs LoRA on `lm_head`.
///
/// **Source**: vLLM 0.33 `vllm/lora/layers/logits_processor.py`.
pub const VLLM_MAX_VOCAB: usize = 258_048;

/// The smallest rank of vLLM's ladder that holds `rank`; 0 stays 0; `None` above 512.
#[must_use]
pub fn ladder_up(rank: usize) -> Option<usize> {
    if rank == 0 {
        return Some(0);
    }
    VLLM_RANKS.into_iter().find(|&r| r >= rank)
}

/// Whose rules an adapter must meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Policy {
    /// vLLM's LoRA loader: LoRA pairs on the linears it wraps, ranks up to 512, no full-rank tensor.
    Vllm,
    /// PEFT: LoRA pairs of any rank, and full-rank tensors through `modules_to_save`.
    Peft,
    /// xgraft's own server: as vLLM, but of any rank and with any vocabulary.
    Xgraft,
}

impl Policy {
    /// The name used on the command line and in manifests.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Vllm => "vllm",
            Self::Peft => "peft",
            Self::Xgraft => "xgraft",
        }
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The form in which an adapter holds, or would hold, the change of a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Form {
    /// A LoRA pair `lora_A` [r, in], `lora_B` [out, r], or an embedding's.
    LowRank,
    /// The whole tensor (PEFT's `modules_to_save`).
    Full,
}

/// Why a tensor is not in the sanitized adapter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// A normalization weight: no engine applies a LoRA to it, and vLLM refuses the tensor.
    Norm,
    /// A bias: vLLM refuses `lora_bias` and bias tensors.
    Bias,
    /// `embed_tokens` or `lm_head`, and embeddings were not asked for.
    EmbeddingNotAsked,
    /// A full-rank tensor, which the engine does not take from an adapter.
    FullRank,
    /// The vocabulary exceeds what the engine's LoRA head can do.
    VocabularyTooLarge,
    /// A vocabulary row that the base does not have.
    ExtraVocabulary,
    /// The head is tied to the embedding, so it has no adapter of its own.
    TiedHead,
    /// The module is not a linear layer that the engine wraps.
    NotAdaptable,
}

impl Reason {
    /// A machine name for findings.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Norm => "norm",
            Self::Bias => "bias",
            Self::EmbeddingNotAsked => "embedding-not-asked",
            Self::FullRank => "full-rank",
            Self::VocabularyTooLarge => "vocabulary-too-large",
            Self::ExtraVocabulary => "extra-vocabulary",
            Self::TiedHead => "tied-head",
            Self::NotAdaptable => "not-adaptable",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Norm => "a normalization weight",
            Self::Bias => "a bias",
            Self::EmbeddingNotAsked => "an embedding or head; pass --embeddings to keep it",
            Self::FullRank => "a full-rank tensor",
            Self::VocabularyTooLarge => "a head whose vocabulary the engine's LoRA cannot hold",
            Self::ExtraVocabulary => "vocabulary rows that the base lacks",
            Self::TiedHead => "a head tied to the embedding",
            Self::NotAdaptable => "not a linear layer that the engine adapts",
        })
    }
}

/// The rules in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Whose loader must accept the result.
    pub policy: Policy,
    /// Keep LoRA pairs of `embed_tokens` and `lm_head`.
    pub embeddings: bool,
}

impl Rules {
    /// Whether a tensor of this role and form may be in the adapter; `vocab` is the number of
    /// vocabulary rows of an embedding or head.
    ///
    /// # Errors
    /// The reason why it is dropped.
    pub fn check(&self, role: Role, form: Form, vocab: Option<usize>) -> Result<(), Reason> {
        let full_rank_kept = self.policy == Policy::Peft && form == Form::Full;
        match role {
            Role::Norm(_) if full_rank_kept => Ok(()),
            Role::Norm(_) => Err(Reason::Norm),
            Role::Bias => Err(Reason::Bias),
            _ if form == Form::Full && !full_rank_kept => Err(Reason::FullRank),
            Role::Embedding | Role::LmHead if !self.embeddings && form == Form::LowRank => {
                Err(Reason::EmbeddingNotAsked)
            }
            Role::LmHead
                if self.policy == Policy::Vllm && vocab.is_some_and(|v| v > VLLM_MAX_VOCAB) =>
            {
                Err(Reason::VocabularyTooLarge)
            }
            Role::Embedding | Role::LmHead => Ok(()),
            role if role.is_linear() => Ok(()),
            _ => Err(Reason::NotAdaptable),
        }
    }

    /// The largest rank the engine can be started for, if it has one.
    #[must_use]
    pub fn max_rank(&self) -> Option<usize> {
        (self.policy == Policy::Vllm).then_some(512)
    }
}
