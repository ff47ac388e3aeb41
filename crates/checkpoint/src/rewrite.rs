//! A checkpoint made of another, weight by weight: kept as it is, or replaced by what a function makes of it.

use std::collections::HashSet;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::model::weight::{TensorInfo, Weight};
use crate::read::checkpoint::Checkpoint;
use crate::write::atomic::write_atomic;
use crate::write::file::TensorWriter;
use crate::write::output::OutputDir;
use crate::write::plan::{PlannedTensor, ShardPlan};
use crate::write::side_files::copy_side_files;
use crate::write::writer::CheckpointWriter;

/// Where the notes of finished weights lie while the work is unfinished.
const NOTES: &str = "modules";

/// What becomes of a weight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// Its tensors are copied, byte for byte.
    Keep,
    /// Its tensors are replaced by these, whose bytes the conversion writes in the same order.
    Replace(Vec<PlannedTensor>),
}

/// Takes the bytes of the tensors that a weight is replaced by.
#[derive(Debug)]
pub struct Sink<'a> {
    writer: &'a CheckpointWriter,
    planned: std::slice::Iter<'a, PlannedTensor>,
}

impl<'a> Sink<'a> {
    fn new(writer: &'a CheckpointWriter, planned: &'a [PlannedTensor]) -> Self {
        Self {
            writer,
            planned: planned.iter(),
        }
    }

    /// Writes the next planned tensor, row-major, little-endian, in the parts that `write` gives.
    ///
    /// # Errors
    /// Those of `write`, those of writing, and parts that are not the planned tensor together.
    ///
    /// # Panics
    /// If all planned tensors are written.
    pub fn tensor<E: From<Error>>(
        &mut self,
        write: impl FnOnce(&mut TensorWriter<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        #[expect(clippy::expect_used, reason = "a bug of the caller, and documented")]
        let planned = self.planned.next().expect("one more planned tensor");
        let mut tensor = self.writer.tensor(&planned.name)?;
        write(&mut tensor)?;
        Ok(tensor.finish()?)
    }

    /// Writes all planned tensors that are left, which must be as many.
    ///
    /// # Errors
    /// As [`Self::tensor`].
    ///
    /// # Panics
    /// As [`Self::tensor`].
    pub fn tensors(&mut self, tensors: &[Vec<u8>]) -> Result<()> {
        for bytes in tensors {
            self.tensor(|tensor| tensor.write(bytes))?;
        }
        Ok(())
    }
}

/// One weight that is done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rewritten<N> {
    /// The tensor that holds its values or codes.
    pub tensor: String,
    /// The shard of the source.
    pub file: String,
    /// BLAKE3 of the source's bytes, in hexadecimal.
    pub blake3: String,
    /// Bytes read.
    pub bytes_in: u64,
    /// Bytes written.
    pub bytes_out: u64,
    /// The conversion's note; `None` for a weight that was kept.
    pub note: Option<N>,
}

/// How far a rewriting is.
#[derive(Debug)]
#[non_exhaustive]
pub enum RewriteEvent<'a> {
    /// The plan is made.
    Planned {
        /// Bytes to read.
        bytes: u64,
        /// Bytes whose work an interrupted run had finished.
        resumed: u64,
    },
    /// A weight is begun.
    Begin {
        /// Its tensor.
        tensor: &'a str,
    },
    /// A weight is done.
    Done {
        /// Bytes of the source.
        bytes: u64,
    },
}

/// Reads a weight that is replaced, and takes the digest of its tensors on the way: [`Checkpoint::load`], or another form.
pub type Load<'a, M> = dyn Fn(&Weight) -> Result<(M, Digest)> + 'a;

/// Writes the bytes that replace a weight, and gives what the caller wants to know of it at the end, also after an interruption.
pub type Convert<'a, M, N, E> = dyn Fn(&Weight, M, &mut Sink<'_>) -> Result<N, E> + 'a;

/// The functions of a rewriting.
pub struct Rewrite<'a, M, N, E> {
    /// What becomes of each weight.
    pub fate: &'a dyn Fn(&Weight) -> Fate,
    /// Reads a weight that is replaced.
    pub load: &'a Load<'a, M>,
    /// Writes what a weight is replaced by.
    pub convert: &'a Convert<'a, M, N, E>,
    /// Told of progress; its error ends the work, which can then be resumed.
    pub on_event: &'a dyn Fn(RewriteEvent<'_>) -> Result<(), E>,
    /// The text of the new `config.json`.
    pub config: &'a str,
    /// The most bytes of tensors in one file.
    pub max_shard_bytes: u64,
}

impl<M, N, E> std::fmt::Debug for Rewrite<'_, M, N, E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rewrite")
            .field("max_shard_bytes", &self.max_shard_bytes)
            .finish_non_exhaustive()
    }
}

