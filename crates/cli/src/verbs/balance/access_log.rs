//! The file of the access log, which another program may move away.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use xgraft_balancer::LogWriter;

use crate::interrupt;

/// A file that is opened anew when the flag is raised.
struct Reopened {
    path: PathBuf,
    file: File,
    asked: Arc<AtomicBool>,
}

/// Opens the log, and listens for SIGHUP; `-` is stdout.
pub(super) fn open(path: &Path) -> anyhow::Result<LogWriter> {
    if path == Path::new("-") {
        return Ok(Box::new(io::stdout()));
    }
    Ok(Box::new(Reopened {
        path: path.to_owned(),
        file: append(path)?,
        asked: interrupt::hangups()?,
    }))
}

fn append(path: &Path) -> io::Result<File> {
    let options = fs_err::OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)?;
    Ok(options.into_parts().0)
}

impl Write for Reopened {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.asked.swap(false, Ordering::Relaxed) {
            match append(&self.path) {
                Ok(file) => self.file = file,
                Err(error) => tracing::warn!(%error, "the access log goes on in the old file"),
            }
        }
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_was_moved_away_is_opened_anew_when_asked() {
        let dir = tempfile::tempdir().unwrap();
        let (path, moved) = (dir.path().join("log"), dir.path().join("log.1"));
        let asked = Arc::new(AtomicBool::new(false));
        let mut log = Reopened {
            file: append(&path).unwrap(),
            path: path.clone(),
            asked: asked.clone(),
        };
        log.write_all(b"a\n").unwrap();
        std::fs::rename(&path, &moved).unwrap();
        log.write_all(b"b\n").unwrap();
        asked.store(true, Ordering::Relaxed);
        log.write_all(b"c\n").unwrap();
        assert_eq!(std::fs::read(&moved).unwrap(), b"a\nb\n");
        assert_eq!(std::fs::read(&path).unwrap(), b"c\n");
    }
}
