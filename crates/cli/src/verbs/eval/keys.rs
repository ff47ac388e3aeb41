//! API keys: from the environment or a file, and nowhere else.

use std::path::Path;

use anyhow::Context as _;
use xgraft_eval::client::ApiKey;

/// The key that a variable holds; the environment goes before the file. None if neither has it.
pub(super) fn api_key(name: &str, file: Option<&Path>) -> anyhow::Result<Option<ApiKey>> {
    let mut key = std::env::var(name).ok();
    if let (None, Some(path)) = (&key, file) {
        key = variable(&fs_err::read_to_string(path)?, name);
    }
    let key = key.filter(|key| !key.trim().is_empty());
    key.map(|key| ApiKey::new(&key).with_context(|| format!("the variable {name}")))
        .transpose()
}

/// A variable of a `.env` file: `NAME=value`, with `export` before it or quotes around the value, as shells read it.
fn variable(text: &str, name: &str) -> Option<String> {
    let value = text.lines().rev().find_map(|line| {
        let line = line.trim();
        let line = line.strip_prefix("export ").unwrap_or(line).trim_start();
        let (found, value) = line.split_once('=')?;
        (found.trim() == name).then(|| value.trim())
    })?;
    for quote in ['"', '\''] {
        if let Some(inner) = value.strip_prefix(quote) {
            return inner.split_once(quote).map(|(inner, _)| inner.to_owned());
        }
    }
    let bare = value.split(" #").next().unwrap_or(value);
    Some(bare.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_read_as_shells_read_them() {
        let text = "# keys\nA=1\nexport B = \"two # 2\" # x\nC='3'\nA=4 # last\n";
        assert_eq!(variable(text, "A").as_deref(), Some("4"));
        assert_eq!(variable(text, "B").as_deref(), Some("two # 2"));
        assert_eq!(variable(text, "C").as_deref(), Some("3"));
        assert_eq!(variable(text, "D"), None);
    }
}
