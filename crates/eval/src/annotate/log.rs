//! A log of JSON lines that are appended whole, by one process at a time.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

/// A line of a log.
pub trait Entry: Serialize + DeserializeOwned {
    /// Name and version, the value of the field `schema`.
    const SCHEMA: &'static str;
}

/// A log that cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// The file system failed.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was being attempted.
        action: &'static str,
        /// The log.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// Another process writes it.
    #[error("{} is being written by another process; wait for it or stop it", path.display())]
    Locked {
        /// The log.
        path: PathBuf,
    },
    /// A line is not an entry.
    #[error("{}:{line}: expected an entry of {schema}", path.display())]
    Entry {
        /// The log.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What belongs there.
        schema: &'static str,
        /// The cause.
        source: serde_json::Error,
    },
    /// A line names another schema.
    #[error("{}:{line}: expected schema {schema}, found {found}", path.display())]
    Schema {
        /// The log.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What belongs there.
        schema: &'static str,
        /// What the line names.
        found: String,
    },
    /// An entry cannot be written as JSON.
    #[error("cannot encode an entry of {schema}")]
    Encode {
        /// The entry's schema.
        schema: &'static str,
        /// The cause.
        source: serde_json::Error,
    },
}

/// A log that is open for appending, and locked against other processes.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    file: Mutex<File>,
}

impl Log {
    /// Opens or creates a log, and reads what it has. A last line that was cut off in its middle is removed: its writer
    /// was killed before anybody was told that it is there.
    ///
    /// # Errors
    /// Another process has it open, it cannot be read, or a whole line is not an entry.
    pub fn open<T: Entry>(path: &Path) -> Result<(Self, Vec<T>), LogError> {
        let io = |action| {
            move |source| LogError::Io {
                action,
                path: path.to_owned(),
                source,
            }
        };
        let mut options = OpenOptions::new();
        let mut file = options
            .read(true)
            .append(true)
            .create(true)
            .open(path)
            .map_err(io("open"))?;
        file.try_lock().map_err(|_| LogError::Locked {
            path: path.to_owned(),
        })?;
        let (entries, whole) = entries(&mut file, path)?;
        file.set_len(whole).map_err(io("shorten"))?;
        file.seek(SeekFrom::End(0)).map_err(io("read"))?;
        let log = Self {
            path: path.to_owned(),
            file: Mutex::new(file),
        };
        Ok((log, entries))
    }

    /// Reads a log that another process may be writing. No file is an empty log.
    ///
    /// # Errors
    /// It cannot be read, or a whole line is not an entry.
    pub fn read<T: Entry>(path: &Path) -> Result<Vec<T>, LogError> {
        match File::open(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(source) => Err(LogError::Io {
                action: "open",
                path: path.to_owned(),
                source,
            }),
            Ok(mut file) => Ok(entries(&mut file, path)?.0),
        }
    }

    /// Appends an entry; when it returns, the entry is on the disk.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn append<T: Entry>(&self, entry: &T) -> Result<(), LogError> {
        let line = line(entry)?;
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let written = file
            .write_all(line.as_bytes())
            .and_then(|()| file.sync_data());
        written.map_err(|source| LogError::Io {
            action: "write",
            path: self.path.clone(),
            source,
        })
    }
}

/// The entry as a line that begins with its schema.
pub(super) fn line<T: Entry>(entry: &T) -> Result<String, LogError> {
    let body = serde_json::to_string(entry).map_err(|source| LogError::Encode {
        schema: T::SCHEMA,
        source,
    })?;
    let rest = body.strip_prefix('{').unwrap_or(&body);
    Ok(format!("{{\"schema\":\"{}\",{rest}\n", T::SCHEMA))
}

/// The entries of all whole lines, and how many bytes these have.
fn entries<T: Entry>(file: &mut File, path: &Path) -> Result<(Vec<T>, u64), LogError> {
    let mut reader = BufReader::new(file);
    let (mut entries, mut whole, mut number) = (Vec::new(), 0, 0);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = reader.read_until(b'\n', &mut line);
        let count = read.map_err(|source| LogError::Io {
            action: "read",
            path: path.to_owned(),
            source,
        })?;
        if !line.ends_with(b"\n") {
            return Ok((entries, whole));
        }
        number += 1;
        whole += count as u64;
        entries.push(entry(&line, path, number)?);
    }
}

fn entry<T: Entry>(text: &[u8], path: &Path, line: usize) -> Result<T, LogError> {
    let wrong = |source| LogError::Entry {
        path: path.to_owned(),
        line,
        schema: T::SCHEMA,
        source,
    };
    let value: Value = serde_json::from_slice(text).map_err(wrong)?;
    if value["schema"] != T::SCHEMA {
        return Err(LogError::Schema {
            path: path.to_owned(),
            line,
            schema: T::SCHEMA,
            found: value["schema"].to_string(),
        });
    }
    serde_json::from_value(value).map_err(wrong)
}
