//! A model directory: headers read, everything checked, bytes on request.

use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::grouped;
use super::load;
use super::mapped::{self, MappedWeight, Window};
use super::matrix::WeightMatrix;
use super::packed::PackedMatrix;
use super::store::{ShardIdentity, Store};
use super::stream::Hash;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::format::dtype::Dtype;
use crate::model::bitsandbytes::{MAX_STATE_BYTES, QuantState, STATE};
use crate::model::config::ModelConfig;
use crate::model::fold::Fold;
use crate::model::quantization::Quantization;
use crate::model::weight::{Stored, TensorInfo, Weight};

pub(crate) const SINGLE: &str = "model.safetensors";
pub(crate) const INDEX: &str = "model.safetensors.index.json";

/// A model directory as it comes from the hub, opened by its headers.
///
/// Nothing but headers and JSON is read by [`Checkpoint::open`] (bitsandbytes keeps JSON in tensors); a matrix is read when it is asked for, in chunks of
/// [`CHUNK_BYTES`](crate::CHUNK_BYTES), so memory follows the largest matrix and never the shard.
/// Several threads may read from one checkpoint.
#[derive(Debug)]
pub struct Checkpoint {
    config: ModelConfig,
    quantization: Quantization,
    store: Store,
    weights: Vec<Weight>,
    by_module: HashMap<String, usize>,
}

impl Checkpoint {
    /// Opens a directory with `config.json` and `model.safetensors`, or shards with their index.
    ///
    /// # Errors
    /// When a file is missing, damaged or contradicts another: headers against file lengths, the index
    /// against the shards, codes against scales, all of them against the configuration.
    pub fn open(dir: impl AsRef<Path>) -> Result<Checkpoint> {
        let dir = dir.as_ref();
        check_directory(dir)?;
        let config = ModelConfig::read(&dir.join("config.json"))?;
        let store = open_store(dir)?;
        let quantization = Quantization::from_config(&config)?;
        let states = states(&store)?;
        let fold = Fold {
            config: &config,
            quantization: &quantization,
            tensors: &store.tensors,
            states: &states,
            shards: &store.paths,
        };
        let weights = fold.weights()?;
        let mut by_module = HashMap::with_capacity(weights.len());
        for (at, weight) in weights.iter().enumerate() {
            if weight.tensor.strip_prefix(&weight.module) == Some(".weight") {
                by_module.insert(weight.module.clone(), at);
            } else {
                by_module.entry(weight.module.clone()).or_insert(at);
            }
        }
        Ok(Checkpoint {
            config,
            quantization,
            store,
            weights,
            by_module,
        })
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.store.dir
    }

    /// Its `config.json`.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The layout of its quantized weights.
    pub fn quantization(&self) -> &Quantization {
        &self.quantization
    }

    /// Every tensor of every shard, sorted by name.
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = &TensorInfo> {
        self.store.tensors.values()
    }

