//! `<tool_call>` … `</tool_call>`: calls in Qwen3's form.

use serde_json::Value;

use super::scan::{Head, Object, head, name};
use super::split::{Calls, ToolDelta};
use crate::generate::Splitter;

const OPEN: &str = "<tool_call>";
const CLOSE: &str = "</tool_call>";

/// Separates calls from content, while both come in pieces. A call that is none stays content.
#[derive(Debug)]
pub(super) struct Tools {
    stage: Stage,
    open: Splitter,
    close: Splitter,
    /// White space that is content only if more content follows.
    space: String,
    calls: usize,
    /// Calls that may be reported.
    most: usize,
    /// Whether the text is bound to be calls, so that the beginning of one is never content.
    bound: bool,
}

#[derive(Debug)]
enum Stage {
    Content,
    /// The beginning of a call, and whether it can still be passed on while it comes.
    Head(String, bool),
    Arguments(Object),
    Tail,
}

/// What a piece of text was.
#[derive(Debug, Default)]
pub(super) struct Parts {
    pub(super) content: String,
    pub(super) calls: Vec<ToolDelta>,
}

impl Tools {
    /// What is looked for.
    pub(super) fn new(calls: Calls) -> Self {
        Self {
            stage: Stage::Content,
            open: Splitter::new(OPEN),
            close: Splitter::new(CLOSE),
            space: String::new(),
            calls: 0,
            most: if calls.several { usize::MAX } else { 1 },
            bound: calls.bound,
        }
    }

    /// Calls so far.
    pub(super) fn calls(&self) -> usize {
        self.calls
    }

    pub(super) fn push(&mut self, text: &str) -> Parts {
        let mut parts = Parts::default();
        let mut text = Some(text.to_owned());
        while let Some(piece) = text {
            text = match self.stage {
                Stage::Content => self.content(&piece, &mut parts),
                Stage::Head(..) | Stage::Arguments(_) | Stage::Tail => {
                    self.within(&piece, &mut parts)
                }
            };
        }
        parts
    }

    /// What was held back, at the end.
    pub(super) fn finish(&mut self) -> Parts {
        let mut parts = Parts::default();
        let held = self.close.finish();
        self.call_text(&held);
        match std::mem::replace(&mut self.stage, Stage::Content) {
            Stage::Head(text, _) if self.bound => {
                if let Some(name) = name(&text) {
                    self.begin(name, &mut parts);
                }
            }
            Stage::Head(text, _) => self.whole(&text, "", &mut parts),
            Stage::Content => {
                let rest = std::mem::take(&mut self.space) + &self.open.finish();
                let is_content = !self.bound && (self.calls == 0 || !rest.trim().is_empty());
                parts.content = if is_content { rest } else { String::new() };
            }
            Stage::Arguments(_) | Stage::Tail => {}
        }
        parts
    }

    /// Outside of calls; what follows the beginning of one.
    fn content(&mut self, text: &str, parts: &mut Parts) -> Option<String> {
        let (before, rest) = self.open.push(text);
        self.space.push_str(&before);
        let kept = self.space.trim_end().len();
        if kept > 0 {
            let space = self.space.split_off(kept);
            parts
                .content
                .push_str(&std::mem::replace(&mut self.space, space));
        }
        if rest.is_some() {
            self.space.clear();
            self.stage = Stage::Head(String::new(), true);
        }
        rest
    }

    /// Inside of a call; what follows its end.
    fn within(&mut self, text: &str, parts: &mut Parts) -> Option<String> {
        // A string among the arguments may hold the closing mark; only what is no argument is searched for it.
        if let Stage::Arguments(object) = &mut self.stage {
            let (length, complete) = object.push(text);
            self.arguments(&text[..length], parts);
            if !complete {
                return None;
            }
            self.stage = Stage::Tail;
            return Some(text[length..].to_owned());
        }
        if let Stage::Head(begun, true) = &mut self.stage {
            begun.push_str(text);
            match head(begun) {
                Head::More => return None,
                Head::Found(name, at) => {
                    let rest = begun.split_off(at);
                    self.begin(name, parts);
                    self.stage = Stage::Arguments(Object::default());
                    return Some(rest);
                }
                Head::Other => {
                    let begun = std::mem::take(begun);
                    self.stage = Stage::Head(String::new(), false);
                    return Some(begun);
                }
            }
        }
        let (before, rest) = self.close.push(text);
        self.call_text(&before);
        if rest.is_some()
            && let Stage::Head(text, _) = std::mem::replace(&mut self.stage, Stage::Content)
        {
            self.whole(&text, CLOSE, parts);
        }
        rest
    }

    /// Text of a call that is kept until its end, or dropped after its arguments.
    fn call_text(&mut self, text: &str) {
        if let Stage::Head(begun, _) = &mut self.stage {
            begun.push_str(text);
        }
    }

    /// A call that could not be passed on while it came.
    fn whole(&mut self, text: &str, close: &str, parts: &mut Parts) {
        let call: Value = serde_json::from_str(text).unwrap_or_default();
        let arguments = match &call["arguments"] {
            Value::Object(arguments) => Some(Value::Object(arguments.clone()).to_string()),
            Value::String(arguments) => Some(arguments.clone()),
            _ => None,
        };
        let (Some(name), Some(arguments)) = (call["name"].as_str(), arguments) else {
            parts.content.push_str(&format!("{OPEN}{text}{close}"));
            return;
        };
        self.begin(name.to_owned(), parts);
        self.arguments(&arguments, parts);
    }

    fn begin(&mut self, name: String, parts: &mut Parts) {
        self.calls += 1;
        if self.calls <= self.most {
            parts.calls.push(ToolDelta {
                index: self.calls - 1,
                name: Some(name),
                arguments: String::new(),
            });
        }
    }

    fn arguments(&self, text: &str, parts: &mut Parts) {
        let index = self.calls.saturating_sub(1);
        if self.calls > self.most || text.is_empty() {
            return;
        }
        match parts.calls.last_mut().filter(|call| call.index == index) {
            Some(call) => call.arguments.push_str(text),
            None => parts.calls.push(ToolDelta {
                index,
                name: None,
                arguments: text.to_owned(),
            }),
        }
    }
}
