//! The factors of one module, kept on disk until all modules are there.

use std::path::{Path, PathBuf};

use half::{bf16, f16};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use xgraft_checkpoint::{Dtype, write_atomic};
use xgraft_low_rank::Factors;
use xgraft_results::Input;

use crate::error::{Error, Result};
use crate::report::{ModuleReport, Stated};

/// What `modules/NAME.json` holds; its presence means that the module is done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) report: ModuleReport,
    /// Ranks in `modules/NAME.bin`.
    pub(crate) cap: usize,
    /// ‖ΔW‖².
    pub(crate) norm2: f64,
    /// What rounding the k-th columns of the factors to the stored dtype adds to the squared residual.
    pub(crate) rounding: Vec<f64>,
    /// What is known of the optimum at the ranks that may yet be chosen.
    pub(crate) excess: Vec<(usize, Stated)>,
    /// BLAKE3 of the factor file.
    pub(crate) digest: String,
    /// The tensors that were read.
    pub(crate) inputs: Vec<Input>,
}

impl Record {
    /// Settles the rank of the module and everything that follows from it.
    pub(crate) fn choose(&mut self, rank: usize, element: u64) {
        let kept: f64 = self.report.singular_values[..rank]
            .iter()
            .map(|s| s * s)
            .sum();
        let rounding: f64 = self.rounding[..rank].iter().sum();
        let share = |x: f64| {
            if self.norm2 > 0.0 {
                x / self.norm2
            } else {
                0.0
            }
        };
        let exact2 = (self.norm2 - kept).max(0.0);
        let stored2 = exact2 + rounding;
        let report = &mut self.report;
        report.rank = rank;
        report.residual = share(stored2).sqrt();
        report.energy_kept = (1.0 - share(stored2)).clamp(0.0, 1.0);
        let stated = self.excess.iter().find(|(r, _)| *r == rank);
        report.excess =
            stated.and_then(|(_, stated)| stated.with_rounding(exact2, rounding, self.norm2));
        report.bytes = rank as u64 * (report.shape[0] + report.shape[1]) as u64 * element;
    }
}

/// One module's files in the work directory.
#[derive(Debug, Clone)]
pub(crate) struct FactorStore {
    dir: PathBuf,
}

impl FactorStore {
    pub(crate) fn open(work: &Path) -> Result<Self> {
        let dir = work.join("modules");
        fs_err::create_dir_all(&dir).map_err(io("create"))?;
        Ok(Self { dir })
    }

    /// The record of a finished module, if its files are whole.
    pub(crate) fn load(&self, module: &str) -> Result<Option<Record>> {
        let path = self.dir.join(format!("{module}.json"));
        if !path.exists() {
            return Ok(None);
        }
        let text = fs_err::read(&path).map_err(io("read"))?;
        let record: Record = serde_json::from_slice(&text).map_err(|e| Error::BadPartial {
            path,
            reason: e.to_string(),
        })?;
        Ok(Some(record))
    }

    /// Rounds the factors to the stored dtype and writes them, then the record.
    ///
    /// The file holds √S·Vᵀ [cap, cols] and then (U·√S)ᵀ [cap, rows], so that a smaller rank is a
    /// prefix of both.
    pub(crate) fn save(
        &self,
        factors: &Factors,
        dtype: Dtype,
        mut record: Record,
    ) -> Result<Record> {
        let module = record.report.module.clone();
        let mut bytes = rows_of_columns(&factors.v, factors, record.cap, dtype);
        let split = bytes.len();
        bytes.extend(rows_of_columns(&factors.u, factors, record.cap, dtype));
        let (right, left) = bytes.split_at(split);
        record.rounding = rounding(factors, record.cap, dtype, right, left);
        record.digest = blake3::hash(&bytes).to_hex().to_string();
        let path = self.dir.join(format!("{module}.bin"));
        write_atomic(&path, &bytes)?;
        let json = serde_json::to_vec(&record).map_err(|e| Error::BadPartial {
            path: path.clone(),
            reason: e.to_string(),
        })?;
        write_atomic(&self.dir.join(format!("{module}.json")), &json)?;
        Ok(record)
    }

    /// The first `rank` rows of √S·Vᵀ, [rank, cols], and of (U·√S)ᵀ, [rank, rows], in the stored
    /// dtype, little-endian.
    pub(crate) fn pair(
        &self,
        record: &Record,
        rank: usize,
        element: usize,
    ) -> Result<(Vec<u8>, Vec<u8>)> {
        let [rows, cols] = record.report.shape;
        let mut right = self.read(record)?;
        let left = right.split_off(record.cap * cols * element);
        right.truncate(rank * cols * element);
        Ok((right, left[..rank * rows * element].to_vec()))
    }

