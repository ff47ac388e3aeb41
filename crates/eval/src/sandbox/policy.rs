//! What a program in the sandbox may do.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// How the sandbox keeps programs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Isolation {
    /// Namespaces of users, processes, mounts, network and the like; Landlock, seccomp and limits within.
    Namespaces,
    /// Landlock, seccomp and limits alone, where the system refuses namespaces.
    Kernel,
    /// None: programs do what the harness may do.
    Off,
}

/// How much a program may use. Each program of a question counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Caps {
    /// Bytes of address space of a process, and of memory of all of them, with files that are kept in memory.
    pub memory: u64,
    /// Processes at a time.
    pub processes: u64,
    /// Bytes of one file.
    pub file: u64,
    /// Bytes of the working folder. With namespaces it is in memory: a part of that, and no more than half of it.
    pub disk: u64,
    /// Seconds of processor time of a process.
    pub cpu_seconds: u64,
}

impl Default for Caps {
    fn default() -> Self {
        Self {
            memory: 4 << 30,
            processes: 128,
            file: 1 << 30,
            disk: 2 << 30,
            cpu_seconds: 3600,
        }
    }
}

impl Caps {
    /// Bytes of a private `/tmp`.
    pub(super) fn private_folder(&self) -> u64 {
        self.disk.min(self.memory / 2)
    }

    /// Bytes of a private `/dev/shm`.
    pub(super) fn shared_memory(&self) -> u64 {
        self.private_folder().min(256 << 20)
    }
}

/// All that the launcher needs to know.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Policy {
    pub(super) isolation: Isolation,
    pub(super) caps: Caps,
    /// The interpreter and its arguments.
    pub(super) command: Vec<String>,
    /// What may be read and executed beside the system's own folders.
    pub(super) readable: Vec<PathBuf>,
    /// The working folder where there is no private one.
    pub(super) folder: Option<PathBuf>,
}

/// The working folder within namespaces.
pub(super) const WORK: &str = concat!("/tmp", "/question");

impl Policy {
    pub(super) fn work(&self) -> PathBuf {
        match (&self.folder, self.isolation) {
            (Some(folder), Isolation::Kernel | Isolation::Off) => folder.clone(),
            _ => PathBuf::from(WORK),
        }
    }
}
