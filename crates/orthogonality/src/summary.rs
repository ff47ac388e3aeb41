//! Means over modules, by projection and by layer.

use serde::{Deserialize, Serialize};

use crate::measures::{Cosine, Leakage, decibel};
use crate::report::{ModuleReport, NoiseReport};

/// Some modules together.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// `all`, the projection, or the layer's number.
    pub name: String,
    /// One entry for each noise.
    pub noises: Vec<NoiseSummary>,
    /// One entry for each two noises.
    pub pairs: Vec<PairSummary>,
    /// The two adapters, where there are two.
    pub overlap: Option<OverlapSummary>,
}

/// One noise over some modules.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NoiseSummary {
    /// Which noise.
    pub noise: String,
    /// Modules on which it is not zero.
    pub modules: usize,
    /// √(Σ‖N‖²/Σ‖L‖²).
    pub over_adapter: f64,
    /// √(Σ‖N‖²/Σ‖W‖²).
    pub over_weight: f64,
    /// √(Σ‖L‖²/Σ‖W‖²).
    pub adapter_over_weight: f64,
    /// Mean stable rank of N.
    pub stable_rank: f64,
    /// Mean stable rank of L.
    pub adapter_stable_rank: f64,
    /// Mean of σ₁ over that of white noise.
    pub over_white_edge: f64,
    /// Means of the leading σᵢ/‖N‖.
    pub spectrum: Vec<f64>,
    /// Means of the σᵢ/‖L‖, as many as every update here has.
    pub adapter_spectrum: Vec<f64>,
    /// N and L.
    pub cosine: Cosines,
    /// Mean energy of N in the column spaces, beside the mean of the chance levels.
    pub left: Leakage,
    /// The same of the row spaces.
    pub right: Leakage,
    /// The same of both at once.
    pub inside: Leakage,
    /// Σ‖L‖² over Σ‖UUᵀNVVᵀ‖², in dB.
    pub snr_inside_db: Option<f64>,
    /// Σ‖L‖² over Σ‖UUᵀN‖², in dB.
    pub snr_left_db: Option<f64>,
    /// Control: random matrices.
    pub random: Cosines,
    /// Control: shuffled adapters.
    pub shuffled: Cosines,
    /// Control: updates of other layers.
    pub other_layer: Option<Cosines>,
}

/// Two noises over some modules.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PairSummary {
    /// The two, as `first × second`.
    pub pair: String,
    /// Their cosines.
    pub cosine: Cosines,
}

/// Two adapters over some modules.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OverlapSummary {
    /// Modules that both have.
    pub modules: usize,
    /// Mean overlap of the column spaces.
    pub left: f64,
    /// Mean of its chance levels.
    pub left_chance: f64,
    /// Mean overlap of the row spaces.
    pub right: f64,
    /// Mean of its chance levels.
    pub right_chance: f64,
    /// L₁ and L₂.
    pub cosine: Cosines,
}

/// The cosines of some modules.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Cosines {
    /// How many.
    pub modules: usize,
    /// Mean, with sign.
    pub mean: f64,
    /// Mean of |cosine|.
    pub mean_abs: f64,
    /// What chance gives for that: the mean of √(2/(π·mn)).
    pub chance: f64,
    /// The largest |z|.
    pub max_abs_z: f64,
}

impl Cosines {
    /// `None` of nothing.
    fn of<'a>(cosines: impl Iterator<Item = &'a Cosine>) -> Option<Self> {
        let cosines: Vec<&Cosine> = cosines.collect();
        let mean = |f: &dyn Fn(&Cosine) -> f64| mean(cosines.iter().map(|c| f(c)));
        (!cosines.is_empty()).then(|| Self {
            modules: cosines.len(),
            mean: mean(&|c| c.value),
            mean_abs: mean(&|c| c.value.abs()),
            chance: mean(&|c| c.chance),
            max_abs_z: cosines.iter().map(|c| c.z.abs()).fold(0.0, f64::max),
        })
    }
}

/// Every module.
pub(crate) fn whole(modules: &[ModuleReport]) -> Summary {
    let all: Vec<&ModuleReport> = modules.iter().collect();
    Summary::of("all", &all)
}

/// By projection, in the order of their first modules.
pub(crate) fn by_projection(modules: &[ModuleReport]) -> Vec<Summary> {
    grouped(modules, |m| m.projection.clone())
}

/// By layer, in the order of the modules; modules outside the layers under `-`.
pub(crate) fn by_layer(modules: &[ModuleReport]) -> Vec<Summary> {
    grouped(modules, |m| {
        m.layer.map_or_else(|| "-".to_owned(), |l| l.to_string())
    })
}

fn grouped(modules: &[ModuleReport], name: impl Fn(&ModuleReport) -> String) -> Vec<Summary> {
    let mut groups: Vec<(String, Vec<&ModuleReport>)> = Vec::new();
    for module in modules {
        let name = name(module);
        match groups.iter_mut().find(|(known, _)| *known == name) {
            Some((_, members)) => members.push(module),
            None => groups.push((name, vec![module])),
        }
    }
    groups
        .iter()
        .map(|(name, members)| Summary::of(name, members))
        .collect()
}

