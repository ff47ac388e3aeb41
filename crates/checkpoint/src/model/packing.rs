//! How files pack the codes of grouped matrices, and under which names.

use std::collections::BTreeMap;

use xgraft_block_scale::{Extent, Levels, ScaleDtype, WeightDtype};

use super::bitsandbytes::{QuantState, STATE};
use super::weight::TensorInfo;
use crate::format::dtype::Dtype;
use crate::write::plan::PlannedTensor;

/// How a file packs integer codes with scales for groups of a row.
///
/// **Shapes** of a weight `[out, in]` with `G` groups a row; eight codes of 4 bits, or four of 8, in an I32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Packing {
    /// compressed-tensors `int-quantized`: `weight` I8 `[out, in]`, two's complement; `weight_scale` `[out, G]`.
    Bytes,
    /// compressed-tensors `pack-quantized`: `weight_packed` I32 `[out, ceil(in/8)]`, offset binary, along `in`;
    /// `weight_scale` `[out, G]`; `weight_shape` I64 `[2]`; `weight_zero_point` I32 `[ceil(out/8), G]` along `out`;
    /// `weight_g_idx` I32 `[in]`.
    Rows,
    /// `AutoAWQ` GEMM: `qweight` I32 `[in, out/8]` along `out` in the order 0, 2, 4, 6, 1, 3, 5, 7; `qzeros` I32 `[G, out/8]`
    /// alike; `scales` `[G, out]`.
    Awq,
    /// GPTQ: `qweight` I32 `[in/8, out]` along `in`; `qzeros` I32 `[G, out/8]` along `out`; `scales` `[G, out]`;
    /// `g_idx` I32 `[in]`.
    Gptq {
        /// The first version of the format stores zero points less one.
        zeros_less_one: bool,
    },
    /// bitsandbytes NF4: `weight` U8 `[out × in / 2, 1]`, the first of two codes in the high bits; `weight.absmax` F32
    /// `[out × G]`, or with double quantization U8 codes whose levels and scales are `weight.nested_quant_map` F32 `[256]`
    /// and `weight.nested_absmax` F32; `weight.quant_map` F32 `[16]`, NF4's levels;
    /// `weight.quant_state.bitsandbytes__nf4` U8, a JSON text with the shape.
    BitsAndBytes,
}

/// The last components of bitsandbytes' levels, and of the scales and levels of scales that are codes.
pub(crate) const LEVELS: &str = "weight.quant_map";
pub(crate) const NESTED: [&str; 2] = ["weight.nested_absmax", "weight.nested_quant_map"];

/// What the configuration says of grouped integers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grouped {
    /// How they are packed.
    pub packing: Packing,
    /// Bits of a code.
    pub bits: u8,
    /// Elements of a group.
    pub group: Extent,
    /// Whether all zero points are the middle of the range, and none are stored in the layouts of compressed-tensors.
    pub symmetric: bool,
    /// The value of `quant_method`.
    pub method: String,
    /// Modules that are left unquantized, as the configuration names them; `re:` starts a regular expression.
    pub ignored: Vec<String>,
}

/// The tensors that belong to the codes of one weight.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GroupedParts {
    /// The scales.
    pub scales: String,
    /// The zero points, where they are stored.
    pub zeros: Option<String>,
    /// For each column the group that it belongs to, where that is stored.
    pub groups_of: Option<String>,
    /// The shape before packing, where that is stored; bitsandbytes' JSON has more than the shape.
    pub shape: Option<String>,
    /// The levels of the codes, where they are stored.
    pub levels: Option<String>,
    /// The scales and the levels of the scales, where those are codes in turn.
    pub nested: Option<[String; 2]>,
}

impl GroupedParts {
    /// The names, in the order in which they are written and digested.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        [
            Some(&self.scales),
            self.zeros.as_ref(),
            self.groups_of.as_ref(),
            self.shape.as_ref(),
            self.levels.as_ref(),
        ]
        .into_iter()
        .flatten()
        .chain(self.nested.iter().flatten())
        .map(String::as_str)
    }
}

