//! The code map of `docs/ARCHITECTURE.md` lists exactly the crates that exist.

use crate::workspace::{self, Metadata};
use anyhow::Result;
use std::{collections::BTreeSet, path::Path};

const FILE: &str = "docs/ARCHITECTURE.md";

pub(super) fn faults(metadata: &Metadata) -> Result<Vec<String>> {
    if !workspace::root().join(FILE).is_file() {
        return Ok(vec![format!("{FILE} is missing")]);
    }
    let text = workspace::text(Path::new(FILE))?.unwrap_or_default();
    let crates = metadata
        .packages
        .iter()
        .filter_map(workspace::Package::noun);
    Ok(differences(&listed(&text), &crates.collect()))
}

fn differences(listed: &BTreeSet<String>, crates: &BTreeSet<String>) -> Vec<String> {
    let missing = crates
        .difference(listed)
        .map(|name| format!("{FILE}: the code map lacks `{name}`"));
    let extra = listed
        .difference(crates)
        .map(|name| format!("{FILE}: the code map lists `{name}`, which is no crate"));
    missing.chain(extra).collect()
}

/// In the section whose heading says `Code map`: the first word in backticks of every heading, table row and list item
/// that starts with one.
fn listed(text: &str) -> BTreeSet<String> {
    let mut level = None;
    let mut names = BTreeSet::new();
    for line in text.lines() {
        let hashes = line.chars().take_while(|c| *c == '#').count();
        if hashes > 0 && level.is_none_or(|level| hashes <= level) {
            let inside = line.to_lowercase().contains("code map");
            level = inside.then_some(hashes);
        } else if level.is_some() {
            names.extend(leading_code(line));
        }
    }
    names
}

/// The word in backticks that a heading, a table row or a list item starts with.
fn leading_code(line: &str) -> Option<String> {
    let is_entry = line.starts_with(['#', '|', '-', '*']);
    let rest = line.trim_start_matches(['#', '|', '-', '*', ' ']);
    // A table may have the layer's number in front.
    let rest = rest.trim_start_matches(|c: char| c.is_ascii_digit());
    let rest = rest.trim_start_matches([' ', '|', '*']);
    let (name, _) = rest.strip_prefix('`')?.split_once('`')?;
    is_entry.then(|| name.trim_start_matches("crates/").to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# Architecture
- `not-this`
## Code map
### `results`
It uses `serde`.
| 1 | `plot` | uses `plotters` |
- **`cli`**: the binary
## Other
- `nor-this`
";

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn headings_rows_and_items_of_the_code_map_name_crates() {
        assert_eq!(listed(TEXT), set(&["results", "plot", "cli"]));
    }

    #[test]
    fn a_missing_and_an_extra_crate_are_faults() {
        assert_eq!(differences(&set(&["a"]), &set(&["a"])), [""; 0]);
        assert_eq!(differences(&set(&["a", "b"]), &set(&["a", "c"])).len(), 2);
    }
}
