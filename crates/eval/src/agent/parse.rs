//! What a model wants next, and in what language.

use std::sync::LazyLock;

use regex::Regex;

use crate::sandbox::Language;
use crate::task::without_thoughts;

/// What a model's message asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The conversation ends with this message.
    Solve,
    /// This program is run.
    Execute(Program),
    /// There is a program, but the published harness loses it between two of its steps, and nothing is run.
    Lose,
    /// It has only thought; it may go on.
    Think,
    /// It has used no tag.
    Correct,
}

/// A program as it is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Program {
    pub(super) language: Language,
    pub(super) code: String,
}

/// What ends an answer. The tag that is lost is closed again by [`close`].
pub(super) const STOP: &[&str] = &["</execute>", "</solution>"];

#[expect(
    clippy::unwrap_used,
    reason = "the expressions are constants that a test compiles"
)]
fn compile(expression: &str) -> Regex {
    Regex::new(expression).unwrap()
}

static EXECUTE: LazyLock<Regex> = LazyLock::new(|| compile(r"(?is)<execute>(.*?)</execute>"));
static SOLUTION: LazyLock<Regex> = LazyLock::new(|| compile(r"(?is)<solution>(.*?)</solution>"));
static THINK: LazyLock<Regex> = LazyLock::new(|| compile(r"(?is)<think>(.*?)</think>"));
static FENCE: LazyLock<Regex> = LazyLock::new(|| compile(r"(?s)```(python|bash|r)?\s*(.*?)```"));
static EXACT: LazyLock<Regex> = LazyLock::new(|| compile(r"(?s)<execute>(.*?)</execute>"));

/// The message with every tag closed that it leaves open.
pub(super) fn close(message: &str) -> String {
    let mut closed = message.to_owned();
    for (open, close) in [
        ("<execute>", "</execute>"),
        ("<solution>", "</solution>"),
        ("<think>", "</think>"),
    ] {
        if closed.contains(open) && !closed.contains(close) {
            closed.push_str(close);
        }
    }
    closed
}

/// What a closed message asks for. `compat` keeps the published harness's mistakes: tags that are not in small letters, and fenced
/// blocks, are taken for programs and then not found, and a solution that is only thought of ends the conversation.
pub(super) fn step(message: &str, compat: bool) -> Step {
    let said = if compat {
        message
    } else {
        without_thoughts(message)
    };
    if SOLUTION.is_match(said) {
        return Step::Solve;
    }
    if compat {
        return faithful(message);
    }
    if let Some(found) = EXECUTE.captures(message) {
        return Step::Execute(marked(&found[1]));
    }
    if let Some(found) = FENCE.captures(message) {
        return Step::Execute(fenced(found.get(1).map(|m| m.as_str()), &found[2]));
    }
    if THINK.is_match(message) {
        Step::Think
    } else {
        Step::Correct
    }
}

fn faithful(message: &str) -> Step {
    let wanted = EXECUTE.is_match(message) || FENCE.is_match(message);
    match EXACT.captures(message.trim()) {
        _ if !wanted && THINK.is_match(message) => Step::Think,
        _ if !wanted => Step::Correct,
        Some(found) => Step::Execute(faithfully_marked(&found[1])),
        None => Step::Lose,
    }
}

const MARKS: &[(&str, Language)] = &[
    ("#!R", Language::R),
    ("# R code", Language::R),
    ("# R script", Language::R),
    ("#!BASH", Language::Bash),
    ("# Bash script", Language::Bash),
    ("#!CLI", Language::Bash),
];

/// The program without the mark of its language.
fn marked(code: &str) -> Program {
    let bare = code.trim();
    let mark = MARKS.iter().find(|(mark, _)| bare.starts_with(mark));
    let Some((mark, language)) = mark else {
        return Program {
            language: Language::Python,
            code: code.to_owned(),
        };
    };
    let rest = bare[mark.len()..].trim();
    let code = if *mark == "#!CLI" {
        rest.replace('\n', " ")
    } else {
        rest.to_owned()
    };
    Program {
        language: *language,
        code,
    }
}

