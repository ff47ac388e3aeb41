//! Who may ask.

use hyper::header::{self, HeaderMap};
use subtle::Choice;

use super::error::ApiError;
use crate::config::ApiKey;

/// A client of the models.
pub(super) fn user(keys: &[ApiKey], headers: &HeaderMap) -> Result<(), ApiError> {
    if keys.is_empty() || shows_one(keys, headers) {
        Ok(())
    } else {
        Err(ApiError::unauthorized())
    }
}

/// Somebody who may change what is served. Without a key nobody may.
pub(super) fn admin(keys: &[ApiKey], headers: &HeaderMap) -> Result<(), ApiError> {
    if keys.is_empty() {
        Err(ApiError::no_admin())
    } else if shows_one(keys, headers) {
        Ok(())
    } else {
        Err(ApiError::unauthorized())
    }
}

/// Compares with every key, so that the time says nothing of them.
fn shows_one(keys: &[ApiKey], headers: &HeaderMap) -> bool {
    let shown = headers.get(header::AUTHORIZATION);
    let Some(shown) = shown.map(header::HeaderValue::as_bytes) else {
        return false;
    };
    let Some((scheme, key)) = shown.split_at_checked(b"Bearer ".len()) else {
        return false;
    };
    if !scheme.eq_ignore_ascii_case(b"Bearer ") {
        return false;
    }
    let any = keys
        .iter()
        .fold(Choice::from(0), |any, known| any | known.is(key));
    any.into()
}
