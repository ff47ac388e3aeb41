//! The headers of safetensors files: as much of them as a price and a fingerprint need.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

/// Larger headers are not read: they are not what they say.
const LARGEST: u64 = 100_000_000;

/// The bytes of the header's JSON.
pub(super) fn read(file: &Path) -> Result<Vec<u8>> {
    let name = || format!("cannot read the header of {}", file.display());
    let mut stream = File::open(file).with_context(name)?;
    let mut length = [0u8; 8];
    stream.read_exact(&mut length).with_context(name)?;
    let length = u64::from_le_bytes(length);
    ensure!(
        length <= LARGEST,
        "{}: its header has {length} bytes",
        file.display()
    );
    let mut json = Vec::new();
    stream
        .take(length)
        .read_to_end(&mut json)
        .with_context(name)?;
    ensure!(
        json.len() as u64 == length,
        "{}: it ends in its header",
        file.display()
    );
    Ok(json)
}

/// One tensor of a header.
#[derive(Debug)]
pub(super) struct Tensor {
    pub(super) name: String,
    pub(super) shape: Vec<u64>,
    pub(super) bytes: u64,
}

/// Every tensor of every safetensors file in a directory.
pub(super) fn tensors(dir: &Path) -> Result<Vec<Tensor>> {
    let mut all = Vec::new();
    for file in files(dir)? {
        let json: Value = serde_json::from_slice(&read(&file)?)
            .with_context(|| format!("the header of {} is not JSON", file.display()))?;
        let tensors = json.as_object().into_iter().flatten();
        all.extend(tensors.filter_map(|(name, tensor)| parsed(name, tensor)));
    }
    Ok(all)
}

/// The safetensors files of a directory, in order.
pub(super) fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries =
        std::fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|ending| ending == "safetensors")
        {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn parsed(name: &str, tensor: &Value) -> Option<Tensor> {
    let numbers = |field: &str| -> Option<Vec<u64>> {
        tensor[field]
            .as_array()?
            .iter()
            .map(Value::as_u64)
            .collect()
    };
    let (shape, place) = (numbers("shape")?, numbers("data_offsets")?);
    let bytes = place.get(1)?.checked_sub(*place.first()?)?;
    Some(Tensor {
        name: name.to_owned(),
        shape,
        bytes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace;

    #[test]
    fn the_headers_of_a_sharded_model_are_read() {
        let dir = workspace::root().join("fixtures/tiny-qwen3/tuned");
        let tensors = tensors(&dir).expect("reads");
        assert_eq!(files(&dir).expect("lists").len(), 2);
        assert!(
            tensors
                .iter()
                .any(|t| t.name.ends_with("q_proj.weight") && t.shape.len() == 2)
        );
    }

    #[test]
    fn metadata_is_no_tensor() {
        assert!(parsed("__metadata__", &serde_json::json!({"format": "pt"})).is_none());
    }
}
