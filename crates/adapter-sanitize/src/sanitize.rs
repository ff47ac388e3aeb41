//! An adapter in, an adapter out.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use xgraft_checkpoint::{
    Adapter, AdapterPart, AdapterTensor, AdapterWriter, Checkpoint, Digest, Dtype, LoraKind,
    LoraModule, OutputDir, PlannedTensor, Role, TensorInfo, WeightMatrix, peft_name, planned_pair,
};
use xgraft_cpu_gemm::{Diff, F32, Source, matmul, matmul_tn, squared_norm};
use xgraft_results::{Finding, Input, Row};

use crate::error::{Error, Result};
use crate::ledger::{Dropped, Ledger};
use crate::rules::{Form, Policy, Rules, ladder_up};
use crate::servable::servable_config;

/// What a sanitizing is asked to do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Config {
    /// Whose loader must accept the result.
    pub rules: Rules,
    /// Fail when more than this share of the update's energy is dropped.
    pub max_dropped: f64,
}

/// A pair of the sanitized adapter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KeptPair {
    /// Module path.
    pub module: String,
    /// Its rank.
    pub rank: usize,
    /// The scale that was folded into B; 1 when nothing had to be.
    pub folded_scale: f64,
    /// ‖s·B·A‖².
    pub energy: f64,
}

/// A sanitized adapter's account; the whole of `report.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sanitized {
    /// `xgraft.sanitize-report/1`.
    pub schema: String,
    /// Pairs that are kept.
    pub kept: Vec<KeptPair>,
    /// Tensors that are not, by energy.
    pub dropped: Vec<Dropped>,
    /// Share of the update's energy that is dropped.
    pub dropped_share: f64,
    /// Whether that share is a lower bound, because the energy of a dropped tensor is unknown.
    pub dropped_share_is_lower_bound: bool,
    /// Largest rank: what the server's `max_lora_rank` must hold.
    pub max_rank: usize,
    /// Everything a person should know.
    pub findings: Vec<Finding>,
    /// Every tensor that was read.
    #[serde(skip)]
    pub inputs: Vec<Input>,
}

impl Sanitized {
    /// The measurements as rows.
    #[must_use]
    pub fn rows(&self, arm: &str) -> Vec<Row> {
        let mut rows = vec![
            Row::new("dropped_share", self.dropped_share)
                .arm(arm)
                .source("sanitize"),
            Row::new("max_rank", self.max_rank as f64)
                .arm(arm)
                .source("sanitize"),
        ];
        rows.extend(self.dropped.iter().filter_map(|d| {
            let row = Row::new("dropped_energy_share", d.share?);
            Some(row.arm(arm).module(&d.tensor).source("sanitize"))
        }));
        rows
    }
}

/// Brings `adapter` to the rules and writes it into the open directory `out`; the caller commits it.
///
/// Names get PEFT's form, scales are folded into B so that alpha equals the rank, `target_modules`
/// become those of the tensors, and what the policy does not allow is dropped and booked. With
/// `base`, shapes are checked and the change of full-rank tensors is measured.
///
/// # Errors
/// An adapter that is no plain LoRA, does not fit its base, has broken factors or a rank that the
/// engine does not serve, or loses everything or more than allowed.
pub fn sanitize(
    adapter: &Adapter,
    base: Option<&Checkpoint>,
    config: &Config,
    out: &OutputDir,
) -> Result<Sanitized> {
    plain_lora(adapter)?;
    let mut job = Job {
        adapter,
        base,
        rules: config.rules,
        ledger: Ledger::default(),
        kept: Vec::new(),
        whole: Vec::new(),
        findings: Vec::new(),
        inputs: Vec::new(),
    };
    for module in adapter.modules() {
        job.pair(module)?;
    }
    for tensor in adapter.others() {
        job.other(tensor)?;
    }
    job.findings
        .extend(job.ledger.findings(config.rules.policy, config.max_dropped));
    let share = job.ledger.dropped_share();
    if share > config.max_dropped {
        return Err(Error::TooMuchDropped {
            share: 100.0 * share,
            limit: 100.0 * config.max_dropped,
            findings: job.findings,
        });
    }
    if job.kept.is_empty() {
        return Err(Error::NothingLeft {
            adapter: adapter.dir().to_owned(),
            policy: config.rules.policy.name(),
        });
    }
    job.write(out)?;
    job.rank_finding();
    Ok(Sanitized {
        schema: "xgraft.sanitize-report/1".into(),
        max_rank: job.kept.iter().map(|k| k.rank).max().unwrap_or(0),
        kept: job.kept,
        dropped: job.ledger.dropped(),
        dropped_share: share,
        dropped_share_is_lower_bound: !job.ledger.is_complete(),
        findings: job.findings,
        inputs: job.inputs,
    })
}

