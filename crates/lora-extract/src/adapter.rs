//! The chosen factors as a PEFT adapter.

use rayon::prelude::*;
use xgraft_adapter_sanitize::servable_config;
use xgraft_checkpoint::{
    AdapterPart, AdapterWriter, Checkpoint, LoraKind, OutputDir, PlannedTensor, Role, peft_name,
    planned_pair,
};

use crate::config::Config;
use crate::error::Result;
use crate::factors::{FactorStore, Record};
use crate::plan::{Action, Pair};

/// Writes `adapter_config.json` and `adapter_model.safetensors` into the open output directory.
pub(crate) fn write_adapter(
    store: &FactorStore,
    records: &[Record],
    pairs: &[Pair<'_>],
    (base, tuned): (&Checkpoint, &Checkpoint),
    config: &Config,
    out: &OutputDir,
) -> Result<()> {
    let kept: Vec<&Record> = records.iter().filter(|r| r.report.rank > 0).collect();
    let copied: Vec<&Pair<'_>> = pairs.iter().filter(|p| p.action == Action::Copy).collect();
    let mut planned = Vec::new();
    for record in &kept {
        let [_, cols] = record.report.shape;
        let module = &record.report.module;
        let rows = base_rows(pairs, record);
        planned.extend(planned_pair(
            module,
            kind(pairs, module),
            record.report.rank,
            (rows, cols),
            config.dtype,
        ));
    }
    for pair in &copied {
        planned.push(whole(tuned, pair)?);
    }
    let ranks: Vec<(&str, usize)> = kept
        .iter()
        .map(|r| (r.report.module.as_str(), r.report.rank))
        .collect();
    let saved: Vec<&str> = copied.iter().map(|p| p.module.as_str()).collect();
    let peft = servable_config(&base_name(base, config), &ranks, &saved);
    let writer = AdapterWriter::create(out.path(), peft, planned)?;
    for record in kept {
        write_pair(store, record, pairs, config, &writer)?;
    }
    for pair in copied {
        copy_whole(tuned, pair, &writer)?;
    }
    Ok(writer.finish()?)
}

/// A is [r, in] and B [out, r]; of an embedding ΔW = (BA)ᵀ, so the two factors change places.
fn write_pair(
    store: &FactorStore,
    record: &Record,
    pairs: &[Pair<'_>],
    config: &Config,
    writer: &AdapterWriter,
) -> Result<()> {
    let module = &record.report.module;
    let (rank, element) = (record.report.rank, config.dtype.bytes());
    let (right, left) = store.pair(record, rank, element)?;
    let left = padded(left, rank, base_rows(pairs, record) * element);
    let parts = match kind(pairs, module) {
        LoraKind::Linear => [
            (AdapterPart::LoraA, right),
            (AdapterPart::LoraB, transposed(&left, rank, element)),
        ],
        LoraKind::Embedding => [
            (AdapterPart::EmbeddingA, left),
            (AdapterPart::EmbeddingB, transposed(&right, rank, element)),
        ],
    };
    for (part, bytes) in parts {
        let mut tensor = writer.tensor(&peft_name(module, part))?;
        tensor.write(&bytes)?;
        tensor.finish()?;
    }
    Ok(())
}

/// Rows of the base's weight: engines demand them all, also where the tuned vocabulary is shorter.
fn base_rows(pairs: &[Pair<'_>], record: &Record) -> usize {
    let pair = pairs.iter().find(|p| p.module == record.report.module);
    pair.map_or(record.report.shape[0], |p| p.base.matrix_shape().0)
}

/// Rows of bytes made longer by zeros.
fn padded(rows: Vec<u8>, count: usize, row_bytes: usize) -> Vec<u8> {
    if rows.len() == count * row_bytes {
        return rows;
    }
    let mut out = vec![0; count * row_bytes];
    let length = rows.len() / count.max(1);
    for (to, from) in out
        .chunks_exact_mut(row_bytes)
        .zip(rows.chunks_exact(length))
    {
        to[..length].copy_from_slice(from);
    }
    out
}

fn kind(pairs: &[Pair<'_>], module: &str) -> LoraKind {
    match pairs.iter().find(|p| p.module == module) {
        Some(pair) if pair.tuned.role == Role::Embedding => LoraKind::Embedding,
        _ => LoraKind::Linear,
    }
}

/// [rows, n] elements of `element` bytes to [n, rows].
fn transposed(bytes: &[u8], rows: usize, element: usize) -> Vec<u8> {
    match element {
        2 => transposed_of::<2>(bytes, rows),
        _ => transposed_of::<4>(bytes, rows),
    }
}

fn transposed_of<const N: usize>(bytes: &[u8], rows: usize) -> Vec<u8> {
    /// Columns that are turned at a time.
    const TILE: usize = 64;
    let elements: &[[u8; N]] = bytes.as_chunks().0;
    let cols = elements.len() / rows.max(1);
    let mut out = vec![0; bytes.len()];
    out.par_chunks_mut((TILE * rows * N).max(1))
        .enumerate()
        .for_each(|(tile, part)| {
            let cells: &mut [[u8; N]] = part.as_chunks_mut().0;
            let width = cells.len() / rows.max(1);
            for r in 0..rows {
                let row = &elements[r * cols + tile * TILE..][..width];
                for (c, value) in row.iter().enumerate() {
                    cells[c * rows + r] = *value;
                }
            }
        });
    out
}

/// A tensor that is carried whole, named as PEFT names it.
fn whole(tuned: &Checkpoint, pair: &Pair<'_>) -> Result<PlannedTensor> {
    let stored = tuned.stored_tensors(pair.tuned)?;
    let tensor = stored[0];
    Ok(PlannedTensor::new(
        peft_name(&pair.module, AdapterPart::Other),
        tensor.dtype,
        tensor.shape.clone(),
    ))
}

fn copy_whole(tuned: &Checkpoint, pair: &Pair<'_>, writer: &AdapterWriter) -> Result<()> {
    let stored = tuned.stored_tensors(pair.tuned)?;
    let mut tensor = writer.tensor(&peft_name(&pair.module, AdapterPart::Other))?;
    tuned.stream(stored[0], |chunk| tensor.write(chunk))?;
    tensor.finish()?;
    Ok(())
}

/// What `base_model_name_or_path` says: the base directory's own name unless told otherwise.
fn base_name(base: &Checkpoint, config: &Config) -> String {
    config.base_name.clone().unwrap_or_else(|| {
        let dir = base.dir();
        dir.canonicalize()
            .unwrap_or_else(|_| dir.to_owned())
            .file_name()
            .map_or_else(|| "base".to_owned(), |n| n.to_string_lossy().into_owned())
    })
}
