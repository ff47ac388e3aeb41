//! Files that are there whole or not at all.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::sys;

/// Writes a file so that a reader, or a crash, sees the old bytes or the new ones and nothing between.
///
/// The bytes go to a temporary file beside it, are flushed to the disk, and take the name in one step.
///
/// # Errors
/// [`Error::Io`], or [`Error::DiskFull`].
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    let temporary = temporary_beside(path);
    let written = write_synced(&temporary, bytes)
        .and_then(|()| fs::rename(&temporary, path).map_err(Error::io("rename into place", path)));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

fn write_synced(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = File::create(path).map_err(Error::io("create", path))?;
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .map_err(|source| write_error(path, bytes.len() as u64, source))
}

fn temporary_beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    path.with_file_name(name)
}

/// An error of writing, where a full disk is told with its numbers.
pub(super) fn write_error(path: &Path, needed: u64, source: io::Error) -> Error {
    if source.kind() != io::ErrorKind::StorageFull {
        return Error::Io {
            action: "write",
            path: path.to_owned(),
            source,
        };
    }
    let free = path
        .parent()
        .and_then(|dir| sys::free_bytes(dir).ok())
        .unwrap_or(0);
    Error::DiskFull {
        path: path.to_owned(),
        needed,
        free,
    }
}

/// Flushes a directory's entries, so that a rename in it survives a power cut.
pub(super) fn sync_dir(dir: &Path) -> Result<()> {
    File::open(dir)
        .and_then(|d| d.sync_all())
        .map_err(Error::io("flush", dir))
}
