//! Who works on what, when several processes or hosts share a folder.
//!
//! A claim is a file that is created exclusively, which every file system does for one process only; it is never changed and
//! never removed. Whoever takes over the question of a dead process creates the claim of the next generation. A process is
//! alive while it holds the lock of its own file; from another host, while the count in that file goes up.

use std::collections::HashMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::RunError;
use super::ledger::Key;

/// The claims of a run, and this process's part in them.
#[derive(Debug)]
pub(crate) struct Claims {
    folder: PathBuf,
    workers: PathBuf,
    me: String,
    host: String,
    heart: File,
    beats: u64,
    lease: Duration,
    seen: HashMap<String, (String, Instant)>,
}

/// How a claim went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// The question is ours, in this generation.
    Ours(u32),
    /// Somebody else has it.
    Theirs,
}

/// A name that no other process has, nor a second call in this one.
fn unique(host: &str) -> String {
    static CALLS: AtomicU64 = AtomicU64::new(0);
    let time = SystemTime::now().duration_since(UNIX_EPOCH);
    let nanos = time.map_or(0, |time| time.as_nanos());
    let call = CALLS.fetch_add(1, Ordering::Relaxed);
    format!("{host}.{}.{nanos:x}-{call}", std::process::id())
}

/// The path beside `path` under which this writer alone prepares it.
pub(crate) fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}", unique(&host())))
}

impl Claims {
    /// Joins the run in `out`. A process on another host counts as dead when its file has stood still for `lease`.
    pub(crate) fn join(out: &Path, lease: Duration) -> Result<Self, RunError> {
        let (folder, workers) = (out.join("claims"), out.join("workers"));
        let host = host();
        let me = unique(&host);
        // Whoever sees the file sees it locked: the name comes last.
        let (hidden, path) = (workers.join(format!(".{me}")), workers.join(&me));
        let heart = File::create(&hidden).map_err(RunError::io("create", &hidden))?;
        heart.lock().map_err(RunError::io("lock", &hidden))?;
        std::fs::rename(&hidden, &path).map_err(RunError::io("rename", &hidden))?;
        Ok(Self {
            folder,
            workers,
            me,
            host,
            heart,
            beats: 0,
            lease,
            seen: HashMap::new(),
        })
    }

    /// The name of this process, also that of its log.
    pub(crate) fn me(&self) -> &str {
        &self.me
    }

    /// How often [`Self::beat`] is due.
    pub(crate) fn interval(&self) -> Duration {
        self.lease / 4
    }

    /// Tells the others that this process is alive.
    pub(crate) fn beat(&mut self) -> Result<(), RunError> {
        self.beats += 1;
        let text = format!("{:020}\n", self.beats);
        let written = self
            .heart
            .rewind()
            .and_then(|()| self.heart.write_all(text.as_bytes()));
        written.map_err(RunError::io("write", &self.workers.join(&self.me)))
    }

    /// Tries to get a question. `open`: the claims up to this generation came to nothing.
    pub(crate) fn take(&mut self, key: Key, open: Option<u32>) -> Result<Claim, RunError> {
        let mut generation = open.map_or(0, |generation| generation + 1);
        loop {
            if self.create(key, generation)? {
                return Ok(Claim::Ours(generation));
            }
            let holder = self.holder(key, generation)?;
            if holder.is_none_or(|holder| self.is_alive(&holder)) {
                return Ok(Claim::Theirs);
            }
            generation += 1;
        }
    }

    fn path(&self, key: Key, generation: u32) -> PathBuf {
        let (question, run) = key;
        self.folder.join(format!("{question}-{run}.{generation}"))
    }

