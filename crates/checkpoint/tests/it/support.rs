//! Small checkpoints on disk, written by the `safetensors` library or byte by byte.

use std::fs;
use std::path::{Path, PathBuf};

use safetensors::tensor::TensorView;
use tempfile::TempDir;
use xgraft_checkpoint::{Checkpoint, Error};

/// A tensor's name, type, shape and bytes.
#[derive(Debug, Clone)]
pub(crate) struct Tensor {
    pub(crate) name: String,
    pub(crate) dtype: safetensors::Dtype,
    pub(crate) shape: Vec<usize>,
    pub(crate) bytes: Vec<u8>,
}

pub(crate) fn tensor(
    name: &str,
    dtype: safetensors::Dtype,
    shape: &[usize],
    bytes: Vec<u8>,
) -> Tensor {
    Tensor {
        name: name.to_owned(),
        dtype,
        shape: shape.to_vec(),
        bytes,
    }
}

/// A BF16 tensor with the numbers 0, 1, 2, ... modulo 251.
pub(crate) fn bf16(name: &str, shape: &[usize]) -> Tensor {
    let count: usize = shape.iter().product();
    let numbers = (0..count).map(|i| half::bf16::from_f32((i % 251) as f32));
    let bytes = numbers.flat_map(half::bf16::to_le_bytes).collect();
    tensor(name, safetensors::Dtype::BF16, shape, bytes)
}

pub(crate) fn f32(name: &str, shape: &[usize], values: &[f32]) -> Tensor {
    let bytes = values.iter().flat_map(|x| x.to_le_bytes()).collect();
    tensor(name, safetensors::Dtype::F32, shape, bytes)
}

/// E4M3 codes 0 to 126 in turn.
pub(crate) fn codes(name: &str, shape: &[usize]) -> Tensor {
    let count: usize = shape.iter().product();
    let bytes = (0..count).map(|i| (i % 127) as u8).collect();
    tensor(name, safetensors::Dtype::F8_E4M3, shape, bytes)
}

/// A file as the `safetensors` library writes it.
pub(crate) fn safetensors_bytes(tensors: &[Tensor]) -> Vec<u8> {
    let views = tensors.iter().map(|t| {
        let view = TensorView::new(t.dtype, t.shape.clone(), &t.bytes).unwrap();
        (t.name.as_str(), view)
    });
    let metadata = [("format".to_owned(), "pt".to_owned())].into();
    safetensors::serialize(views, Some(metadata)).unwrap()
}

/// A file with any header, true or not.
pub(crate) fn raw_file(header: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    bytes
}

/// A model directory under construction.
pub(crate) struct Model {
    pub(crate) temp: TempDir,
}

impl Model {
    /// With `{"model_type": "qwen3"}` for a configuration.
    pub(crate) fn new() -> Model {
        Model::with_config(r#"{"model_type": "qwen3"}"#)
    }

    pub(crate) fn with_config(config: &str) -> Model {
        let model = Model {
            temp: tempfile::tempdir().unwrap(),
        };
        model.file("config.json", config.as_bytes());
        model
    }

    /// One safetensors file.
    pub(crate) fn single(tensors: &[Tensor]) -> Model {
        let model = Model::new();
        model.file("model.safetensors", &safetensors_bytes(tensors));
        model
    }

    /// One file with a hand-made header.
    pub(crate) fn raw(header: &str, data: &[u8]) -> Model {
        let model = Model::new();
        model.file("model.safetensors", &raw_file(header, data));
        model
    }

    /// Adds a file; folders on the way are made.
    pub(crate) fn file(&self, name: &str, bytes: &[u8]) -> &Model {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
        self
    }

    /// Adds an index that names these shards.
    pub(crate) fn index(&self, entries: &[(&str, &str)]) -> &Model {
        let map: serde_json::Map<_, _> = entries
            .iter()
            .map(|(t, s)| ((*t).to_owned(), (*s).into()))
            .collect();
        let index = serde_json::json!({"metadata": {"total_size": 1}, "weight_map": map});
        self.file("model.safetensors.index.json", index.to_string().as_bytes())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.temp.path().join(name)
    }

    pub(crate) fn dir(&self) -> &Path {
        self.temp.path()
    }

    pub(crate) fn open(&self) -> Checkpoint {
        Checkpoint::open(self.dir()).unwrap()
    }

    pub(crate) fn error(&self) -> Error {
        Checkpoint::open(self.dir()).unwrap_err()
    }
}

/// Asserts that the message names each of these, and follows the house style.
#[track_caller]
pub(crate) fn assert_says(error: &Error, words: &[&str]) {
    let text = error.to_string();
    for word in words {
        assert!(text.contains(word), "{word:?} is not in: {text}");
    }
    assert!(!text.ends_with('.') && !text.contains('\n'), "{text}");
}

/// All files below a directory with their bytes, sorted.
pub(crate) fn contents(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let bytes = fs::read(&path).unwrap();
                files.push((path.strip_prefix(dir).unwrap().to_owned(), bytes));
            }
        }
    }
    files.sort();
    files
}
