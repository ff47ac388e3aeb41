//! What bitsandbytes stores beside NF4 codes: levels, shape, and scales that may be codes themselves.

use xgraft_int_codec::Nf4;

use crate::model::bitsandbytes::{Nested, QuantState};

/// Why tensors are no weight.
pub(crate) struct Refusal {
    /// Which of them, in the order of `stored_tensors`.
    pub(crate) at: usize,
    pub(crate) expected: String,
    pub(crate) found: String,
}

/// How far a level may be from NF4's; bitsandbytes stores its levels and decodes by its own.
const SAME_LEVEL: f32 = 1e-6;

/// Checks the levels, and decodes the scales if they are codes; then the second tensor holds F32.
///
/// **Shapes** codes, scales, state, levels and, where the scales are codes, their largest magnitudes and levels.
///
/// **Source** bitsandbytes 0.50 `functional.py` (`dequantize_4bit`, `dequantize_blockwise`).
pub(crate) fn plain_scales(tensors: &mut [Vec<u8>]) -> Result<(), Refusal> {
    let refuse = |at, (expected, found)| Refusal {
        at,
        expected,
        found,
    };
    let part = |at: usize| tensors.get(at).map_or(&[][..], Vec::as_slice);
    let state = QuantState::parse(part(2)).map_err(|wrong| refuse(2, wrong))?;
    let levels = floats(part(3));
    let same = levels.len() == Nf4::LEVELS.len()
        && (levels.iter().zip(Nf4::LEVELS)).all(|(a, b)| (a - b).abs() <= SAME_LEVEL);
    if !same {
        let expected = "the sixteen levels of NF4".to_owned();
        return Err(refuse(3, (expected, format!("{levels:?}"))));
    }
    if let Some(nested) = state.nested {
        let (absmax, levels) = (floats(part(4)), floats(part(5)));
        let scales = nested_scales(&nested, part(1), &absmax, &levels);
        tensors[1] = scales.map_err(|(at, wrong)| refuse(at, wrong))?;
    }
    Ok(())
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    let words = bytes.as_chunks().0.iter();
    words.map(|b| f32::from_le_bytes(*b)).collect()
}

/// The bytes of scales in F32; an error says which tensor is wrong, what was expected and what was found.
fn nested_scales(
    nested: &Nested,
    codes: &[u8],
    absmax: &[f32],
    levels: &[f32],
) -> Result<Vec<u8>, (usize, (String, String))> {
    let groups = codes.len().div_ceil(nested.group.get());
    if absmax.len() != groups {
        let expected = format!(
            "{groups} largest magnitudes, one for each {} scales",
            nested.group
        );
        return Err((4, (expected, absmax.len().to_string())));
    }
    let Ok(levels) = <&[f32; 256]>::try_from(levels) else {
        return Err((5, ("256 levels".to_owned(), levels.len().to_string())));
    };
    let groups = codes.chunks(nested.group.get()).zip(absmax);
    let scale = |code: u8, absmax: f32| levels[usize::from(code)] * absmax + nested.offset;
    let scales = groups.flat_map(|(codes, absmax)| codes.iter().map(|code| scale(*code, *absmax)));
    Ok(scales.flat_map(f32::to_le_bytes).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_is_level_times_magnitude_plus_offset() {
        let nested = Nested {
            group: 2.try_into().unwrap(),
            offset: 0.5,
        };
        let levels: Vec<f32> = (0..256).map(|i| i as f32 - 128.0).collect();
        let scales = nested_scales(&nested, &[130, 126, 129], &[0.25, 2.0], &levels);
        assert_eq!(floats(&scales.ok().unwrap()), [1.0, 0.0, 2.5]);
        let short = nested_scales(&nested, &[0; 3], &[0.25], &levels);
        assert_eq!(short.unwrap_err().0, 4);
        let few = nested_scales(&nested, &[0; 3], &[0.25, 2.0], &levels[1..]);
        assert_eq!(few.unwrap_err().0, 5);
    }
}
