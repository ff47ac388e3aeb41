//! A checkpoint being written: shards at their full length from the start, tensors in any order, from any thread.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::atomic::write_atomic;
use super::file::{FileInProgress, Ledger, TensorWriter};
use super::journal::Journal;
use super::output::OutputDir;
use super::plan::{ShardPlan, Slot};
use crate::error::{Error, Result};
use crate::read::checkpoint::INDEX;
use crate::sys;

/// After this many bytes the shards and the journal are flushed to the disk.
const FLUSH_EVERY_BYTES: u64 = 256 << 20;

/// Writes the tensors of a [`ShardPlan`] into an [`OutputDir`].
///
/// Different tensors may be written at the same time from different threads.
/// A run that was killed starts again with the same call; [`CheckpointWriter::is_done`] says what can be skipped.
///
/// ```
/// use serde_json::json;
/// use xgraft_checkpoint::{CheckpointWriter, Dtype, OutputDir, PlannedTensor, ShardPlan, DEFAULT_SHARD_BYTES};
///
/// let temp = tempfile::tempdir()?;
/// let out = OutputDir::create(&temp.path().join("model"), false, &json!({}))?;
/// let plan = ShardPlan::new(vec![PlannedTensor::new("w", Dtype::Bf16, [1, 2])], DEFAULT_SHARD_BYTES)?;
///
/// let writer = CheckpointWriter::create(&out, plan)?;
/// let mut tensor = writer.tensor("w")?;
/// tensor.write_f32(&[1.0, -2.0])?;
/// tensor.finish()?;
/// writer.finish()?;
/// out.commit()?;
/// assert!(temp.path().join("model/model.safetensors").exists());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct CheckpointWriter {
    dir: PathBuf,
    plan: ShardPlan,
    files: Vec<FileInProgress>,
    /// Tensor to file and slot.
    places: HashMap<String, (usize, usize)>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    done: HashSet<String>,
    open: HashSet<String>,
    journal: Journal,
    unflushed_bytes: u64,
    /// Files with bytes that are not on the disk yet.
    dirty: HashSet<PathBuf>,
}

impl CheckpointWriter {
    /// Makes the files at their full length, or takes over those of an earlier run of the same plan.
    ///
    /// # Errors
    /// [`Error::DiskFull`] before anything is written if the space does not suffice, [`Error::Io`].
    pub fn create(out: &OutputDir, plan: ShardPlan) -> Result<CheckpointWriter> {
        let dir = out.path().to_owned();
        let journal_path = out.control().join("tensors.jsonl");
        let digest = plan.digest().to_hex();
        let mut done = Journal::read(&journal_path, &digest);
        if done.is_empty() {
            remove_other_shards(&dir, &plan)?;
        }
        check_space(&dir, &plan)?;
        let mut files = Vec::with_capacity(plan.files.len());
        for layout in &plan.files {
            let file = FileInProgress::open(&dir, layout)?;
            if !file.resumed {
                done.retain(|name| !layout.slots.iter().any(|slot| slot.tensor.name == *name));
            }
            files.push(file);
        }
        if !done.is_empty() {
            // The new journal will say that these are on the disk.
            files.iter().try_for_each(sync)?;
        }
        let mut places = HashMap::new();
        for (at, layout) in plan.files.iter().enumerate() {
            places.extend(
                layout
                    .slots
                    .iter()
                    .enumerate()
                    .map(|(slot, s)| (s.tensor.name.clone(), (at, slot))),
            );
        }
        let journal = Journal::start(&journal_path, &digest, done.iter())?;
        let state = State {
            done,
            open: HashSet::new(),
            journal,
            unflushed_bytes: 0,
            dirty: HashSet::new(),
        };
        Ok(CheckpointWriter {
            dir,
            plan,
            files,
            places,
            state: Mutex::new(state),
        })
    }

    /// The plan that is being carried out.
    pub fn plan(&self) -> &ShardPlan {
        &self.plan
    }

    /// Whether the tensor is complete, in this run or an earlier one.
    pub fn is_done(&self, tensor: &str) -> bool {
        self.state().done.contains(tensor)
    }

    /// How many tensors are complete.
    pub fn done_count(&self) -> usize {
        self.state().done.len()
    }

