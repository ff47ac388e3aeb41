//! What can be absent or fail.

use std::path::PathBuf;

use crate::Version;

/// Why there is no compiler, no GPU, no image, or no launch.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No NVRTC in any of the places.
    #[error("no libnvrtc was found in {places} places; set {variable} to its file or folder", places = .looked.len(), variable = crate::VARIABLE)]
    NvrtcAbsent {
        /// Every folder that was looked into, in order.
        looked: Vec<PathBuf>,
    },
    /// A file that should be NVRTC does not load or lacks a function.
    #[error("{} is no usable NVRTC", .path.display())]
    NvrtcUnusable {
        /// The file.
        path: PathBuf,
        /// What the loader says.
        #[source]
        source: libloading::Error,
    },
    /// An NVRTC that cannot compile for the targets here.
    #[error("{} is NVRTC {found}, expected {least} or newer", .path.display())]
    NvrtcTooOld {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: Version,
        /// The oldest that works.
        least: Version,
    },
    /// A call of NVRTC that should not fail did.
    #[error("{call} of NVRTC failed with code {code}")]
    Nvrtc {
        /// The function.
        call: &'static str,
        /// What it returned.
        code: i32,
    },
    /// The text does not compile.
    #[error("{program} does not compile:\n{log}")]
    Compile {
        /// The program's name.
        program: String,
        /// What the compiler says.
        log: String,
    },
    /// A NUL byte where the compiler takes C strings.
    #[error("the {what} of {program} holds a NUL byte")]
    Nul {
        /// The program's name.
        program: String,
        /// `name`, `text`, or `option`.
        what: &'static str,
    },
    /// No driver on this machine.
    #[error("no CUDA driver (libcuda.so.1) on this machine")]
    DriverAbsent {
        /// What the loader says.
        #[source]
        source: libloading::Error,
    },
    /// A driver older than what is called here.
    #[error("the CUDA driver lacks {symbol}; it is too old")]
    DriverTooOld {
        /// The function.
        symbol: &'static str,
    },
    /// A call of the driver failed.
    #[error("{call} of the CUDA driver failed: {message}")]
    Driver {
        /// The function.
        call: &'static str,
        /// The driver's name of the error.
        message: String,
    },
    /// More bytes to copy than were allocated.
    #[error("a copy of {found} bytes does not fit into {allocated} on the device")]
    Length {
        /// Length of the memory on the device.
        allocated: usize,
        /// Bytes to copy.
        found: usize,
    },
    /// A tensor map that the hardware cannot have.
    #[error("a tensor map cannot have {what} {found}; expected {expected}")]
    TensorShape {
        /// Which of its numbers.
        what: &'static str,
        /// The number.
        found: u64,
        /// What the hardware takes.
        expected: &'static str,
    },
    /// A launch that the hardware cannot run.
    #[error("a launch cannot have {what} {found}; expected {expected}")]
    Launch {
        /// Which of its numbers.
        what: &'static str,
        /// The number.
        found: u64,
        /// What the hardware takes.
        expected: &'static str,
    },
    /// A file or folder that cannot be read or written.
    #[error("cannot {what} {}", .path.display())]
    Io {
        /// `read`, `write`, or `make`.
        what: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A manifest of shipped images that is none.
    #[error("{} is no manifest of images", .path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A shipped image that is not the one its manifest names.
    #[error("{} has digest {found}, but its manifest says {expected}", .path.display())]
    Digest {
        /// The file.
        path: PathBuf,
        /// BLAKE3 in the manifest.
        expected: String,
        /// BLAKE3 of the file.
        found: String,
    },
}

/// The result of an operation of this crate.
pub type Result<T> = std::result::Result<T, Error>;
