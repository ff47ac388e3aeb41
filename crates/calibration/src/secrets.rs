//! Texts that nobody should be shown.

use std::sync::LazyLock;

use regex::RegexSet;

use crate::assigned::{ASSIGNMENT, assigned};

/// Kinds of secrets and how they look.
const KINDS: &[(&str, &str)] = &[
    (
        "private key",
        r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY(?: BLOCK)?-----",
    ),
    ("OpenAI or Anthropic key", r"\bsk-[A-Za-z0-9_-]{20,}"),
    ("Hugging Face token", r"\bhf_[A-Za-z0-9]{30,}"),
    (
        "GitHub token",
        r"\b(?:gh[pousr]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{40,})",
    ),
    (
        "GitLab token",
        r"\bgl(?:pat|ptt|dt|rt|cbt|soat|ft|imt|agent|oas)-[A-Za-z0-9_-]{20,}",
    ),
    ("AWS key", r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    (
        "Google key",
        r"\b(?:AIza[0-9A-Za-z_-]{35}|GOCSPX-[0-9A-Za-z_-]{20,}|ya29\.[0-9A-Za-z_-]{20,})",
    ),
    (
        "Slack token",
        r"\b(?:xox[abeprs]-[0-9A-Za-z-]{10,}|xapp-[0-9A-Za-z-]{20,}|hooks\.slack\.com/services/T[0-9A-Z]+/B)",
    ),
    (
        "SendGrid key",
        r"\bSG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{10,}",
    ),
    (
        "Stripe key",
        r"\b(?:[sr]k_(?:live|test)|whsec)_[A-Za-z0-9]{16,}",
    ),
    (
        "token of a package registry",
        r"\b(?:npm_[A-Za-z0-9]{36}|pypi-AgE[A-Za-z0-9_-]{50,}|dckr_pat_[A-Za-z0-9_-]{20,})",
    ),
    (
        "key of a model or data service",
        r"\b(?:gsk_[A-Za-z0-9]{40,}|nvapi-[A-Za-z0-9_-]{40,}|xai-[A-Za-z0-9]{40,}|r8_[A-Za-z0-9]{37}|dapi[0-9a-f]{32}|do[opr]_v1_[0-9a-f]{64})",
    ),
    ("Telegram token", r"\b[0-9]{8,10}:AA[A-Za-z0-9_-]{33}\b"),
    (
        "JSON web token",
        r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.",
    ),
    (
        "address with a password",
        r"\b[a-z]{2,10}://[A-Za-z0-9._-]+:[^@\s/]{3,}@",
    ),
];

/// The kinds, and last the assignments, so that one pass over a text looks for all.
static PATTERNS: LazyLock<RegexSet> = LazyLock::new(|| {
    let kinds = KINDS.iter().map(|(_, pattern)| *pattern);
    RegexSet::new(kinds.chain([ASSIGNMENT.as_str()])).expect("patterns of ours")
});

/// The kind of the first secret in a text. What it is stays untold.
///
/// Addresses of e-mail are none: papers and the accounts of public services are full of them.
#[must_use]
pub fn secret(text: &str) -> Option<&'static str> {
    let found = PATTERNS.matches(text).iter().next()?;
    match KINDS.get(found) {
        Some((kind, _)) => Some(kind),
        None => assigned(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_found() {
        let long = "A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7r8S9t0U1v2W3x4";
        for (text, kind) in [
            ("-----BEGIN RSA PRIVATE KEY-----".to_owned(), "private key"),
            (
                "-----BEGIN PGP PRIVATE KEY BLOCK-----".to_owned(),
                "private key",
            ),
            (format!("key sk-{long}"), "OpenAI or Anthropic key"),
            (format!("hf_{long}"), "Hugging Face token"),
            (format!("ghp_{}", &long[..36]), "GitHub token"),
            ("glpat-abcdefghijklmnopqrst".to_owned(), "GitLab token"),
            ("AKIAABCDEFGHIJKLMNOP".to_owned(), "AWS key"),
            (format!("AIza{}", &long[..35]), "Google key"),
            (format!("ya29.{long}"), "Google key"),
            ("xoxb-123456789012".to_owned(), "Slack token"),
            ("SG.abcdefghijklmnop.qrstuvwxyz".to_owned(), "SendGrid key"),
            (format!("sk_live_{long}"), "Stripe key"),
            (
                format!("npm_{}", &long[..36]),
                "token of a package registry",
            ),
            (format!("gsk_{long}"), "key of a model or data service"),
            (format!("123456789:AA{}", &long[..33]), "Telegram token"),
            (
                "eyJhbGciOiJIUzI1.eyJzdWIiOiIxMjM0.x".to_owned(),
                "JSON web token",
            ),
            (
                "postgres://me:hunter2@db".to_owned(),
                "address with a password",
            ),
            ("password = hunter2secret".to_owned(), "assigned secret"),
        ] {
            assert_eq!(secret(&text), Some(kind), "{text}");
        }
    }

    #[test]
    fn plain_text_is_none() {
        for text in [
            "the task-specific sk-learn ask-me",
            "http://example.org:80/a@b",
            "rs123, ENSG00000139618, AKIA",
            "mail me at john.doe@uni.edu, tel +49 551 39 12345",
            "https://doi.org/10.1038/s41586-021-03819-2 and 3f786850e387550fdab836ed7e6dc881de23001b",
            "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk",
        ] {
            assert_eq!(secret(text), None, "{text}");
        }
    }
}
