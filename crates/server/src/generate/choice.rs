//! From the tokens of one choice to its text.

use xgraft_tokenizer::{Detokenizer, Tokenizer};

use super::stop::StopStrings;
use crate::engine::{FinishReason, TokenEvent, TokenId};

/// What a choice is made of besides its tokens.
#[derive(Debug, Clone)]
pub(crate) struct TextOptions {
    /// Texts that end it.
    pub(crate) stop: Vec<String>,
    /// Whether what ended it, text or token, is part of its text.
    pub(crate) include_stop: bool,
    /// Whether special tokens have no text.
    pub(crate) skip_special: bool,
    /// Tokens before which no text ends it.
    pub(crate) min_tokens: usize,
    /// Tokens that end it and are the model's own end.
    pub(crate) eos_tokens: Vec<TokenId>,
    /// Tokens that end it because the request says so.
    pub(crate) stop_tokens: Vec<TokenId>,
}

/// What a token, or the end, adds to a choice.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Piece {
    /// Text that is certain now.
    pub(crate) text: String,
    /// The tokens that it came with; they may be more or fewer than those of the text.
    pub(crate) tokens: Vec<TokenEvent>,
    /// Set in the last piece.
    pub(crate) end: Option<End>,
}

/// How a choice ended.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct End {
    /// `stop` or `length`.
    pub(crate) reason: &'static str,
    /// The text or token of the request that ended it.
    pub(crate) stop_reason: Option<StopReason>,
}

/// What of the request ended a choice.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[serde(untagged)]
pub(crate) enum StopReason {
    /// One of `stop`.
    Text(String),
    /// One of `stop_token_ids`.
    Token(TokenId),
}

impl End {
    const LENGTH: Self = Self {
        reason: "length",
        stop_reason: None,
    };
    const STOP: Self = Self {
        reason: "stop",
        stop_reason: None,
    };
}

/// The text of one choice while it is generated.
#[derive(Debug)]
pub(crate) struct Choice<'t> {
    options: TextOptions,
    detokenizer: Detokenizer<'t>,
    stops: StopStrings,
    tokens: usize,
    ended: bool,
}

impl<'t> Choice<'t> {
    /// Without a token.
    pub(crate) fn new(tokenizer: &'t Tokenizer, options: TextOptions) -> Self {
        Self {
            detokenizer: tokenizer.detokenizer(options.skip_special),
            stops: StopStrings::new(options.stop.clone(), options.include_stop),
            options,
            tokens: 0,
            ended: false,
        }
    }

    /// Tokens so far.
    pub(crate) fn tokens(&self) -> usize {
        self.tokens
    }

    /// Whether its last piece is out.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Whether this token ends a choice.
    pub(crate) fn ends_with(&self, id: TokenId) -> bool {
        self.options.stop_tokens.contains(&id) || self.options.eos_tokens.contains(&id)
    }

    /// Takes the next token. A piece with an end is the last one.
    pub(crate) fn push(&mut self, token: TokenEvent) -> Piece {
        self.tokens += 1;
        let id = token.id;
        let end = self.end_token(id);
        let mut piece = Piece {
            tokens: vec![token],
            ..Piece::default()
        };
        if end.is_none() || self.options.include_stop {
            // A row of the logits beyond the vocabulary has no text.
            let text = self.detokenizer.push(id).unwrap_or_default();
            let armed = self.tokens > self.options.min_tokens;
            let (text, stop) = self.stops.push(&text, armed);
            piece.text = text;
            piece.end = stop.map(|text| End {
                stop_reason: Some(StopReason::Text(text)),
                ..End::STOP
            });
        }
        if piece.end.is_none() && end.is_some() {
            piece.text += &self.rest();
            piece.end = end;
        }
        self.ended = piece.end.is_some();
        piece
    }

