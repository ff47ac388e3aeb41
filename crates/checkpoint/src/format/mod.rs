//! The safetensors container: element types, headers, the shard index.

pub(crate) mod dtype;
pub(crate) mod header;
pub(crate) mod index;
