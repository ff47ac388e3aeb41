//! Packed codes to logical weights: the parts of one are found, and held against its shape.

use xgraft_block_scale::{Extent, ScaleDtype};

use super::bitsandbytes::STATE;
use super::fold::Fold;
use super::packing::{Grouped, GroupedParts, LEVELS, NESTED, Packing, StoredGroups};
use super::weight::TensorInfo;
use crate::error::{Result, shape_text};
use crate::format::dtype::Dtype;

/// How one weight is packed, and `[out, in]`.
type Found = (StoredGroups, [usize; 2]);

impl Fold<'_> {
    /// How integer codes are packed; nothing for a tensor that holds none.
    pub(super) fn packed(&self, codes: &TensorInfo, module: &str) -> Result<Option<Found>> {
        let leaf = codes.name.rsplit('.').next().unwrap_or_default();
        let Some(grouped) = self.grouped() else {
            return Ok(None);
        };
        let packing = grouped.packing;
        let dtype = packing.shapes(grouped.bits, (1, 1), 1).dtype;
        if leaf != packing.codes_leaf() || codes.dtype != dtype {
            return Ok(None);
        }
        let &[lines, words] = codes.shape.as_slice() else {
            let found = format!("shape {}", shape_text(&codes.shape));
            return Err(self.error(codes, "packed codes of two dimensions", found));
        };
        if grouped.ignored.iter().any(|name| name == module) {
            let found = format!("{} codes", codes.dtype);
            let expected = "an unquantized weight, as the configuration lists its module";
            return Err(self.error(codes, expected, found));
        }
        if packing == Packing::BitsAndBytes {
            return self.nf4(grouped, codes, module).map(Some);
        }
        self.integers(grouped, codes, [lines, words], module)
            .map(Some)
    }

    fn integers(
        &self,
        grouped: &Grouped,
        codes: &TensorInfo,
        [lines, words]: [usize; 2],
        module: &str,
    ) -> Result<Found> {
        let packing = grouped.packing;
        let named = |leaf: Option<&'static str>| self.tensors.get(&format!("{module}.{}", leaf?));
        let [scales, zeros, groups_of, shape_tensor] = packing.part_leaves().map(named);
        let Some(scales) = scales else {
            let leaf = packing.part_leaves()[0].unwrap_or_default();
            let expected = format!("its scales in `{module}.{leaf}`");
            return Err(self.error(codes, expected, "none"));
        };
        let Some(scale) = scales.dtype.as_scale() else {
            let found = scales.dtype.to_string();
            return Err(self.error(scales, "scales in F32, BF16 or F16", found));
        };
        let [out, inner] = match packing.weight_shape(grouped.bits, [lines, words]) {
            Some(shape) => shape,
            // The codes say how many columns there are but for the last word; the groups settle it.
            None => [lines, self.columns(grouped, words, scales)?],
        };
        self.check_groups(codes, grouped.group, inner)?;
        let groups = grouped.group.blocks(inner);
        let shapes = packing.shapes(grouped.bits, (out, inner), groups);
        let check = |tensor: &TensorInfo, what: &str, expected: [usize; 2]| {
            let sides = |shape: &[usize]| -> Vec<usize> {
                shape.iter().filter(|n| **n != 1).copied().collect()
            };
            if sides(&tensor.shape) == sides(&expected) {
                return Ok(());
            }
            let expected = format!(
                "{what} of shape {} for a weight {}",
                shape_text(&expected),
                shape_text(&[out, inner])
            );
            let found = format!("shape {}", shape_text(&tensor.shape));
            Err(self.error(tensor, expected, found))
        };
        check(codes, "codes", shapes.codes)?;
        let per_tensor = packing == Packing::Bytes && matches!(scales.shape.as_slice(), [] | [1]);
        if !per_tensor {
            check(scales, "scales", shapes.scales)?;
        }
        match zeros {
            Some(zeros) => {
                check(zeros, "zero points", shapes.zeros)?;
                if zeros.dtype != shapes.dtype {
                    let expected = format!("zero points in {}", shapes.dtype);
                    return Err(self.error(zeros, expected, zeros.dtype.to_string()));
                }
            }
            None if !grouped.symmetric => {
                let leaf = packing.part_leaves()[1].unwrap_or_default();
                let expected = format!(
                    "its zero points in `{module}.{leaf}`, because the configuration says that they differ"
                );
                return Err(self.error(codes, expected, "none"));
            }
            None => {}
        }
        if let Some(groups_of) = groups_of {
            check(groups_of, "group indices", [inner, 1])?;
        }
        let name = |tensor: Option<&TensorInfo>| tensor.map(|tensor| tensor.name.clone());
        let stored = StoredGroups {
            packing,
            bits: grouped.bits,
            group: grouped.group,
            scale,
            parts: GroupedParts {
                scales: scales.name.clone(),
                zeros: name(zeros),
                groups_of: name(groups_of),
                shape: name(shape_tensor),
                ..GroupedParts::default()
            },
            decoded: None,
        };
        Ok((stored, [out, inner]))
    }

    /// bitsandbytes: shape and group are in its JSON, whose counts the tensors must have.
    fn nf4(&self, grouped: &Grouped, codes: &TensorInfo, module: &str) -> Result<Found> {
        let packing = grouped.packing;
        let named = |leaf: &str| {
            let name = format!("{module}.{leaf}");
            let tensor = self.tensors.get(&name);
            tensor.ok_or_else(|| self.error(codes, format!("`{name}` beside its codes"), "none"))
        };
        let state = named(STATE)?;
        let state = self
            .states
            .get(&state.name)
            .ok_or_else(|| self.error(state, "a JSON text in U8", state.dtype.to_string()))?;
        let [out, inner] = state.shape;
        let group = Extent::Of(state.group);
        self.check_groups(codes, group, inner)?;
        let scales = named("weight.absmax")?;
        let mut parts = packing.parts(module);
        let count = |tensor: &TensorInfo, what: &str, dtype: Dtype, expected: Option<usize>| {
            let found: usize = tensor.shape.iter().product();
            if (tensor.dtype, Some(found)) == (dtype, expected) {
                return Ok(());
            }
            let weight = shape_text(&state.shape);
            let expected = expected.map_or("fewer".to_owned(), |n| n.to_string());
            let expected = format!("{expected} {what} in {dtype} for a weight {weight}");
            Err(self.error(tensor, expected, format!("{found} in {}", tensor.dtype)))
        };
        let elements = out.checked_mul(inner);
        count(
            codes,
            "bytes of codes",
            Dtype::U8,
            elements.map(|n| n.div_ceil(2)),
        )?;
        let groups = out.checked_mul(group.blocks(inner));
        count(named(LEVELS)?, "levels", Dtype::F32, Some(16))?;
        if let Some(nested) = state.nested {
            count(scales, "codes of scales", Dtype::U8, groups)?;
            let [absmax, levels] = [named(NESTED[0])?, named(NESTED[1])?];
            let blocks = groups.map(|n| n.div_ceil(nested.group.get()));
            count(absmax, "scales of scales", Dtype::F32, blocks)?;
            count(levels, "levels of scales", Dtype::F32, Some(256))?;
            parts.nested = Some([absmax.name.clone(), levels.name.clone()]);
        } else {
            count(scales, "scales", Dtype::F32, groups)?;
        }
        let stored = StoredGroups {
            packing,
            bits: grouped.bits,
            group,
            scale: ScaleDtype::F32,
            parts,
            decoded: Some(state.dtype),
        };
        Ok((stored, [out, inner]))
    }

    fn check_groups(&self, codes: &TensorInfo, group: Extent, inner: usize) -> Result<()> {
        let size = group.size(inner);
        if inner.is_multiple_of(size) {
            return Ok(());
        }
        let expected = format!("columns that groups of {size} divide");
        Err(self.error(codes, expected, format!("{inner} columns")))
    }

    /// Columns of a weight whose rows are packed into so many words.
    fn columns(&self, grouped: &Grouped, words: usize, scales: &TensorInfo) -> Result<usize> {
        let most = words.checked_mul(grouped.packing.per_word(grouped.bits));
        let groups = scales.shape.last().copied().unwrap_or(1);
        match (grouped.group, most) {
            (Extent::Of(size), Some(_)) => match groups.checked_mul(size.get()) {
                Some(columns) => Ok(columns),
                None => Err(self.error(scales, "a possible number of groups", groups.to_string())),
            },
            (Extent::All, Some(most)) => Ok(most),
            (_, None) => Err(self.error(scales, "a possible shape", words.to_string())),
        }
    }
}
