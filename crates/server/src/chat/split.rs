//! The text of an answer as reasoning, content and calls.

use super::reasoning::Reasoning;
use super::tools::Tools;

/// Where an answer's text begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Opening {
    /// With reasoning if the text says so.
    Open,
    /// Inside of reasoning: the prompt has the mark.
    Reasoning,
    /// With content.
    Content,
}

/// Which calls an answer may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Calls {
    /// More than the first one is reported.
    pub(crate) several: bool,
    /// The text is bound to be calls: of one that is cut off, what there is of it is reported, and none of it is content.
    pub(crate) bound: bool,
}

/// What a piece of text adds to an answer.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Delta {
    /// To its reasoning.
    pub(crate) reasoning: String,
    /// To its content.
    pub(crate) content: String,
    /// To its calls.
    pub(crate) calls: Vec<ToolDelta>,
}

/// What is added to one call.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ToolDelta {
    /// Which of the answer's calls.
    pub(crate) index: usize,
    /// Its function, when it begins.
    pub(crate) name: Option<String>,
    /// JSON, as the model wrote it.
    pub(crate) arguments: String,
}

impl Delta {
    /// Whether it adds nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.reasoning.is_empty() && self.content.is_empty() && self.calls.is_empty()
    }

    /// Adds a later one; what an answer that is not streamed is made of.
    pub(crate) fn append(&mut self, other: Self) {
        self.reasoning.push_str(&other.reasoning);
        self.content.push_str(&other.content);
        for call in other.calls {
            match self
                .calls
                .last_mut()
                .filter(|last| last.index == call.index && call.name.is_none())
            {
                Some(last) => last.arguments.push_str(&call.arguments),
                None => self.calls.push(call),
            }
        }
    }
}

/// Splits a text that comes in pieces. What comes out, put together, does not depend on the pieces.
#[derive(Debug)]
pub(crate) struct Split {
    reasoning: Reasoning,
    tools: Option<Tools>,
}

impl Split {
    /// `calls`: which ones, if any are looked for.
    pub(crate) fn new(opening: Opening, calls: Option<Calls>) -> Self {
        Self {
            reasoning: Reasoning::new(opening),
            tools: calls.map(Tools::new),
        }
    }

    /// Whether there was a call.
    pub(crate) fn has_calls(&self) -> bool {
        self.tools.as_ref().is_some_and(|tools| tools.calls() > 0)
    }