/// Refuses adapters whose tensors mean something else than s·B·A on the unchanged base: `DoRA`,
/// transposed weights, initializations that change the base, replicated layers.
///
/// # Errors
/// [`Error::Unsupported`], naming the field of `adapter_config.json`.
pub fn plain_lora(adapter: &Adapter) -> Result<()> {
    let config = adapter.config();
    let refuse = |field, expected, found: String| {
        Err(Error::Unsupported {
            adapter: adapter.dir().to_owned(),
            field,
            expected,
            found,
        })
    };
    if config.use_dora {
        return refuse("use_dora", "false", "true".into());
    }
    if config.fan_in_fan_out {
        return refuse("fan_in_fan_out", "false", "true".into());
    }
    if let Value::String(init) = &config.init_lora_weights {
        let changes_base = ["pissa", "olora", "corda", "loftq", "lora_ga"];
        if changes_base
            .iter()
            .any(|name| init.to_lowercase().starts_with(name))
        {
            return refuse(
                "init_lora_weights",
                "an initialization that leaves the base as it is",
                init.clone(),
            );
        }
    }
    for field in ["layer_replication", "use_qalora", "alora_invocation_tokens"] {
        match config.extra.get(field) {
            None | Some(Value::Null | Value::Bool(false)) => {}
            Some(value) => return refuse(field, "null", value.to_string()),
        }
    }
    Ok(())
}

struct Job<'a> {
    adapter: &'a Adapter,
    base: Option<&'a Checkpoint>,
    rules: Rules,
    ledger: Ledger,
    kept: Vec<KeptPair>,
    whole: Vec<&'a AdapterTensor>,
    findings: Vec<Finding>,
    inputs: Vec<Input>,
}

impl<'a> Job<'a> {
    fn pair(&mut self, module: &LoraModule) -> Result<()> {
        self.fits(module)?;
        let (a, b) = (self.load(&module.a)?, self.load(&module.b)?);
        let energy = pair_energy(module, &a, &b);
        if !energy.is_finite() {
            return Err(Error::NotFinite {
                module: module.module.clone(),
            });
        }
        let role = self.role(&module.module, "weight", 2);
        let vocab = matches!(role, Role::Embedding | Role::LmHead).then(|| module.weight_shape().0);
        if let Err(reason) = self.rules.check(role, Form::LowRank, vocab) {
            self.ledger
                .drop(module.module.clone(), reason, Some(energy));
            return Ok(());
        }
        if let Some(limit) = self.rules.max_rank()
            && module.rank > limit
        {
            return Err(Error::RankTooLarge {
                module: module.module.clone(),
                found: module.rank,
                limit,
                policy: self.rules.policy.name(),
            });
        }
        self.ledger.keep(energy);
        self.kept.push(KeptPair {
            module: module.module.clone(),
            rank: module.rank,
            folded_scale: module.scale,
            energy,
        });
        Ok(())
    }

    /// A tensor that is no half of a pair: a bias, a tensor saved whole, or a copy of the base's own.
    fn other(&mut self, tensor: &'a AdapterTensor) -> Result<()> {
        let name = tensor.info.name.as_str();
        let components: Vec<&str> = name.split('.').collect();
        if components.contains(&"base_layer") {
            self.findings.push(Finding::info(
                "base-weights",
                name,
                "a copy of the base's own weights, which PEFT stores beside an adapted embedding; left out",
            ));
            return Ok(());
        }
        let matrix = self.load(&tensor.info)?;
        let leaf = components.last().copied().unwrap_or_default();
        let (role, energy) = if leaf == "bias" {
            (Role::Bias, Some(squared_norm(&matrix)))
        } else {
            let role = self.role(&tensor.module, leaf, tensor.info.shape.len());
            (role, self.change(tensor, leaf, &matrix)?)
        };
        let vocab = tensor.info.shape.first().copied();
        match self.rules.check(role, Form::Full, vocab) {
            Ok(()) => {
                self.ledger.keep(energy.unwrap_or(0.0));
                self.whole.push(tensor);
            }
            Err(reason) => self.ledger.drop(name, reason, energy),
        }
        Ok(())
    }

