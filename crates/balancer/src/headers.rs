//! Headers that mean something on the way through.

use std::time::Duration;

use hyper::header::{self, HeaderMap, HeaderValue};

/// The longest pause that a backend may ask for.
const LONGEST_PEACE: Duration = Duration::from_secs(60);

/// Whether an answer is a stream of events.
pub(crate) fn is_event_stream(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    let kind = kind.and_then(|kind| kind.split(|byte| *byte == b';').next());
    kind.is_some_and(|kind| kind.trim_ascii().eq_ignore_ascii_case(b"text/event-stream"))
}

/// The seconds of a `Retry-After`; a date is as good as none.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(header::RETRY_AFTER)?.to_str().ok()?;
    let seconds = seconds.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(LONGEST_PEACE))
}

/// Takes out what belongs to one connection. The length is written anew with the body, unless there is none.
pub(crate) fn clean(headers: &mut HeaderMap, keep_length: bool) {
    if headers.contains_key(header::CONNECTION) {
        let all = headers.get_all(header::CONNECTION).into_iter();
        let names = all.flat_map(|named| named.as_bytes().split(|byte| *byte == b','));
        let named: Vec<_> = names
            .filter_map(|name| header::HeaderName::from_bytes(name.trim_ascii()).ok())
            .collect();
        for name in named.iter().chain([&header::CONNECTION]) {
            headers.remove(name);
        }
    }
    if !keep_length {
        headers.remove(header::CONTENT_LENGTH);
    }
    for name in [
        header::TRANSFER_ENCODING,
        header::TE,
        header::TRAILER,
        header::UPGRADE,
        header::PROXY_AUTHENTICATE,
        header::PROXY_AUTHORIZATION,
        header::HeaderName::from_static("keep-alive"),
        header::HeaderName::from_static("proxy-connection"),
    ] {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_belongs_to_a_connection_stays_there() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, X-Mine"),
            ("connection", "x-Also ,"),
            ("x-mine", "1"),
            ("x-also", "1"),
            ("x-other", "2"),
            ("keep-alive", "5"),
            ("transfer-encoding", "chunked"),
            ("content-length", "7"),
        ] {
            headers.append(name, HeaderValue::from_static(value));
        }
        clean(&mut headers, false);
        let left: Vec<_> = headers.keys().map(header::HeaderName::as_str).collect();
        assert_eq!(left, ["x-other"]);
    }

    #[test]
    fn a_media_type_has_no_case_and_may_have_parameters() {
        let of = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(text));
            is_event_stream(&headers)
        };
        assert!(of("text/event-stream") && of("Text/Event-Stream ; charset=utf-8"));
        assert!(!of("text/event-streams") && !of("application/json"));
    }

    #[test]
    fn retry_after_is_seconds() {
        let of = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static(text));
            retry_after(&headers)
        };
        assert_eq!(of("7"), Some(Duration::from_secs(7)));
        assert_eq!(of("100000"), Some(LONGEST_PEACE));
        assert_eq!(of("Fri, 31 Dec 1999 23:59:59 GMT"), None);
    }
}
