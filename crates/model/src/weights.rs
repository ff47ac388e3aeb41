//! Weights of a checkpoint, as stored, ready to be multiplied.

use std::ops::Deref;

use xgraft_block_scale::{Format, GroupedMatrix, Levels};
use xgraft_checkpoint::{Checkpoint, Dtype, Mapped, MappedWeight, Weight, WeightMatrix};
use xgraft_cpu_gemm::Source as _;
use xgraft_matmul::{Coding, Scales, Weights};

use crate::error::{Error, Result};

/// A weight `[out, in]` in its stored form: mapped from its file, or packed in memory.
#[derive(Debug)]
pub(crate) struct Linear {
    rows: usize,
    cols: usize,
    bytes: Bytes,
    stored: Stored,
}

/// Where the bytes are.
#[derive(Debug)]
enum Bytes {
    Mapped(Mapped),
    Owned(Vec<u8>),
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Bytes::Mapped(bytes) => bytes,
            Bytes::Owned(bytes) => bytes,
        }
    }
}

/// What the bytes mean: an owned [`Coding`].
#[derive(Debug)]
enum Stored {
    Plain(Dtype),
    Fp8(Format, Grid),
    Int8(Grid),
    FourBit {
        levels: Box<[f32; 16]>,
        grid: Grid,
        zeros: Option<Vec<u8>>,
        middle: f32,
    },
}

/// Scales and the size of their blocks.
#[derive(Debug)]
struct Grid {
    values: Vec<f32>,
    block_rows: usize,
    block_cols: usize,
}

impl Linear {
    /// The weight of a module, which must have this shape.
    pub(crate) fn open(checkpoint: &Checkpoint, module: &str, shape: [usize; 2]) -> Result<Linear> {
        let error = |expected: String, found: String| Error::Weight {
            dir: checkpoint.dir().to_owned(),
            module: module.to_owned(),
            expected,
            found,
        };
        let Some(weight) = checkpoint.weight(module) else {
            return Err(error(format!("a weight {shape:?}"), "none".to_owned()));
        };
        if weight.shape != shape {
            return Err(error(format!("{shape:?}"), format!("{:?}", weight.shape)));
        }
        let linear = match checkpoint.map(weight)? {
            Some(mapped) => Linear::mapped(shape, mapped),
            None => Linear::packed(checkpoint, weight, &error)?,
        };
        linear.check_blocks(&error)?;
        Ok(linear)
    }

    fn mapped([rows, cols]: [usize; 2], mapped: MappedWeight) -> Linear {
        let (bytes, stored) = match mapped {
            MappedWeight::Plain { dtype, bytes } => (bytes, Stored::Plain(dtype)),
            MappedWeight::Fp8 {
                format,
                block,
                codes,
                scales,
            } => {
                let grid = Grid {
                    values: scales,
                    block_rows: block.rows.size(rows),
                    block_cols: block.cols.size(cols),
                };
                (codes, Stored::Fp8(format, grid))
            }
        };
        Linear {
            rows,
            cols,
            bytes: Bytes::Mapped(bytes),
            stored,
        }
    }

    /// Integers come one byte a code, whatever the file's order; they are packed again by rows, in as many bits as in the file.
    fn packed(
        checkpoint: &Checkpoint,
        weight: &Weight,
        error: &impl Fn(String, String) -> Error,
    ) -> Result<Linear> {
        let (WeightMatrix::Grouped(matrix), _) = checkpoint.load(weight)? else {
            return Err(error(
                "packed integers".to_owned(),
                format!("{:?}", weight.stored),
            ));
        };
        if matrix.groups_of.is_some() {
            let expected = "groups of neighbouring columns (run `xgraft dequantize` first)";
            return Err(error(
                expected.to_owned(),
                "columns sorted by activation (g_idx)".to_owned(),
            ));
        }
        match matrix.levels {
            Levels::Int(8) if matrix.zeros.is_none() => Ok(Linear::int8(matrix)),
            Levels::Int(4) | Levels::Nf4 | Levels::E2m1 => Ok(Linear::four_bit(matrix)),
            other => {
                let zeros = matrix.zeros.as_ref().map_or("", |_| " with zero points");
                let expected =
                    "symmetric 8-bit codes or 4-bit codes (run `xgraft dequantize` first)";
                Err(error(expected.to_owned(), format!("{other:?}{zeros}")))
            }
        }
    }

    fn int8(matrix: GroupedMatrix) -> Linear {
        let bytes = matrix.codes.iter().map(|code| code ^ 0x80).collect();
        let grid = Grid {
            values: matrix.scales,
            block_rows: 1,
            block_cols: matrix.group.size(matrix.cols),
        };
        Linear {
            rows: matrix.rows,
            cols: matrix.cols,
            bytes: Bytes::Owned(bytes),
            stored: Stored::Int8(grid),
        }
    }

