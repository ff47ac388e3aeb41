//! The safetensors files of one directory, opened by their headers.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use memmap2::Mmap;

use super::mapped::map_file;
use super::stream::Span;
use crate::digest::Digest;
use crate::error::{Error, Result, shape_text};
use crate::format::header::{Header, read_json};
use crate::format::index::{MAX_INDEX_BYTES, ShardIndex};
use crate::json::{open_file, read_bounded};
use crate::model::weight::TensorInfo;

/// What tells one version of a shard from another without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardIdentity {
    /// The file's name below the directory.
    pub name: PathBuf,
    /// Its length.
    pub bytes: u64,
    /// When it was last written, if the file system knows.
    pub modified: Option<SystemTime>,
    /// BLAKE3 of the header's text.
    pub header: Digest,
}

/// Open files and the tensors in them.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) dir: PathBuf,
    pub(crate) names: Vec<PathBuf>,
    pub(crate) paths: Vec<PathBuf>,
    pub(crate) identities: Vec<ShardIdentity>,
    pub(crate) tensors: BTreeMap<String, TensorInfo>,
    files: Vec<File>,
    maps: Vec<OnceLock<Arc<Mmap>>>,
}

impl Store {
    /// Opens one file of `dir`.
    pub(crate) fn open_single(dir: &Path, name: &str) -> Result<Store> {
        let mut store = Store::empty(dir);
        store.add(name)?;
        Ok(store)
    }

    /// Opens the shards that an index names, and holds the two against each other.
    pub(crate) fn open_sharded(dir: &Path, index_name: &str) -> Result<Store> {
        let index_path = dir.join(index_name);
        let index = ShardIndex::parse(&read_bounded(&index_path, MAX_INDEX_BYTES)?, &index_path)?;
        let mut store = Store::empty(dir);
        for name in index.shards() {
            if !dir.join(name).exists() {
                return Err(Error::Index {
                    file: index_path,
                    entry: name.to_owned(),
                    expected: "this shard in the directory".to_owned(),
                    found: "no such file".to_owned(),
                });
            }
            store.add(name)?;
        }
        store.check_against(&index, &index_path)?;
        Ok(store)
    }

    fn empty(dir: &Path) -> Store {
        Store {
            dir: dir.to_owned(),
            names: Vec::new(),
            paths: Vec::new(),
            identities: Vec::new(),
            tensors: BTreeMap::new(),
            files: Vec::new(),
            maps: Vec::new(),
        }
    }

    /// Opens one more file and takes in its tensors.
    fn add(&mut self, name: &str) -> Result<()> {
        let path = self.dir.join(name);
        let file = open_file(&path)?;
        let (json, bytes) = read_json(&file, &path)?;
        let header = Header::parse(&json, bytes, &path)?;
        let modified = file.metadata().and_then(|m| m.modified()).ok();
        let shard = self.files.len();
        for tensor in header.tensors {
            let info = TensorInfo {
                name: tensor.name,
                dtype: tensor.dtype,
                shape: tensor.shape,
                shard,
                offset: tensor.offset,
                bytes: tensor.bytes,
            };
            if let Some(first) = self.tensors.get(&info.name) {
                return Err(Error::Tensor {
                    file: path,
                    tensor: info.name,
                    expected: "each tensor in one shard".to_owned(),
                    found: format!("it in {} too", self.names[first.shard].display()),
                });
            }
            self.tensors.insert(info.name.clone(), info);
        }
        let header = Digest::of(&json);
        self.identities.push(ShardIdentity {
            name: name.into(),
            bytes,
            modified,
            header,
        });
        self.names.push(name.into());
        self.paths.push(path);
        self.files.push(file);
        self.maps.push(OnceLock::new());
        Ok(())
    }

    /// A map of one shard, made when it is first asked for.
    pub(crate) fn map(&self, shard: usize) -> Result<Arc<Mmap>> {
        if let Some(map) = self.maps[shard].get() {
            return Ok(Arc::clone(map));
        }
        let map = map_file(&self.files[shard], &self.paths[shard])?;
        Ok(Arc::clone(self.maps[shard].get_or_init(|| map)))
    }

    fn check_against(&self, index: &ShardIndex, file: &Path) -> Result<()> {
        let error = |entry: &str, expected: String, found: String| {
            Err(Error::Index {
                file: file.to_owned(),
                entry: entry.to_owned(),
                expected,
                found,
            })
        };
        for (tensor, shard) in &index.weight_map {
            let Some(info) = self.tensors.get(tensor) else {
                return error(
                    tensor,
                    format!("this tensor in {shard}"),
                    "no shard that holds it".into(),
                );
            };
            let holder = &self.names[info.shard];
            if holder != Path::new(shard) {
                return error(
                    tensor,
                    format!("this tensor in {shard}"),
                    format!("it in {}", holder.display()),
                );
            }
        }
        if self.tensors.len() == index.weight_map.len() {
            return Ok(());
        }
        let listed: std::collections::HashSet<&str> =
            index.weight_map.iter().map(|(t, _)| t.as_str()).collect();
        match self
            .tensors
            .values()
            .find(|info| !listed.contains(info.name.as_str()))
        {
            Some(info) => error(
                &info.name,
                format!(
                    "this tensor of {} in the index",
                    self.names[info.shard].display()
                ),
                "no entry".into(),
            ),
            None => Ok(()),
        }
    }

    pub(crate) fn tensor(&self, name: &str) -> Result<&TensorInfo> {
        self.tensors.get(name).ok_or_else(|| Error::NoSuchTensor {
            dir: self.dir.clone(),
            tensor: name.to_owned(),
        })
    }

    /// The tensor's bytes, to be read.
    ///
    /// A [`TensorInfo`] of another directory is refused when it does not describe a tensor of this one.
    pub(crate) fn span<'a>(&'a self, info: &'a TensorInfo) -> Result<Span<'a>> {
        let own = self.tensor(&info.name)?;
        if own != info {
            return Err(Error::Tensor {
                file: self.paths[own.shard].clone(),
                tensor: info.name.clone(),
                expected: format!("{} {} at {}", own.dtype, shape_text(&own.shape), own.offset),
                found: format!(
                    "a description {} {} at {}",
                    info.dtype,
                    shape_text(&info.shape),
                    info.offset
                ),
            });
        }
        Ok(Span {
            file: &self.files[own.shard],
            path: &self.paths[own.shard],
            tensor: &own.name,
            offset: own.offset,
            bytes: own.bytes,
        })
    }
}
