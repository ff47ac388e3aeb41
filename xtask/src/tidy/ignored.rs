//! A test may be ignored for two reasons only, which it names: `gpu: ...` or `slow: ...`.

use super::source;
use crate::workspace::{self, has_extension};
use anyhow::Result;
use std::path::{Path, PathBuf};
use xshell::Shell;

/// The two reasons.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Gpu,
    Slow,
}

impl Kind {
    /// What the reason starts with.
    pub(crate) fn prefix(self) -> &'static str {
        match self {
            Self::Gpu => "gpu: ",
            Self::Slow => "slow: ",
        }
    }
}

/// One ignored test in the source.
#[derive(Debug)]
pub(crate) struct Ignored {
    pub(crate) file: PathBuf,
    pub(crate) line: usize,
    /// The function's name.
    pub(crate) name: String,
    /// `None` for a reason of neither kind.
    pub(crate) kind: Option<Kind>,
}

/// Every ignored test of the repository.
pub(crate) fn scan(sh: &Shell) -> Result<Vec<Ignored>> {
    scan_files(&workspace::files(sh)?)
}

pub(super) fn faults(files: &[PathBuf]) -> Result<Vec<String>> {
    let tests = scan_files(files)?.into_iter();
    let tests = tests.filter(|test| test.kind.is_none()).map(|test| {
        let Ignored {
            file, line, name, ..
        } = test;
        format!(
            "{}:{line}: {name} is ignored for neither `gpu: ...` nor `slow: ...`",
            file.display()
        )
    });
    Ok(tests.collect())
}

fn scan_files(files: &[PathBuf]) -> Result<Vec<Ignored>> {
    let mut all = Vec::new();
    for file in files.iter().filter(|file| has_extension(file, "rs")) {
        all.extend(ignored_tests(
            file,
            &workspace::text(file)?.unwrap_or_default(),
        ));
    }
    Ok(all)
}

fn ignored_tests(file: &Path, text: &str) -> Vec<Ignored> {
    let code = source::code(text);
    let code: Vec<_> = code.lines().collect();
    let lines: Vec<_> = text.lines().collect();
    let mut all = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let attribute = code
            .get(index)
            .is_some_and(|c| c.trim().starts_with("#[ignore"));
        let doc = line.trim_start().starts_with("//") && line.contains("```ignore");
        if attribute || doc {
            all.push(Ignored {
                file: file.to_owned(),
                line: index + 1,
                name: code[index..]
                    .iter()
                    .find_map(|line| function_name(line))
                    .unwrap_or_else(|| "a doc test".to_owned()),
                kind: if doc { None } else { kind_of(line) },
            });
        }
    }
    all
}

fn kind_of(attribute: &str) -> Option<Kind> {
    let reason = attribute.split_once("#[ignore = \"")?.1;
    [Kind::Gpu, Kind::Slow]
        .into_iter()
        .find(|kind| reason.starts_with(kind.prefix()))
}

fn function_name(line: &str) -> Option<String> {
    let (_, rest) = line.split_once("fn ")?;
    let name: String = rest
        .chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .collect();
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(text: &str) -> Vec<(String, Option<Kind>)> {
        let all = ignored_tests(Path::new("a.rs"), text);
        all.into_iter().map(|test| (test.name, test.kind)).collect()
    }

    #[test]
    fn the_two_kinds_are_known_by_their_prefix() {
        let text = "#[test]\n#[ignore = \"slow: 2^32 values\"]\nfn a() {}\n\
                    #[ignore = \"gpu: needs one\"]\n#[test]\nasync fn b() {}";
        let expected = [
            ("a".to_owned(), Some(Kind::Slow)),
            ("b".to_owned(), Some(Kind::Gpu)),
        ];
        assert_eq!(scan(text), expected);
    }

    #[test]
    fn other_reasons_and_ignored_doc_tests_are_of_no_kind() {
        let bare =
            "#[ignore]\nfn a() {}\n#[ignore = \"flaky\"]\nfn b() {}\n/// ```ignore\nfn c() {}";
        assert!(scan(bare).iter().all(|(_, kind)| kind.is_none()));
        assert_eq!(scan(bare).len(), 3);
    }

    #[test]
    fn attributes_inside_strings_are_not_tests() {
        assert!(scan("let s = \"\n#[ignore]\n\";").is_empty());
    }
}
