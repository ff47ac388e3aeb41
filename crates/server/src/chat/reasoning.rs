//! `<think>` … `</think>`, then the answer.

use super::split::Opening;
use crate::generate::Splitter;

const OPEN: &str = "<think>";
const CLOSE: &str = "</think>";

/// Separates reasoning from what follows, while both come in pieces.
#[derive(Debug)]
pub(super) struct Reasoning {
    stage: Stage,
    close: Splitter,
}

#[derive(Debug)]
enum Stage {
    /// White space and the beginning of `<think>`, held back.
    Start(String),
    Inside,
    Over,
}

/// What a piece of text was.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Parts {
    /// Between the marks.
    pub(super) reasoning: String,
    /// After them.
    pub(super) content: String,
}

impl Reasoning {
    pub(super) fn new(opening: Opening) -> Self {
        let stage = match opening {
            Opening::Open => Stage::Start(String::new()),
            Opening::Reasoning => Stage::Inside,
            Opening::Content => Stage::Over,
        };
        Self {
            stage,
            close: Splitter::new(CLOSE),
        }
    }

    pub(super) fn push(&mut self, text: &str) -> Parts {
        match &mut self.stage {
            Stage::Start(held) => {
                held.push_str(text);
                let begun = held.trim_start();
                if let Some(rest) = begun.strip_prefix(OPEN) {
                    let rest = rest.to_owned();
                    self.stage = Stage::Inside;
                    return self.push(&rest);
                }
                if OPEN.starts_with(begun) {
                    return Parts::default();
                }
                let content = std::mem::take(held);
                self.stage = Stage::Over;
                Parts {
                    content,
                    ..Parts::default()
                }
            }
            Stage::Inside => {
                let (reasoning, rest) = self.close.push(text);
                if rest.is_some() {
                    self.stage = Stage::Over;
                }
                Parts {
                    reasoning,
                    content: rest.unwrap_or_default(),
                }
            }
            Stage::Over => Parts {
                content: text.to_owned(),
                ..Parts::default()
            },
        }
    }

    /// What was held back, at the end.
    pub(super) fn finish(&mut self) -> Parts {
        match &mut self.stage {
            Stage::Start(held) => Parts {
                content: std::mem::take(held),
                ..Parts::default()
            },
            Stage::Inside => Parts {
                reasoning: self.close.finish(),
                ..Parts::default()
            },
            Stage::Over => Parts::default(),
        }
    }
}