    fn four_bit(matrix: GroupedMatrix) -> Linear {
        let mut bytes = Vec::with_capacity(matrix.rows * matrix.cols.div_ceil(8) * 4);
        for row in matrix.codes.chunks(matrix.cols) {
            let pairs = row
                .chunks(2)
                .map(|pair| pair[0] | pair.get(1).map_or(0, |high| high << 4));
            bytes.extend(pairs);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        let grid = Grid {
            values: matrix.scales,
            block_rows: 1,
            block_cols: matrix.group.size(matrix.cols),
        };
        let levels = match matrix.levels {
            Levels::Int(_) => std::array::from_fn(|code| code as f32),
            table => std::array::from_fn(|code| table.value(code as u8, 0)),
        };
        Linear {
            rows: matrix.rows,
            cols: matrix.cols,
            bytes: Bytes::Owned(bytes),
            stored: Stored::FourBit {
                levels: Box::new(levels),
                grid,
                zeros: matrix.zeros,
                middle: f32::from(matrix.levels.middle()),
            },
        }
    }

    /// An adapter's factor, kept in the type of its file.
    pub(crate) fn factor(matrix: WeightMatrix) -> Linear {
        fn bytes<const N: usize, T: Copy>(data: &[T], bytes: impl Fn(T) -> [u8; N]) -> Bytes {
            Bytes::Owned(data.iter().flat_map(|x| bytes(*x)).collect())
        }
        let plain = |rows, cols, bytes, dtype| Linear {
            rows,
            cols,
            bytes,
            stored: Stored::Plain(dtype),
        };
        match matrix {
            WeightMatrix::Bf16 { rows, cols, data } => plain(
                rows,
                cols,
                bytes(&data, half::bf16::to_le_bytes),
                Dtype::Bf16,
            ),
            WeightMatrix::F16 { rows, cols, data } => {
                plain(rows, cols, bytes(&data, half::f16::to_le_bytes), Dtype::F16)
            }
            WeightMatrix::F32(m) => {
                plain(m.rows, m.cols, bytes(&m.data, f32::to_le_bytes), Dtype::F32)
            }
            quantized => {
                let (rows, cols) = (quantized.rows(), quantized.cols());
                plain(
                    rows,
                    cols,
                    bytes(&quantized.to_f32(), f32::to_le_bytes),
                    Dtype::F32,
                )
            }
        }
    }

    /// The product works on vectors of 16, so a scale may not change within one.
    fn check_blocks(&self, error: &impl Fn(String, String) -> Error) -> Result<()> {
        let grid = match &self.stored {
            Stored::Plain(_) => return Ok(()),
            Stored::Fp8(_, grid) | Stored::Int8(grid) | Stored::FourBit { grid, .. } => grid,
        };
        if grid.block_cols.is_multiple_of(16) || grid.block_cols >= self.cols {
            return Ok(());
        }
        let expected = "scales for a multiple of 16 columns (run `xgraft dequantize` first)";
        Err(error(
            expected.to_owned(),
            format!("one for {} columns", grid.block_cols),
        ))
    }

    /// Output features.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Input features.
    pub(crate) fn cols(&self) -> usize {
        self.cols
    }

    /// Bytes of codes, scales and zero points in memory or in the map.
    pub(crate) fn stored_bytes(&self) -> usize {
        let grid = |grid: &Grid| grid.values.len() * 4;
        self.bytes.len()
            + match &self.stored {
                Stored::Plain(_) => 0,
                Stored::Fp8(_, g) | Stored::Int8(g) => grid(g),
                Stored::FourBit { grid: g, zeros, .. } => {
                    grid(g) + zeros.as_ref().map_or(0, Vec::len)
                }
            }
    }

    /// Ready to be multiplied.
    pub(crate) fn view(&self) -> Weights<'_> {
        fn scales(grid: &Grid) -> Scales<'_> {
            Scales {
                values: &grid.values,
                block_rows: grid.block_rows,
                block_cols: grid.block_cols,
            }
        }
        let coding = match &self.stored {
            Stored::Plain(Dtype::Bf16) => Coding::Bf16,
            Stored::Plain(Dtype::F16) => Coding::F16,
            Stored::Plain(_) => Coding::F32,
            Stored::Fp8(Format::E4m3, grid) => Coding::E4m3(scales(grid)),
            Stored::Fp8(Format::E5m2, grid) => Coding::E5m2(scales(grid)),
            Stored::Int8(grid) => Coding::Int8(scales(grid)),
            Stored::FourBit {
                levels,
                grid,
                zeros,
                middle,
            } => Coding::FourBit {
                levels,
                scales: scales(grid),
                zeros: zeros.as_deref(),
                middle: *middle,
            },
        };
        Weights::new(self.rows, self.cols, &self.bytes, coding)
    }

    /// A row as f32: a token's embedding.
    pub(crate) fn row(&self, row: usize, out: &mut [f32]) {
        self.view().decode_row(row, out);
    }
}

/// A vector of a checkpoint as f32, of this length.
pub(crate) fn vector(checkpoint: &Checkpoint, module: &str, len: usize) -> Result<Vec<f32>> {
    let found = match checkpoint.weight(module) {
        Some(weight) if weight.shape == [len] => {
            let mut out = Vec::new();
            checkpoint.read_rows(weight, 0..1, &mut out)?;
            return Ok(out);
        }
        Some(weight) => format!("{:?}", weight.shape),
        None => "none".to_owned(),
    };
    Err(Error::Weight {
        dir: checkpoint.dir().to_owned(),
        module: module.to_owned(),
        expected: format!("a vector of {len}"),
        found,
    })
}
