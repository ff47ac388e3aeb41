//! What the fuzzer runs, and the mutation test with it: parse any bytes, and hold what is accepted to its promises.
//!
//! This file is part of two packages; it uses nothing but the crate's public functions and the `safetensors` crate.

use std::path::Path;

use safetensors::SafeTensors;
use xgraft_checkpoint::{AdapterConfig, Header, ModelConfig, Quantization, ShardIndex};

/// A whole safetensors file: what we accept, the `safetensors` library accepts, and describes alike.
pub(crate) fn safetensors_header(file: &[u8]) {
    let Some((length, rest)) = file.split_first_chunk::<8>() else {
        return;
    };
    let length = usize::try_from(u64::from_le_bytes(*length)).unwrap_or(usize::MAX);
    let Some(json) = rest.get(..length) else {
        return;
    };
    let Ok(header) = Header::parse(json, file.len() as u64, Path::new("f")) else {
        return;
    };
    let mut end = header.data_start;
    for tensor in &header.tensors {
        assert_eq!(tensor.offset, end, "{}", tensor.name);
        end += tensor.bytes;
    }
    assert_eq!(end, file.len() as u64);
    let library = SafeTensors::deserialize(file).expect("the library refuses what we accept");
    assert_eq!(library.len(), header.tensors.len());
    for tensor in &header.tensors {
        let view = library
            .tensor(&tensor.name)
            .expect("the library has another set of tensors");
        assert_eq!(
            (view.shape(), view.dtype().to_string().as_str()),
            (tensor.shape.as_slice(), tensor.dtype.name())
        );
        assert_eq!(view.data().len() as u64, tensor.bytes);
    }
}

/// An index: every path that is accepted stays below the directory.
pub(crate) fn shard_index(json: &[u8]) {
    let Ok(index) = ShardIndex::parse(json, Path::new("f")) else {
        return;
    };
    for shard in index.shards() {
        let path = Path::new("/dir").join(shard);
        assert!(
            path.starts_with("/dir") && !shard.split('/').any(|part| part == ".."),
            "{shard:?}"
        );
    }
}

/// A configuration: what is accepted survives being written and read again. The same bytes are tried as a model's.
pub(crate) fn adapter_config(json: &[u8]) {
    if let Ok(model) = ModelConfig::parse(json, Path::new("f")) {
        let _ = Quantization::from_config(&model);
    }
    let Ok(config) = AdapterConfig::parse(json, Path::new("f")) else {
        return;
    };
    let again = AdapterConfig::parse(config.to_json().as_bytes(), Path::new("f"));
    assert_eq!(again.expect("our own text is refused"), config);
    let resolver = config
        .resolver(Path::new("f"))
        .expect("checked when it was parsed");
    assert!(resolver.rank("model.layers.0.self_attn.q_proj") > 0);
}
