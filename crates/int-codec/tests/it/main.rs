//! Every implementation against the definition of one element, and against each other bit for bit.

use half::{bf16, f16};
use proptest::prelude::*;
use xgraft_int_codec::{Codec, Element, Groups, Quotient, Range};

/// The code of one element by the letter: rounded division, clamping, and rounding to even.
fn encoded(x: f32, scale: f32, zero: u8, bits: u8, round: fn(f32) -> f32) -> u8 {
    let middle = f32::from(1_u8 << (bits - 1));
    let shifted = round(round(x / scale) + (f32::from(zero) - middle));
    (shifted.clamp(-middle, middle - 1.0).round_ties_even() + middle) as u8
}

fn rounding(quotient: Quotient) -> fn(f32) -> f32 {
    match quotient {
        Quotient::F32 => |x| x,
        Quotient::Bf16 => |x| bf16::from_f32(x).to_f32(),
        Quotient::F16 => |x| f16::from_f32(x).to_f32(),
    }
}

/// Encodes with every implementation and holds each code against [`encoded`].
fn check_codes<T: Element>(groups: Groups<'_>, quotient: Quotient, src: &[T]) {
    for codec in Codec::available() {
        let mut codes = vec![0xaa; src.len()];
        codec.encode(groups, quotient, src, &mut codes);
        for (at, (x, code)) in src.iter().zip(codes).enumerate() {
            let group = at / groups.size;
            let zero = groups.zeros.map_or(groups.middle(), |zeros| zeros[group]);
            let scale = groups.scales[group];
            let expected = encoded(x.widen(), scale, zero, groups.bits, rounding(quotient));
            let flip = if groups.signed { groups.middle() } else { 0 };
            assert_eq!(
                code ^ flip,
                expected,
                "{codec:?} {quotient:?} {at}: {}",
                x.widen()
            );
        }
    }
}

proptest! {
    #[test]
    fn codes_are_those_of_the_definition(
        values in prop::collection::vec(-3.0_f32..3.0, 0..700),
        size in prop::sample::select(vec![1_usize, 7, 32, 128, 1000]),
        bits in 2_u8..=8,
        quotient in prop::sample::select(vec![Quotient::F32, Quotient::Bf16, Quotient::F16]),
        own_zeros: bool,
        signed: bool,
    ) {
        let count = values.len().div_ceil(size);
        let scales: Vec<f32> = (0..count).map(|i| 0.003 * (i + 1) as f32).collect();
        let zeros: Vec<u8> = (0..count).map(|i| ((i * 37) % (1 << bits)) as u8).collect();
        let zeros = own_zeros.then_some(&zeros[..]);
        let groups = Groups { bits, size, scales: &scales, zeros, signed };
        check_codes(groups, quotient, &values);
        check_codes(groups, quotient, &values.iter().map(|x| bf16::from_f32(*x)).collect::<Vec<_>>());
        check_codes(groups, quotient, &values.iter().map(|x| f16::from_f32(*x)).collect::<Vec<_>>());
    }

    #[test]
    fn values_are_those_of_the_definition_wherever_they_are_written(
        codes in prop::collection::vec(0_u8..=255, 0..700),
        bits in 2_u8..=8,
        size in prop::sample::select(vec![1_usize, 7, 32, 128, 1000]),
        // Subnormal, ordinary and overflowing products.
        scale in prop::sample::select(vec![1e-40_f32, 3e-5, 0.37, 3e38]),
        own_zeros: bool,
        signed: bool,
        offset in 0_usize..40,
    ) {
        let mask = u8::MAX >> (8 - bits);
        let codes: Vec<u8> = codes.into_iter().map(|code| code & mask).collect();
        let count = codes.len().div_ceil(size);
        let scales: Vec<f32> = (1..=count).map(|i| scale / i as f32).collect();
        let zeros: Vec<u8> = (0..count).map(|i| (i * 37) as u8 & mask).collect();
        let zeros = own_zeros.then_some(&zeros[..]);
        let groups = Groups { bits, size, scales: &scales, zeros, signed };
        let middle = 1_u8 << (bits - 1);
        let value = |at: usize| {
            let zero = zeros.map_or(middle, |zeros| zeros[at / size]);
            let code = codes[at] ^ if signed { middle } else { 0 };
            (f32::from(code) - f32::from(zero)) * scales[at / size]
        };
        for codec in Codec::available() {
            let mut wide = vec![f32::NAN; codes.len()];
            codec.decode_f32(groups, &codes, &mut wide);
            let mut narrow = vec![bf16::NAN; codes.len() + offset];
            codec.decode_bf16(groups, &codes, &mut narrow[offset..]);
            for at in 0..codes.len() {
                prop_assert_eq!(wide[at].to_bits(), value(at).to_bits());
                let expected = bf16::from_f32(value(at));
                prop_assert_eq!(narrow[offset + at].to_bits(), expected.to_bits(), "{:?} {}", codec, at);
            }
            prop_assert!(narrow[..offset].iter().all(|x| x.is_nan()));
        }
    }

    #[test]
    fn ranges_are_least_and_largest(
        values in prop::collection::vec(-3.0_f32..3.0, 1..700),
        size in prop::sample::select(vec![1_usize, 7, 32, 128, 1000]),
        shift in prop::sample::select(vec![0.0_f32, 5.0, -5.0]),
    ) {
        let values: Vec<bf16> = values.iter().map(|x| bf16::from_f32(x + shift)).collect();
        for codec in Codec::available() {
            let mut ranges = vec![Range::default(); values.len().div_ceil(size)];
            codec.ranges(&values, size, &mut ranges);
            for (group, range) in values.chunks(size).zip(ranges) {
                let all = || group.iter().map(|x| x.to_f32());
                let expected = Range {
                    least: all().fold(0.0, f32::min),
                    most: all().fold(0.0, f32::max),
                    finite: true,
                };
                prop_assert_eq!(range, expected);
            }
        }
    }

    #[test]
    fn what_is_not_finite_is_seen(at in 0_usize..300, which in 0..3_usize) {
        let mut values = vec![1.0_f32; 300];
        values[at] = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY][which];
        for codec in Codec::available() {
            let mut ranges = [Range::default(); 3];
            codec.ranges(&values, 128, &mut ranges);
            for (group, range) in ranges.iter().enumerate() {
                prop_assert_eq!(range.finite, group != at / 128);
            }
        }
    }
}
