//! The scales of one mapping: twenty candidates, the one that costs least.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use xgraft_block_scale::GroupRecipe;
use xgraft_checkpoint::{Activations, Weight, WeightMatrix};
use xgraft_cpu_gemm::Source as _;

use super::mapping::Mapping;
use super::scales::scaled;
use crate::convert::{Job, strips};
use crate::error::Result;
use crate::search::rows_of;

/// Candidates that are tried.
const GRID: usize = 20;

/// What was found for one mapping.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scaled {
    /// The norm or layer whose output is divided.
    pub smooth: String,
    /// The layers whose input channels are multiplied.
    pub balance: Vec<String>,
    /// The exponent of the activations in the scales; none where leaving all as it is costs least.
    pub ratio: Option<f64>,
    /// Σ E(xⱼ²)·ΔWᵢⱼ² without scales.
    pub loss_before: f64,
    /// The same with them.
    pub loss: f64,
    /// Smallest and largest scale.
    pub range: [f32; 2],
}

/// What a search looks at.
pub(crate) struct Search<'a> {
    pub(crate) mapping: &'a Mapping<'a>,
    /// The layers' weights, in their order.
    pub(crate) matrices: &'a [WeightMatrix],
    /// The norm that is divided, where it is one.
    pub(crate) norm: Option<&'a WeightMatrix>,
    pub(crate) activations: &'a Activations,
    pub(crate) recipe: &'a GroupRecipe,
}

/// The scales that cost least, `[in]`, and what they cost.
///
/// Candidates are none at all, and mean|x|^ratio / (mean|w|^(1−ratio) + 10⁻⁴) for ratios 0, 1/18, … 1, each over the root of
/// its largest times its smallest. |w| is relative to the largest of its group. Of equal losses the first is taken.
pub(crate) fn search(what: &Search<'_>) -> Result<(Vec<f32>, Scaled)> {
    let (x_mean, w_mean) = (what.activations.mean_abs(), what.weight_means());
    let none = vec![1.0; x_mean.len()];
    let before = what.loss(&none)?;
    let mut best = (none, None, before);
    for at in 0..GRID - 1 {
        let ratio = at as f64 / (GRID - 2) as f64;
        let scales = what.storable(&candidate(&x_mean, &w_mean, ratio));
        let loss = what.loss(&scales)?;
        if loss < best.2 {
            best = (scales, Some(ratio), loss);
        }
    }
    let (scales, ratio, loss) = best;
    let name = |weight: &&Weight| weight.module.clone();
    let range = [f32::min, f32::max].map(|f| scales.iter().copied().fold(scales[0], f));
    let scaled = Scaled {
        smooth: what.mapping.smooth.module.clone(),
        balance: what.mapping.balance.iter().map(name).collect(),
        ratio,
        loss_before: before,
        loss,
        range,
    };
    Ok((scales, scaled))
}

/// Duo scaling.
///
/// **Source** llm-compressor `AWQModifier._compute_best_scale`.
fn candidate(x_mean: &[f64], w_mean: &[f64], ratio: f64) -> Vec<f32> {
    let of_channel =
        |(x, w): (&f64, &f64)| (x.powf(ratio) / (w.powf(1.0 - ratio) + 1e-4)).max(1e-4);
    let scales: Vec<f64> = x_mean.iter().zip(w_mean).map(of_channel).collect();
    let least = scales.iter().copied().fold(f64::INFINITY, f64::min);
    let most = scales.iter().copied().fold(0.0, f64::max);
    let middle = (least * most).sqrt();
    let scales = scales.into_iter().map(|s| (s / middle) as f32);
    let usable = |s: f32| if s.is_finite() && s > 0.0 { s } else { 1.0 };
    scales.map(usable).collect()
}

