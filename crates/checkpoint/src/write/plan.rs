//! What will be written where: decided before the first byte.

use std::collections::HashSet;
use std::path::Path;

use crate::digest::Digest;
use crate::error::{Error, Result, shape_text};
use crate::format::dtype::Dtype;
use crate::format::header::MAX_HEADER_BYTES;

/// The largest shard that the hub's own tools write, 5 GB.
pub const DEFAULT_SHARD_BYTES: u64 = 5_000_000_000;

/// A tensor that will be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedTensor {
    /// Its name.
    pub name: String,
    /// The type of its elements.
    pub dtype: Dtype,
    /// Its shape, row-major; empty for a scalar.
    pub shape: Vec<usize>,
}

impl PlannedTensor {
    /// A tensor of this name, type and shape.
    pub fn new(
        name: impl Into<String>,
        dtype: Dtype,
        shape: impl Into<Vec<usize>>,
    ) -> PlannedTensor {
        PlannedTensor {
            name: name.into(),
            dtype,
            shape: shape.into(),
        }
    }

    /// Its size in bytes, unless that overflows.
    pub(crate) fn bytes(&self) -> Option<u64> {
        let elements = self
            .shape
            .iter()
            .try_fold(1u64, |product, &n| product.checked_mul(n as u64))?;
        elements.checked_mul(self.dtype.bytes() as u64)
    }
}

/// One safetensors file laid out: its header, and where each tensor's bytes go.
///
/// The order within a file is that of the `safetensors` library: wider types first, then by name;
/// so every tensor is aligned to its element, and the same content has the same bytes whoever wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileLayout {
    pub(crate) name: String,
    /// Length, header and padding: everything before the tensors.
    pub(crate) head: Vec<u8>,
    pub(crate) slots: Vec<Slot>,
    pub(crate) file_bytes: u64,
}

/// Where one tensor goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) tensor: PlannedTensor,
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
}

impl FileLayout {
    pub(crate) fn new(name: &str, mut tensors: Vec<PlannedTensor>) -> Result<FileLayout> {
        tensors.sort_by(|a, b| {
            b.dtype
                .raw()
                .cmp(&a.dtype.raw())
                .then_with(|| a.name.cmp(&b.name))
        });
        let mut json = String::from(r#"{"__metadata__":{"format":"pt"}"#);
        let mut slots = Vec::with_capacity(tensors.len());
        let mut end = 0u64;
        for tensor in tensors {
            let start = end;
            let size = tensor
                .bytes()
                .and_then(|bytes| Some((bytes, start.checked_add(bytes)?)));
            let (bytes, stop) = size.ok_or_else(|| too_large(name, &tensor))?;
            end = stop;
            json.push_str(&format!(
                r#",{}:{{"dtype":"{}","shape":{},"data_offsets":[{start},{end}]}}"#,
                serde_json::Value::from(tensor.name.as_str()),
                tensor.dtype,
                shape_text(&tensor.shape).replace(' ', ""),
            ));
            slots.push(Slot {
                tensor,
                offset: start,
                bytes,
            });
        }
        json.push('}');
        let padded = json.len().next_multiple_of(8);
        if padded as u64 > MAX_HEADER_BYTES {
            return Err(Error::Header {
                file: name.into(),
                expected: format!("a header of at most {MAX_HEADER_BYTES} bytes"),
                found: format!("{padded} bytes for {} tensors", slots.len()),
            });
        }
        json.extend(std::iter::repeat_n(' ', padded - json.len()));
        let mut head = (padded as u64).to_le_bytes().to_vec();
        head.extend(json.into_bytes());
        for slot in &mut slots {
            slot.offset += head.len() as u64;
        }
        let file_bytes = head.len() as u64 + end;
        Ok(FileLayout {
            name: name.to_owned(),
            head,
            slots,
            file_bytes,
        })
    }
}

fn too_large(file: &str, tensor: &PlannedTensor) -> Error {
    Error::Plan {
        file: file.into(),
        tensor: tensor.name.clone(),
        expected: "a size that fits in 64 bits".to_owned(),
        found: format!("shape {} of {}", shape_text(&tensor.shape), tensor.dtype),
    }
}

/// Every tensor of a checkpoint given to a shard, in the order in which the tensors are named.
///
/// **Source** `huggingface_hub`: `serialization/_base.py`, `split_state_dict_into_shards_factory` (the greedy rule).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardPlan {
    pub(crate) files: Vec<FileLayout>,
    pub(crate) total_bytes: u64,
}