    /// The tensor of this name.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.store.tensors.get(name)
    }

    /// The names of the shards, below the directory.
    pub fn shards(&self) -> &[PathBuf] {
        &self.store.names
    }

    /// What tells these shards from other versions of them, without reading their tensors.
    pub fn identities(&self) -> &[ShardIdentity] {
        &self.store.identities
    }

    /// The logical weights in natural order: codes and scales of one layer are one weight.
    pub fn weights(&self) -> &[Weight] {
        &self.weights
    }

    /// The weight of a module such as `model.layers.0.self_attn.q_proj`; its `weight` rather than its bias.
    pub fn weight(&self, module: &str) -> Option<&Weight> {
        self.by_module.get(module).map(|&at| &self.weights[at])
    }

    /// The tensors that store a weight: its values, or its codes and then what belongs to them, the scales first.
    ///
    /// # Errors
    /// [`Error::NoSuchTensor`] for a weight of another checkpoint.
    pub fn stored_tensors(&self, weight: &Weight) -> Result<Vec<&TensorInfo>> {
        let mut tensors = vec![self.store.tensor(&weight.tensor)?];
        for part in weight.part_tensors() {
            tensors.push(self.store.tensor(part)?);
        }
        Ok(tensors)
    }

    /// Whether the output projection is the embedding: there is no `lm_head.weight`, and the configuration does not deny it.
    pub fn tied_embeddings(&self) -> bool {
        self.config.tie_word_embeddings != Some(false) && self.tensor("lm_head.weight").is_none()
    }

    /// Decoder layers: by the configuration, else by the names.
    pub fn layer_count(&self) -> usize {
        let named = || {
            self.weights
                .iter()
                .filter_map(Weight::layer)
                .max()
                .map_or(0, |last| last + 1)
        };
        self.config.num_hidden_layers.unwrap_or_else(named)
    }

    /// Bytes of all tensors.
    pub fn total_bytes(&self) -> u64 {
        self.tensors().map(|t| t.bytes).sum()
    }

    /// Reads a whole weight in its stored form, with BLAKE3 of its bytes taken on the way;
    /// of codes and scales the [`Digest::of_all`] of both.
    ///
    /// Memory: the matrix and a few chunks. Every element is checked to be finite.
    ///
    /// # Errors
    /// [`Error::NotFinite`] with row and column, [`Error::Tensor`] for integers, [`Error::Io`].
    pub fn load(&self, weight: &Weight) -> Result<(WeightMatrix, Digest)> {
        let (rows, _) = weight.matrix_shape();
        let (matrix, digests) = load::rows(&self.store, weight, 0..rows, Hash::Yes)?;
        Ok((matrix, Digest::of_all(&digests)))
    }

    /// Reads a whole weight of packed integers and leaves it packed, with the digest of [`Checkpoint::load`]; `None` for any
    /// other weight.
    ///
    /// # Errors
    /// As [`Checkpoint::load`].
    pub fn load_packed(&self, weight: &Weight) -> Result<Option<(PackedMatrix, Digest)>> {
        let Stored::Grouped(stored) = &weight.stored else {
            return Ok(None);
        };
        let (matrix, digests) = grouped::packed(&self.store, weight, stored)?;
        Ok(Some((matrix, Digest::of_all(&digests))))
    }

    /// Reads some rows of a weight in its stored form. Packed integers lie across rows: they are read whole for any of
    /// them, so a caller that wants all rows loads them once.
    ///
    /// # Panics
    /// If the range leaves the weight, or starts inside a block of scales.
    ///
    /// # Errors
    /// As [`Checkpoint::load`].
    pub fn load_rows(&self, weight: &Weight, rows: Range<usize>) -> Result<WeightMatrix> {
        load::rows(&self.store, weight, rows, Hash::No).map(|(matrix, _)| matrix)
    }

    /// Reads some rows of a weight as f32 into `out`, which is cleared first; any range, whatever the blocks. Packed
    /// integers are read whole, as by [`Checkpoint::load_rows`].
    ///
    /// **Shapes** `out` becomes `[rows.len(), cols]`, row-major.
    ///
    /// # Panics
    /// If the range leaves the weight.
    ///
    /// # Errors
    /// As [`Checkpoint::load`].
    pub fn read_rows(&self, weight: &Weight, rows: Range<usize>, out: &mut Vec<f32>) -> Result<()> {
        load::decoded_rows(&self.store, weight, rows, out)
    }

    /// A weight that stays in its file, mapped; `None` for packed integers, which are to be loaded.
    ///
    /// Every element is looked at once, so the pages are in memory afterwards as far as they fit.
    /// The file must not be written or cut while anything of it is in use.
    ///
    /// # Errors
    /// [`Error::NotFinite`], [`Error::Tensor`] for other types, [`Error::Io`].
    pub fn map(&self, weight: &Weight) -> Result<Option<MappedWeight>> {
        mapped::weight(&self.store, weight)
    }

    /// Maps some of a tensor's bytes for one look at them. Nothing is decoded, checked or hashed.
    ///
    /// The file must not be written or cut while the window is open.
    ///
    /// # Panics
    /// If the range leaves the tensor.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Tensor`] if the file was cut while it was in use.
    pub fn window(&self, tensor: &TensorInfo, bytes: Range<u64>) -> Result<Window> {
        check_part(&bytes, tensor.bytes);
        let span = self.store.span(tensor)?;
        mapped::window(span.part(bytes.start, bytes.end - bytes.start))
    }

    /// Gives a tensor's bytes to `chunk` in order, at most [`CHUNK_BYTES`](crate::CHUNK_BYTES) at a time and never
    /// splitting an element; returns BLAKE3 of all of them. Nothing is decoded or checked.
    ///
    /// # Errors
    /// Those of `chunk`, and [`Error::Io`].
    pub fn stream(
        &self,
        tensor: &TensorInfo,
        chunk: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<Digest> {
        self.store.span(tensor)?.stream(chunk)
    }

    /// Reads some of a tensor's bytes into `out`, whose content is replaced. Nothing is decoded, checked or hashed.
    ///
    /// This is for tools that look at broken numbers; [`Checkpoint::load_rows`] gives numbers that are checked.
    ///
    /// # Panics
    /// If the range leaves the tensor.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Tensor`] if the file was cut while it was in use.
    pub fn read_bytes(
        &self,
        tensor: &TensorInfo,
        bytes: Range<u64>,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        check_part(&bytes, tensor.bytes);
        let span = self.store.span(tensor)?;
        span.part(bytes.start, bytes.end - bytes.start).read(out)
    }
}

