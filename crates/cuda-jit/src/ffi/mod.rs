//! Calls of C libraries. All `unsafe` of this crate is here.

pub(crate) mod driver;
pub(crate) mod nvrtc;
