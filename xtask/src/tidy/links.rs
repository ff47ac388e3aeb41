//! Every relative link of a Markdown file leads to a file.

use crate::workspace::{self, has_extension};
use anyhow::Result;
use std::path::{Path, PathBuf};

pub(super) fn faults(files: &[PathBuf]) -> Result<Vec<String>> {
    let mut faults = Vec::new();
    for file in files.iter().filter(|file| has_extension(file, "md")) {
        let text = workspace::text(file)?.unwrap_or_default();
        for (line, target) in links(&text) {
            if !resolves(file, &target) {
                faults.push(format!("{}:{line}: no file at {target}", file.display()));
            }
        }
    }
    Ok(faults)
}

fn resolves(file: &Path, target: &str) -> bool {
    let path = target.split(['#', '?']).next().unwrap_or_default();
    if path.is_empty() || target.contains("://") || target.starts_with("mailto:") {
        return true;
    }
    let folder = file.parent().unwrap_or(Path::new(""));
    workspace::root().join(folder).join(path).exists()
}

/// The targets of `[text](target)` and `[name]: target` outside code, each with its line.
fn links(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut fenced = false;
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
            continue;
        }
        if fenced {
            continue;
        }
        let code_free: String = line.split('`').step_by(2).collect::<Vec<_>>().join("");
        let inline = code_free.split("](").skip(1).filter_map(|rest| {
            let (target, _) = rest.split_once(')')?;
            target.split_whitespace().next().map(str::to_owned)
        });
        let target = code_free
            .strip_prefix('[')
            .and_then(|rest| rest.split_once("]: "))
            .map(|(_, target)| target.trim().to_owned());
        found.extend(inline.chain(target).map(|target| (index + 1, target)));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_links_are_found_and_code_is_skipped() {
        let text =
            "[a](b.md) and ![c](d.svg \"title\")\n[e]: f.md\n`[g](h.md)`\n```\n[i](j.md)\n```";
        let expected = [(1, "b.md"), (1, "d.svg"), (2, "f.md")];
        let expected = expected.map(|(line, target)| (line, target.to_owned()));
        assert_eq!(links(text), expected);
    }

    #[test]
    fn web_links_and_anchors_are_not_files() {
        assert!(resolves(Path::new("README.md"), "https://example.org/x"));
        assert!(resolves(Path::new("README.md"), "#anchor"));
        assert!(resolves(Path::new("docs/x.md"), "../Cargo.toml#L1"));
        assert!(!resolves(Path::new("docs/x.md"), "nowhere.md"));
    }
}