    /// ‖tensor − base‖² of a tensor that is carried whole; `None` without a base.
    fn change(
        &self,
        tensor: &AdapterTensor,
        leaf: &str,
        matrix: &WeightMatrix,
    ) -> Result<Option<f64>> {
        let Some(base) = self.base else {
            return Ok(None);
        };
        let name = format!("{}.{leaf}", tensor.module);
        let Some(weight) = base.weights().iter().find(|w| w.tensor == name) else {
            return Ok(None);
        };
        let (own, _) = base.load(weight)?;
        if own.cols() != matrix.cols() {
            return Err(Error::Shape {
                module: tensor.module.clone(),
                expected: weight.shape.clone(),
                found: [matrix.rows(), matrix.cols()],
            });
        }
        let rows = own.rows().min(matrix.rows());
        let (own, new) = (own.to_f32(), matrix.to_f32());
        let cols = matrix.cols();
        let shared = Diff::new(
            F32::new(&new[..rows * cols], rows, cols),
            F32::new(&own[..rows * cols], rows, cols),
        );
        let extra = F32::new(&new[rows * cols..], matrix.rows() - rows, cols);
        Ok(Some(squared_norm(&shared) + squared_norm(&extra)))
    }

    fn fits(&self, module: &LoraModule) -> Result<()> {
        let Some(base) = self.base else {
            return Ok(());
        };
        let Some(weight) = base.weight(&module.module) else {
            return Err(Error::UnknownModule {
                module: module.module.clone(),
                base: base.dir().to_owned(),
            });
        };
        let (rows, cols) = module.weight_shape();
        if weight.shape == [rows, cols] {
            return Ok(());
        }
        Err(Error::Shape {
            module: module.module.clone(),
            expected: weight.shape.clone(),
            found: [rows, cols],
        })
    }

    fn role(&self, module: &str, leaf: &str, dimensions: usize) -> Role {
        let model_type = self.base.and_then(|b| b.config().model_type.as_deref());
        Role::of(&format!("{module}.{leaf}"), dimensions, model_type)
    }

    fn load(&mut self, tensor: &TensorInfo) -> Result<WeightMatrix> {
        let (matrix, digest): (_, Digest) = self.adapter.load(tensor)?;
        self.inputs.push(Input {
            role: "adapter".into(),
            tensor: Some(tensor.name.clone()),
            file: "adapter_model.safetensors".into(),
            blake3: digest.to_hex(),
            bytes: tensor.bytes,
        });
        Ok(matrix)
    }

    fn write(&mut self, out: &OutputDir) -> Result<()> {
        let base = self
            .adapter
            .config()
            .base_model_name_or_path
            .clone()
            .unwrap_or_default();
        let ranks: Vec<(&str, usize)> = self
            .kept
            .iter()
            .map(|k| (k.module.as_str(), k.rank))
            .collect();
        let saved: Vec<&str> = self.whole.iter().map(|t| t.module.as_str()).collect();
        let config = servable_config(&base, &ranks, &saved);
        let mut planned = Vec::new();
        for kept in &self.kept {
            planned.extend(self.planned(kept));
        }
        for tensor in &self.whole {
            let name = peft_name(&tensor.module, AdapterPart::Other);
            planned.push(PlannedTensor::new(
                name,
                tensor.info.dtype,
                tensor.info.shape.clone(),
            ));
        }
        let writer = AdapterWriter::create(out.path(), config, planned)?;
        for kept in &self.kept {
            self.write_pair(kept, &writer)?;
        }
        for tensor in &self.whole {
            let mut to = writer.tensor(&peft_name(&tensor.module, AdapterPart::Other))?;
            self.adapter.stream(&tensor.info, |chunk| to.write(chunk))?;
            to.finish()?;
        }
        Ok(writer.finish()?)
    }