    /// The writer of one planned tensor. A complete one may be written again, with the same bytes.
    ///
    /// # Errors
    /// [`Error::Plan`] for a name that is not planned or is being written.
    pub fn tensor(&self, name: &str) -> Result<TensorWriter<'_>> {
        let fail = |expected: &str, found: &str| Error::Plan {
            file: self.dir.clone(),
            tensor: name.to_owned(),
            expected: expected.to_owned(),
            found: found.to_owned(),
        };
        let &(file, slot) = self
            .places
            .get(name)
            .ok_or_else(|| fail("other tensors", "this one"))?;
        if !self.state().open.insert(name.to_owned()) {
            return Err(fail("one writer at a time", "a second one"));
        }
        Ok(TensorWriter::new(
            &self.files[file],
            &self.plan.files[file].slots[slot],
            self,
        ))
    }

    /// Checks that every tensor is complete, and writes the index if there are several files.
    ///
    /// The directory is then a valid checkpoint but for its configuration; [`OutputDir::commit`] flushes it to the disk.
    ///
    /// # Errors
    /// [`Error::Plan`] naming a tensor that is missing, [`Error::Io`].
    pub fn finish(self) -> Result<()> {
        let state = self.state();
        let missing = self.plan.tensors().find(|t| !state.done.contains(&t.name));
        if let Some(tensor) = missing {
            let count = self.places.len();
            return Err(Error::Plan {
                file: self.dir.clone(),
                tensor: tensor.name.clone(),
                expected: format!("all {count} tensors written"),
                found: format!("{} of them, and not this one", state.done.len()),
            });
        }
        if self.files.len() > 1 {
            write_atomic(&self.dir.join(INDEX), self.plan.index_json().as_bytes())?;
        }
        Ok(())
    }

    fn flush(&self, state: &mut State) -> Result<()> {
        let mut dirty = self.files.iter().filter(|f| state.dirty.contains(&f.path));
        dirty.try_for_each(sync)?;
        state.dirty.clear();
        state.unflushed_bytes = 0;
        state.journal.flushed()
    }

    /// The state is a few sets that are whole between any two statements, so a panic elsewhere does not spoil it.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ledger for CheckpointWriter {
    fn finished(&self, slot: &Slot, file: &FileInProgress) -> Result<()> {
        let mut state = self.state();
        state.journal.done(&slot.tensor.name)?;
        state.done.insert(slot.tensor.name.clone());
        state.open.remove(&slot.tensor.name);
        state.dirty.insert(file.path.clone());
        state.unflushed_bytes += slot.bytes;
        if state.unflushed_bytes >= FLUSH_EVERY_BYTES {
            self.flush(&mut state)?;
        }
        Ok(())
    }

    fn given_up(&self, slot: &Slot) {
        self.state().open.remove(&slot.tensor.name);
    }
}

fn sync(file: &FileInProgress) -> Result<()> {
    file.file
        .sync_data()
        .map_err(Error::io("flush", &file.path))
}

/// Compares the space that the plan still needs with the space there is.
fn check_space(dir: &Path, plan: &ShardPlan) -> Result<()> {
    let needed: u64 = plan
        .files
        .iter()
        .map(|layout| FileInProgress::missing_bytes(dir, layout))
        .sum();
    match sys::free_bytes(dir) {
        Ok(free) if free < needed => Err(Error::DiskFull {
            path: dir.to_owned(),
            needed,
            free,
        }),
        _ => Ok(()),
    }
}

/// Shards that an earlier run left under names that this plan does not have.
fn remove_other_shards(dir: &Path, plan: &ShardPlan) -> Result<()> {
    let list = || -> std::io::Result<Vec<PathBuf>> {
        std::fs::read_dir(dir)?.map(|e| Ok(e?.path())).collect()
    };
    for path in list().map_err(Error::io("list", dir))? {
        let name = path
            .file_name()
            .and_then(|n| n.to_str())
            .unwrap_or_default();
        let shard = name.starts_with("model") && name.ends_with(".safetensors") || name == INDEX;
        if shard && !plan.file_names().any(|planned| planned == name) {
            std::fs::remove_file(&path).map_err(Error::io("remove", &path))?;
        }
    }
    Ok(())
}
