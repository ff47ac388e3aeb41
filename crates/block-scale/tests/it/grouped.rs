//! Integers and tables in groups, against their definition written out.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::num::NonZeroUsize;

use half::bf16;
use proptest::prelude::*;
use xgraft_block_scale::{
    Arithmetic, Error, Extent, GroupRecipe, GroupScale, GroupedMatrix, Levels, Rows, ScaleDtype,
    WeightDtype,
};
use xgraft_cpu_gemm::Source as _;

fn of(n: usize) -> Extent {
    Extent::Of(NonZeroUsize::new(n).unwrap())
}

fn round(x: f32) -> f32 {
    bf16::from_f32(x).to_f32()
}

/// Scale, zero point and codes of one group of BF16 weights, as compressed-tensors computes them step by step.
fn by_definition(weights: &[bf16], bits: u8, symmetric: bool) -> (f32, i32, Vec<i32>) {
    let values: Vec<f32> = weights.iter().map(|w| w.to_f32()).collect();
    let (low, high) = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1);
    let least = values.iter().copied().fold(0.0, f32::min);
    let most = values.iter().copied().fold(0.0, f32::max);
    let range = (high - low) as f32;
    let mut scale = if symmetric {
        round(most.max(-least) / (range / 2.0))
    } else {
        round(round(most - least) / range)
    };
    let zero = if symmetric || scale == 0.0 {
        0
    } else {
        let zero = round(low as f32 - round(least / scale));
        zero.clamp(low as f32, high as f32).round_ties_even() as i32
    };
    if scale == 0.0 {
        scale = bf16::EPSILON.to_f32();
    }
    let code = |x: &f32| {
        let shifted = round(round(x / scale) + zero as f32);
        shifted.clamp(low as f32, high as f32).round_ties_even() as i32
    };
    (scale, zero, values.iter().map(code).collect())
}

proptest! {
    #[test]
    fn codes_scales_and_zero_points_are_those_of_the_definition(
        values in prop::collection::vec(-2.0_f32..2.0, 96),
        bits in prop::sample::select(vec![2_u8, 3, 4, 8]),
        symmetric: bool,
        offset in prop::sample::select(vec![0.0_f32, 3.0, -3.0]),
    ) {
        let weights: Vec<bf16> = values.iter().map(|x| bf16::from_f32(x + offset)).collect();
        let recipe = GroupRecipe::compressed_tensors(bits, of(16), symmetric, WeightDtype::Bf16);
        let found = recipe.quantize(Rows::Bf16(&weights), (2, 48), 1.0).unwrap();
        let middle = 1 << (bits - 1);
        for (at, group) in weights.chunks(16).enumerate() {
            let (scale, zero, codes) = by_definition(group, bits, symmetric);
            prop_assert_eq!(found.scales[at], scale);
            if let Some(zeros) = &found.zeros {
                prop_assert_eq!(i32::from(zeros[at]) - middle, zero);
            }
            let own: Vec<i32> = found.codes[at * 16..][..16].iter().map(|c| i32::from(*c) - middle).collect();
            prop_assert_eq!(own, codes);
        }
    }

    #[test]
    fn an_element_is_within_half_a_step(values in prop::collection::vec(-2.0_f32..2.0, 64)) {
        let recipe = GroupRecipe {
            levels: Levels::Int(4),
            group: of(32),
            symmetric: false,
            scale: GroupScale::Float(ScaleDtype::F32),
            arithmetic: Arithmetic::F32,
        };
        let found = recipe.quantize(&values[..], (1, 64), 1.0).unwrap();
        for ((x, y), at) in values.iter().zip(found.to_f32()).zip(0..) {
            // A zero point that is rounded moves the range by up to half a step more.
            prop_assert!((x - y).abs() <= found.scales[at / 32] * 1.0001, "{x} {y}");
        }
    }
}

#[test]
fn a_part_is_the_part_of_the_whole() {
    let values: Vec<f32> = (0..5 * 32_u8)
        .map(|i| (f32::from(i) * 0.37).sin())
        .collect();
    let recipe = GroupRecipe::compressed_tensors(4, of(8), false, WeightDtype::F32);
    let mut matrix = recipe.quantize(&values[..], (5, 32), 1.0).unwrap();
    for sorted in [false, true] {
        matrix.groups_of = sorted.then(|| (0..32).map(|i| i % 4).collect());
        let whole = matrix.to_f32();
        let mut part = vec![0.0; 3 * 13];
        matrix.pack(1..4, 5..18, &mut part, 13);
        for (row, part) in (1..4).zip(part.chunks(13)) {
            assert_eq!(part, &whole[row * 32 + 5..row * 32 + 18]);
        }
    }
}

#[test]
fn what_cannot_be_is_refused() {
    let recipe = GroupRecipe::compressed_tensors(4, of(8), true, WeightDtype::F32);
    let error = recipe.quantize(&[0.0; 12][..], (1, 12), 1.0).unwrap_err();
    assert_eq!(error, Error::GroupSize { cols: 12, group: 8 });
    let mut bad = [0.0; 16];
    bad[11] = f32::NAN;
    let error = recipe.quantize(&bad[..], (2, 8), 1.0).unwrap_err();
    assert!(
        matches!(error, Error::NonFinite { row: 1, col: 3, .. }),
        "{error}"
    );
    let good = recipe.quantize(&[1.0; 16][..], (2, 8), 1.0).unwrap();
    let short = GroupedMatrix {
        codes: vec![0; 15],
        ..good.clone()
    };
    assert!(matches!(
        short.checked(),
        Err(Error::Count { what: "codes", .. })
    ));
    let beyond = GroupedMatrix {
        groups_of: Some(vec![1; 8]),
        ..good
    };
    assert!(matches!(
        beyond.checked(),
        Err(Error::Group {
            group: 1,
            groups: 1,
            ..
        })
    ));
}

#[test]
fn threads_do_not_change_a_bit() {
    let values: Vec<f32> = (0..300 * 256).map(|i| (i as f32 * 0.7).sin()).collect();
    let recipe = GroupRecipe {
        levels: Levels::E2m1,
        group: of(16),
        symmetric: true,
        scale: GroupScale::E4m3OfTensor,
        arithmetic: Arithmetic::F32,
    };
    let with = |threads| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| recipe.quantize(&values[..], (300, 256), 1.0).unwrap())
    };
    assert_eq!(with(1), with(2));
}
