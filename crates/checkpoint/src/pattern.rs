//! Regular expressions from configuration files, which are not to be trusted.

use regex::{Regex, RegexBuilder};

/// A pattern may compile to so many bytes; a name of a module needs a few hundred.
const MAX_PATTERN_BYTES: usize = 1 << 20;

/// Compiles a regular expression, or says in one line why not.
pub(crate) fn compile(pattern: &str) -> Result<Regex, String> {
    let built = RegexBuilder::new(pattern)
        .size_limit(MAX_PATTERN_BYTES)
        .build();
    built.map_err(|e| {
        e.to_string()
            .lines()
            .last()
            .unwrap_or("an error")
            .trim()
            .to_owned()
    })
}