impl ShardPlan {
    /// Plans files of at most `max_shard_bytes` of tensors each; a larger tensor has a file of its own.
    ///
    /// One file is called `model.safetensors`, several `model-00001-of-00002.safetensors` and so on.
    ///
    /// # Errors
    /// [`Error::Plan`] for a name that comes twice or a size that overflows.
    pub fn new(tensors: Vec<PlannedTensor>, max_shard_bytes: u64) -> Result<ShardPlan> {
        check_names(&tensors)?;
        let mut groups: Vec<Vec<PlannedTensor>> = vec![Vec::new()];
        let (mut in_group, mut total_bytes) = (0u64, 0u64);
        for tensor in tensors {
            let bytes = tensor
                .bytes()
                .ok_or_else(|| too_large("model.safetensors", &tensor))?;
            total_bytes = total_bytes
                .checked_add(bytes)
                .ok_or_else(|| too_large("model.safetensors", &tensor))?;
            if in_group > 0 && in_group.saturating_add(bytes) > max_shard_bytes {
                groups.push(Vec::new());
                in_group = 0;
            }
            in_group += bytes;
            if let Some(group) = groups.last_mut() {
                group.push(tensor);
            }
        }
        let count = groups.len();
        let name = |at: usize| match count {
            1 => "model.safetensors".to_owned(),
            _ => format!("model-{:05}-of-{count:05}.safetensors", at + 1),
        };
        let files = groups
            .into_iter()
            .enumerate()
            .map(|(at, group)| FileLayout::new(&name(at), group));
        Ok(ShardPlan {
            files: files.collect::<Result<_>>()?,
            total_bytes,
        })
    }

    /// The files' names, in order.
    pub fn file_names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.files.iter().map(|f| f.name.as_str())
    }

    /// Every tensor in the order in which it should be written: file by file, by its place in the file.
    pub fn tensors(&self) -> impl Iterator<Item = &PlannedTensor> {
        self.files
            .iter()
            .flat_map(|f| f.slots.iter().map(|s| &s.tensor))
    }

    /// Bytes of all tensors, headers not counted.
    pub fn total_bytes(&self) -> u64 {
        self.total_bytes
    }

    /// Tells this plan from another: the digest of all headers.
    pub(crate) fn digest(&self) -> Digest {
        let heads: Vec<u8> = self
            .files
            .iter()
            .flat_map(|f| f.head.iter().copied())
            .collect();
        Digest::of(&heads)
    }

    /// The text of `model.safetensors.index.json`, as `transformers` writes it.
    pub(crate) fn index_json(&self) -> String {
        let mut map: Vec<(&str, &str)> = Vec::new();
        for file in &self.files {
            map.extend(
                file.slots
                    .iter()
                    .map(|s| (s.tensor.name.as_str(), file.name.as_str())),
            );
        }
        map.sort_unstable();
        let map: serde_json::Map<_, _> = map
            .into_iter()
            .map(|(t, f)| (t.to_owned(), f.into()))
            .collect();
        let index =
            serde_json::json!({"metadata": {"total_size": self.total_bytes}, "weight_map": map});
        format!("{index:#}\n")
    }
}

pub(crate) fn check_names(tensors: &[PlannedTensor]) -> Result<()> {
    let mut seen = HashSet::new();
    let bad = tensors
        .iter()
        .find(|t| t.name == "__metadata__" || !seen.insert(t.name.as_str()));
    match bad {
        Some(tensor) => Err(Error::Plan {
            file: Path::new("model.safetensors").to_owned(),
            tensor: tensor.name.clone(),
            expected: "each tensor once, and none called __metadata__".to_owned(),
            found: "the name again".to_owned(),
        }),
        None => Ok(()),
    }
}
