//! One file a verb: fill the library's configuration, call it, print.

pub(crate) mod autopsy;
pub(crate) mod balance;
pub(crate) mod calibrate;
mod calibrate_compare;
mod calibrate_stats;
pub(crate) mod card;
pub(crate) mod dequantize;
pub(crate) mod diagnose;
pub(crate) mod eval;
pub(crate) mod extract;
pub(crate) mod fleet;
pub(crate) mod inspect;
pub(crate) mod merge;
pub(crate) mod orthogonality;
pub(crate) mod plan;
pub(crate) mod quantize;
pub(crate) mod report;
pub(crate) mod sanitize;
pub(crate) mod serve;
pub(crate) mod verify;
