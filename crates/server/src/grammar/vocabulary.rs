//! Our vocabulary as the grammar engine wants it.

use std::sync::Arc;

use llguidance::Matcher;
use llguidance::ParserFactory;
use llguidance::toktrie::{ApproximateTokEnv, TokEnv, TokRxInfo, TokTrie};
use xgraft_tokenizer::Tokenizer;

use super::constraint::{Budget, Grammar, Marks, Reasoned, Thinking};
use super::format::Form;
use crate::api::error::{ApiError, Result};
use crate::config::ConfigError;
use crate::engine::{Constraint, TokenId};

/// Makes constraints; one for a server.
pub(crate) struct Grammars {
    factory: ParserFactory,
    /// Of whole words, between which spaces stand by themselves, no text can be built letter by letter.
    is_of_words: bool,
    marks: Option<Marks>,
}

impl std::fmt::Debug for Grammars {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Grammars")
            .field("marks", &self.marks)
            .finish_non_exhaustive()
    }
}

impl Grammars {
    /// Reads the bytes of every token once.
    ///
    /// # Errors
    /// The engine cannot use the vocabulary.
    pub(crate) fn new(
        tokenizer: &Tokenizer,
        vocab_size: usize,
        eos: &[TokenId],
    ) -> Result<Self, ConfigError> {
        let unusable = |reason: String| ConfigError::Vocabulary { reason };
        let rows = u32::try_from(vocab_size).map_err(|error| unusable(error.to_string()))?;
        let mut words: Vec<Vec<u8>> = (0..rows).map(|id| word(tokenizer, id)).collect();
        // Without an end of its own the vocabulary gets one that no logit has.
        words.push([&[TokTrie::SPECIAL_TOKEN_MARKER][..], b"<end>"].concat());
        let info = TokRxInfo::new(rows + 1, eos.first().copied().unwrap_or(rows));
        let trie = TokTrie::from(&info, &words);
        let trie = if eos.len() > 1 {
            trie.with_eos_tokens(eos)
        } else {
            trie
        };
        let env: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
        let mut factory =
            ParserFactory::new_simple(&env).map_err(|error| unusable(error.to_string()))?;
        factory.quiet();
        let limits = factory.limits_mut();
        limits.verbose_errors = false;
        // A quarter of what the library lets a mask take, which is longer than a step of a small model.
        limits.step_lexer_fuel = 50_000;
        limits.step_max_items = 12_500;
        Ok(Self {
            factory,
            is_of_words: tokenizer.is_of_words(),
            marks: Marks::of(tokenizer, eos, vocab_size),
        })
    }

    /// Compiles the grammar of a form whose answers begin as `thinking` says.
    ///
    /// # Errors
    /// What is expected of the field that asks for it, and what is wrong as far as the grammar engine says.
    pub(crate) fn compile(&self, form: &Form, thinking: Thinking) -> Result<Compiled> {
        let Form {
            param, expected, ..
        } = form;
        let refuse = |fault: &str| {
            ApiError::invalid(param, format!("`{param}`: expected {expected}{fault}"))
        };
        if self.is_of_words {
            let message = format!(
                "`{param}`: this model writes whole words, and no other text can be asked of it"
            );
            return Err(ApiError::invalid(param, message));
        }
        let matcher = Matcher::new(self.factory.create_parser(form.grammar.clone()));
        if let Some(error) = matcher.get_error() {
            return Err(refuse(&fault(&error)));
        }
        // Whether any text fits shows only here; what the engine says of that is about itself.
        let first = matcher.deep_clone().compute_mask_or_eos();
        if !first.is_ok_and(|mask| mask.as_slice().iter().any(|word| *word != 0)) {
            return Err(refuse("; no text fits it"));
        }
        let marks = self.marks.clone().filter(|_| thinking != Thinking::Over);
        Ok(Compiled {
            matcher,
            budget: Arc::default(),
            marks,
            thinking,
        })
    }
}

/// A grammar that is ready for all answers to a request.
pub(crate) struct Compiled {
    matcher: Matcher,
    budget: Arc<Budget>,
    marks: Option<Marks>,
    thinking: Thinking,
}

impl Compiled {
    /// A constraint that begins with an answer's first token.
    pub(crate) fn constraint(&self) -> Box<dyn Constraint> {
        let grammar = Grammar::new(self.matcher.deep_clone(), Arc::clone(&self.budget));
        match &self.marks {
            None => Box::new(grammar),
            Some(marks) => Box::new(Reasoned::new(grammar, marks.clone(), self.thinking)),
        }
    }
}

/// What is wrong in a few words: grammars are repeated in their errors over several lines, of which the last that begins
/// with `error: ` says it.
fn fault(text: &str) -> String {
    let said = text.lines().rev().find_map(|l| l.strip_prefix("error: "));
    let said = said.or_else(|| text.lines().next()).unwrap_or_default();
    let short: String = said.trim_end_matches('.').chars().take(200).collect();
    format!("; found a fault: {short}")
}

/// The bytes of a token; special ones are marked, so that no grammar's text is taken for them.
fn word(tokenizer: &Tokenizer, id: TokenId) -> Vec<u8> {
    let bytes = tokenizer.token_bytes(id).unwrap_or_default();
    if tokenizer.is_special(id) {
        return [&[TokTrie::SPECIAL_TOKEN_MARKER][..], bytes].concat();
    }
    bytes.to_vec()
}
