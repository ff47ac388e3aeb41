//! The manifest: what an output directory was made from.

use crate::{Error, Record, Result, error::io_error, jsonl};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{fs, path::Path};

/// What an output directory was made from: tool, verb, full configuration, seed and the digest of every input.
///
/// It holds no time and no host, so that equal work gives an equal manifest; those belong to `report.json`.
/// The conventional file name is [`Manifest::FILE`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "schema", rename = "xgraft.manifest/1")]
pub struct Manifest {
    /// The program.
    pub tool: Tool,
    /// The verb of the program: `extract`.
    pub verb: String,
    /// Everything that the caller could choose, defaults filled in.
    pub config: Value,
    /// The seed of every random choice. Absent where nothing is random.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// What was read, in a fixed order.
    pub inputs: Vec<Input>,
}

/// The program that wrote a [`Manifest`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Tool {
    /// The program's name: `xgraft`.
    pub name: String,
    /// Its version: `0.1.0`.
    pub version: String,
    /// The git revision it was built from, with `+changes` where files differed from it. Absent where there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub git: Option<String>,
}

/// One tensor, or one whole file, that was read.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Input {
    /// Which input of the verb it belongs to: `base`, `tuned`, `adapter`.
    pub role: String,
    /// The tensor's name. Absent when the digest is of the whole file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tensor: Option<String>,
    /// The file, relative to the input's directory.
    pub file: String,
    /// BLAKE3 of the bytes read, in lower-case hex.
    pub blake3: String,
    /// How many bytes were read.
    pub bytes: u64,
}

impl std::fmt::Display for Tool {
    /// `xgraft 0.1.0 (0123456789ab)`, or without the revision.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.name, self.version)?;
        match &self.git {
            Some(git) => write!(f, " ({git})"),
            None => Ok(()),
        }
    }
}

impl Tool {
    /// The program with the given name, version and git revision.
    pub fn new(name: impl Into<String>, version: impl Into<String>, git: Option<&str>) -> Self {
        Self {
            name: name.into(),
            version: version.into(),
            git: git.map(str::to_owned),
        }
    }
}

/// The [`Tool`] of the crate that calls this macro: its version, and the git revision that its build script
/// put into the environment variable `XGRAFT_GIT`, if it did.
///
/// ```
/// let tool = xgraft_results::tool!("xgraft");
/// assert_eq!(tool.version, env!("CARGO_PKG_VERSION"));
/// ```
#[macro_export]
macro_rules! tool {
    ($name:expr) => {
        $crate::Tool::new(
            $name,
            ::core::env!("CARGO_PKG_VERSION"),
            ::core::option_env!("XGRAFT_GIT"),
        )
    };
}

impl Manifest {
    /// The conventional file name.
    pub const FILE: &'static str = "manifest.json";

    /// Reads a manifest file.
    ///
    /// # Errors
    /// The file cannot be read, is not JSON, or is not a manifest of this schema.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).map_err(io_error("read", path))?;
        jsonl::parse(&bytes, &path.display().to_string(), None)
    }

    /// The manifest as indented JSON with a final newline. Equal manifests give equal bytes.
    ///
    /// # Errors
    /// The configuration cannot be written as JSON.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut bytes = serde_json::to_vec_pretty(self).map_err(|source| Error::Encode {
            schema: Self::SCHEMA,
            source,
        })?;
        bytes.push(b'\n');
        Ok(bytes)
    }
}

impl Record for Manifest {
    const SCHEMA: &'static str = "xgraft.manifest/1";
}
