//! Activation-aware scaling of input channels: channels that matter are multiplied before rounding, and what comes before
//! them is divided.
//!
//! Three decisions, one file each: `mapping` (what may be scaled), `search` (by how much), `scales` (how the checkpoint is
//! changed). The loss is Σ E[xⱼ²]·ΔWᵢⱼ² over the layers that share the input: the expected squared error of their outputs if
//! channels were uncorrelated, which needs the statistics alone. llm-compressor runs the parent module on the activations
//! themselves instead, so the ratios that are chosen may differ from its.
//!
//! **Source** AWQ (arXiv 2306.00978); llm-compressor `modifiers/transform/awq/{base,mappings}.py` (2026-08).

mod mapping;
mod scales;
mod search;

use serde::{Deserialize, Serialize};
use xgraft_block_scale::GroupRecipe;
use xgraft_checkpoint::{Checkpoint, OutputDir, RewriteEvent, Weight, WeightMatrix};

pub use search::Scaled;

pub(crate) use scales::{ChannelScales, plain_bytes};

use crate::error::{Error, Result};
use crate::known::Known;
use mapping::{Mapping, mappings};
use search::{Search, search};

/// Where the scales that are found lie while the work is unfinished.
const NOTES: &str = "channel-scales";

/// What an interrupted run had found of one mapping.
#[derive(Serialize, Deserialize)]
struct Found {
    scales: Vec<f32>,
    scaled: Scaled,
}

/// The scales of every mapping, one after the other; those that are found already are read.
pub(crate) fn channel_scales(
    source: &Checkpoint,
    known: Known<'_>,
    recipe: &GroupRecipe,
    taken: &dyn Fn(&Weight) -> bool,
    out: &OutputDir,
    on_event: &dyn Fn(RewriteEvent<'_>) -> Result<()>,
) -> Result<(ChannelScales, Vec<Scaled>)> {
    let (mut scales, mut all) = (ChannelScales::default(), Vec::new());
    for mapping in mappings(source, taken) {
        on_event(RewriteEvent::Begin {
            tensor: &mapping.smooth.tensor,
        })?;
        let name = format!("{NOTES}/{}.json", mapping.smooth.module);
        let noted = std::fs::read(out.path().join(&name)).ok();
        let found = match noted.and_then(|text| serde_json::from_slice(&text).ok()) {
            Some(found) => found,
            None => {
                let found = find(source, known, recipe, &mapping)?;
                out.write_atomic(&name, serde_json::json!(found).to_string().as_bytes())?;
                found
            }
        };
        if found.scaled.ratio.is_some() {
            scales.add(source, &mapping, &found.scales);
        }
        all.push(found.scaled);
    }
    Ok((scales, all))
}

/// Takes the notes of the search away.
pub(crate) fn forget(out: &OutputDir) -> Result<()> {
    let notes = out.path().join(NOTES);
    if !notes.is_dir() {
        return Ok(());
    }
    let removed = std::fs::remove_dir_all(&notes);
    removed.map_err(|source| {
        Error::Checkpoint(xgraft_checkpoint::Error::Io {
            action: "remove",
            path: notes,
            source,
        })
    })
}

fn find(
    source: &Checkpoint,
    known: Known<'_>,
    recipe: &GroupRecipe,
    mapping: &Mapping<'_>,
) -> Result<Found> {
    let load = |weight: &Weight| {
        let (matrix, digest) = source.load(weight)?;
        known.check_digest(&weight.tensor, &digest.to_hex())?;
        Ok(matrix)
    };
    let matrices = mapping.balance.iter().map(|weight| load(weight));
    let matrices = matrices.collect::<Result<Vec<WeightMatrix>>>()?;
    let norm = match mapping.smooth.role.is_linear() {
        true => None,
        false => Some(load(mapping.smooth)?),
    };
    let activations = known.activations(&mapping.balance[0].module);
    let activations = activations.ok_or(Error::NeedsStats { what: "AWQ" })?;
    let (scales, scaled) = search(&Search {
        mapping,
        matrices: &matrices,
        norm: norm.as_ref(),
        activations,
        recipe,
    })?;
    Ok(Found { scales, scaled })
}