    /// Takes the next piece, which is the last one if `end`.
    pub(crate) fn push(&mut self, text: &str, end: bool) -> Delta {
        let mut parts = self.reasoning.push(text);
        if end {
            let rest = self.reasoning.finish();
            parts.reasoning += &rest.reasoning;
            parts.content += &rest.content;
        }
        let mut delta = Delta {
            reasoning: parts.reasoning,
            ..Delta::default()
        };
        let Some(tools) = &mut self.tools else {
            return Delta {
                content: parts.content,
                ..delta
            };
        };
        let found = tools.push(&parts.content);
        delta.append(Delta {
            content: found.content,
            calls: found.calls,
            ..Delta::default()
        });
        if end {
            let rest = tools.finish();
            delta.append(Delta {
                content: rest.content,
                calls: rest.calls,
                ..Delta::default()
            });
        }
        delta
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FREE: Option<Calls> = Some(Calls {
        several: true,
        bound: false,
    });

    const ONE: Option<Calls> = Some(Calls {
        several: false,
        bound: false,
    });

    const BOUND: Option<Calls> = Some(Calls {
        several: true,
        bound: true,
    });

    fn split(pieces: &[&str], opening: Opening, tools: Option<Calls>) -> Delta {
        let mut split = Split::new(opening, tools);
        let mut all = Delta::default();
        for piece in pieces {
            all.append(split.push(piece, false));
        }
        all.append(split.push("", true));
        all
    }

    /// The same whether it comes whole, in two pieces cut anywhere, or byte by byte.
    fn check(
        text: &str,
        opening: Opening,
        tools: Option<Calls>,
        reasoning: &str,
        content: &str,
        calls: &[(&str, &str)],
    ) {
        let whole = split(&[text], opening, tools);
        assert_eq!(
            (whole.reasoning.as_str(), whole.content.as_str()),
            (reasoning, content),
            "{text}"
        );
        let found: Vec<_> = whole
            .calls
            .iter()
            .map(|c| (c.name.as_deref().unwrap_or("?"), c.arguments.as_str()))
            .collect();
        assert_eq!(found, calls, "{text}");
        for (at, _) in text.char_indices() {
            assert_eq!(
                split(&[&text[..at], &text[at..]], opening, tools),
                whole,
                "{text} cut at {at}"
            );
        }
        let bytes: Vec<&str> = text.split_inclusive(|_| true).collect();
        assert_eq!(split(&bytes, opening, tools), whole, "{text} by characters");
    }

    #[test]
    fn reasoning_is_what_stands_between_the_marks() {
        check(
            "<think>\nwhy\n</think>\n\nyes",
            Opening::Open,
            None,
            "\nwhy\n",
            "\n\nyes",
            &[],
        );
        check(
            " <think>why</think>yes",
            Opening::Open,
            None,
            "why",
            "yes",
            &[],
        );
        check(
            "why</think>yes",
            Opening::Reasoning,
            None,
            "why",
            "yes",
            &[],
        );
        check("<think>cut o", Opening::Open, None, "cut o", "", &[]);
        check(
            "no <think>x</think>",
            Opening::Open,
            None,
            "",
            "no <think>x</think>",
            &[],
        );
        check(
            "<think>x</think>",
            Opening::Content,
            None,
            "",
            "<think>x</think>",
            &[],
        );
        check("  <thi", Opening::Open, None, "", "  <thi", &[]);
    }

    #[test]
    fn calls_are_taken_out_of_the_content() {
        let one = "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"x\": \"</tool_call>\"}}\n</tool_call>";
        check(
            one,
            Opening::Open,
            FREE,
            "",
            "",
            &[("f", "{\"x\": \"</tool_call>\"}")],
        );
        let two = format!("I look.\n{one}\n{one}\n");
        let call = ("f", "{\"x\": \"</tool_call>\"}");
        check(&two, Opening::Open, FREE, "", "I look.", &[call, call]);
        check(&two, Opening::Open, ONE, "", "I look.", &[call]);
        check(
            &format!("<think>a</think>\n\n{one}"),
            Opening::Open,
            FREE,
            "a",
            "",
            &[call],
        );
    }

    #[test]
    fn a_call_in_another_order_is_found_at_its_end() {
        let text = "<tool_call>{\"arguments\": {\"x\":1}, \"name\": \"g\"}</tool_call>done";
        check(text, Opening::Open, FREE, "", "done", &[("g", "{\"x\":1}")]);
    }

    #[test]
    fn what_is_no_call_stays_content() {
        for text in [
            "<tool_call>no json</tool_call> a",
            "<tool_call>{\"name\": 5}</tool_call>",
            "<tool_call>[1",
            "<tool_ca",
        ] {
            check(text, Opening::Open, FREE, "", text, &[]);
        }
    }

    #[test]
    fn a_call_that_is_cut_off_keeps_what_there_is_of_it() {
        let text = "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"x\": \"ab";
        check(text, Opening::Open, FREE, "", "", &[("f", "{\"x\": \"ab")]);
    }

    #[test]
    fn a_call_that_must_come_is_never_content_however_short_it_is() {
        let call = "<tool_call>\n{\"name\": \"fly\", \"arguments\": {\"x\": 1}}\n</tool_call>";
        let named = call.find("fly").unwrap() + 4;
        let arguments = call.find("{\"x").unwrap();
        for end in 0..call.len() {
            let whole = arguments + "{\"x\": 1}".len();
            let expected = [("fly", call.get(arguments..end.min(whole)).unwrap_or(""))];
            let calls = &expected[usize::from(end < named)..];
            check(&call[..end], Opening::Content, BOUND, "", "", calls);
        }
        let two = format!("{call}\n{}", &call[..30]);
        let calls = [("fly", "{\"x\": 1}"), ("fly", "")];
        check(&two, Opening::Content, BOUND, "", "", &calls);
    }

    #[test]
    fn without_tools_a_call_is_text() {
        let text = "<tool_call>{}</tool_call>";
        check(text, Opening::Open, None, "", text, &[]);
    }
}
