//! What lies in a directory, whatever is wrong with it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::checkpoint::{INDEX, SINGLE};
use crate::error::{Error, Result};
use crate::format::header::{Header, read_json};
use crate::format::index::{MAX_INDEX_BYTES, ShardIndex};
use crate::json::read_bounded;
use crate::model::config::ModelConfig;
use crate::model::weight::TensorInfo;

/// A model directory as its headers describe it, broken ones too.
///
/// [`Checkpoint::open`](crate::Checkpoint::open) stops at the first contradiction, because weights that contradict their
/// description must not be used. This one goes on and lists all of them, because a person who mends a directory wants
/// to see everything at once. No bytes of tensors are read, and nothing is offered to read them.
#[derive(Debug)]
#[non_exhaustive]
pub struct Inventory {
    /// The directory.
    pub dir: PathBuf,
    /// Its `config.json`, if that can be read.
    pub config: Option<ModelConfig>,
    /// Its shard index, if there is one that can be read.
    pub index: Option<ShardIndex>,
    /// The safetensors files that were looked into, below the directory.
    pub shards: Vec<PathBuf>,
    /// Further safetensors files that neither the index nor the usual name means.
    pub unused: Vec<PathBuf>,
    /// Every tensor of every shard as its header describes it, sorted by name.
    ///
    /// A description may be wrong: its bytes may overlap others or lie beyond the end of the file.
    pub tensors: Vec<TensorInfo>,
    /// What is wrong with the files: each thing that would make [`Checkpoint::open`](crate::Checkpoint::open) fail
    /// before it looks at the meaning of the tensors.
    pub problems: Vec<Error>,
}

impl Inventory {
    /// Reads every header of a directory.
    ///
    /// # Errors
    /// [`Error::Missing`] or [`Error::Io`] when it is no directory that can be listed; everything else is in `problems`.
    pub fn read(dir: impl AsRef<Path>) -> Result<Inventory> {
        let dir = dir.as_ref();
        if !dir.is_dir() {
            return Err(Error::Missing {
                path: dir.to_owned(),
                expected: "a model directory".to_owned(),
                found: if dir.exists() { "a file" } else { "nothing" }.to_owned(),
                hint: "check the path; pass the directory that holds config.json and the weights",
            });
        }
        let mut inventory = Inventory {
            dir: dir.to_owned(),
            config: None,
            index: None,
            shards: Vec::new(),
            unused: Vec::new(),
            tensors: Vec::new(),
            problems: Vec::new(),
        };
        inventory.read_config();
        inventory.read_index();
        inventory.choose_shards(&files_of(dir)?);
        let mut tensors = BTreeMap::new();
        for shard in 0..inventory.shards.len() {
            inventory.read_shard(shard, &mut tensors);
        }
        inventory.tensors = tensors.into_values().collect();
        inventory.compare_index();
        Ok(inventory)
    }

    fn keep<T>(&mut self, result: Result<T>) -> Option<T> {
        result.map_err(|error| self.problems.push(error)).ok()
    }

    fn read_config(&mut self) {
        let path = self.dir.join("config.json");
        if path.exists() {
            self.config = self.keep(ModelConfig::read(&path));
            return;
        }
        self.problems.push(Error::Missing {
            path: self.dir.clone(),
            expected: "config.json".to_owned(),
            found: "none".to_owned(),
            hint: "take config.json from where the weights came from",
        });
    }

    fn read_index(&mut self) {
        let path = self.dir.join(INDEX);
        if path.exists() {
            let index = read_bounded(&path, MAX_INDEX_BYTES)
                .and_then(|bytes| ShardIndex::parse(&bytes, &path));
            self.index = self.keep(index);
        }
    }

