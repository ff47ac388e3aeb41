//! What rows, findings and manifests have in common.

use serde::{Serialize, de::DeserializeOwned};

/// A JSON record that names its own schema in the field `schema`.
pub trait Record: Serialize + DeserializeOwned {
    /// The value of the field `schema`, for example `xgraft.row/1`.
    const SCHEMA: &'static str;

    /// The first number in the record that JSON cannot hold (NaN or infinite), by field name.
    fn not_finite(&self) -> Option<&'static str> {
        None
    }
}
