//! The address of a backend.

use hyper::header::HeaderValue;

use super::ConfigError;

/// The address of a backend: `http://HOST[:PORT]`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BackendUrl {
    url: String,
    host: String,
    port: u16,
    header: HeaderValue,
}

impl BackendUrl {
    /// Reads one. A trailing `/` is dropped, and so is `/v1`, because people paste it.
    ///
    /// # Errors
    /// It is not `http://`, has no host, or has a path.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let wrong = || ConfigError::Backend {
            url: text.to_owned(),
        };
        let rest = text.strip_prefix("http://").ok_or_else(wrong)?;
        let rest = rest.trim_end_matches('/');
        let rest = rest.strip_suffix("/v1").unwrap_or(rest);
        let authority: hyper::http::uri::Authority = rest.parse().map_err(|_| wrong())?;
        if rest.contains('@') || authority.host().is_empty() {
            return Err(wrong());
        }
        let port = authority.port_u16();
        let has_port = authority.as_str().len() > authority.host().len();
        if port.is_some() != has_port {
            return Err(wrong());
        }
        let host = authority
            .host()
            .trim_start_matches('[')
            .trim_end_matches(']');
        Ok(Self {
            url: format!("http://{authority}"),
            host: host.to_owned(),
            port: port.unwrap_or(80),
            header: HeaderValue::from_str(authority.as_str()).map_err(|_| wrong())?,
        })
    }

    /// As it is shown.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.url
    }

    /// Where to connect.
    pub(crate) fn address(&self) -> (&str, u16) {
        (&self.host, self.port)
    }

    /// The `Host` header.
    pub(crate) fn host_header(&self) -> &HeaderValue {
        &self.header
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backend_is_a_host_and_a_port() {
        let url = BackendUrl::parse("http://127.0.0.1:8000/").unwrap();
        assert_eq!(url.as_str(), "http://127.0.0.1:8000");
        assert_eq!(url.address(), ("127.0.0.1", 8000));
        assert_eq!(url.host_header(), "127.0.0.1:8000");
        let url = BackendUrl::parse("http://node7/v1").unwrap();
        assert_eq!(url.address(), ("node7", 80));
        let url = BackendUrl::parse("http://[::1]:81").unwrap();
        assert_eq!(url.address(), ("::1", 81));
    }

    #[test]
    fn what_is_no_backend_is_refused() {
        for text in [
            "",
            "127.0.0.1:8000",
            "https://a:1",
            "http://",
            "http://a/b",
            "http://a:",
            "http://u@a:1",
            "http://a:99999",
        ] {
            assert!(BackendUrl::parse(text).is_err(), "{text}");
        }
    }
}
