//! What tells one version of a directory's files from another without reading their tensors.

use std::path::Path;
use std::time::UNIX_EPOCH;

use serde_json::{Value, json};

use crate::adapter::open::Adapter;
use crate::read::checkpoint::Checkpoint;
use crate::read::store::ShardIdentity;

/// A directory of weights whose version can be told from its headers.
///
/// The identity holds the path, and of each file the name, length, time of the last change and digest of the header.
/// It is part of the fingerprint of a job: unfinished work is only resumed over the same files.
pub trait Identity {
    /// The identity as JSON.
    fn identity_json(&self) -> Value;
}

impl Identity for Checkpoint {
    fn identity_json(&self) -> Value {
        describe(self.dir(), self.identities())
    }
}

impl Identity for Adapter {
    fn identity_json(&self) -> Value {
        describe(self.dir(), std::slice::from_ref(self.identity()))
    }
}

fn describe(dir: &Path, files: &[ShardIdentity]) -> Value {
    let files: Vec<Value> = files
        .iter()
        .map(|file| {
            let modified = file
                .modified
                .and_then(|t| t.duration_since(UNIX_EPOCH).ok());
            json!({
                "file": file.name,
                "bytes": file.bytes,
                "modified": modified.map(|t| t.as_nanos().to_string()),
                "header": file.header.to_hex(),
            })
        })
        .collect();
    json!({ "dir": dir.canonicalize().unwrap_or_else(|_| dir.to_owned()), "files": files })
}
