//! One weight into a format: the tensors that take its place, and what is told of it.

use xgraft_block_scale::{BlockShape, GroupRecipe, GroupScale, Recipe, ScaleDtype, WeightDtype};
use xgraft_checkpoint::{
    Dtype, Fp8Layout, Packing, PlannedTensor, Stored, StoredGroups, Weight, WeightMatrix,
    pack_strips,
};
use xgraft_cpu_gemm::Source as _;

use crate::awq::ChannelScales;
use crate::convert::{Cost, Job, bf16_bytes};
use crate::error::{Error, Result};
use crate::report::{Loss, ModuleReport};
use crate::scheme::{Method, Simulated};

/// The tensors that take the place of a weight.
pub(crate) fn planned(weight: &Weight, method: &Method) -> Vec<PlannedTensor> {
    let (rows, cols) = weight.matrix_shape();
    match method {
        Method::Simulated(_) => vec![PlannedTensor::new(
            weight.tensor.clone(),
            Dtype::Bf16,
            [rows, cols],
        )],
        Method::Blocks {
            recipe,
            layout,
            input_scale,
        } => {
            let (grid_rows, grid_cols) = recipe.block.grid(rows, cols);
            let shape = match (recipe.block, layout) {
                (BlockShape::TENSOR, Fp8Layout::CompressedTensors) => vec![1],
                _ => vec![grid_rows, grid_cols],
            };
            let scales = format!("{}.{}", weight.module, layout.scale_suffix());
            let dtype = Dtype::from(recipe.scale);
            let mut tensors = vec![
                PlannedTensor::new(weight.tensor.clone(), Dtype::F8E4m3, [rows, cols]),
                PlannedTensor::new(scales, dtype, shape),
            ];
            if *input_scale {
                let name = format!("{}.input_scale", weight.module);
                tensors.push(PlannedTensor::new(name, dtype, [1]));
            }
            tensors
        }
        Method::Groups { recipe, packing } => {
            stored_groups(weight, recipe, *packing).planned(&weight.module, (rows, cols))
        }
    }
}

/// The names of the tensors of a grouped weight, those that its packing cannot do without.
fn stored_groups(weight: &Weight, recipe: &GroupRecipe, packing: Packing) -> StoredGroups {
    let mut parts = packing.parts(&weight.module);
    let always = matches!(packing, Packing::Awq | Packing::Gptq { .. });
    parts.zeros = parts.zeros.filter(|_| always || !recipe.symmetric);
    StoredGroups {
        packing,
        bits: recipe.levels.bits(),
        group: recipe.group,
        scale: match recipe.scale {
            GroupScale::Float(dtype) => dtype,
            GroupScale::PowerOfTwo | GroupScale::E4m3OfTensor => ScaleDtype::F32,
        },
        parts,
        decoded: match weight.stored {
            Stored::Plain(Dtype::Bf16) => Some(WeightDtype::Bf16),
            Stored::Plain(Dtype::F16) => Some(WeightDtype::F16),
            _ => Some(WeightDtype::F32),
        },
    }
}

/// A weight on its way: as it is, and as it is rounded.
pub(crate) struct One<'a> {
    /// With the weight as it is, against which costs are measured.
    pub(crate) job: Job<'a>,
    /// The weight with its channels scaled, where they are.
    pub(crate) scaled: Option<&'a WeightMatrix>,
    pub(crate) scales: &'a ChannelScales,
    /// Largest magnitude of its input, where it is known.
    pub(crate) amax: Option<f32>,
}

impl One<'_> {
    /// The bytes of its tensors, in the order in which they were planned, and what is told of it.
    pub(crate) fn convert(&self, method: &Method) -> Result<(Vec<Vec<u8>>, ModuleReport)> {
        let job = &self.job;
        let (tensors, cost) = match method {
            Method::Blocks {
                recipe,
                input_scale,
                ..
            } => {
                let quantized = job.blocks(recipe)?;
                let cost = job.cost_of_blocks(&quantized)?;
                let mut scales = Vec::new();
                recipe.scale.write(&quantized.scales, &mut scales);
                let mut tensors = vec![quantized.codes, scales];
                if *input_scale {
                    tensors.push(self.input_scale(recipe)?);
                }
                (tensors, cost)
            }
            Method::Groups { recipe, packing } => {
                let stored = stored_groups(job.weight, recipe, *packing);
                let (tensors, costs) = pack_strips(&stored, job.shape(), |rows| {
                    let strip = self.rounded().groups(recipe, rows.clone())?;
                    let restored = self.scales.restored(job.weight, &strip, rows.start);
                    let cost = job.cost(&restored, 0..strip.rows, rows.start);
                    Ok::<_, Error>((strip, cost))
                })?;
                (tensors, Cost::of_all(costs))
            }
            Method::Simulated(simulated) => self.simulate(simulated)?,
        };
        let bytes_out = tensors.iter().map(|t| t.len() as u64).sum();
        Ok((tensors, note(job, cost, bytes_out)?))
    }

    /// The job with the weight that is rounded.
    fn rounded(&self) -> Job<'_> {
        Job {
            matrix: self.scaled.unwrap_or(self.job.matrix),
            ..self.job
        }
    }

    /// amax / 448 of all inputs that were seen, in the type of the weight's scale.
    ///
    /// **Source** compressed-tensors 0.20 `quantization/utils/helpers.py` (`calculate_qparams`).
    fn input_scale(&self, recipe: &Recipe) -> Result<Vec<u8>> {
        let amax = self.amax.ok_or(Error::NeedsStats {
            what: "scheme fp8-tensor-static",
        })?;
        let scales = recipe.scales(&[amax], 1, self.job.data()?.dtype());
        let mut bytes = Vec::new();
        recipe
            .scale
            .write(&scales.map_err(|e| self.job.failed(e))?, &mut bytes);
        Ok(bytes)
    }

    fn simulate(&self, simulated: &Simulated) -> Result<(Vec<Vec<u8>>, Cost)> {
        let job = &self.job;
        Ok(match simulated {
            Simulated::Blocks(recipe) => {
                let quantized = job.blocks(recipe)?;
                (
                    vec![bf16_bytes(&quantized)],
                    job.cost_of_blocks(&quantized)?,
                )
            }
            Simulated::Groups(recipe) => {
                let quantized = self.rounded().groups(recipe, 0..job.shape().0)?;
                let restored = self.scales.restored(job.weight, &quantized, 0);
                (vec![bf16_bytes(&quantized)], job.cost_of_all(&restored))
            }
        })
    }
}

fn note(
    job: &Job<'_>,
    Cost {
        trip,
        delta,
        output,
    }: Cost,
    bytes_out: u64,
) -> Result<ModuleReport> {
    let element = match job.matrix {
        WeightMatrix::F32(_) => 4,
        _ => 2,
    };
    Ok(ModuleReport {
        module: job.weight.module.clone(),
        shape: [job.matrix.rows(), job.matrix.cols()],
        loss: Some(Loss {
            relative_error: trip.relative_error(),
            error2: trip.error2,
            norm2: trip.norm2,
            max_abs_error: f64::from(trip.max_abs_error),
            saturated: trip.saturated as u64,
        }),
        delta,
        output,
        bytes_in: (job.data()?.len() * element) as u64,
        bytes_out,
    })
}
