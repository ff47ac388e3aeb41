//! Small checkpoint pairs with planted deltas.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use half::bf16;
use serde_json::{Value, json};
use xgraft_checkpoint::{
    Adapter, Checkpoint, CheckpointWriter, DEFAULT_SHARD_BYTES, Dtype, OutputDir, PlannedTensor,
    ShardPlan,
};
use xgraft_lora_extract::{
    Config, Extraction, Result, Verification, VerifyConfig, VerifyEvent, extract, fingerprint,
    verify,
};

pub(crate) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fixtures")
        .join(name)
}

/// A splitmix64 stream of numbers in (-1, 1).
pub(crate) fn noise(seed: u64, n: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (0..n)
        .map(|_| {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((z ^ (z >> 31)) >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        })
        .collect()
}

/// One tensor of a made-up checkpoint.
#[derive(Clone)]
pub(crate) struct Tensor {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) dtype: Dtype,
    pub(crate) values: Vec<f32>,
}

impl Tensor {
    pub(crate) fn new(name: &str, shape: &[usize], values: Vec<f32>) -> Self {
        assert_eq!(values.len(), shape.iter().product::<usize>());
        Self {
            name: name.into(),
            shape: shape.into(),
            dtype: Dtype::Bf16,
            values,
        }
    }

    /// Numbers that BF16 holds exactly, so that only the tuned side is rounded on writing.
    fn random(name: &str, shape: &[usize], seed: u64) -> Self {
        let values = noise(seed, shape.iter().product());
        let exact = values.into_iter().map(|x| bf16::from_f32(x).to_f32());
        Self::new(name, shape, exact.collect())
    }

    /// The tensor plus a delta of the given rank and size.
    pub(crate) fn plus(&self, rank: usize, size: f32, seed: u64) -> Self {
        let (rows, cols) = (self.shape[0], self.shape.get(1).copied().unwrap_or(1));
        let (u, v) = (noise(seed, rows * rank), noise(seed + 1, cols * rank));
        let mut out = self.clone();
        for i in 0..rows {
            for j in 0..cols {
                let d: f32 = (0..rank).map(|r| u[i * rank + r] * v[j * rank + r]).sum();
                out.values[i * cols + j] += size * d;
            }
        }
        out
    }
}

/// A tiny Llama: two layers, hidden 48, vocabulary 40.
pub(crate) fn model() -> Vec<Tensor> {
    let mut tensors = vec![
        Tensor::random("model.embed_tokens.weight", &[40, 48], 1),
        Tensor::random("lm_head.weight", &[40, 48], 2),
        Tensor::random("model.norm.weight", &[48], 3),
    ];
    for layer in 0..2u64 {
        let at = |name: &str| format!("model.layers.{layer}.{name}.weight");
        let seed = 10 + 20 * layer;
        for (i, (name, rows, cols)) in [
            ("self_attn.q_proj", 64, 48),
            ("self_attn.k_proj", 16, 48),
            ("self_attn.v_proj", 16, 48),
            ("self_attn.o_proj", 48, 64),
            ("mlp.gate_proj", 96, 48),
            ("mlp.up_proj", 96, 48),
            ("mlp.down_proj", 48, 96),
        ]
        .into_iter()
        .enumerate()
        {
            tensors.push(Tensor::random(&at(name), &[rows, cols], seed + i as u64));
        }
        tensors.push(Tensor::random(&at("input_layernorm"), &[48], seed + 8));
    }
    tensors
}

pub(crate) fn is_linear(tensor: &Tensor) -> bool {
    tensor.name.ends_with("_proj.weight")
}

/// The model with a delta of rank 4 in every linear.
pub(crate) fn tuned() -> Vec<Tensor> {
    model()
        .into_iter()
        .enumerate()
        .map(|(i, t)| {
            if is_linear(&t) {
                t.plus(4, 0.1, 1000 + i as u64)
            } else {
                t
            }
        })
        .collect()
}

pub(crate) fn config_json() -> Value {
    json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 48,
        "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 1, "vocab_size": 40, "tie_word_embeddings": false,
        "torch_dtype": "bfloat16",
    })
}

pub(crate) fn write(dir: &Path, tensors: &[Tensor], config: &Value) {
    let out = OutputDir::create(dir, false, &json!("test")).unwrap();
    let planned = tensors
        .iter()
        .map(|t| PlannedTensor::new(t.name.clone(), t.dtype, t.shape.clone()))
        .collect();
    let plan = ShardPlan::new(planned, DEFAULT_SHARD_BYTES).unwrap();
    let writer = CheckpointWriter::create(&out, plan).unwrap();
    for tensor in tensors {
        let mut to = writer.tensor(&tensor.name).unwrap();
        match tensor.dtype {
            Dtype::Bf16 => {
                let values: Vec<bf16> = tensor.values.iter().map(|&x| bf16::from_f32(x)).collect();
                to.write_bf16(&values).unwrap();
            }
            _ => to.write_f32(&tensor.values).unwrap(),
        }
        to.finish().unwrap();
    }
    writer.finish().unwrap();
    out.write_atomic("config.json", config.to_string().as_bytes())
        .unwrap();
    out.commit().unwrap();
}

/// A folder with `base` and `tuned`.
pub(crate) struct Pair {
    pub(crate) folder: tempfile::TempDir,
}

impl Pair {
    pub(crate) fn of(base: &[Tensor], tuned: &[Tensor]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        write(&folder.path().join("base"), base, &config_json());
        write(&folder.path().join("tuned"), tuned, &config_json());
        Self { folder }
    }

    pub(crate) fn planted() -> Self {
        Self::of(&model(), &tuned())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn extract(&self, config: &Config, to: &str) -> Result<Extraction> {
        run(
            &self.path("base"),
            &self.path("tuned"),
            config,
            &self.path(to),
        )
    }

    pub(crate) fn verify(&self, adapter: &str) -> Result<Verification> {
        check(
            &self.path("base"),
            &self.path("tuned"),
            &self.path(adapter),
            &VerifyConfig::default(),
        )
    }
}

pub(crate) fn run(base: &Path, tuned: &Path, config: &Config, to: &Path) -> Result<Extraction> {
    let (base, tuned) = (Checkpoint::open(base)?, Checkpoint::open(tuned)?);
    let out = OutputDir::create(to, false, &fingerprint(&base, &tuned, config))?;
    let done = extract(&base, &tuned, config, &out, &|_| ControlFlow::Continue(()))?;
    out.commit()?;
    Ok(done)
}

pub(crate) fn check(
    base: &Path,
    tuned: &Path,
    adapter: &Path,
    config: &VerifyConfig,
) -> Result<Verification> {
    beside(base, tuned, None, adapter, config)
}

/// A check that may know the base before it was quantized.
pub(crate) fn beside(
    base: &Path,
    tuned: &Path,
    original: Option<&Path>,
    adapter: &Path,
    config: &VerifyConfig,
) -> Result<Verification> {
    let (base, tuned) = (Checkpoint::open(base)?, Checkpoint::open(tuned)?);
    let original = original.map(Checkpoint::open).transpose()?;
    let adapter = Adapter::open(adapter)?;
    let go = |_: VerifyEvent<'_>| ControlFlow::Continue(());
    Ok(verify(&base, &tuned, original.as_ref(), &adapter, config, &go)?.0)
}