impl Search<'_> {
    /// Mean over all rows of |w| over the largest |w| of its group. `[in]`
    fn weight_means(&self) -> Vec<f64> {
        let channels = self.activations.amax_channel.len();
        let group = self.recipe.group.size(channels);
        let (mut sums, mut rows) = (vec![0.0_f64; channels], 0);
        for matrix in self.matrices {
            let strips = strips((matrix.rows(), channels)).map(|range| {
                let mut sums = vec![0.0_f64; channels];
                for row in rows_of(matrix, range).chunks(channels) {
                    for (w, sums) in row.chunks(group).zip(sums.chunks_mut(group)) {
                        let amax = w.iter().fold(0.0, |most: f32, w| most.max(w.abs()));
                        for (w, sum) in w.iter().zip(sums) {
                            *sum += f64::from(w.abs() / (amax + 1e-6));
                        }
                    }
                }
                sums
            });
            for of_strip in strips.collect::<Vec<_>>() {
                sums.iter_mut().zip(of_strip).for_each(|(sum, x)| *sum += x);
            }
            rows += matrix.rows();
        }
        sums.into_iter()
            .map(|sum| sum / rows.max(1) as f64)
            .collect()
    }

    /// The scales that the norm stands for once it is divided and rounded: the product with the weights stays what it was.
    fn storable(&self, scales: &[f32]) -> Vec<f32> {
        let Some(norm) = self.norm else {
            return scales.to_vec();
        };
        let divided = scaled(norm.clone(), |_, at, x| x / scales[at]).to_f32();
        let ratios = norm.to_f32().into_iter().zip(divided).map(|(x, y)| x / y);
        ratios
            .map(|s| if s.is_finite() && s > 0.0 { s } else { 1.0 })
            .collect()
    }

    /// Σ E(xⱼ²)·(Q(W·s)/s − W)ᵢⱼ² over the layers, in strips of fixed rows.
    pub(super) fn loss(&self, scales: &[f32]) -> Result<f64> {
        let squares = self.activations.mean_square();
        let mut loss = 0.0;
        for (weight, matrix) in self.mapping.balance.iter().zip(self.matrices) {
            let cols = matrix.cols();
            let parts = strips((matrix.rows(), cols)).map(|range| {
                let original = rows_of(matrix, range.clone());
                let part = part(matrix, range.clone());
                let part = scaled(part, |_, col, x| x * scales[col]);
                let job = Job::plain(weight, &part);
                let rounded = job.groups(self.recipe, 0..range.len())?;
                let values = rows_of(&rounded, 0..range.len());
                let rows = original.chunks(cols).zip(values.chunks(cols));
                let errors = rows.flat_map(|(w, v)| {
                    let pairs = w.iter().zip(v).zip(scales).zip(&squares);
                    pairs.map(|(((w, v), s), square)| square * f64::from(v / s - w).powi(2))
                });
                Ok(errors.sum::<f64>())
            });
            for part in parts.collect::<Vec<Result<f64>>>() {
                loss += part?;
            }
        }
        Ok(loss)
    }
}

/// Some rows of a plain matrix in its own type.
fn part(matrix: &WeightMatrix, rows: std::ops::Range<usize>) -> WeightMatrix {
    let cols = matrix.cols();
    let at = rows.start * cols..rows.end * cols;
    let rows = rows.len();
    match matrix {
        WeightMatrix::Bf16 { data, .. } => WeightMatrix::Bf16 {
            rows,
            cols,
            data: data[at].to_vec(),
        },
        WeightMatrix::F16 { data, .. } => WeightMatrix::F16 {
            rows,
            cols,
            data: data[at].to_vec(),
        },
        other => {
            let data = other.to_f32()[at].to_vec();
            WeightMatrix::F32(xgraft_block_scale::Matrix::new(rows, cols, data))
        }
    }
}

#[cfg(test)]
mod tests {
    use xgraft_block_scale::{Extent, WeightDtype};
    use xgraft_checkpoint::Checkpoint;
    use xgraft_fixtures::{TEXT, golden};

    use super::super::mapping::mappings;
    use super::*;

    fn recipe() -> GroupRecipe {
        let group = Extent::Of(std::num::NonZeroUsize::new(128).unwrap());
        GroupRecipe::compressed_tensors(4, group, true, WeightDtype::Bf16)
    }

    fn close(ours: &[f64], theirs: &[f32], tolerance: f64) {
        assert_eq!(ours.len(), theirs.len());
        for (at, (x, y)) in ours.iter().zip(theirs).enumerate() {
            let y = f64::from(*y);
            assert!((x - y).abs() <= tolerance * y.abs(), "{at}: {x} and {y}");
        }
    }