    /// The files of the index; else the single file; else whatever safetensors files there are.
    fn choose_shards(&mut self, present: &BTreeSet<PathBuf>) {
        let named: BTreeSet<PathBuf> = match &self.index {
            Some(index) => index.shards().into_iter().map(PathBuf::from).collect(),
            None if present.contains(Path::new(SINGLE)) => [PathBuf::from(SINGLE)].into(),
            None => present.clone(),
        };
        for shard in named.difference(present) {
            if !self.dir.join(shard).exists() {
                self.problems.push(Error::Index {
                    file: self.dir.join(INDEX),
                    entry: shard.display().to_string(),
                    expected: "this shard in the directory".to_owned(),
                    found: "no such file".to_owned(),
                });
            }
        }
        if self.index.is_none() && !named.contains(Path::new(SINGLE)) {
            self.problems.push(Error::Missing {
                path: self.dir.clone(),
                expected: format!("{SINGLE} or {INDEX}"),
                found: format!("{} other safetensors files", named.len()),
                hint: "download the weights with their index; pickled weights must be converted first",
            });
        }
        self.unused = present.difference(&named).cloned().collect();
        self.shards = named
            .into_iter()
            .filter(|shard| self.dir.join(shard).exists())
            .collect();
    }

    fn read_shard(&mut self, shard: usize, tensors: &mut BTreeMap<String, TensorInfo>) {
        let path = self.dir.join(&self.shards[shard]);
        let header = File::open(&path)
            .map_err(Error::io("open", &path))
            .and_then(|file| read_json(&file, &path));
        let Some((json, bytes)) = self.keep(header) else {
            return;
        };
        let (found, problems) = Header::survey(&json, bytes, &path);
        self.problems.extend(problems);
        for tensor in found {
            let info = TensorInfo {
                name: tensor.name,
                dtype: tensor.dtype,
                shape: tensor.shape,
                shard,
                offset: tensor.offset,
                bytes: tensor.bytes,
            };
            if let Some(first) = tensors.get(&info.name) {
                self.problems.push(Error::Tensor {
                    file: path.clone(),
                    tensor: info.name,
                    expected: "each tensor in one shard".to_owned(),
                    found: format!("it in {} too", self.shards[first.shard].display()),
                });
            } else {
                tensors.insert(info.name.clone(), info);
            }
        }
    }

    /// Holds the index against the shards, in both directions.
    fn compare_index(&mut self) {
        let Some(index) = &self.index else { return };
        let file = self.dir.join(INDEX);
        let error = |entry: &str, expected: String, found: String| Error::Index {
            file: file.clone(),
            entry: entry.to_owned(),
            expected,
            found,
        };
        let holders: BTreeMap<&str, &Path> = self
            .tensors
            .iter()
            .map(|info| (info.name.as_str(), self.shards[info.shard].as_path()))
            .collect();
        let mut listed = BTreeSet::new();
        for (tensor, shard) in &index.weight_map {
            listed.insert(tensor.as_str());
            let found = match holders.get(tensor.as_str()) {
                Some(holder) if *holder == Path::new(shard) => continue,
                Some(holder) => format!("it in {}", holder.display()),
                None => "no shard that holds it".to_owned(),
            };
            let expected = format!("this tensor in {shard}");
            self.problems.push(error(tensor, expected, found));
        }
        for (tensor, holder) in holders {
            if !listed.contains(tensor) {
                let expected = format!("this tensor of {} in the index", holder.display());
                self.problems
                    .push(error(tensor, expected, "no entry".to_owned()));
            }
        }
    }
}

/// The safetensors files of a directory that may hold a model, by name.
fn files_of(dir: &Path) -> Result<BTreeSet<PathBuf>> {
    let mut files = BTreeSet::new();
    for entry in fs::read_dir(dir).map_err(Error::io("list", dir))? {
        let name = PathBuf::from(entry.map_err(Error::io("list", dir))?.file_name());
        if name.extension().is_some_and(|e| e == "safetensors")
            && name != Path::new("adapter_model.safetensors")
        {
            files.insert(name);
        }
    }
    Ok(files)
}
