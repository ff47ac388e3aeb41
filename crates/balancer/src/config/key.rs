//! A key of the API.

use hyper::header::HeaderValue;
use subtle::{Choice, ConstantTimeEq};

use super::ConfigError;

/// A secret that is compared in constant time and never shown.
#[derive(Clone)]
pub struct ApiKey(Box<str>);

impl ApiKey {
    /// The key, which must not be empty.
    ///
    /// # Errors
    /// It is empty, or no header can carry it.
    pub fn new(key: &str) -> Result<Self, ConfigError> {
        if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(ConfigError::Key);
        }
        Ok(Self(key.into()))
    }

    /// Whether this is the key; takes the same time wherever the difference is.
    pub(crate) fn is(&self, given: &[u8]) -> Choice {
        self.0.as_bytes().ct_eq(given)
    }

    /// The header that shows it to a backend.
    pub(crate) fn bearer(&self) -> Option<HeaderValue> {
        let mut value = HeaderValue::from_str(&format!("Bearer {}", self.0)).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

impl std::fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ApiKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_printable_and_not_shown() {
        assert!(ApiKey::new("").is_err());
        assert!(ApiKey::new("a b").is_err());
        let key = ApiKey::new("secret").unwrap();
        assert!(bool::from(key.is(b"secret")) && !bool::from(key.is(b"secres")));
        assert!(!format!("{key:?}").contains("secret"));
    }
}
