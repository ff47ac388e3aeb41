//! The output directory of a job: unfinished under another name, finished all at once.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::atomic::{sweep, sync_dir, write_atomic};
use crate::error::{Error, Result};
use crate::sys;

/// Our own files inside an unfinished directory; they go when it is finished.
const CONTROL: &str = ".xgraft";
const FINGERPRINT: &str = "job.json";
const LOCK: &str = "lock";

/// A directory that is filled under the name `OUT.partial` and becomes `OUT` in one step.
///
/// A crash or a signal leaves the old `OUT`, or none, and an unfinished directory that the same job resumes.
/// The job is known by its fingerprint: everything that decides what is written (inputs, options, version).
/// While one process works on it, a lock keeps others out; the lock goes with the process, however it ends.
///
/// ```
/// use serde_json::json;
/// use xgraft_checkpoint::OutputDir;
///
/// let temp = tempfile::tempdir()?;
/// let out = temp.path().join("adapter");
///
/// let work = OutputDir::create(&out, false, &json!({"rank": 8}))?;
/// work.write_atomic("report.json", b"{}")?;
/// drop(work); // killed: nothing is there yet
/// assert!(!out.exists());
///
/// let work = OutputDir::create(&out, false, &json!({"rank": 8}))?;
/// assert!(work.resumed() && work.path().join("report.json").exists());
/// work.commit()?;
/// assert!(out.join("report.json").exists());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct OutputDir {
    out: PathBuf,
    partial: PathBuf,
    force: bool,
    resumed: bool,
    lock: Option<File>,
    finished: bool,
}

impl OutputDir {
    /// Starts, or resumes, the job of this fingerprint.
    ///
    /// With `force` an existing `out` is replaced when the job is finished, not before, and an unfinished directory of
    /// another job is discarded.
    ///
    /// # Errors
    /// [`Error::OutputExists`], [`Error::OutputLocked`], [`Error::OtherJob`], [`Error::OutputPath`],
    /// [`Error::Io`].
    pub fn create(out: &Path, force: bool, fingerprint: &Value) -> Result<OutputDir> {
        let (out, partial) = resolve(out)?;
        refuse_existing(&out, force)?;
        let control = partial.join(CONTROL);
        let lock = lock(&partial, &control)?;
        // Another process may have finished between the first look and the lock.
        refuse_existing(&out, force)?;
        let mut work = OutputDir {
            out,
            partial,
            force,
            resumed: false,
            lock: Some(lock),
            finished: false,
        };
        work.resumed = work.take_over(&control, fingerprint)?;
        Ok(work)
    }

    /// Where to write: the unfinished directory.
    pub fn path(&self) -> &Path {
        &self.partial
    }

    /// The name that it will have.
    pub fn out(&self) -> &Path {
        &self.out
    }

    /// Whether an earlier run of the same job has left files here.
    pub fn resumed(&self) -> bool {
        self.resumed
    }

    /// Writes `name` below the directory, whole or not at all; folders on the way are made.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::DiskFull`].
    pub fn write_atomic(&self, name: impl AsRef<Path>, bytes: &[u8]) -> Result<()> {
        let path = self.partial.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
        }
        write_atomic(&path, bytes)
    }

    /// Refuses an input that the finished job would replace, or that lies inside the output.
    ///
    /// # Errors
    /// [`Error::OutputPath`].
    pub fn refuse_input(&self, input: &Path) -> Result<()> {
        let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let (input, out, partial) = (real(input), real(&self.out), real(&self.partial));
        // An output below an input (`base/adapter`) harms nothing; an input at or below the output would be lost.
        if input.starts_with(&out) || input.starts_with(&partial) {
            return Err(Error::OutputPath {
                out: self.out.clone(),
                expected: "an output that does not replace an input",
                found: format!("the input {}", input.display()),
            });
        }
        Ok(())
    }

    /// The folder for files that only an unfinished job needs.
    pub(super) fn control(&self) -> PathBuf {
        self.partial.join(CONTROL)
    }

    /// Flushes everything to the disk and gives the directory its name; an old one goes only now.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::OutputExists`] if someone else has made `out` meanwhile.
    pub fn commit(mut self) -> Result<()> {
        refuse_existing(&self.out, self.force)?;
        sync_tree(&self.partial)?;
        let old = self.put_in_place()?;
        self.finished = true;
        let control = self.out.join(CONTROL);
        fs::remove_dir_all(&control).map_err(Error::io("remove", &control))?;
        sync_dir(parent_of(&self.out))?;
        if let Some(old) = old {
            remove(&old)?;
        }
        Ok(())
    }

    /// Throws the unfinished directory away.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn discard(mut self) -> Result<()> {
        self.finished = true;
        remove(&self.partial)
    }

    /// Renames; returns where the old directory is now, if there was one.
    fn put_in_place(&self) -> Result<Option<PathBuf>> {
        let rename = |from: &Path, to: &Path| {
            fs::rename(from, to).map_err(Error::io("rename into place", to))
        };
        if !exists(&self.out) {
            rename(&self.partial, &self.out)?;
            return Ok(None);
        }
        let old = with_suffix(&self.out, &format!(".old-{}", std::process::id()));
        let exchanged =
            sys::exchange(&self.partial, &self.out).map_err(Error::io("exchange", &self.out))?;
        if exchanged {
            rename(&self.partial, &old)?;
        } else {
            rename(&self.out, &old)?;
            rename(&self.partial, &self.out)?;
        }
        Ok(Some(old))
    }

    /// Decides whether what lies in the directory is ours to resume, and writes the fingerprint if it is new.
    fn take_over(&self, control: &Path, fingerprint: &Value) -> Result<bool> {
        let path = control.join(FINGERPRINT);
        let canonical = canonical(fingerprint).to_string();
        // Our folder without a fingerprint is what a power cut leaves of one that was just made.
        let before = fs::read_to_string(&path).unwrap_or_default();
        sweep(&self.partial)?;
        let content = has_content(&self.partial)?;
        if before == canonical {
            return Ok(content);
        }
        if content && !self.force {
            return Err(Error::OtherJob {
                partial: self.partial.clone(),
                expected: "nothing, or the unfinished output of the same job".to_owned(),
                found: "the unfinished output of a job with other inputs or options".to_owned(),
                hint: "repeat the earlier command to resume it, or pass --force to discard it",
            });
        }
        self.clear()?;
        fs::write(&path, canonical).map_err(Error::io("write", &path))?;
        Ok(false)
    }

    /// Removes everything but our own folder with the lock in it.
    fn clear(&self) -> Result<()> {
        for path in entries(&self.partial)? {
            remove(&path)?;
        }
        for path in entries(&self.control())? {
            if !path.ends_with(LOCK) {
                remove(&path)?;
            }
        }
        Ok(())
    }
}

