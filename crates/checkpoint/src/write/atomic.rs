//! Files that are there whole or not at all.

use std::ffi::OsString;
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

/// The end of the name of a file that is not finished; [`sweep`] removes what a killed run left.
const TEMPORARY: &str = ".xgraft-tmp";

/// A name beside `path` that no other process uses.
pub(crate) fn temporary_beside(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}{TEMPORARY}", std::process::id()));
    path.with_file_name(name)
}

/// Removes unfinished files anywhere below a directory.
pub(super) fn sweep(dir: &Path) -> Result<()> {
    let listed = || -> io::Result<Vec<fs::DirEntry>> { fs::read_dir(dir)?.collect() };
    for entry in listed().map_err(Error::io("list", dir))? {
        let path = entry.path();
        let kind = entry.file_type().map_err(Error::io("read", &path))?;
        if kind.is_dir() {
            sweep(&path)?;
        } else if path
            .as_os_str()
            .as_encoded_bytes()
            .ends_with(TEMPORARY.as_bytes())
        {
            fs::remove_file(&path).map_err(Error::io("remove", &path))?;
        }
    }
    Ok(())
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
