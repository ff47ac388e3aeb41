//! Strips give what the whole gives, bytes, values and errors.

use std::num::NonZeroUsize;
use std::ops::Range;

use half::bf16;
use proptest::prelude::*;
use xgraft_block_scale::{Error, Extent, GroupRecipe, GroupedMatrix, ScaleDtype, WeightDtype};
use xgraft_checkpoint::{
    GroupedParts, PackedMatrix, Packing, StoredGroups, pack_grouped, pack_strips, unpack_grouped,
};

fn stored(packing: Packing, bits: u8, group: Extent, symmetric: bool) -> StoredGroups {
    let rows = packing == Packing::Rows;
    let always = matches!(packing, Packing::Awq | Packing::Gptq { .. });
    StoredGroups {
        packing,
        bits,
        group,
        scale: ScaleDtype::Bf16,
        parts: GroupedParts {
            scales: "scale".to_owned(),
            zeros: (always || !symmetric).then(|| "zeros".to_owned()),
            groups_of: matches!(packing, Packing::Gptq { .. }).then(|| "groups".to_owned()),
            shape: rows.then(|| "shape".to_owned()),
            levels: None,
            nested: None,
        },
        decoded: None,
    }
}

/// Numbers that look random, about as large as weights.
fn weights(count: usize) -> Vec<bf16> {
    let number = |i: usize| ((i * i % 8191) as f32 * 0.37).sin() * 0.05;
    (0..count).map(|i| bf16::from_f32(number(i))).collect()
}

fn of(size: usize) -> Extent {
    Extent::Of(NonZeroUsize::new(size).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn strips_give_what_the_whole_gives(
        packing in prop::sample::select(vec![
            (Packing::Bytes, 8),
            (Packing::Rows, 4),
            (Packing::Rows, 8),
            (Packing::Awq, 4),
            (Packing::Gptq { zeros_less_one: true }, 4),
        ]),
        symmetric: bool,
        by_rows: bool,
        // More rows than a strip has, not all of them whole strips.
        eighths in 1_usize..130,
        columns in prop::sample::select(vec![32_usize, 2048, 4096]),
    ) {
        let (packing, bits) = packing;
        let (rows, group) = (8 * eighths, if by_rows { Extent::All } else { of(32) });
        let stored = stored(packing, bits, group, symmetric);
        let recipe = GroupRecipe::compressed_tensors(bits, group, symmetric, WeightDtype::Bf16);
        let (weights, shape) = (weights(rows * columns), (rows, columns));

        let whole = recipe.quantize(&weights[..], shape, 0.9).unwrap();
        let strip = |part: Range<usize>| {
            let weights = &weights[part.start * columns..part.end * columns];
            let strip = recipe.quantize(weights, (part.len(), columns), 0.9);
            strip.map(|strip| (strip, part))
        };
        let (tensors, parts) = pack_strips(&stored, shape, strip).unwrap();
        prop_assert!(tensors == pack_grouped(&stored, &whole), "bytes");
        let seen: Vec<usize> = parts.into_iter().flatten().collect();
        prop_assert!(seen.into_iter().eq(0..rows), "notes in the order of the strips");

        let mut values = vec![bf16::NAN; rows * columns];
        unpack_grouped(&stored, shape, &tensors).unwrap().decode_bf16(0..rows, &mut values);
        let rounded = whole.to_f32().into_iter().map(bf16::from_f32);
        prop_assert!(rounded.eq(values.iter().copied()), "values");

        let packed = PackedMatrix::new(&stored, shape, tensors).unwrap();
        prop_assert!((packed.rows(), packed.cols()) == shape);
        for part in [0..rows, rows / 3..rows / 2, 5..6, rows..rows] {
            let mut some = vec![bf16::NAN; part.len() * columns];
            packed.decode_bf16(part.clone(), &mut some);
            let expected = &values[part.start * columns..part.end * columns];
            prop_assert!(some == expected, "rows {part:?}");
        }
    }
}

#[test]
fn the_error_is_that_of_the_first_strip() {
    let stored = stored(Packing::Bytes, 8, Extent::All, true);
    let (rows, columns) = (4096, 512);
    let found = pack_strips(&stored, (rows, columns), |part| {
        Err::<(GroupedMatrix, ()), _>(part.start)
    });
    assert_eq!(found.unwrap_err(), 0);
}

#[test]
fn tensors_that_are_broken_are_refused() {
    let (rows, columns) = (700, 512);
    let stored = stored(Packing::Bytes, 8, Extent::All, true);
    let recipe = GroupRecipe::compressed_tensors(8, Extent::All, true, WeightDtype::Bf16);
    let whole = recipe.quantize(&weights(rows * columns)[..], (rows, columns), 1.0);
    let good = pack_grouped(&stored, &whole.unwrap());
    let decode = |tensors: &[Vec<u8>]| {
        let unpacked = unpack_grouped(&stored, (rows, columns), tensors).unwrap_err();
        let packed = PackedMatrix::new(&stored, (rows, columns), tensors.to_vec()).unwrap_err();
        assert_eq!(packed.to_string(), unpacked.to_string());
        packed
    };
    let mut bad = good.clone();
    bad[1][2 * 650..][..2].copy_from_slice(&bf16::NAN.to_le_bytes());
    let error = decode(&bad);
    assert!(
        matches!(error, Error::Scale { block_row: 650, .. }),
        "{error}"
    );
    for (tensor, what) in [(0, "codes"), (1, "scales")] {
        let mut long = good.clone();
        long[tensor].extend([0; 4]);
        let error = decode(&long);
        assert!(
            matches!(error, Error::Count { what: found, .. } if found == what),
            "{error}"
        );
    }
}
