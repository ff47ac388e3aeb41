//! Sizes from headers, against the files that are written and against the published ones.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use serde_json::json;
use xgraft_checkpoint::{Checkpoint, Dtype, Weight};
use xgraft_quantize::{Config, Layout, Scheme, adapter_bytes, cache_bytes_per_token, stored_bytes};

use crate::{convert, fixture};

#[test]
fn every_format_has_the_size_that_was_foretold() {
    let source = Checkpoint::open(fixture("tiny-qwen3/tuned")).unwrap();
    for scheme in Scheme::ALL {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("q");
        let config = Config::of(scheme);
        convert(&fixture("tiny-qwen3/tuned"), &path, &config);
        let written = Checkpoint::open(&path).unwrap().total_bytes();
        assert_eq!(
            stored_bytes(&source, &config).unwrap(),
            written,
            "{scheme:?}"
        );
    }
}

/// A checkpoint of the shapes of Qwen3-32B, of which only the header is there: the rest of the file is a hole.
fn qwen3_32b(dir: &Path) -> Checkpoint {
    let (hidden, middle, layers, queries, keys, head, vocab) =
        (5120, 25600, 64, 64, 8, 128, 151_936);
    let config = json!({
        "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "hidden_size": hidden,
        "intermediate_size": middle, "num_hidden_layers": layers, "num_attention_heads": queries,
        "num_key_value_heads": keys, "head_dim": head, "vocab_size": vocab, "tie_word_embeddings": false,
    });
    let mut shapes = vec![
        ("model.embed_tokens.weight".to_owned(), vec![vocab, hidden]),
        ("lm_head.weight".to_owned(), vec![vocab, hidden]),
        ("model.norm.weight".to_owned(), vec![hidden]),
    ];
    for layer in 0..layers {
        let (q, kv) = (queries * head, keys * head);
        for (name, shape) in [
            ("self_attn.q_proj", vec![q, hidden]),
            ("self_attn.k_proj", vec![kv, hidden]),
            ("self_attn.v_proj", vec![kv, hidden]),
            ("self_attn.o_proj", vec![hidden, q]),
            ("mlp.gate_proj", vec![middle, hidden]),
            ("mlp.up_proj", vec![middle, hidden]),
            ("mlp.down_proj", vec![hidden, middle]),
            ("input_layernorm", vec![hidden]),
            ("post_attention_layernorm", vec![hidden]),
            ("self_attn.q_norm", vec![head]),
            ("self_attn.k_norm", vec![head]),
        ] {
            shapes.push((format!("model.layers.{layer}.{name}.weight"), shape));
        }
    }
    let mut at = 0_u64;
    let mut header = BTreeMap::new();
    for (name, shape) in shapes {
        let end = at + 2 * shape.iter().copied().product::<u64>();
        header.insert(
            name,
            json!({"dtype": "BF16", "shape": shape, "data_offsets": [at, end]}),
        );
        at = end;
    }
    let header = serde_json::to_vec(&header).unwrap();
    std::fs::write(dir.join("config.json"), config.to_string()).unwrap();
    let mut file = File::create(dir.join("model.safetensors")).unwrap();
    file.write_all(&(header.len() as u64).to_le_bytes())
        .unwrap();
    file.write_all(&header).unwrap();
    file.set_len(8 + header.len() as u64 + at).unwrap();
    Checkpoint::open(dir).unwrap()
}

#[test]
fn qwen3_32b_has_the_sizes_that_the_registry_lists() {
    let dir = tempfile::tempdir().unwrap();
    let source = qwen3_32b(dir.path());
    let hundredths = |bytes: u64| (bytes as f64 / 1e7).round() / 100.0;
    assert_eq!(hundredths(source.total_bytes()), 65.52);
    for (scheme, gigabytes) in [
        (Scheme::Fp8Block, 34.33),
        (Scheme::Fp8Channel, 34.33),
        (Scheme::Int8, 34.33),
        (Scheme::Int4, 19.2),
        (Scheme::Nf4, 20.67),
    ] {
        let bytes = stored_bytes(&source, &Config::of(scheme)).unwrap();
        assert_eq!(hundredths(bytes), gigabytes, "{scheme:?}");
    }
    for (layout, symmetric, gigabytes) in [
        (Layout::AwqOrder, true, 19.33),
        (Layout::GptqOrder, true, 19.34),
        (Layout::CompressedTensors, false, 19.33),
        (Layout::AwqOrder, false, 19.33),
        (Layout::GptqOrder, false, 19.34),
    ] {
        let config = Config {
            layout,
            symmetric,
            ..Config::of(Scheme::Int4)
        };
        let bytes = stored_bytes(&source, &config).unwrap();
        assert_eq!(hundredths(bytes), gigabytes, "{layout:?} {symmetric}");
    }
    assert_eq!(hundredths(adapter_bytes(&source, 256, Dtype::Bf16)), 4.29);
    assert_eq!(hundredths(adapter_bytes(&source, 128, Dtype::Bf16)), 2.15);
    assert_eq!(cache_bytes_per_token(&source, Dtype::Bf16), Some(262_144));
}

/// docs/registry.md: the parts of both checkpoints, and why the published sizes differ.
#[test]
fn the_published_sizes_differ_by_what_the_registry_says() {
    let dir = tempfile::tempdir().unwrap();
    let source = qwen3_32b(dir.path());
    // in ten-listed of 10^9 bytes, as the tables there
    let listed = |bytes: i64| (bytes as f64 / 1e5).round() as i64;
    let weights = |wanted: &dyn Fn(&Weight) -> bool| -> i64 {
        let these = source.weights().iter().filter(|w| wanted(w));
        these
            .map(|w| w.shape.iter().product::<usize>() as i64)
            .sum()
    };
    let linear = weights(&|w| w.role.is_linear());
    let vocabulary = weights(&|w| !w.role.is_linear() && w.shape.len() == 2);
    let norms = weights(&|w| w.shape.len() == 1);
    let all = linear + vocabulary + norms;
    assert_eq!(
        [linear, vocabulary, norms, all].map(listed),
        [312_056, 15_558, 7, 327_621]
    );
    let bf16 = source.total_bytes() as i64;
    assert_eq!(bf16, 2 * all);
    let fp8 = stored_bytes(&source, &Config::of(Scheme::Fp8Block)).unwrap() as i64;
    let scales = fp8 - linear - 2 * (vocabulary + norms);
    assert_eq!([bf16, fp8, scales].map(listed), [655_242, 343_262, 76]);
    let adapter = adapter_bytes(&source, 256, Dtype::Bf16) as i64;
    assert_eq!(listed(adapter), 42_950);
    assert_eq!(2 * adapter, 8 << 30, "in F32 it is 8 GiB");
    assert_eq!(listed(fp8 + adapter), 386_212);
    // each published size and what is added to it
    let (billion, beyond) = (1_000_000_000, all - 32_000_000_000);
    assert_eq!(64 * billion + 2 * beyond, bf16);
    assert_eq!(32 * billion + beyond + vocabulary + norms + scales, fp8);
    assert_eq!(
        40 * billion + (fp8 - 32 * billion) - (8 * billion - adapter),
        fp8 + adapter
    );
    assert_eq!([2 * beyond, beyond].map(listed), [15_242, 7_621]);
    assert_eq!([2 * vocabulary, 2 * norms].map(listed), [31_116, 14]);
}