impl Drop for OutputDir {
    fn drop(&mut self) {
        // A job that failed before it wrote anything leaves nothing behind.
        if !self.finished && matches!(has_content(&self.partial), Ok(false)) {
            let _ = remove(&self.partial);
        }
        drop(self.lock.take());
    }
}

/// The absolute output path and the unfinished directory beside it; the folder that holds both is made.
fn resolve(out: &Path) -> Result<(PathBuf, PathBuf)> {
    let fail = |expected, found: String| {
        Err(Error::OutputPath {
            out: out.to_owned(),
            expected,
            found,
        })
    };
    let Some(name) = out.file_name() else {
        return fail(
            "the name of a new directory",
            format!("{:?}", out.display().to_string()),
        );
    };
    let parent = match out.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
    let parent = parent
        .canonicalize()
        .map_err(Error::io("resolve", parent))?;
    let absolute = parent.join(name);
    let here = std::env::current_dir().map_err(Error::io("find", Path::new(".")))?;
    if here.starts_with(&absolute) {
        return fail(
            "a directory that is not the current one",
            "the current directory, or one above it".into(),
        );
    }
    let partial = with_suffix(&absolute, ".partial");
    Ok((absolute, partial))
}

fn refuse_existing(out: &Path, force: bool) -> Result<()> {
    if !exists(out) {
        return Ok(());
    }
    if !force {
        return Err(Error::OutputExists {
            out: out.to_owned(),
        });
    }
    if !out.is_dir() {
        let found = "a file of that name".to_owned();
        return Err(Error::OutputPath {
            out: out.to_owned(),
            expected: "a directory to replace",
            found,
        });
    }
    Ok(())
}

/// Takes the lock of an unfinished directory, making both if need be.
fn lock(partial: &Path, control: &Path) -> Result<File> {
    // A few rounds: the holder may finish and rename the directory while we open the file in it.
    for _ in 0..16 {
        let foreign = exists(partial) && !control.exists() && has_content(partial)?;
        if foreign {
            return Err(Error::OtherJob {
                partial: partial.to_owned(),
                expected: "nothing, or the unfinished output of the same job".to_owned(),
                found: "a directory that is none of ours".to_owned(),
                hint: "move it away, or choose another output",
            });
        }
        fs::create_dir_all(control).map_err(Error::io("create", control))?;
        let path = control.join(LOCK);
        let opened = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path);
        let file = match opened {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
            Err(e) => return Err(Error::io("create", &path)(e)),
        };
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::OutputLocked {
                    partial: partial.to_owned(),
                });
            }
            Err(TryLockError::Error(e)) => {
                tracing::warn!("{}: this file system has no locks: {e}", path.display());
            }
        }
        if same_file(&file, &path) {
            return Ok(file);
        }
    }
    Err(Error::OutputLocked {
        partial: partial.to_owned(),
    })
}

fn same_file(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (file.metadata(), fs::metadata(path)) {
        (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
        _ => false,
    }
}

/// The same value with the keys of its objects sorted, so that equal jobs have equal texts.
fn canonical(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let sorted: std::collections::BTreeMap<_, _> = map.iter().collect();
            Value::Object(
                sorted
                    .into_iter()
                    .map(|(k, v)| (k.clone(), canonical(v)))
                    .collect(),
            )
        }
        Value::Array(list) => list.iter().map(canonical).collect(),
        other => other.clone(),
    }
}

/// Everything in a directory but our own folder.
fn entries(dir: &Path) -> Result<Vec<PathBuf>> {
    let read =
        || -> std::io::Result<Vec<PathBuf>> { fs::read_dir(dir)?.map(|e| Ok(e?.path())).collect() };
    let all = read().map_err(Error::io("list", dir))?;
    Ok(all.into_iter().filter(|p| !p.ends_with(CONTROL)).collect())
}

fn has_content(dir: &Path) -> Result<bool> {
    Ok(!entries(dir)?.is_empty())
}

/// Whether anything has this name, a broken link too.
fn exists(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

fn remove(path: &Path) -> Result<()> {
    let is_dir = fs::symlink_metadata(path).is_ok_and(|m| m.is_dir());
    let removed = if is_dir {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    };
    removed.map_err(Error::io("remove", path))
}

fn sync_tree(dir: &Path) -> Result<()> {
    for path in entries(dir)? {
        let kind = fs::symlink_metadata(&path)
            .map_err(Error::io("read", &path))?
            .file_type();
        if kind.is_dir() {
            sync_tree(&path)?;
        } else if kind.is_file() {
            File::open(&path)
                .and_then(|f| f.sync_all())
                .map_err(Error::io("flush", &path))?;
        }
    }
    sync_dir(dir)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(suffix);
    path.with_file_name(name)
}

fn parent_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}
