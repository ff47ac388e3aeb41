//! Reading pairs of tensors that are only measured, and the account of what was read.

use rayon::prelude::*;
use xgraft_checkpoint::{Checkpoint, Digest, Stored, Weight};
use xgraft_cpu_gemm::{F32, squared_norm};
use xgraft_results::Input;

use crate::delta::Delta;
use crate::error::{Error, Result};
use crate::plan::Pair;

/// Elements per strip of a tensor that is only measured: 32 MiB of BF16.
const STRIP_ELEMENTS: usize = 1 << 24;

/// Rows of a strip are a multiple of this, so that a strip never starts inside a block of scales.
const STRIP_ROWS: usize = 128;

/// ‖W_tuned − W_base‖² of the rows that both have, plus ‖·‖² of rows that only the tuned has,
/// read in strips.
pub(crate) fn delta_energy(
    base: &Checkpoint,
    tuned: &Checkpoint,
    pair: &Pair<'_>,
) -> Result<(f64, Vec<Input>)> {
    let ((base_rows, cols), (tuned_rows, _)) =
        (pair.base.matrix_shape(), pair.tuned.matrix_shape());
    let rows = base_rows.min(tuned_rows);
    let packed = |weight: &Weight| matches!(weight.stored, Stored::Grouped(_));
    let step = match packed(pair.base) || packed(pair.tuned) {
        // They are read whole for any of their rows.
        true => rows.max(1),
        false => (STRIP_ELEMENTS / cols.max(1))
            .next_multiple_of(STRIP_ROWS)
            .max(STRIP_ROWS),
    };
    let mut energy = 0.0;
    for start in (0..rows).step_by(step) {
        let range = start..rows.min(start + step);
        let (t, b) = rayon::join(
            || tuned.load_rows(pair.tuned, range.clone()),
            || base.load_rows(pair.base, range.clone()),
        );
        let (t, b) = (t?, b?);
        energy += squared_norm(&Delta::new(&t, &b));
    }
    energy += extra_rows_energy(tuned, pair)?;
    if !energy.is_finite() {
        return Err(Error::NotFinite {
            tensor: pair.tuned.tensor.clone(),
        });
    }
    let inputs = [("base", base, pair.base), ("tuned", tuned, pair.tuned)]
        .into_par_iter()
        .map(|(role, checkpoint, weight)| digest(role, checkpoint, weight))
        .collect::<Result<Vec<Vec<Input>>>>()?;
    Ok((energy, inputs.concat()))
}

/// ‖·‖² of the rows of a vocabulary that only the tuned checkpoint has.
pub(crate) fn extra_rows_energy(tuned: &Checkpoint, pair: &Pair<'_>) -> Result<f64> {
    let rows = pair.base.matrix_shape().0;
    let mut energy = 0.0;
    for start in (rows..pair.tuned.matrix_shape().0).step_by(STRIP_ROWS) {
        let end = pair.tuned.matrix_shape().0.min(start + STRIP_ROWS);
        let mut values = Vec::new();
        tuned.read_rows(pair.tuned, start..end, &mut values)?;
        energy += squared_norm(&F32::new(&values, 1, values.len()));
    }
    Ok(energy)
}

/// ‖·‖² of a weight that has no counterpart; 0 for tensors of integers.
pub(crate) fn weight_energy(checkpoint: &Checkpoint, weight: &Weight) -> Result<f64> {
    if let Stored::Plain(dtype) = weight.stored
        && !dtype.is_float()
    {
        return Ok(0.0);
    }
    Ok(squared_norm(&checkpoint.load(weight)?.0))
}

/// Digests a weight's tensors without keeping them.
fn digest(role: &str, checkpoint: &Checkpoint, weight: &Weight) -> Result<Vec<Input>> {
    let mut inputs = Vec::new();
    for tensor in checkpoint.stored_tensors(weight)? {
        let digest = checkpoint.stream(tensor, |_| Ok(()))?;
        inputs.push(Input {
            role: role.to_owned(),
            tensor: Some(tensor.name.clone()),
            file: checkpoint.shards()[tensor.shard].display().to_string(),
            blake3: digest.to_string(),
            bytes: tensor.bytes,
        });
    }
    Ok(inputs)
}

/// The account of a weight that was loaded whole: codes and scales under one digest.
pub(crate) fn input(
    role: &str,
    checkpoint: &Checkpoint,
    weight: &Weight,
    digest: &Digest,
) -> Result<Input> {
    let tensors = checkpoint.stored_tensors(weight)?;
    Ok(Input {
        role: role.to_owned(),
        tensor: Some(weight.tensor.clone()),
        file: tensors
            .first()
            .map(|t| checkpoint.shards()[t.shard].display().to_string())
            .unwrap_or_default(),
        blake3: digest.to_string(),
        bytes: tensors.iter().map(|t| t.bytes).sum(),
    })
}
