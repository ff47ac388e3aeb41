//! Entry points of the fuzz targets.

use bytes::Bytes;
use memchr::memmem;
use serde_json::Value;

use crate::events::{self, Splitter};
use crate::resume::{Plan, Seen};

/// A backend's stream: nothing is lost or made up however it comes, and what has no ids in it is passed on as it is.
///
/// # Panics
/// It is not so.
pub fn stream(bytes: &[u8]) {
    let Ok(whole) = Splitter::default().push(Bytes::copy_from_slice(bytes)) else {
        return;
    };
    assert!(bytes.starts_with(&whole));
    assert_eq!(events::each(&whole).collect::<Vec<_>>().concat(), whole);
    let step = usize::from(bytes.first().copied().unwrap_or(0) % 16) + 1;
    let (mut splitter, mut pieces) = (Splitter::default(), Vec::new());
    for piece in bytes.chunks(step) {
        let Ok(more) = splitter.push(Bytes::copy_from_slice(piece)) else {
            return;
        };
        pieces.extend_from_slice(&more);
    }
    // The last line break may have found its partner only in one of the two.
    assert!(whole.starts_with(&pieces));
    for event in events::each(&whole) {
        let _ = (events::kind(event), events::has_content(event));
    }
    let Some(plan) = Plan::of(br#"{"stream":true}"#, 1) else {
        return;
    };
    let mut seen = Seen::default();
    let passed = seen.pass(&plan, &whole);
    let has_ids = memmem::find(&whole, b"token_ids\":[").is_some();
    assert!(has_ids || passed == whole);
    seen.resume();
    seen.pass(&plan, &whole);
    let _ = plan.body_after(&seen);
}

/// A client's request: what is sent in its place is the same with a seed, and asks for ids.
///
/// # Panics
/// It is not so.
pub fn request(body: &[u8]) {
    let Some(plan) = Plan::of(body, 14) else {
        return;
    };
    let Ok(Value::Object(mut asked)) = serde_json::from_slice(body) else {
        return;
    };
    let sent: Value = serde_json::from_slice(&plan.body()).unwrap_or_default();
    if asked.get("seed").is_none_or(Value::is_null) {
        asked.insert("seed".to_owned(), 7.into());
    }
    asked.insert("return_token_ids".to_owned(), true.into());
    assert_eq!(sent, Value::Object(asked));
}