impl Summary {
    fn of(name: &str, modules: &[&ModuleReport]) -> Self {
        let noises = labels(modules.iter().flat_map(|m| &m.noises).map(|n| &n.noise));
        let pairs = labels(modules.iter().flat_map(|m| &m.pairs).map(|p| &p.pair));
        let pair = |pair: &String| {
            let both = modules
                .iter()
                .flat_map(|m| &m.pairs)
                .filter(|p| p.pair == *pair);
            Some(PairSummary {
                pair: pair.clone(),
                cosine: Cosines::of(both.map(|p| &p.cosine))?,
            })
        };
        Self {
            name: name.to_owned(),
            noises: noises
                .iter()
                .filter_map(|noise| of_noise(noise, modules))
                .collect(),
            pairs: pairs.iter().filter_map(pair).collect(),
            overlap: of_overlap(modules),
        }
    }
}

fn of_noise(noise: &str, modules: &[&ModuleReport]) -> Option<NoiseSummary> {
    let members: Vec<(&ModuleReport, &NoiseReport)> = modules
        .iter()
        .flat_map(|m| m.noises.iter().map(move |n| (*m, n)))
        .filter(|(_, n)| n.noise == noise)
        .collect();
    let sum = |f: &dyn Fn(&ModuleReport, &NoiseReport) -> f64| {
        members.iter().map(|(m, n)| f(m, n)).sum::<f64>()
    };
    let noise2 = sum(&|_, n| n.norm * n.norm);
    let weight2 = sum(&|_, n| n.weight_norm * n.weight_norm);
    let update2 = sum(&|m, _| m.update.norm * m.update.norm);
    let cosines = |f: &dyn Fn(&NoiseReport) -> Option<&Cosine>| {
        Cosines::of(members.iter().filter_map(|(_, n)| f(n)))
    };
    let leakage = |f: &dyn Fn(&NoiseReport) -> Leakage| {
        Leakage::of_energy(
            mean(members.iter().map(|(_, n)| f(n).energy)),
            mean(members.iter().map(|(_, n)| f(n).energy_chance)),
        )
    };
    Some(NoiseSummary {
        noise: noise.to_owned(),
        modules: members.len(),
        over_adapter: ratio(noise2, update2),
        over_weight: ratio(noise2, weight2),
        adapter_over_weight: ratio(update2, weight2),
        stable_rank: mean(members.iter().map(|(_, n)| n.stable_rank)),
        adapter_stable_rank: mean(members.iter().map(|(m, _)| m.update.stable_rank)),
        over_white_edge: mean(members.iter().map(|(_, n)| n.over_white_edge)),
        spectrum: spectrum(&members, |_, n| (&n.singular_values, n.norm)),
        adapter_spectrum: spectrum(&members, |m, _| (&m.update.singular_values, m.update.norm)),
        cosine: cosines(&|n| Some(&n.cosine))?,
        left: leakage(&|n| n.left),
        right: leakage(&|n| n.right),
        inside: leakage(&|n| n.inside),
        snr_inside_db: decibel(update2, sum(&|_, n| n.inside.energy * n.norm * n.norm)),
        snr_left_db: decibel(update2, sum(&|_, n| n.left.energy * n.norm * n.norm)),
        random: cosines(&|n| Some(&n.random))?,
        shuffled: cosines(&|n| Some(&n.shuffled))?,
        other_layer: cosines(&|n| n.other_layer.as_ref().map(|o| &o.cosine)),
    })
}

/// Means of σᵢ over the norm, at the places that all have.
fn spectrum<'a>(
    members: &[(&'a ModuleReport, &'a NoiseReport)],
    of: impl Fn(&'a ModuleReport, &'a NoiseReport) -> (&'a Vec<f64>, f64),
) -> Vec<f64> {
    let all = || members.iter().map(|(m, n)| of(m, n));
    let places = all().map(|(values, _)| values.len()).min();
    let at = |i: usize| mean(all().map(|(values, norm)| values[i] / norm));
    (0..places.unwrap_or(0)).map(at).collect()
}

fn of_overlap(modules: &[&ModuleReport]) -> Option<OverlapSummary> {
    let all: Vec<_> = modules.iter().filter_map(|m| m.overlap.as_ref()).collect();
    Some(OverlapSummary {
        modules: all.len(),
        left: mean(all.iter().map(|o| o.left.overlap)),
        left_chance: mean(all.iter().map(|o| o.left.chance)),
        right: mean(all.iter().map(|o| o.right.overlap)),
        right_chance: mean(all.iter().map(|o| o.right.chance)),
        cosine: Cosines::of(all.iter().map(|o| &o.cosine))?,
    })
}

/// Each name once, in order.
fn labels<'a>(names: impl Iterator<Item = &'a String>) -> Vec<String> {
    let mut labels: Vec<String> = Vec::new();
    for name in names {
        if !labels.contains(name) {
            labels.push(name.clone());
        }
    }
    labels
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0u32), |(sum, count), x| (sum + x, count + 1));
    sum / f64::from(count.max(1))
}

fn ratio(x2: f64, y2: f64) -> f64 {
    if y2 > 0.0 { (x2 / y2).sqrt() } else { 0.0 }
}
