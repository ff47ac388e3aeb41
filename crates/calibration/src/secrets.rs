//! Texts that nobody should be shown.

use std::sync::LazyLock;

use regex::RegexSet;

/// Kinds of secrets and how they look.
const KINDS: &[(&str, &str)] = &[
    ("private key", r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----"),
    ("OpenAI or Anthropic key", r"\bsk-[A-Za-z0-9_-]{20,}"),
    ("Hugging Face token", r"\bhf_[A-Za-z0-9]{30,}"),
    (
        "GitHub token",
        r"\b(?:gh[pousr]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{40,})",
    ),
    ("AWS key", r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    ("Google key", r"\bAIza[0-9A-Za-z_-]{35}"),
    ("Slack token", r"\bxox[abprs]-[0-9A-Za-z-]{10,}"),
    (
        "JSON web token",
        r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.",
    ),
    (
        "address with a password",
        r"\b[a-z]{2,10}://[A-Za-z0-9._-]+:[^@\s/]{3,}@",
    ),
];

static PATTERNS: LazyLock<RegexSet> = LazyLock::new(|| {
    RegexSet::new(KINDS.iter().map(|(_, pattern)| pattern)).expect("patterns of ours")
});

/// The kind of the first secret in a text. What it is stays untold.
#[must_use]
pub fn secret(text: &str) -> Option<&'static str> {
    let found = PATTERNS.matches(text).iter().next()?;
    Some(KINDS[found].0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_found_and_plain_text_is_not() {
        let long = "A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7r8S9t0U1v2W3x4";
        for (text, kind) in [
            ("-----BEGIN RSA PRIVATE KEY-----".to_owned(), "private key"),
            (format!("key sk-{long}"), "OpenAI or Anthropic key"),
            (format!("hf_{long}"), "Hugging Face token"),
            (format!("ghp_{}", &long[..36]), "GitHub token"),
            ("AKIAABCDEFGHIJKLMNOP".to_owned(), "AWS key"),
            (format!("AIza{}", &long[..35]), "Google key"),
            ("xoxb-123456789012".to_owned(), "Slack token"),
            (
                "eyJhbGciOiJIUzI1.eyJzdWIiOiIxMjM0.x".to_owned(),
                "JSON web token",
            ),
            (
                "postgres://me:hunter2@db".to_owned(),
                "address with a password",
            ),
        ] {
            assert_eq!(secret(&text), Some(kind), "{text}");
        }
        for text in [
            "the task-specific sk-learn ask-me",
            "http://example.org:80/a@b",
            "rs123, ENSG00000139618, AKIA",
        ] {
            assert_eq!(secret(text), None, "{text}");
        }
    }
}
