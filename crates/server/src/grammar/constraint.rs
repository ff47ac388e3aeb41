//! A grammar as the engine asks for it, and reasoning before it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use llguidance::Matcher;
use xgraft_tokenizer::Tokenizer;

use crate::engine::{Constraint, TokenId};

/// Where an answer stands when it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Thinking {
    /// It may reason first.
    Possible,
    /// It reasons: the prompt ends with `<think>`.
    Begun,
    /// The grammar holds from the first token on.
    Over,
}

/// The time that the grammars of a request's choices may take together.
///
/// They are asked between the steps of all requests, so one that takes long would hold up everybody.
#[derive(Debug, Default)]
pub(super) struct Budget {
    /// Microseconds.
    taken: AtomicU64,
    tokens: AtomicU64,
}

impl Budget {
    /// What a request has from the beginning: compiled grammars are slow at first.
    const ONCE: Duration = Duration::from_secs(1);
    /// What every token adds; a usual one takes a tenth of it.
    const TOKEN: Duration = Duration::from_millis(1);

    /// Notes what a token took.
    fn spend(&self, time: Duration) -> Result<(), String> {
        let time = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let taken = self
            .taken
            .fetch_add(time, Ordering::Relaxed)
            .saturating_add(time);
        let tokens = self
            .tokens
            .fetch_add(1, Ordering::Relaxed)
            .saturating_add(1);
        let tokens = u32::try_from(tokens).unwrap_or(u32::MAX);
        let most = Self::ONCE.saturating_add(Self::TOKEN.saturating_mul(tokens));
        if Duration::from_micros(taken) <= most {
            return Ok(());
        }
        Err(format!(
            "{taken} us for {tokens} tokens, expected at most {} us",
            most.as_micros()
        ))
    }
}

/// A grammar from its first token on.
pub(super) struct Grammar {
    matcher: Matcher,
    budget: Arc<Budget>,
}

impl Grammar {
    pub(super) fn new(matcher: Matcher, budget: Arc<Budget>) -> Self {
        Self { matcher, budget }
    }
}

impl Constraint for Grammar {
    fn allowed(&mut self, mask: &mut [u32]) -> Result<(), String> {
        let start = Instant::now();
        let allowed = self.matcher.compute_mask_or_eos();
        self.budget.spend(start.elapsed())?;
        let allowed = allowed.map_err(|error| error.to_string())?;
        for (word, allowed) in mask.iter_mut().zip(allowed.as_slice()) {
            *word |= allowed;
        }
        Ok(())
    }

    fn accept(&mut self, token: TokenId) -> Result<bool, String> {
        self.matcher
            .consume_token(token)
            .map_err(|error| error.to_string())?;
        Ok(self.matcher.is_stopped())
    }
}

/// Tokens of white space between reasoning and answer.
const SPACE: u8 = 2;

/// The tokens that reasoning begins and ends with.
#[derive(Debug, Clone)]
pub(super) struct Marks {
    open: TokenId,
    close: TokenId,
    /// White space that may stand between the end of reasoning and the answer.
    space: Vec<TokenId>,
    eos: Vec<TokenId>,
    vocab_size: usize,
}

impl Marks {
    /// Those of a vocabulary that has a token for each mark.
    pub(super) fn of(tokenizer: &Tokenizer, eos: &[TokenId], vocab_size: usize) -> Option<Self> {
        let newlines = |text: &str| match tokenizer.encode(text, false).ok()?[..] {
            [id] => Some(id),
            _ => None,
        };
        Some(Self {
            open: tokenizer.token_id("<think>")?,
            close: tokenizer.token_id("</think>")?,
            space: ["\n", "\n\n"].into_iter().filter_map(newlines).collect(),
            eos: eos.to_vec(),
            vocab_size,
        })
    }
}

/// Reasoning without a grammar, and then the grammar.
pub(super) struct Reasoned {
    grammar: Grammar,
    marks: Marks,
    stage: Stage,
}

#[derive(PartialEq)]
enum Stage {
    Start,
    Reasoning,
    /// So many tokens of white space may still come.
    Between(u8),
    Answer,
}

impl Reasoned {
    pub(super) fn new(grammar: Grammar, marks: Marks, thinking: Thinking) -> Self {
        let stage = if thinking == Thinking::Begun {
            Stage::Reasoning
        } else {
            Stage::Start
        };
        Self {
            grammar,
            marks,
            stage,
        }
    }
}

impl Constraint for Reasoned {
    fn allowed(&mut self, mask: &mut [u32]) -> Result<(), String> {
        match self.stage {
            Stage::Start => set(mask, self.marks.open),
            Stage::Between(0) | Stage::Answer => {}
            Stage::Between(_) => self.marks.space.iter().for_each(|id| set(mask, *id)),
            Stage::Reasoning => {
                // A text that must have a form cannot end before it has begun.
                let ids = 0..self.marks.vocab_size as TokenId;
                ids.filter(|id| !self.marks.eos.contains(id))
                    .for_each(|id| set(mask, id));
                return Ok(());
            }
        }
        self.grammar.allowed(mask)
    }