    fn module(&self, kept: &KeptPair) -> &'a LoraModule {
        self.adapter
            .module(&kept.module)
            .unwrap_or_else(|| unreachable!("{} was read from the adapter", kept.module))
    }

    /// A keeps its type; a B whose scale is no power of two is stored in F32, so that folding is exact.
    fn planned(&self, kept: &KeptPair) -> [PlannedTensor; 2] {
        let module = self.module(kept);
        let [mut a, mut b] = planned_pair(
            &kept.module,
            module.kind,
            kept.rank,
            module.weight_shape(),
            Dtype::F32,
        );
        a.dtype = stored(module.a.dtype);
        b.dtype = if is_power_of_two(kept.folded_scale) {
            stored(module.b.dtype)
        } else {
            Dtype::F32
        };
        [a, b]
    }

    fn write_pair(&self, kept: &KeptPair, writer: &AdapterWriter) -> Result<()> {
        let module = self.module(kept);
        let (part_a, part_b) = match module.kind {
            LoraKind::Linear => (AdapterPart::LoraA, AdapterPart::LoraB),
            LoraKind::Embedding => (AdapterPart::EmbeddingA, AdapterPart::EmbeddingB),
        };
        let mut a = writer.tensor(&peft_name(&kept.module, part_a))?;
        a.write_f32(&self.adapter.load_a(module)?.data)?;
        a.finish()?;
        let mut values = self.adapter.load_b(module)?.data;
        for x in &mut values {
            *x = (f64::from(*x) * kept.folded_scale) as f32;
        }
        let mut b = writer.tensor(&peft_name(&kept.module, part_b))?;
        b.write_f32(&values)?;
        b.finish()?;
        Ok(())
    }

    /// What the server must be started with.
    fn rank_finding(&mut self) {
        let max = self.kept.iter().map(|k| k.rank).max().unwrap_or(0);
        if self.rules.policy == Policy::Vllm
            && let Some(step) = ladder_up(max)
            && step != max
        {
            self.findings.push(Finding::info(
                "rank-between-steps",
                "adapter",
                format!("rank {max} is served as --max-lora-rank {step}"),
            ));
        }
        let folded = self
            .kept
            .iter()
            .filter(|k| (k.folded_scale - 1.0).abs() > 0.0)
            .count();
        if folded > 0 {
            self.findings.push(Finding::info(
                "scale-folded",
                "adapter",
                format!(
                    "the scale of {folded} pairs was folded into B, so that alpha equals the rank"
                ),
            ));
        }
    }
}

/// The type in which a factor is written: its own, or F32 for F64.
fn stored(dtype: Dtype) -> Dtype {
    match dtype {
        Dtype::Bf16 | Dtype::F16 => dtype,
        _ => Dtype::F32,
    }
}

fn is_power_of_two(scale: f64) -> bool {
    scale != 0.0 && scale.to_bits() & ((1 << 52) - 1) == 0
}

/// `‖s·B·A‖² = s²·⟨BᵀB, A·Aᵀ⟩`, without the product.
fn pair_energy(module: &LoraModule, a: &WeightMatrix, b: &WeightMatrix) -> f64 {
    let r = module.rank;
    let (a32, b32) = (a.to_f32(), b.to_f32());
    let cols = a.cols();
    let mut a_t = vec![0.0; a32.len()];
    for (i, row) in a32.chunks_exact(cols.max(1)).enumerate() {
        for (j, x) in row.iter().enumerate() {
            a_t[j * r + i] = *x;
        }
    }
    let (mut aa, mut bb) = (vec![0.0; r * r], vec![0.0; r * r]);
    matmul(&F32::new(&a32, r, cols), &a_t, r, &mut aa);
    matmul_tn(&F32::new(&b32, b.rows(), r), &b32, r, &mut bb);
    let inner: f64 = aa
        .iter()
        .zip(&bb)
        .map(|(x, y)| f64::from(*x) * f64::from(*y))
        .sum();
    module.scale * module.scale * inner
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::Reason;

    #[test]
    fn powers_of_two_fold_exactly() {
        assert!(is_power_of_two(2.0) && is_power_of_two(0.25) && is_power_of_two(1.0));
        assert!(!is_power_of_two(1.5) && !is_power_of_two(0.0));
    }

    #[test]
    fn dropping_is_by_reason_not_by_name() {
        let rules = Rules {
            policy: Policy::Vllm,
            embeddings: false,
        };
        let of = |name: &str| rules.check(Role::of(name, 2, Some("qwen3")), Form::LowRank, None);
        assert_eq!(of("model.layers.0.mlp.normalizer.weight"), Ok(()));
        assert_eq!(
            of("model.layers.0.self_attn.q_norm.weight"),
            Err(Reason::Norm)
        );
    }
}
