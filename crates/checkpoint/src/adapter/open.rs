//! An adapter directory, opened by its header.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use xgraft_block_scale::Matrix;
use xgraft_cpu_gemm::Source;

use super::config::{AdapterConfig, Resolver};
use super::names::{AdapterPart, parse_name};
use super::{CONFIG, WEIGHTS};
use crate::digest::Digest;
use crate::error::{Error, Result, shape_text};
use crate::model::fold::natural_key;
use crate::model::weight::TensorInfo;
use crate::read::load;
use crate::read::matrix::WeightMatrix;
use crate::read::store::{ShardIdentity, Store};

/// A LoRA adapter in PEFT's layout, opened by its header.
#[derive(Debug)]
pub struct Adapter {
    config: AdapterConfig,
    store: Store,
    tensors: Vec<AdapterTensor>,
    modules: Vec<LoraModule>,
    by_name: HashMap<String, usize>,
}

/// One tensor of an adapter's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdapterTensor {
    /// As the file describes it.
    pub info: TensorInfo,
    /// The module that it changes, named as in the base model.
    pub module: String,
    /// What it is to that module.
    pub part: AdapterPart,
}

/// What kind of layer a pair of factors changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LoraKind {
    /// A [rank, in], B [out, rank]; ΔW = scale · B · A of a weight [out, in].
    Linear,
    /// A [rank, vocab], B [hidden, rank]; ΔW = scale · (B · A)ᵀ of a table [vocab, hidden].
    Embedding,
}

/// The two factors of one module's update.
#[derive(Debug, Clone, PartialEq)]
pub struct LoraModule {
    /// Named as in the base model: `model.layers.0.self_attn.q_proj`.
    pub module: String,
    /// What kind of layer it is.
    pub kind: LoraKind,
    /// Rows of A and columns of B.
    pub rank: usize,
    /// Its alpha, by `alpha_pattern` or `lora_alpha`.
    pub alpha: f64,
    /// The factor before B · A: alpha / rank, or alpha / √rank under rsLoRA.
    pub scale: f64,
    /// The tensor A.
    pub a: TensorInfo,
    /// The tensor B.
    pub b: TensorInfo,
}

impl LoraModule {
    /// `(rows, cols)` of the weight that it changes: [out, in], or [vocab, hidden] of an embedding.
    pub fn weight_shape(&self) -> (usize, usize) {
        let (outer, inner) = (self.b.shape[0], self.a.shape[1]);
        match self.kind {
            LoraKind::Linear => (outer, inner),
            LoraKind::Embedding => (inner, outer),
        }
    }
}

impl Adapter {
    /// Opens a directory with `adapter_config.json` and `adapter_model.safetensors`.
    ///
    /// # Errors
    /// When a file is missing or damaged, an A has no B, shapes contradict each other, a rank is not the one
    /// that the configuration says, or the adapter is no LoRA.
    pub fn open(dir: impl AsRef<Path>) -> Result<Adapter> {
        let dir = dir.as_ref();
        check_directory(dir)?;
        let config_path = dir.join(CONFIG);
        let config = AdapterConfig::read(&config_path)?;
        if !config.peft_type.eq_ignore_ascii_case("LORA") {
            return Err(Error::Adapter {
                file: config_path,
                entry: "peft_type".to_owned(),
                expected: "LORA".to_owned(),
                found: config.peft_type,
            });
        }
        let resolver = config.resolver(&config_path)?;
        let store = Store::open_single(dir, WEIGHTS)?;
        let tensors = named(&store)?;
        let modules = pair(&tensors, &resolver, &store.paths[0])?;
        let by_name = modules
            .iter()
            .enumerate()
            .map(|(at, m)| (m.module.clone(), at))
            .collect();
        Ok(Adapter {
            config,
            store,
            tensors,
            modules,
            by_name,
        })
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.store.dir
    }