    /// The claim appears with its holder's name in it, or not at all.
    fn create(&self, key: Key, generation: u32) -> Result<bool, RunError> {
        let path = self.path(key, generation);
        if path.exists() {
            return Ok(false);
        }
        let opened = OpenOptions::new().write(true).create_new(true).open(&path);
        match opened {
            Ok(mut file) => {
                let written = file.write_all(self.me.as_bytes());
                written.map_err(RunError::io("write", &path))?;
                Ok(true)
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(RunError::io("create", &path)(error)),
        }
    }

    /// None while the claim's name is not written yet.
    fn holder(&mut self, key: Key, generation: u32) -> Result<Option<String>, RunError> {
        let path = self.path(key, generation);
        let name = std::fs::read_to_string(&path).map_err(RunError::io("read", &path))?;
        if !name.is_empty() {
            return Ok(Some(name));
        }
        // Its writer died between creating and writing, if the file stays empty.
        let path = path.display().to_string();
        let old = self.unchanged_for(path, String::new()) >= self.lease;
        Ok(old.then(String::new))
    }

    fn is_alive(&mut self, worker: &str) -> bool {
        if worker == self.me {
            return true;
        }
        let path = self.workers.join(worker);
        let Ok(file) = File::open(&path) else {
            return false;
        };
        if worker
            .strip_prefix(&self.host)
            .is_some_and(|rest| rest.starts_with('.'))
        {
            // The lock goes with the process, however it ends.
            return matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock));
        }
        let beats = std::fs::read_to_string(&path).unwrap_or_default();
        self.unchanged_for(worker.to_owned(), beats) < self.lease
    }

    /// For how long something has been seen as it is now.
    fn unchanged_for(&mut self, what: String, now: String) -> Duration {
        let seen = self
            .seen
            .entry(what)
            .or_insert_with(|| (now.clone(), Instant::now()));
        if seen.0 != now {
            *seen = (now, Instant::now());
        }
        seen.1.elapsed()
    }
}

/// The name of this machine since it was started: containers may share the rest of it.
fn host() -> String {
    let name = rustix::system::uname();
    let name: String = name
        .nodename()
        .to_string_lossy()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect();
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let boot: String = boot.chars().take(8).collect();
    format!("{name}-{}", boot.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for name in ["claims", "workers"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        folder
    }

    const LEASE: Duration = Duration::from_millis(60);

    #[test]
    fn one_of_two_gets_a_question() {
        let folder = folder();
        let mut a = Claims::join(folder.path(), LEASE).unwrap();
        let mut b = Claims::join(folder.path(), LEASE).unwrap();
        assert_eq!(a.take((0, 0), None).unwrap(), Claim::Ours(0));
        assert_eq!(b.take((0, 0), None).unwrap(), Claim::Theirs);
        assert_eq!(b.take((0, 1), None).unwrap(), Claim::Ours(0));
    }

    #[test]
    fn the_question_of_a_dead_process_is_taken_over_by_one() {
        let folder = folder();
        let mut a = Claims::join(folder.path(), LEASE).unwrap();
        assert_eq!(a.take((3, 0), None).unwrap(), Claim::Ours(0));
        drop(a);
        let mut b = Claims::join(folder.path(), LEASE).unwrap();
        let mut c = Claims::join(folder.path(), LEASE).unwrap();
        assert_eq!(b.take((3, 0), None).unwrap(), Claim::Ours(1));
        assert_eq!(c.take((3, 0), None).unwrap(), Claim::Theirs);
    }

    #[test]
    fn a_claim_that_came_to_nothing_is_followed_by_the_next() {
        let folder = folder();
        let mut a = Claims::join(folder.path(), LEASE).unwrap();
        assert_eq!(a.take((1, 0), None).unwrap(), Claim::Ours(0));
        assert_eq!(a.take((1, 0), Some(0)).unwrap(), Claim::Ours(1));
    }

    #[test]
    fn a_process_of_another_host_is_dead_when_its_count_stands_still() {
        let folder = folder();
        let far = folder.path().join("workers/elsewhere.1.2");
        std::fs::write(&far, "1").unwrap();
        std::fs::write(folder.path().join("claims/0-0.0"), "elsewhere.1.2").unwrap();
        let mut a = Claims::join(folder.path(), LEASE).unwrap();
        assert_eq!(a.take((0, 0), None).unwrap(), Claim::Theirs);
        std::thread::sleep(LEASE);
        std::fs::write(&far, "2").unwrap();
        assert_eq!(a.take((0, 0), None).unwrap(), Claim::Theirs);
        std::thread::sleep(LEASE);
        assert_eq!(a.take((0, 0), None).unwrap(), Claim::Ours(1));
    }
}
