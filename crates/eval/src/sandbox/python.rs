//! Which Python, and where its files lie.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::SandboxError;

/// An interpreter and the folders that it reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Python {
    /// The real file, behind links and wrappers.
    pub(super) program: PathBuf,
    pub(super) folders: Vec<PathBuf>,
}

/// Prints what this module wants to know, one path a line.
const ASK: &str = "import sys\nassert sys.version_info[0] == 3\nfor path in [sys.executable, sys.prefix, sys.base_prefix, *sys.path]:\n    print(path)";

impl Python {
    /// Asks an interpreter, by name or path, where it is. It runs with all rights of the harness for a moment.
    ///
    /// # Errors
    /// It cannot be started, or is no Python 3.
    pub fn find(name: &Path) -> Result<Self, SandboxError> {
        let asked = Command::new(name).args(["-c", ASK]).output();
        let asked = asked.map_err(|source| SandboxError::Io {
            action: "start",
            path: name.to_owned(),
            source,
        })?;
        let text = String::from_utf8_lossy(&asked.stdout);
        let mut lines = text.lines().map(PathBuf::from);
        match lines.next() {
            Some(program) if asked.status.success() && program.is_absolute() => {
                let mut folders: Vec<PathBuf> = lines
                    .filter(|path| path.is_absolute() && path.exists())
                    .collect();
                folders.sort();
                folders.dedup();
                // Those that lie within others are there with them.
                let within = |path: &PathBuf| {
                    let others = folders.iter();
                    others
                        .clone()
                        .any(|other| path != other && path.starts_with(other))
                };
                let inner: Vec<PathBuf> = folders
                    .iter()
                    .filter(|path| within(path))
                    .cloned()
                    .collect();
                folders.retain(|path| !inner.contains(path));
                Ok(Self { program, folders })
            }
            _ => Err(SandboxError::Python {
                path: name.to_owned(),
                found: String::from_utf8_lossy(&asked.stderr)
                    .lines()
                    .last()
                    .unwrap_or("nothing")
                    .to_owned(),
            }),
        }
    }
}