    /// Its `adapter_config.json`.
    pub fn config(&self) -> &AdapterConfig {
        &self.config
    }

    /// Every tensor of the file, sorted by its name in the file.
    pub fn tensors(&self) -> &[AdapterTensor] {
        &self.tensors
    }

    /// The tensors that are no factor of a pair: modules saved whole, biases, magnitudes.
    pub fn others(&self) -> impl Iterator<Item = &AdapterTensor> {
        self.tensors.iter().filter(|t| t.part == AdapterPart::Other)
    }

    /// The pairs of factors, in natural order of their modules.
    pub fn modules(&self) -> &[LoraModule] {
        &self.modules
    }

    /// The pair of one module.
    pub fn module(&self, module: &str) -> Option<&LoraModule> {
        self.by_name.get(module).map(|&at| &self.modules[at])
    }

    /// What tells this file from other versions of it, without reading its tensors.
    pub fn identity(&self) -> &ShardIdentity {
        &self.store.identities[0]
    }

    /// Reads A as f32, [rank, in]; of an embedding [rank, vocab].
    ///
    /// # Errors
    /// [`Error::NotFinite`], [`Error::Io`].
    pub fn load_a(&self, module: &LoraModule) -> Result<Matrix> {
        self.load(&module.a).map(|(matrix, _)| to_f32(matrix))
    }

    /// Reads B as f32, [out, rank]; of an embedding [hidden, rank].
    ///
    /// # Errors
    /// [`Error::NotFinite`], [`Error::Io`].
    pub fn load_b(&self, module: &LoraModule) -> Result<Matrix> {
        self.load(&module.b).map(|(matrix, _)| to_f32(matrix))
    }

    /// Reads any tensor in its stored form, with BLAKE3 of its bytes; a vector is one row.
    ///
    /// # Errors
    /// [`Error::NotFinite`], [`Error::Tensor`] for integers, [`Error::Io`].
    pub fn load(&self, tensor: &TensorInfo) -> Result<(WeightMatrix, Digest)> {
        load::tensor(&self.store, tensor)
    }

    /// Gives a tensor's bytes to `chunk` in order, and returns BLAKE3 of them.
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
}

fn to_f32(matrix: WeightMatrix) -> Matrix {
    match matrix {
        WeightMatrix::F32(matrix) => matrix,
        other => Matrix {
            rows: other.rows(),
            cols: other.cols(),
            data: other.to_f32(),
        },
    }
}

fn check_directory(dir: &Path) -> Result<()> {
    let missing = |expected: &str, found: &str, hint| {
        Err(Error::Missing {
            path: dir.to_owned(),
            expected: expected.to_owned(),
            found: found.to_owned(),
            hint,
        })
    };
    if !dir.is_dir() {
        let found = if dir.exists() { "a file" } else { "nothing" };
        return missing(
            "an adapter's directory",
            found,
            "pass the directory that holds adapter_config.json",
        );
    }
    if !dir.join(CONFIG).exists() {
        let model = dir.join("config.json").exists();
        let found = if model {
            "a whole model"
        } else {
            "neither of an adapter's files"
        };
        return missing(CONFIG, found, "pass an adapter as PEFT saves it");
    }
    if dir.join(WEIGHTS).exists() {
        return Ok(());
    }
    let pickled = ["adapter_model.bin", "adapter_model.pt"]
        .into_iter()
        .find(|name| dir.join(name).exists());
    match pickled {
        Some(found) => missing(
            WEIGHTS,
            found,
            "a pickle can run code when it is opened; load it with PEFT and save_pretrained(safe_serialization=True)",
        ),
        None => missing(WEIGHTS, "no weights", "download the adapter's weights too"),
    }
}

