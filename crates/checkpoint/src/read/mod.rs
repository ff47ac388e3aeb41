//! Reading: headers at once, bytes when asked for, never a whole shard.

pub(crate) mod bitsandbytes;
pub(crate) mod checkpoint;
pub(crate) mod decode;
pub(crate) mod grouped;
pub(crate) mod inventory;
pub(crate) mod load;
pub(crate) mod mapped;
pub(crate) mod matrix;
pub(crate) mod packed;
pub(crate) mod store;
pub(crate) mod stream;
pub(crate) mod tree;
