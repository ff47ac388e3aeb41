//! What can be wrong with a directory of weights, said with the file, the tensor, what was expected and what was found.

use std::io;
use std::path::{Path, PathBuf};

/// The result of everything here that touches a file.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong while reading or writing checkpoints and adapters.
///
/// The text names the file and, where there is one, the tensor; [`Error::hint`] says what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused an operation.
    #[error("could not {action} {}", .path.display())]
    Io {
        /// What was attempted, as a verb: `read`, `create`.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The operating system's own words.
        source: io::Error,
    },
    /// A file or directory that has to be there is not.
    #[error("{}: expected {expected}, found {found}", .path.display())]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
        /// What has to be there.
        expected: String,
        /// What is there instead.
        found: String,
        /// What to do about it.
        hint: &'static str,
    },
    /// A JSON file that is not JSON, or not of the right form.
    #[error("{}: not valid JSON for {what}", .file.display())]
    Json {
        /// The file.
        file: PathBuf,
        /// What the file should hold.
        what: &'static str,
        /// The parser's own words, with line and column.
        source: serde_json::Error,
    },
    /// A safetensors header that is wrong as a whole.
    #[error("{}: bad safetensors header: expected {expected}, found {found}", .file.display())]
    Header {
        /// The file.
        file: PathBuf,
        /// What a valid file has.
        expected: String,
        /// What this one has.
        found: String,
    },
    /// One tensor of a safetensors file is described wrongly, or its bytes are not there.
    #[error("{}: tensor `{tensor}`: expected {expected}, found {found}", .file.display())]
    Tensor {
        /// The file.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// What a valid file has.
        expected: String,
        /// What this one has.
        found: String,
    },
    /// The shard index and the shards contradict each other.
    #[error("{}: `{entry}`: expected {expected}, found {found}", .file.display())]
    Index {
        /// The index file.
        file: PathBuf,
        /// The tensor or shard of the entry.
        entry: String,
        /// What a valid index has.
        expected: String,
        /// What this one has.
        found: String,
    },
    /// A field of a configuration file has a value that cannot be meant.
    #[error("{}: `{field}`: expected {expected}, found {found}", .file.display())]
    Config {
        /// The configuration file.
        file: PathBuf,
        /// The field, with dots for nesting.
        field: String,
        /// What is understood.
        expected: String,
        /// What is there.
        found: String,
    },
    /// The weights are stored in a layout that this version cannot read.
    #[error("{}: `quantization_config`: expected a layout that can be read, found {layout}, which is not supported yet", .file.display())]
    UnsupportedLayout {
        /// The configuration file that says so.
        file: PathBuf,
        /// The layout, as its makers call it.
        layout: String,
    },
    /// Quantized codes, their scales and the configuration do not fit together.
    #[error("{}: tensor `{tensor}`: quantized layout: expected {expected}, found {found}", .file.display())]
    Quantized {
        /// The shard, or the configuration.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// What the layout needs.
        expected: String,
        /// What is there.
        found: String,
    },
    /// A weight that is NaN or infinite.
    #[error("{}: tensor `{tensor}`: expected finite numbers, found {found} at row {row}, column {column}", .file.display())]
    NotFinite {
        /// The shard.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// Row of the first bad element, from 0.
        row: usize,
        /// Column of the first bad element, from 0.
        column: usize,
        /// `NaN`, `infinity` or the code.
        found: String,
    },
    /// A tensor was asked for that the directory does not hold.
    #[error("{}: no tensor `{tensor}`", .dir.display())]
    NoSuchTensor {
        /// The directory.
        dir: PathBuf,
        /// The tensor or module.
        tensor: String,
    },
    /// The output directory exists.
    #[error("{} exists", .out.display())]
    OutputExists {
        /// The output directory.
        out: PathBuf,
    },
    /// The output path cannot be an output directory.
    #[error("{}: expected {expected}, found {found}", .out.display())]
    OutputPath {
        /// The output directory.
        out: PathBuf,
        /// What an output path is.
        expected: &'static str,
        /// What this one is.
        found: String,
    },
    /// Another process works on the same output.
    #[error("{} is in use by another process", .partial.display())]
    OutputLocked {
        /// The unfinished directory.
        partial: PathBuf,
    },
    /// An unfinished output lies there, and it is of another job.
    #[error("{}: expected {expected}, found {found}", .partial.display())]
    OtherJob {
        /// The unfinished directory.
        partial: PathBuf,
        /// What could have been resumed.
        expected: String,
        /// What lies there.
        found: String,
        /// What to do about it.
        hint: &'static str,
    },
    /// The disk has no room for what is about to be written.
    #[error("{}: expected {needed} bytes of free space, found {free}", .path.display())]
    DiskFull {
        /// The file or directory that needs the space.
        path: PathBuf,
        /// Bytes still to be written.
        needed: u64,
        /// Bytes that the file system has for this user.
        free: u64,
    },
    /// What is being written does not follow the plan that was made for it.
    #[error("{}: tensor `{tensor}`: the plan expected {expected}, found {found}", .file.display())]
    Plan {
        /// The file being written.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// What was planned.
        expected: String,
        /// What was done.
        found: String,
    },
    /// The adapter's tensors and its configuration contradict each other, or the adapter is of an unknown kind.
    #[error("{}: `{entry}`: expected {expected}, found {found}", .file.display())]
    Adapter {
        /// The adapter's weights or configuration.
        file: PathBuf,
        /// The module, tensor or field.
        entry: String,
        /// What a valid adapter has.
        expected: String,
        /// What this one has.
        found: String,
    },
}

impl Error {
    /// What a person can do about it, if anything is known to help.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Error::Missing { hint, .. } | Error::OtherJob { hint, .. } if !hint.is_empty() => hint,
            Error::Header { .. } | Error::Tensor { .. } => {
                "the file is damaged or was not downloaded to the end: download it again and compare its checksum"
            }
            Error::Index { .. } => {
                "the index and the shards are of different downloads, or a shard is missing: download the directory again"
            }
            Error::UnsupportedLayout { .. } => {
                "fp8, compressed-tensors (FP8, INT8, INT4), awq, gptq and bitsandbytes nf4 can be read; else use the original BF16 checkpoint"
            }
            Error::Quantized { .. } => {
                "codes mean nothing without exactly their scales: take config.json and all shards from one source"
            }
            Error::Adapter { .. } => {
                "take adapter_config.json and adapter_model.safetensors from one run of the training"
            }
            Error::NotFinite { .. } => {
                "the weights are broken at that place: take an earlier version of the file"
            }
            Error::OutputExists { .. } => "choose another output, or pass --force to replace it",
            Error::OutputLocked { .. } => "wait for the other run, or choose another output",
            Error::DiskFull { .. } => {
                "free some space, or choose an output on another disk; a second run resumes"
            }
            Error::Io { source, .. } => return io_hint(source),
            _ => return None,
        })
    }

    /// Wraps an operating system error.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
        let path = path.to_owned();
        move |source| Error::Io {
            action,
            path,
            source,
        }
    }
}

fn io_hint(source: &io::Error) -> Option<&'static str> {
    match source.kind() {
        io::ErrorKind::PermissionDenied => Some("check the owner and the permissions"),
        io::ErrorKind::StorageFull => Some("free some space, or choose an output on another disk"),
        io::ErrorKind::NotFound => Some("check the path"),
        _ => None,
    }
}

/// `[2, 3]` as it stands in headers, for messages.
pub(crate) fn shape_text(shape: &[usize]) -> String {
    format!("{shape:?}")
}