/// Every tensor with its module and part; two names for one thing are refused.
fn named(store: &Store) -> Result<Vec<AdapterTensor>> {
    let mut seen: HashMap<(String, AdapterPart), &str> = HashMap::new();
    let mut tensors = Vec::with_capacity(store.tensors.len());
    for info in store.tensors.values() {
        let (module, part) = parse_name(&info.name);
        if part != AdapterPart::Other
            && let Some(first) = seen.insert((module.clone(), part), &info.name)
        {
            return Err(adapter_error(
                &store.paths[0],
                &info.name,
                "each factor once",
                format!("`{first}` too"),
            ));
        }
        tensors.push(AdapterTensor {
            info: info.clone(),
            module,
            part,
        });
    }
    Ok(tensors)
}

/// Pairs A with B, and holds shapes and ranks against each other and the configuration.
fn pair(tensors: &[AdapterTensor], resolver: &Resolver, file: &Path) -> Result<Vec<LoraModule>> {
    let mut halves: BTreeMap<(&str, bool), [Option<&TensorInfo>; 2]> = BTreeMap::new();
    for tensor in tensors {
        let (embedding, half) = match tensor.part {
            AdapterPart::LoraA => (false, 0),
            AdapterPart::LoraB => (false, 1),
            AdapterPart::EmbeddingA => (true, 0),
            AdapterPart::EmbeddingB => (true, 1),
            AdapterPart::Other => continue,
        };
        halves.entry((&tensor.module, embedding)).or_default()[half] = Some(&tensor.info);
    }
    let mut modules: Vec<LoraModule> = Vec::with_capacity(halves.len());
    for ((module, embedding), pair) in halves {
        let (a, b) = match pair {
            [Some(a), Some(b)] => (a, b),
            [Some(a), None] => return Err(adapter_error(file, &a.name, "its factor B", "only A")),
            [None, Some(b)] => return Err(adapter_error(file, &b.name, "its factor A", "only B")),
            [None, None] => continue,
        };
        if modules.last().is_some_and(|m| m.module == module) {
            return Err(adapter_error(
                file,
                module,
                "factors of a linear layer or of an embedding",
                "both",
            ));
        }
        let kind = if embedding {
            LoraKind::Embedding
        } else {
            LoraKind::Linear
        };
        modules.push(checked_module(module, kind, (a, b), resolver, file)?);
    }
    modules.sort_by(|x, y| natural_key(&x.module).cmp(&natural_key(&y.module)));
    Ok(modules)
}

fn checked_module(
    module: &str,
    kind: LoraKind,
    (a, b): (&TensorInfo, &TensorInfo),
    resolver: &Resolver,
    file: &Path,
) -> Result<LoraModule> {
    for half in [a, b] {
        if half.shape.len() != 2 || !half.dtype.is_float() || half.dtype.fp8_format().is_some() {
            let found = format!("{} {}", half.dtype, shape_text(&half.shape));
            return Err(adapter_error(
                file,
                &half.name,
                "a matrix of F32, BF16, F16 or F64",
                found,
            ));
        }
    }
    let rank = a.shape[0];
    if b.shape[1] != rank {
        let expected = format!("{rank} columns, as A {} has rows", shape_text(&a.shape));
        return Err(adapter_error(
            file,
            &b.name,
            expected,
            format!("shape {}", shape_text(&b.shape)),
        ));
    }
    let configured = resolver.rank(module);
    if rank != configured {
        let expected = format!("rank {configured}, as {CONFIG} says");
        return Err(adapter_error(
            file,
            module,
            expected,
            format!("rank {rank} in the tensors"),
        ));
    }
    Ok(LoraModule {
        module: module.to_owned(),
        kind,
        rank,
        alpha: resolver.alpha(module),
        scale: resolver.scale(module),
        a: a.clone(),
        b: b.clone(),
    })
}

fn adapter_error(
    file: &Path,
    entry: &str,
    expected: impl Into<String>,
    found: impl Into<String>,
) -> Error {
    Error::Adapter {
        file: file.to_owned(),
        entry: entry.to_owned(),
        expected: expected.into(),
        found: found.into(),
    }
}