fn check_part(part: &Range<u64>, bytes: u64) {
    assert!(
        part.start <= part.end && part.end <= bytes,
        "bytes {part:?} of {bytes}"
    );
}

fn check_directory(dir: &Path) -> Result<()> {
    let missing = |found: &str, hint| {
        Err(Error::Missing {
            path: dir.to_owned(),
            expected: "a model directory".to_owned(),
            found: found.to_owned(),
            hint,
        })
    };
    if dir.is_file() {
        return missing("a file", "pass the directory that holds it");
    }
    if !dir.exists() {
        return missing(
            "nothing",
            "check the path, or download the model first (`hf download`)",
        );
    }
    if dir.join("config.json").exists() {
        return Ok(());
    }
    if dir.join("adapter_config.json").exists() {
        return missing("an adapter", "pass the model that the adapter belongs to");
    }
    if dir.join("snapshots").is_dir() {
        return missing(
            "a folder of the hub's cache",
            "pass the directory below its `snapshots`",
        );
    }
    missing(
        "no config.json",
        "a model directory holds config.json and safetensors files; download config.json too",
    )
}

/// What bitsandbytes' JSON says, by the name of the tensor that holds it.
fn states(store: &Store) -> Result<HashMap<String, QuantState>> {
    let mut states = HashMap::new();
    for tensor in store.tensors.values() {
        if !tensor.name.ends_with(STATE) || tensor.dtype != Dtype::U8 {
            continue;
        }
        let refuse = |(expected, found)| Error::Quantized {
            file: store.paths[tensor.shard].clone(),
            tensor: tensor.name.clone(),
            expected,
            found,
        };
        if tensor.bytes > MAX_STATE_BYTES {
            let expected = format!("at most {MAX_STATE_BYTES} bytes of JSON");
            return Err(refuse((expected, tensor.bytes.to_string())));
        }
        let mut bytes = Vec::new();
        store.span(tensor)?.read(&mut bytes)?;
        let state = QuantState::parse(&bytes).map_err(refuse)?;
        states.insert(tensor.name.clone(), state);
    }
    Ok(states)
}

fn open_store(dir: &Path) -> Result<Store> {
    let (single, index) = (dir.join(SINGLE).exists(), dir.join(INDEX).exists());
    match (single, index) {
        (true, false) => Store::open_single(dir, SINGLE),
        (false, true) => Store::open_sharded(dir, INDEX),
        (true, true) => open_both(dir),
        (false, false) => Err(no_weights(dir)),
    }
}

/// A single file beside an index is fine when the index means that file; otherwise one of the two is left over.
fn open_both(dir: &Path) -> Result<Store> {
    let store = Store::open_sharded(dir, INDEX)?;
    if store.names == [Path::new(SINGLE)] {
        return Ok(store);
    }
    Err(Error::Index {
        file: dir.join(INDEX),
        entry: SINGLE.to_owned(),
        expected: "either this file or the shards of the index".to_owned(),
        found: "both: one of them is left over from another version".to_owned(),
    })
}

fn no_weights(dir: &Path) -> Error {
    let pickled = ["pytorch_model.bin", "pytorch_model.bin.index.json"]
        .iter()
        .any(|name| dir.join(name).exists());
    let (found, hint) = if pickled {
        (
            "pytorch_model.bin",
            "convert it to safetensors first: load it with transformers and save_pretrained",
        )
    } else {
        (
            "neither",
            "download the weights too, not only the configuration",
        )
    };
    Error::Missing {
        path: dir.to_owned(),
        expected: format!("{SINGLE} or {INDEX}"),
        found: found.to_owned(),
        hint,
    }
}