    fn accept(&mut self, token: TokenId) -> Result<bool, String> {
        self.stage = match self.stage {
            Stage::Start if token == self.marks.open => Stage::Reasoning,
            Stage::Reasoning if token == self.marks.close => Stage::Between(SPACE),
            Stage::Reasoning => Stage::Reasoning,
            Stage::Between(left @ 1..) if self.marks.space.contains(&token) => {
                Stage::Between(left - 1)
            }
            _ => {
                self.stage = Stage::Answer;
                return self.grammar.accept(token);
            }
        };
        Ok(false)
    }
}

fn set(mask: &mut [u32], id: TokenId) {
    if let Some(word) = mask.get_mut(id as usize / 32) {
        *word |= 1 << (id % 32);
    }
}

#[cfg(test)]
mod tests {
    use super::super::Grammars;
    use super::super::format::{Form, Format};
    use super::*;

    const END: TokenId = 1013;

    /// Takes the text's tokens one by one; what the last `accept` said.
    fn take(
        constraint: &mut dyn Constraint,
        tokenizer: &Tokenizer,
        text: &str,
    ) -> Result<bool, String> {
        let mut complete = false;
        for id in tokenizer.encode(text, false).unwrap() {
            let mut mask = vec![0; 32];
            constraint.allowed(&mut mask)?;
            if mask[id as usize / 32] >> (id % 32) & 1 == 0 {
                return Err(format!("{id} is not allowed"));
            }
            complete = constraint.accept(id)?;
        }
        Ok(complete)
    }

    fn constraint(format: &Format, thinking: Thinking) -> (Tokenizer, Box<dyn Constraint>) {
        let tokenizer = Tokenizer::open(xgraft_fixtures::TEXT.base()).unwrap();
        let grammars = Grammars::new(&tokenizer, 1024, &[END, 1011]).unwrap();
        let form = Form {
            param: "structured_outputs",
            expected: "a form",
            grammar: format.grammar(),
        };
        let constraint = grammars.compile(&form, thinking).unwrap().constraint();
        (tokenizer, constraint)
    }

    #[test]
    fn a_regular_expression_allows_its_texts_and_ends_them() {
        let format = Format::Regex("[ab]{3}".into());
        let (tokenizer, mut inside) = constraint(&format, Thinking::Over);
        assert_eq!(take(&mut *inside, &tokenizer, "aba"), Ok(true));
        let (tokenizer, mut outside) = constraint(&format, Thinking::Over);
        assert!(take(&mut *outside, &tokenizer, "abc").is_err());
    }

    #[test]
    fn a_model_of_whole_words_writes_in_no_form() {
        let tokenizer = Tokenizer::open(xgraft_fixtures::TINY.base()).unwrap();
        let grammars = Grammars::new(&tokenizer, 128, &[0]).unwrap();
        let form = Form {
            param: "response_format",
            expected: "a form",
            grammar: Format::JsonObject.grammar(),
        };
        let error = grammars.compile(&form, Thinking::Over).err().unwrap();
        assert!(format!("{error:?}").contains("whole words"), "{error:?}");
    }

    #[test]
    fn a_schema_allows_what_fits_it() {
        let schema = serde_json::json!({
            "type": "object",
            "properties": {"gene": {"type": "string", "maxLength": 4}},
            "required": ["gene"],
            "additionalProperties": false,
        });
        let format = Format::JsonSchema(schema);
        let (tokenizer, mut fits) = constraint(&format, Thinking::Over);
        take(&mut *fits, &tokenizer, r#"{"gene": "BRC1"}"#).unwrap();
        for text in [r#"{"other": 1}"#, r#"{"gene": 5}"#, "yes"] {
            let (tokenizer, mut other) = constraint(&format, Thinking::Over);
            assert!(take(&mut *other, &tokenizer, text).is_err(), "{text}");
        }
    }

    #[test]
    fn reasoning_is_free_and_what_follows_is_not() {
        let format = Format::Regex("yes|no".into());
        let (tokenizer, mut all) = constraint(&format, Thinking::Possible);
        assert_eq!(
            take(&mut *all, &tokenizer, "<think>\nany thing\n</think>\n\nyes"),
            Ok(true)
        );
        let (tokenizer, mut none) = constraint(&format, Thinking::Possible);
        assert_eq!(take(&mut *none, &tokenizer, "no"), Ok(true));
        let (tokenizer, mut begun) = constraint(&format, Thinking::Begun);
        assert!(take(&mut *begun, &tokenizer, "any</think>maybe").is_err());
    }

    #[test]
    fn a_grammar_that_takes_too_long_is_given_up() {
        let budget = Budget::default();
        for _ in 0..1000 {
            budget.spend(Budget::TOKEN).unwrap();
        }
        budget.spend(Budget::ONCE).unwrap();
        budget.spend(Budget::TOKEN * 3).unwrap_err();
    }

    #[test]
    fn an_answer_in_a_form_cannot_end_while_it_reasons() {
        let (_, mut begun) = constraint(&Format::JsonObject, Thinking::Begun);
        let mut mask = vec![0; 32];
        begun.allowed(&mut mask).unwrap();
        assert_eq!(mask[END as usize / 32] >> (END % 32) & 1, 0);
        assert_eq!(mask[0], u32::MAX);
    }
}