    fn read(&self, record: &Record) -> Result<Vec<u8>> {
        let path = self.dir.join(format!("{}.bin", record.report.module));
        let bytes = fs_err::read(&path).map_err(io("read"))?;
        if blake3::hash(&bytes).to_hex().as_str() != record.digest {
            return Err(Error::BadPartial {
                path,
                reason: "its digest is not the recorded one".into(),
            });
        }
        Ok(bytes)
    }

    /// Removes the work files, once the adapter is written.
    pub(crate) fn remove(self) -> Result<()> {
        fs_err::remove_dir_all(&self.dir).map_err(io("remove"))
    }
}

pub(crate) fn io(action: &'static str) -> impl Fn(std::io::Error) -> Error {
    move |source| Error::Io { action, source }
}

/// The first `cap` columns of `panel` [len, r], each scaled by √σ, as rows [cap, len] of `dtype`.
fn rows_of_columns(panel: &[f32], factors: &Factors, cap: usize, dtype: Dtype) -> Vec<u8> {
    /// Rows of the panel that are turned at a time.
    const TILE: usize = 512;
    let r = factors.rank();
    let len = panel.len() / r.max(1);
    let mut out = vec![0; cap * len * dtype.bytes()];
    let row_bytes = (len * dtype.bytes()).max(1);
    out.par_chunks_mut(8 * row_bytes)
        .enumerate()
        .for_each(|(group, rows)| {
            let roots: Vec<f64> = factors.singular_values[8 * group..]
                .iter()
                .take(rows.len() / row_bytes)
                .map(|s| s.sqrt())
                .collect();
            for start in (0..len).step_by(TILE) {
                let tile = start..len.min(start + TILE);
                for (k, (root, row)) in roots
                    .iter()
                    .zip(rows.chunks_exact_mut(row_bytes))
                    .enumerate()
                {
                    let column = 8 * group + k;
                    let values = tile
                        .clone()
                        .map(|i| (f64::from(panel[i * r + column]) * root) as f32);
                    let cells = &mut row[start * dtype.bytes()..tile.end * dtype.bytes()];
                    encode(values, dtype, cells);
                }
            }
        });
    out
}

/// ‖δb·aᵀ‖² + ‖b·δaᵀ‖² of every k-th pair of columns a = √σ·v, b = √σ·u and their rounding errors.
///
/// Columns of U and of V are orthogonal, so these add up over k; what two errors have in common is
/// of second order and left out. The errors are orthogonal, up to chance, to what the factors leave
/// of the delta, so the sum adds to the squared residual.
fn rounding(factors: &Factors, cap: usize, dtype: Dtype, right: &[u8], left: &[u8]) -> Vec<f64> {
    let error2 = |panel: &[f32], stored: &[u8], k: usize| -> f64 {
        let r = factors.rank();
        let len = panel.len() / r.max(1);
        let root = factors.singular_values[k].sqrt();
        let row = &stored[k * len * dtype.bytes()..(k + 1) * len * dtype.bytes()];
        row.chunks_exact(dtype.bytes())
            .enumerate()
            .map(|(i, cell)| {
                let exact = f64::from((f64::from(panel[i * r + k]) * root) as f32);
                (decode(cell, dtype) - exact).powi(2)
            })
            .sum()
    };
    (0..cap)
        .into_par_iter()
        .map(|k| {
            factors.singular_values[k]
                * (error2(&factors.v, right, k) + error2(&factors.u, left, k))
        })
        .collect()
}

fn decode(cell: &[u8], dtype: Dtype) -> f64 {
    match (dtype, cell) {
        (Dtype::Bf16, &[a, b]) => bf16::from_le_bytes([a, b]).to_f64(),
        (Dtype::F16, &[a, b]) => f16::from_le_bytes([a, b]).to_f64(),
        (_, &[a, b, c, d]) => f64::from(f32::from_le_bytes([a, b, c, d])),
        _ => 0.0,
    }
}

fn encode(values: impl Iterator<Item = f32>, dtype: Dtype, cells: &mut [u8]) {
    match dtype {
        Dtype::Bf16 => {
            for (cell, x) in cells.as_chunks_mut().0.iter_mut().zip(values) {
                *cell = bf16::from_f32(x).to_le_bytes();
            }
        }
        Dtype::F16 => {
            for (cell, x) in cells.as_chunks_mut().0.iter_mut().zip(values) {
                *cell = f16::from_f32(x).to_le_bytes();
            }
        }
        _ => {
            for (cell, x) in cells.as_chunks_mut().0.iter_mut().zip(values) {
                *cell = x.to_le_bytes();
            }
        }
    }
}