/// The published harness takes a mark away only where nothing stands before it; a command after `#!CLI` on a line of its own becomes
/// part of a comment.
fn faithfully_marked(code: &str) -> Program {
    let mut program = marked(code);
    let bare = code.trim();
    let mark = MARKS.iter().find(|(mark, _)| bare.starts_with(mark));
    if let Some((mark, _)) = mark {
        let first = MARKS.iter().any(|(mark, _)| code.starts_with(mark));
        let kept = if first {
            bare[mark.len()..].trim()
        } else {
            bare
        };
        program.code = if *mark == "#!CLI" {
            kept.replace('\n', " ")
        } else {
            kept.to_owned()
        };
    }
    program
}

fn fenced(language: Option<&str>, code: &str) -> Program {
    let language = match language {
        Some("bash") => Language::Bash,
        Some("r") => Language::R,
        _ => return marked(code),
    };
    Program {
        language,
        code: code.trim().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn python(code: &str) -> Step {
        Step::Execute(Program {
            language: Language::Python,
            code: code.to_owned(),
        })
    }

    fn bash(code: &str) -> Step {
        Step::Execute(Program {
            language: Language::Bash,
            code: code.to_owned(),
        })
    }

    #[test]
    fn open_tags_are_closed() {
        assert_eq!(close("<execute>1"), "<execute>1</execute>");
        assert_eq!(
            close("<think>a<solution>b"),
            "<think>a<solution>b</solution></think>"
        );
        assert_eq!(close("<execute>1</execute>"), "<execute>1</execute>");
    }

    #[test]
    fn a_solution_goes_before_a_program() {
        let both = "<execute>1</execute> <solution>A</solution>";
        assert_eq!(step(both, false), Step::Solve);
        assert_eq!(step(both, true), Step::Solve);
    }

    #[test]
    fn thoughts_alone_go_on_and_no_tag_is_corrected() {
        for compat in [false, true] {
            assert_eq!(step("<think>hm</think>", compat), Step::Think);
            assert_eq!(
                step("<think>hm</think><execute>2</execute>", compat),
                python("2")
            );
            assert_eq!(step("the answer is A", compat), Step::Correct);
        }
    }

    #[test]
    fn a_solution_that_is_only_thought_of_is_none() {
        let thought = close("<think>I guess <solution>A");
        assert_eq!(step(&thought, false), Step::Think);
        assert_eq!(step(&thought, true), Step::Solve);
        let said = "<think>maybe <solution>A</solution></think><solution>B</solution>";
        assert_eq!(step(said, false), Step::Solve);
    }

    #[test]
    fn marks_name_the_language() {
        assert_eq!(
            step("<execute>\n#!BASH\nls -l\n</execute>", false),
            bash("ls -l")
        );
        assert_eq!(
            step("<execute>#!CLI\nls\n-l</execute>", false),
            bash("ls -l")
        );
        assert_eq!(
            step("<execute># Bash script\nls</execute>", false),
            bash("ls")
        );
        let r = Step::Execute(Program {
            language: Language::R,
            code: "print(1)".to_owned(),
        });
        for mark in ["#!R", "# R code", "# R script"] {
            assert_eq!(
                step(&format!("<execute>{mark}\nprint(1)</execute>"), false),
                r
            );
        }
    }

    #[test]
    fn fences_and_capitals_are_programs() {
        assert_eq!(
            step("```python\nprint(1)\n```", false),
            python("print(1)\n")
        );
        assert_eq!(step("```bash\nls\n```", false), bash("ls"));
        assert_eq!(step("<EXECUTE>1</EXECUTE>", false), python("1"));
    }

    #[test]
    fn the_published_mistakes_are_kept_where_they_are_asked_for() {
        assert_eq!(step("```python\nprint(1)\n```", true), Step::Lose);
        assert_eq!(step("<EXECUTE>1</EXECUTE>", true), Step::Lose);
        assert_eq!(
            step("<execute>\n#!CLI\nls</execute>", true),
            bash("#!CLI ls")
        );
        assert_eq!(step("<execute>#!CLI\nls</execute>", true), bash("ls"));
        assert_eq!(
            step("<execute>\n#!BASH\nls</execute>", true),
            bash("#!BASH\nls")
        );
    }
}