/// Rewrites `source` into the open directory `out`; the caller commits it.
///
/// One weight is in memory at a time. Finished weights are journalled, so the same job resumes where it was stopped.
///
/// # Errors
/// Those of reading and writing, and those of the conversion.
///
/// # Panics
/// If a conversion writes another number of tensors than was planned.
pub fn rewrite<M, N, E>(
    source: &Checkpoint,
    out: &OutputDir,
    job: &Rewrite<'_, M, N, E>,
) -> Result<Vec<Rewritten<N>>, E>
where
    N: Serialize + DeserializeOwned,
    E: From<Error>,
{
    let items = items(source, job.fate)?;
    let planned = items
        .iter()
        .flat_map(|item| item.planned.iter().cloned())
        .collect();
    let plan = ShardPlan::new(planned, job.max_shard_bytes)?;
    let writer = CheckpointWriter::create(out, plan)?;
    let notes = out.path().join(NOTES);
    std::fs::create_dir_all(&notes).map_err(Error::io("create", &notes))?;
    let mut done = Vec::with_capacity(items.len());
    for item in &items {
        done.push(finished::<N>(&notes, item, &writer));
    }
    let resumed = done.iter().flatten().map(|d| d.bytes_in).sum();
    (job.on_event)(RewriteEvent::Planned {
        bytes: source.total_bytes(),
        resumed,
    })?;
    let mut rewritten = Vec::with_capacity(items.len());
    for (item, done) in items.iter().zip(done) {
        rewritten.push(match done {
            Some(done) => done,
            None => {
                (job.on_event)(RewriteEvent::Begin {
                    tensor: item.name(),
                })?;
                let one = rewrite_one(source, item, &writer, job)?;
                note(&notes, &one)?;
                (job.on_event)(RewriteEvent::Done {
                    bytes: one.bytes_in,
                })?;
                one
            }
        });
    }
    writer.finish()?;
    std::fs::remove_dir_all(&notes).map_err(Error::io("remove", &notes))?;
    write_atomic(&out.path().join("config.json"), job.config.as_bytes())?;
    copy_side_files(source.dir(), out.path())?;
    Ok(rewritten)
}

/// A weight with its tensors, or a tensor that belongs to no weight.
struct Item<'a> {
    weight: Option<&'a Weight>,
    stored: Vec<&'a TensorInfo>,
    planned: Vec<PlannedTensor>,
    replaced: bool,
}

impl Item<'_> {
    fn name(&self) -> &str {
        &self.stored[0].name
    }

    fn bytes_in(&self) -> u64 {
        self.stored.iter().map(|t| t.bytes).sum()
    }
}

fn items<'a>(source: &'a Checkpoint, fate: &dyn Fn(&Weight) -> Fate) -> Result<Vec<Item<'a>>> {
    let mut items = Vec::new();
    let mut seen = HashSet::new();
    for weight in source.weights() {
        let stored = source.stored_tensors(weight)?;
        seen.extend(stored.iter().map(|t| t.name.as_str()));
        items.push(match fate(weight) {
            Fate::Keep => kept(Some(weight), stored),
            Fate::Replace(planned) => Item {
                weight: Some(weight),
                stored,
                planned,
                replaced: true,
            },
        });
    }
    let rest = source.tensors().filter(|t| !seen.contains(t.name.as_str()));
    items.extend(rest.map(|tensor| kept(None, vec![tensor])));
    Ok(items)
}

fn kept<'a>(weight: Option<&'a Weight>, stored: Vec<&'a TensorInfo>) -> Item<'a> {
    let planned = stored
        .iter()
        .map(|t| PlannedTensor::new(t.name.clone(), t.dtype, t.shape.clone()))
        .collect();
    Item {
        weight,
        stored,
        planned,
        replaced: false,
    }
}

/// What an earlier run noted of a weight whose tensors are all in place.
fn finished<N: DeserializeOwned>(
    notes: &Path,
    item: &Item<'_>,
    writer: &CheckpointWriter,
) -> Option<Rewritten<N>> {
    if !item.planned.iter().all(|t| writer.is_done(&t.name)) {
        return None;
    }
    let text = std::fs::read(notes.join(format!("{}.json", item.name()))).ok()?;
    serde_json::from_slice(&text).ok()
}

fn note<N: Serialize>(notes: &Path, one: &Rewritten<N>) -> Result<()> {
    let path = notes.join(format!("{}.json", one.tensor));
    let json = serde_json::to_vec(one).map_err(|e| Error::Io {
        action: "encode",
        path: path.clone(),
        source: e.into(),
    })?;
    write_atomic(&path, &json)
}

fn rewrite_one<M, N, E: From<Error>>(
    source: &Checkpoint,
    item: &Item<'_>,
    writer: &CheckpointWriter,
    job: &Rewrite<'_, M, N, E>,
) -> Result<Rewritten<N>, E> {
    let (digest, bytes_out, note) = match item.weight {
        Some(weight) if item.replaced => {
            let (matrix, digest) = (job.load)(weight)?;
            let mut sink = Sink::new(writer, &item.planned);
            let note = (job.convert)(weight, matrix, &mut sink)?;
            check_count(item, item.planned.len() - sink.planned.len());
            let bytes_out = item.planned.iter().filter_map(PlannedTensor::bytes);
            (digest, bytes_out.sum(), Some(note))
        }
        _ => (copy(source, item, writer)?, item.bytes_in(), None),
    };
    Ok(Rewritten {
        tensor: item.name().to_owned(),
        file: source.shards()[item.stored[0].shard].display().to_string(),
        blake3: digest.to_hex(),
        bytes_in: item.bytes_in(),
        bytes_out,
        note,
    })
}

fn check_count(item: &Item<'_>, converted: usize) {
    assert_eq!(converted, item.planned.len(), "tensors of {}", item.name());
}

/// Copies an item's tensors; the digest of several is that of their digests.
fn copy(source: &Checkpoint, item: &Item<'_>, writer: &CheckpointWriter) -> Result<Digest> {
    let mut digests = Vec::with_capacity(item.stored.len());
    for stored in &item.stored {
        let mut tensor = writer.tensor(&stored.name)?;
        digests.push(source.stream(stored, |chunk| tensor.write(chunk))?);
        tensor.finish()?;
    }
    Ok(Digest::of_all(&digests))
}