    /// Ends it for the engine's reason, an error excepted, unless a token has done so already.
    pub(crate) fn finish(&mut self, reason: &FinishReason) -> Piece {
        let end = match reason {
            FinishReason::Length | FinishReason::Error(_) | FinishReason::Constraint(_) => {
                End::LENGTH
            }
            FinishReason::Complete => End::STOP,
            FinishReason::StopToken(id) => self.end_token(*id).unwrap_or(End::STOP),
        };
        self.ended = true;
        Piece {
            text: self.rest(),
            end: Some(end),
            ..Piece::default()
        }
    }

    fn end_token(&self, id: TokenId) -> Option<End> {
        if self.options.stop_tokens.contains(&id) {
            let stop_reason = Some(StopReason::Token(id));
            return Some(End {
                stop_reason,
                ..End::STOP
            });
        }
        self.options.eos_tokens.contains(&id).then_some(End::STOP)
    }

    /// All that is held back. An incomplete character may still complete a stop string's beginning, never the string.
    fn rest(&mut self) -> String {
        let character = self.detokenizer.clone().finish();
        self.stops.finish() + &character
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokenizer() -> Tokenizer {
        Tokenizer::open(xgraft_fixtures::TEXT.base()).unwrap()
    }

    fn options(stop: &[&str]) -> TextOptions {
        TextOptions {
            stop: stop.iter().map(ToString::to_string).collect(),
            include_stop: false,
            skip_special: true,
            min_tokens: 0,
            eos_tokens: vec![1013],
            stop_tokens: vec![1021],
        }
    }

    fn token(id: TokenId) -> TokenEvent {
        TokenEvent { id, logprobs: None }
    }

    #[test]
    fn the_pieces_of_a_choice_are_its_text_and_an_end_token_has_none() {
        let tokenizer = tokenizer();
        let mut choice = Choice::new(&tokenizer, options(&[]));
        let ids = tokenizer.encode("5 µg of it", false).unwrap();
        let mut text: String = ids
            .into_iter()
            .map(|id| choice.push(token(id)).text)
            .collect();
        let last = choice.push(token(1013));
        text.push_str(&last.text);
        assert_eq!((text.as_str(), last.end), ("5 µg of it", Some(End::STOP)));
    }

    #[test]
    fn a_stop_token_of_the_request_is_named_and_shown_if_asked_for() {
        let tokenizer = tokenizer();
        let mut choice = Choice::new(&tokenizer, options(&[]));
        let end = choice.push(token(1021)).end.unwrap();
        assert_eq!(end.stop_reason, Some(StopReason::Token(1021)));
        let include = TextOptions {
            include_stop: true,
            ..options(&[])
        };
        let piece = Choice::new(&tokenizer, include).push(token(1021));
        assert_eq!(piece.text, "</solution>");
        assert!(piece.end.is_some());
    }

    #[test]
    fn what_is_held_back_is_sent_when_the_length_ends_it() {
        let tokenizer = tokenizer();
        let mut choice = Choice::new(&tokenizer, options(&["abcdef"]));
        let ids = tokenizer.encode("xabc", false).unwrap();
        let mut text: String = ids
            .into_iter()
            .map(|id| choice.push(token(id)).text)
            .collect();
        assert_eq!(text, "x");
        text += &choice.finish(&FinishReason::Length).text;
        assert_eq!(text, "xabc");
    }

    #[test]
    fn a_choice_that_was_fed_with_its_beginning_goes_on_exactly_there() {
        let tokenizer = tokenizer();
        let ids = tokenizer
            .encode("some µ text with a stop: END of it", false)
            .unwrap();
        for cut in 0..ids.len() {
            let mut whole = Choice::new(&tokenizer, options(&["END"]));
            let mut pieces: Vec<String> = Vec::new();
            for id in &ids {
                pieces.push(if whole.has_ended() {
                    String::new()
                } else {
                    whole.push(token(*id)).text
                });
            }
            let mut second = Choice::new(&tokenizer, options(&["END"]));
            for id in &ids[..cut] {
                if !second.has_ended() {
                    second.push(token(*id));
                }
            }
            let mut rest = String::new();
            for id in &ids[cut..] {
                if !second.has_ended() {
                    rest += &second.push(token(*id)).text;
                }
            }
            assert_eq!(rest, pieces[cut..].concat());
        }
    }
}
