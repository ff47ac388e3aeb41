//! An adapter directory being written.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::config::AdapterConfig;
use super::names::{AdapterPart, peft_name};
use super::open::LoraKind;
use super::{CONFIG, WEIGHTS};
use crate::error::{Error, Result};
use crate::format::dtype::Dtype;
use crate::write::atomic::{temporary_beside, write_atomic};
use crate::write::file::{FileInProgress, Ledger, TensorWriter};
use crate::write::plan::{FileLayout, PlannedTensor, Slot, check_names};

/// Writes `adapter_model.safetensors` and `adapter_config.json` into a directory.
///
/// The weights have a temporary name until [`AdapterWriter::finish`]; dropped before, the writer takes them away.
/// The bytes are those that PEFT would have written for the same tensors.
///
/// ```
/// use xgraft_checkpoint::{Adapter, AdapterConfig, AdapterPart, AdapterWriter, Dtype, LoraKind, peft_name, planned_pair};
///
/// let temp = tempfile::tempdir()?;
/// let module = "model.layers.0.self_attn.q_proj";
/// let pair = planned_pair(module, LoraKind::Linear, 1, (3, 2), Dtype::F32);
/// let config = AdapterConfig::new("base", 1, vec!["q_proj".to_owned()]);
///
/// let writer = AdapterWriter::create(temp.path(), config, pair.to_vec())?;
/// for (part, values) in [(AdapterPart::LoraA, vec![1.0, 2.0]), (AdapterPart::LoraB, vec![0.5, 0.0, -0.5])] {
///     let mut tensor = writer.tensor(&peft_name(module, part))?;
///     tensor.write_f32(&values)?;
///     tensor.finish()?;
/// }
/// writer.finish()?;
///
/// let adapter = Adapter::open(temp.path())?;
/// assert_eq!(adapter.module(module).map(|m| m.weight_shape()), Some((3, 2)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct AdapterWriter {
    dir: PathBuf,
    config: AdapterConfig,
    layout: FileLayout,
    file: FileInProgress,
    places: HashMap<String, usize>,
    state: Mutex<State>,
    finished: bool,
}

#[derive(Debug, Default)]
struct State {
    done: HashSet<String>,
    open: HashSet<String>,
}

/// The two tensors of one module's update of rank `rank`, named as PEFT names them.
///
/// **Shapes** `weight_shape` is that of the weight: [out, in], or [vocab, hidden] of an embedding.
pub fn planned_pair(
    module: &str,
    kind: LoraKind,
    rank: usize,
    weight_shape: (usize, usize),
    dtype: Dtype,
) -> [PlannedTensor; 2] {
    let (rows, cols) = weight_shape;
    let (parts, outer, inner) = match kind {
        LoraKind::Linear => ([AdapterPart::LoraA, AdapterPart::LoraB], rows, cols),
        LoraKind::Embedding => (
            [AdapterPart::EmbeddingA, AdapterPart::EmbeddingB],
            cols,
            rows,
        ),
    };
    [
        PlannedTensor::new(peft_name(module, parts[0]), dtype, [rank, inner]),
        PlannedTensor::new(peft_name(module, parts[1]), dtype, [outer, rank]),
    ]
}

impl AdapterWriter {
    /// Makes the weights' file at its full length in `dir`, which is made if need be.
    ///
    /// # Errors
    /// [`Error::Plan`] for a name that comes twice, [`Error::DiskFull`], [`Error::Io`].
    pub fn create(
        dir: &Path,
        config: AdapterConfig,
        tensors: Vec<PlannedTensor>,
    ) -> Result<AdapterWriter> {
        check_names(&tensors)?;
        fs::create_dir_all(dir).map_err(Error::io("create", dir))?;
        let temporary = temporary_beside(&dir.join(WEIGHTS));
        let name = temporary.file_name().unwrap_or_default().to_string_lossy();
        let layout = FileLayout::new(&name, tensors)?;
        let file = FileInProgress::open(dir, &layout)
            .inspect_err(|_| drop(fs::remove_file(&temporary)))?;
        let places = layout
            .slots
            .iter()
            .enumerate()
            .map(|(at, s)| (s.tensor.name.clone(), at))
            .collect();
        let state = Mutex::default();
        Ok(AdapterWriter {
            dir: dir.to_owned(),
            config,
            layout,
            file,
            places,
            state,
            finished: false,
        })
    }

    /// Every planned tensor, in the order of the file.
    pub fn tensors(&self) -> impl Iterator<Item = &PlannedTensor> {
        self.layout.slots.iter().map(|s| &s.tensor)
    }

    /// The writer of one planned tensor; different ones may be written at the same time.
    ///
    /// # Errors
    /// [`Error::Plan`] for a name that is not planned or is being written.
    pub fn tensor(&self, name: &str) -> Result<TensorWriter<'_>> {
        let &slot = self
            .places
            .get(name)
            .ok_or_else(|| self.off_plan(name, "other tensors", "this one"))?;
        if !self.state().open.insert(name.to_owned()) {
            return Err(self.off_plan(name, "one writer at a time", "a second one"));
        }
        Ok(TensorWriter::new(
            &self.file,
            &self.layout.slots[slot],
            self,
        ))
    }

    /// Checks that every tensor is complete, gives the weights their name and writes the configuration.
    ///
    /// # Errors
    /// [`Error::Plan`] naming a tensor that is missing, [`Error::Io`].
    pub fn finish(mut self) -> Result<()> {
        let missing = {
            let state = self.state();
            self.layout
                .slots
                .iter()
                .find(|s| !state.done.contains(&s.tensor.name))
                .map(|s| s.tensor.name.clone())
        };
        if let Some(name) = missing {
            return Err(self.off_plan(&name, "every tensor written", "all but this one"));
        }
        self.file
            .file
            .sync_all()
            .map_err(Error::io("flush", &self.file.path))?;
        let path = self.dir.join(WEIGHTS);
        fs::rename(&self.file.path, &path).map_err(Error::io("rename into place", &path))?;
        self.finished = true;
        write_atomic(&self.dir.join(CONFIG), self.config.to_json().as_bytes())
    }

    fn off_plan(&self, tensor: &str, expected: &str, found: &str) -> Error {
        Error::Plan {
            file: self.dir.join(WEIGHTS),
            tensor: tensor.to_owned(),
            expected: expected.to_owned(),
            found: found.to_owned(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ledger for AdapterWriter {
    fn finished(&self, slot: &Slot, _file: &FileInProgress) -> Result<()> {
        let mut state = self.state();
        state.open.remove(&slot.tensor.name);
        state.done.insert(slot.tensor.name.clone());
        Ok(())
    }

    fn given_up(&self, slot: &Slot) {
        self.state().open.remove(&slot.tensor.name);
    }
}

impl Drop for AdapterWriter {
    fn drop(&mut self) {
        if !self.finished {
            let _ = fs::remove_file(&self.file.path);
        }
    }
}
