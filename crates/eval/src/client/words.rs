//! Addresses and bodies in the words of messages.

use serde_json::Value;

use super::ClientError;

/// The base of an API. An address without a path has it at `/v1`.
pub(super) fn base_of(url: &str) -> Result<String, ClientError> {
    let wrong = || ClientError::Url {
        url: url.to_owned(),
    };
    let trimmed = url.trim().trim_end_matches('/');
    let uri: hyper::Uri = trimmed.parse().map_err(|_| wrong())?;
    let known = matches!(uri.scheme_str(), Some("http" | "https"));
    if !known || uri.host().is_none_or(str::is_empty) || uri.query().is_some() {
        return Err(wrong());
    }
    // Credentials in an address would stand in every message.
    if uri.authority().is_some_and(|a| a.as_str().contains('@')) {
        return Err(ClientError::Url {
            url: "with a user's name in it".to_owned(),
        });
    }
    match uri.path() {
        "" | "/" => Ok(format!("{trimmed}/v1")),
        _ => Ok(trimmed.to_owned()),
    }
}

/// What a body says: the message of an error, the title of a page, or how it begins.
pub(super) fn said_by(body: &[u8]) -> String {
    const MOST: usize = 300;
    let text = String::from_utf8_lossy(&body[..body.len().min(1 << 16)]);
    if let Ok(value) = serde_json::from_str::<Value>(&text) {
        let message = value.pointer("/error/message").or(value.get("message"));
        if let Some(Value::String(message)) = message {
            return message.chars().take(MOST).collect();
        }
    }
    let start = text.trim_start().to_lowercase();
    if start.starts_with("<!doctype html") || start.starts_with("<html") {
        let title = between(&text, "<title>", "</title>").unwrap_or("without a title");
        return format!("an HTML page, {}", title.trim());
    }
    match text.trim() {
        "" => "nothing".to_owned(),
        text => text.chars().take(MOST).collect(),
    }
}

fn between<'a>(text: &'a str, open: &str, close: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(open)?;
    rest.split_once(close).map(|(inner, _)| inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_without_a_path_gets_v1() {
        assert_eq!(base_of("http://a:1").unwrap(), "http://a:1/v1");
        assert_eq!(base_of("http://a:1/").unwrap(), "http://a:1/v1");
        assert_eq!(
            base_of("https://a/openai/v1/").unwrap(),
            "https://a/openai/v1"
        );
        for wrong in ["a:1", "ftp://a", "http://", "http://u:secret@a", ""] {
            let error = base_of(wrong).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn bodies_are_told_in_short() {
        assert_eq!(
            said_by(b"<!DOCTYPE html><title> 502 </title>"),
            "an HTML page, 502"
        );
        assert_eq!(said_by(br#"{"error": {"message": "no"}}"#), "no");
        assert_eq!(said_by(b" "), "nothing");
    }
}