impl Packing {
    /// Codes in an element of the tensor of codes.
    pub fn per_word(self, bits: u8) -> usize {
        match self {
            Packing::Bytes => 1,
            Packing::BitsAndBytes => 2,
            _ => 32 / usize::from(bits.max(1)),
        }
    }

    /// The last component of the name of the tensor of codes.
    pub fn codes_leaf(self) -> &'static str {
        match self {
            Packing::Bytes | Packing::BitsAndBytes => "weight",
            Packing::Rows => "weight_packed",
            Packing::Awq | Packing::Gptq { .. } => "qweight",
        }
    }

    /// The last components of scales, zero points, group indices and shape.
    pub fn part_leaves(self) -> [Option<&'static str>; 4] {
        match self {
            Packing::Bytes => [Some("weight_scale"), Some("weight_zero_point"), None, None],
            Packing::Rows => [
                Some("weight_scale"),
                Some("weight_zero_point"),
                Some("weight_g_idx"),
                Some("weight_shape"),
            ],
            Packing::Awq => [Some("scales"), Some("qzeros"), None, None],
            Packing::Gptq { .. } => [Some("scales"), Some("qzeros"), Some("g_idx"), None],
            Packing::BitsAndBytes => [Some("weight.absmax"), None, None, Some(STATE)],
        }
    }

    /// What a code of so many bits means.
    pub fn levels(self, bits: u8) -> Levels {
        match self {
            Packing::BitsAndBytes => Levels::Nf4,
            _ => Levels::Int(bits),
        }
    }

    /// The tensors of a weight of this module: those that the packing cannot do without, and zero points.
    pub fn parts(self, module: &str) -> GroupedParts {
        let named = |leaf: &str| format!("{module}.{leaf}");
        let [scales, zeros, groups_of, shape] = self.part_leaves().map(|leaf| leaf.map(named));
        GroupedParts {
            scales: scales.unwrap_or_default(),
            zeros,
            groups_of: groups_of.filter(|_| matches!(self, Packing::Gptq { .. })),
            shape,
            levels: (self == Packing::BitsAndBytes).then(|| named(LEVELS)),
            nested: None,
        }
    }

    /// Element type and shape of the codes, scales, zero points and group indices of a weight `[out, in]`.
    pub fn shapes(self, bits: u8, (out, inner): (usize, usize), groups: usize) -> PackedShapes {
        let per = self.per_word(bits);
        let packed = |n: usize| n.div_ceil(per);
        let (codes, scales, zeros) = match self {
            Packing::Bytes => ([out, inner], [out, groups], [out, groups]),
            Packing::Rows => ([out, packed(inner)], [out, groups], [packed(out), groups]),
            Packing::Awq => ([inner, packed(out)], [groups, out], [groups, packed(out)]),
            Packing::Gptq { .. } => ([packed(inner), out], [groups, out], [groups, packed(out)]),
            Packing::BitsAndBytes => ([packed(out * inner), 1], [out * groups, 1], [0, 0]),
        };
        let dtype = match self {
            Packing::Bytes => Dtype::I8,
            Packing::BitsAndBytes => Dtype::U8,
            _ => Dtype::I32,
        };
        PackedShapes {
            dtype,
            codes,
            scales,
            zeros,
        }
    }

    /// `[out, in]` of packed codes, where it follows from their shape and that of the scales alone.
    pub(crate) fn weight_shape(self, bits: u8, codes: [usize; 2]) -> Option<[usize; 2]> {
        let per = self.per_word(bits);
        match self {
            Packing::Bytes => Some(codes),
            // The last word of a row may be partly filled, or there are no rows: the shape is stored.
            Packing::Rows | Packing::BitsAndBytes => None,
            Packing::Awq => Some([codes[1].checked_mul(per)?, codes[0]]),
            Packing::Gptq { .. } => Some([codes[1], codes[0].checked_mul(per)?]),
        }
    }
}

