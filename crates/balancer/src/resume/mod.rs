//! Going on with a stream at another server, token for token.
//!
//! A server of ours says with `return_token_ids` which tokens each event is made of, and goes on after given ones with
//! `continue_from`. So the request is asked for the ids, these are collected and hidden from a client that did not ask for
//! them, and what comes from the second server is made one stream with what came from the first.

mod plan;
mod seen;
#[cfg(test)]
mod tests;

pub(crate) use self::plan::Plan;
pub(crate) use self::seen::Seen;