    /// What the statistics of the golden file say of the norm before gate and up in the first layer.
    fn with_search<T>(use_it: impl FnOnce(&Search<'_>, &dyn Fn(&str) -> Vec<f32>) -> T) -> T {
        let expected = golden::tensors("activations/expected.safetensors").unwrap();
        let named = |part: &str| {
            let name = format!("model.layers.0.post_attention_layernorm.{part}");
            expected[&name].to_f32().unwrap()
        };
        let source = Checkpoint::open(TEXT.tuned()).unwrap();
        let mappings = mappings(&source, &|_| true);
        let mapping = mappings
            .iter()
            .find(|m| m.smooth.module.ends_with("0.post_attention_layernorm"));
        let mapping = mapping.unwrap();
        let load = |weight: &&Weight| source.load(weight).unwrap().0;
        let matrices: Vec<WeightMatrix> = mapping.balance.iter().map(load).collect();
        let gate = |part: &str| {
            expected[&format!("model.layers.0.mlp.gate_proj.{part}")]
                .to_f32()
                .unwrap()
        };
        let sums = |part: &str| gate(part).into_iter().map(f64::from).collect::<Vec<_>>();
        let mut activations = Activations::new(matrices[0].cols());
        activations.tokens = 1;
        activations.amax_channel = gate("amax_channel");
        activations.abs_sum_channel = sums("mean_abs");
        activations.square_sum_channel = sums("mean_square");
        let recipe = recipe();
        let search = Search {
            mapping,
            matrices: &matrices,
            norm: None,
            activations: &activations,
            recipe: &recipe,
        };
        use_it(&search, &named)
    }

    #[test]
    fn candidates_are_those_of_llm_compressors_formula() {
        with_search(|search, expected| {
            let (x_mean, w_mean) = (search.activations.mean_abs(), search.weight_means());
            close(&x_mean, &expected("x_mean"), 1e-6);
            close(&w_mean, &expected("w_mean"), 1e-5);
            let theirs = expected("candidates");
            for (at, theirs) in theirs.chunks(x_mean.len()).enumerate() {
                let ours = candidate(&x_mean, &w_mean, at as f64 / 18.0);
                let ours: Vec<f64> = ours.into_iter().map(f64::from).collect();
                close(&ours, theirs, 1e-4);
            }
        });
    }

    /// The loss by its definition, element by element.
    fn definition(search: &Search<'_>, scales: &[f32]) -> f64 {
        let squares = search.activations.mean_square();
        let mut loss = 0.0;
        for matrix in search.matrices {
            let (rows, cols) = (matrix.rows(), matrix.cols());
            let scaled = scaled(matrix.clone(), |_, col, x| x * scales[col]);
            let WeightMatrix::Bf16 { data, .. } = &scaled else {
                unreachable!("the fixture is BF16")
            };
            let rounded = recipe()
                .quantize(data.as_slice(), (rows, cols), 1.0)
                .unwrap()
                .to_f32();
            for (at, (w, v)) in matrix.to_f32().into_iter().zip(rounded).enumerate() {
                let error = f64::from(v) / f64::from(scales[at % cols]) - f64::from(w);
                loss += squares[at % cols] * error * error;
            }
        }
        loss
    }

    #[test]
    fn the_loss_is_the_weighted_squared_error_and_the_best_candidate_is_taken() {
        with_search(|search_, _| {
            let (x_mean, w_mean) = (search_.activations.mean_abs(), search_.weight_means());
            let (scales, found) = search(search_).unwrap();
            let none = vec![1.0; x_mean.len()];
            let mut least = definition(search_, &none);
            assert!((found.loss_before / least - 1.0).abs() < 1e-5);
            for at in 0..19 {
                least = least.min(definition(
                    search_,
                    &candidate(&x_mean, &w_mean, f64::from(at) / 18.0),
                ));
            }
            assert!((found.loss / least - 1.0).abs() < 1e-5, "{found:?} {least}");
            assert!((definition(search_, &scales) / found.loss - 1.0).abs() < 1e-5);
            assert!(found.loss < found.loss_before && found.ratio.is_some());
        });
    }

    #[test]
    fn a_rounded_norm_takes_the_scales_with_it() {
        with_search(|plain, _| {
            let norm = WeightMatrix::Bf16 {
                rows: 1,
                cols: 256,
                data: (0..256_u16)
                    .map(|i| half::bf16::from_f32(f32::from(i) * 0.01))
                    .collect(),
            };
            let search = Search {
                norm: Some(&norm),
                ..*plain
            };
            let wanted: Vec<f32> = (0..256_u16).map(|i| 0.5 + f32::from(i) / 100.0).collect();
            let scales = search.storable(&wanted);
            assert_eq!(scales[0], 1.0, "a channel that is off");
            let divided = scaled(norm.clone(), |_, at, x| x / scales[at]).to_f32();
            for (at, x) in norm.to_f32().into_iter().enumerate().skip(1) {
                assert!((scales[at] / wanted[at] - 1.0).abs() < 1.0 / 128.0);
                assert!((divided[at] * scales[at] - x).abs() <= 1e-6 * x, "{at}");
            }
        });
    }

    #[test]
    fn a_candidate_is_centred_and_never_zero() {
        let scales = candidate(&[4.0, 1.0, 0.0], &[0.5, 0.5, 0.5], 0.5);
        assert!((scales[0] * scales[2] - 1.0).abs() < 1e-6, "{scales:?}");
        assert!((scales[0] / scales[1] - 2.0).abs() < 1e-6, "{scales:?}");
        assert!(scales[2] > 0.0);
        assert_eq!(candidate(&[0.0, 0.0], &[0.0, 0.0], 1.0), [1.0, 1.0]);
    }
}