/// What the tensors of a packed weight look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackedShapes {
    /// Type of codes and zero points.
    pub dtype: Dtype,
    /// Shape of the codes.
    pub codes: [usize; 2],
    /// Shape of the scales.
    pub scales: [usize; 2],
    /// Shape of the zero points.
    pub zeros: [usize; 2],
}

/// How one weight is packed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredGroups {
    /// How its codes are packed.
    pub packing: Packing,
    /// Bits of a code.
    pub bits: u8,
    /// Elements of a group.
    pub group: Extent,
    /// The type of the scales.
    pub scale: ScaleDtype,
    /// Its other tensors.
    pub parts: GroupedParts,
    /// The type that a reader is told to decode to, where the file says so.
    pub decoded: Option<WeightDtype>,
}

impl StoredGroups {
    /// What a code means.
    pub fn levels(&self) -> Levels {
        self.packing.levels(self.bits)
    }

    /// The tensors that store a weight `[rows, cols]` of this module, in the order of
    /// [`pack_grouped`](crate::pack_grouped).
    pub fn planned(&self, module: &str, (rows, cols): (usize, usize)) -> Vec<PlannedTensor> {
        let groups = self.group.blocks(cols);
        let shapes = self.packing.shapes(self.bits, (rows, cols), groups);
        let parts = &self.parts;
        let bytes = self.packing == Packing::BitsAndBytes;
        let scales = match shapes.scales {
            [n, 1] if bytes => vec![n],
            both => both.to_vec(),
        };
        let (shape, length) = match bytes {
            true => (Dtype::U8, self.state((rows, cols)).len()),
            false => (Dtype::I64, 2),
        };
        let codes = format!("{module}.{}", self.packing.codes_leaf());
        let rest = [
            (&parts.zeros, shapes.dtype, shapes.zeros.to_vec()),
            (&parts.groups_of, Dtype::I32, vec![cols]),
            (&parts.shape, shape, vec![length]),
            (
                &parts.levels,
                Dtype::F32,
                vec![self.levels().count() as usize],
            ),
        ];
        let mut planned = vec![
            PlannedTensor::new(codes, shapes.dtype, shapes.codes),
            PlannedTensor::new(parts.scales.clone(), Dtype::from(self.scale), scales),
        ];
        for (name, dtype, shape) in rest {
            let name = name.clone();
            planned.extend(name.map(|name| PlannedTensor::new(name, dtype, shape)));
        }
        planned
    }

    /// The same with scales that are no codes: how a changed weight is stored.
    #[must_use]
    pub fn without_nested_scales(&self) -> Self {
        let mut plain = self.clone();
        plain.parts.nested = None;
        plain
    }

    /// bitsandbytes' JSON.
    pub(crate) fn state(&self, (rows, cols): (usize, usize)) -> String {
        let dtype = self.decoded.unwrap_or(WeightDtype::Bf16);
        QuantState::text([rows, cols], self.group.size(cols), dtype)
    }
}

impl StoredGroups {
    /// Bytes of the codes of a row, where the layout keeps rows apart.
    pub(crate) fn row_bytes(&self, cols: usize) -> usize {
        match self.packing {
            Packing::Bytes => cols,
            _ => 4 * cols.div_ceil(self.packing.per_word(self.bits)),
        }
    }
}

/// Whether a name belongs to the codes of a weight that another tensor stands for.
pub(crate) fn is_part(
    packing: Packing,
    name: &str,
    tensors: &BTreeMap<String, TensorInfo>,
) -> bool {
    let leaves = packing.part_leaves().into_iter().flatten();
    let more = [LEVELS, NESTED[0], NESTED[1]];
    let more = more
        .into_iter()
        .filter(|_| packing == Packing::BitsAndBytes);
    leaves.chain(more).any(|leaf| {
        let module = name.strip_suffix(leaf).and_then(|m| m.strip_suffix('.'));
        let codes = module.and_then(|m| tensors.get(&format!("{m}.{}", packing.codes_leaf())));
        codes.is_some_and(|codes| matches!(codes.dtype, Dtype::I8 | Dtype::I32 | Dtype::U8))
    })
}
