//! `model.safetensors.index.json`: which shard holds which tensor.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Component, Path};

use serde::de::{DeserializeSeed, Deserializer as _, Error as _, IgnoredAny, MapAccess, Visitor};

use crate::error::{Error, Result};

/// The largest index that is read: DeepSeek-V3 with its 90 000 tensors has 9 MB.
pub const MAX_INDEX_BYTES: u64 = 100_000_000;

/// A validated shard index: every shard is a relative path below the directory, every tensor is named once.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ShardIndex {
    /// Tensor to shard, in the order of the file.
    pub weight_map: Vec<(String, String)>,
    /// `metadata.total_size`, if there is one.
    pub total_size: Option<u64>,
}

impl ShardIndex {
    /// Validates the text of an index.
    ///
    /// # Errors
    /// [`Error::Json`] or [`Error::Index`], with `file` only as a name for the message.
    pub fn parse(json: &[u8], file: &Path) -> Result<ShardIndex> {
        let mut parser = serde_json::Deserializer::from_slice(json);
        let parsed = parser
            .deserialize_map(IndexVisitor)
            .and_then(|parsed| parser.end().map(|()| parsed));
        let index = parsed.map_err(|source| Error::Json {
            file: file.to_owned(),
            what: "a shard index",
            source,
        })?;
        let mut checked = BTreeSet::new();
        for (tensor, shard) in &index.weight_map {
            if checked.insert(shard.as_str()) {
                check_path(tensor, shard, file)?;
            }
        }
        Ok(index)
    }

    /// The shards' names, sorted, each once.
    pub fn shards(&self) -> Vec<&str> {
        let names: BTreeSet<&str> = self
            .weight_map
            .iter()
            .map(|(_, shard)| shard.as_str())
            .collect();
        names.into_iter().collect()
    }
}

/// Refuses every path that could leave the directory. Symbolic links are the hub's own way of storing files, and fine.
fn check_path(tensor: &str, shard: &str, file: &Path) -> Result<()> {
    let path = Path::new(shard);
    let inside = path.components().all(|c| matches!(c, Component::Normal(_)));
    let plain = !shard.is_empty() && !shard.contains(['\0', '\\']);
    if inside && plain && path.extension().is_some_and(|e| e == "safetensors") {
        return Ok(());
    }
    Err(Error::Index {
        file: file.to_owned(),
        entry: tensor.to_owned(),
        expected: "the name of a .safetensors file inside the directory".to_owned(),
        found: format!("{shard:?}"),
    })
}

struct IndexVisitor;

impl<'de> Visitor<'de> for IndexVisitor {
    type Value = ShardIndex;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with weight_map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ShardIndex, A::Error> {
        let (mut weight_map, mut total_size) = (None, None);
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "weight_map" if weight_map.is_some() => {
                    return Err(A::Error::duplicate_field("weight_map"));
                }
                "weight_map" => weight_map = Some(map.next_value_seed(WeightMap)?),
                "metadata" => total_size = map.next_value::<Metadata>()?.total_size,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        let weight_map = weight_map.ok_or_else(|| A::Error::missing_field("weight_map"))?;
        Ok(ShardIndex {
            weight_map,
            total_size,
        })
    }
}

/// Some writers store the size as a float (`1.5e9`), or not at all.
#[derive(serde::Deserialize)]
struct Metadata {
    #[serde(default, deserialize_with = "size")]
    total_size: Option<u64>,
}

fn size<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let value = <serde_json::Value as serde::Deserialize>::deserialize(deserializer)?;
    Ok(value
        .as_u64()
        .or_else(|| value.as_f64().filter(|x| *x >= 0.0).map(|x| x as u64)))
}

/// The map with its names checked for repetition, which a plain map would hide.
struct WeightMap;

impl<'de> DeserializeSeed<'de> for WeightMap {
    type Value = Vec<(String, String)>;

    fn deserialize<D: serde::Deserializer<'de>>(
        self,
        deserializer: D,
    ) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for WeightMap {
    type Value = Vec<(String, String)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object from tensor to shard")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut seen = std::collections::HashSet::new();
        let mut entries = Vec::new();
        while let Some((tensor, shard)) = map.next_entry::<String, String>()? {
            if !seen.insert(tensor.clone()) {
                return Err(A::Error::custom(format!(
                    "tensor `{tensor}` is named twice"
                )));
            }
            entries.push((tensor, shard));
        }
        Ok(entries)
    }
}
