//! Lengths, alignments and strides: every implementation against the scalar definition, with proptest.

use half::bf16;
use proptest::prelude::*;
use xgraft_fp8_codec::{Codec, Format, Overflow, Quotient, Rows, RowsMut, Scaled};

use crate::samples::implementations;

/// A rectangle in a slice that does not begin at its first element.
#[derive(Clone, Copy, Debug)]
struct Layout {
    offset: usize,
    rows: usize,
    width: usize,
    stride: usize,
}

impl Layout {
    fn len(&self) -> usize {
        match self.rows {
            0 => 0,
            rows => (rows - 1) * self.stride + self.width,
        }
    }

    fn of<'a, T>(&self, data: &'a [T]) -> Rows<'a, T> {
        Rows::new(&data[self.offset..][..self.len()], self.width, self.stride)
    }

    fn of_mut<'a, T>(&self, data: &'a mut [T]) -> RowsMut<'a, T> {
        RowsMut::new(
            &mut data[self.offset..][..self.len()],
            self.width,
            self.stride,
        )
    }
}

fn layout() -> impl Strategy<Value = Layout> {
    (0..9usize, 0..6usize, 1..200usize, 0..70usize).prop_map(|(offset, rows, width, gap)| Layout {
        offset,
        rows,
        width,
        stride: width + gap,
    })
}

fn scaled() -> impl Strategy<Value = Scaled> {
    let format = prop_oneof![Just(Format::E4m3), Just(Format::E5m2)];
    let quotient = prop_oneof![Just(Quotient::F32), Just(Quotient::Bf16)];
    (format, 1e-4f32..10.0, quotient).prop_map(|(format, scale, quotient)| Scaled {
        format,
        scale,
        quotient,
    })
}

/// Weights as they occur: mostly of one size, some small, zero or special.
fn weight() -> impl Strategy<Value = f32> {
    prop_oneof![
        12 => -4f32..4.0,
        1 => -1e-3f32..1e-3,
        1 => Just(0.0f32),
        1 => any::<f32>(),
    ]
}

fn weights() -> impl Strategy<Value = Vec<f32>> {
    prop::collection::vec(weight(), 1500)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn f32_rectangles_of_any_shape_are_encoded_alike_and_nothing_else_is_touched(
        weights in weights(), from in layout(), to in layout(), rule in scaled(),
    ) {
        let to = Layout { rows: from.rows, width: from.width, stride: from.width + to.stride, ..to };
        let mut expected = vec![0xaa; 2500];
        Codec::portable().encode_scaled_f32(&rule, from.of(&weights), to.of_mut(&mut expected));
        for codec in implementations() {
            let mut found = vec![0xaa; 2500];
            codec.encode_scaled_f32(&rule, from.of(&weights), to.of_mut(&mut found));
            prop_assert_eq!(&found, &expected, "{}", codec.name());
            let (ours, theirs) = (codec.amax_f32(from.of(&weights)), Codec::portable().amax_f32(from.of(&weights)));
            prop_assert_eq!(ours.to_bits(), theirs.to_bits(), "{}", codec.name());
        }
    }

    #[test]
    fn bf16_rectangles_of_any_shape_are_encoded_alike_and_nothing_else_is_touched(
        weights in weights(), from in layout(), to in layout(), rule in scaled(),
    ) {
        let weights: Vec<bf16> = weights.into_iter().map(bf16::from_f32).collect();
        let to = Layout { rows: from.rows, width: from.width, stride: from.width + to.stride, ..to };
        let mut expected = vec![0xaa; 2500];
        Codec::portable().encode_scaled_bf16(&rule, from.of(&weights), to.of_mut(&mut expected));
        for codec in implementations() {
            let mut found = vec![0xaa; 2500];
            codec.encode_scaled_bf16(&rule, from.of(&weights), to.of_mut(&mut found));
            prop_assert_eq!(&found, &expected, "{}", codec.name());
            let (ours, theirs) = (codec.amax_bf16(from.of(&weights)), Codec::portable().amax_bf16(from.of(&weights)));
            prop_assert_eq!(ours.to_bits(), theirs.to_bits(), "{}", codec.name());
        }
    }

    #[test]
    fn rectangles_of_codes_of_any_shape_are_decoded_alike_and_nothing_else_is_touched(
        codes in prop::collection::vec(any::<u8>(), 1500), from in layout(), to in layout(), rule in scaled(),
    ) {
        let to = Layout { rows: from.rows, width: from.width, stride: from.width + to.stride, ..to };
        let Scaled { format, scale, .. } = rule;
        let mut wide = vec![1.0; 2500];
        let mut narrow = vec![bf16::ONE; 2500];
        Codec::portable().decode_scaled_f32(format, scale, from.of(&codes), to.of_mut(&mut wide));
        Codec::portable().decode_scaled_bf16(format, scale, from.of(&codes), to.of_mut(&mut narrow));
        for codec in implementations() {
            let mut found = vec![1.0; 2500];
            codec.decode_scaled_f32(format, scale, from.of(&codes), to.of_mut(&mut found));
            let same = found.iter().zip(&wide).all(|(a, b)| a.to_bits() == b.to_bits());
            prop_assert!(same, "{}", codec.name());
            let mut found = vec![bf16::ONE; 2500];
            codec.decode_scaled_bf16(format, scale, from.of(&codes), to.of_mut(&mut found));
            let same = found.iter().zip(&narrow).all(|(a, b)| a.to_bits() == b.to_bits());
            prop_assert!(same, "{} to bf16", codec.name());
        }
    }

    #[test]
    fn a_code_is_a_nearest_value(x in -500f32..500.0) {
        let code = Format::E4m3.encode(x, Overflow::Saturate);
        let distance = |code| (f64::from(Format::E4m3.decode(code)) - f64::from(x)).abs();
        let nearest = (0..=u8::MAX).filter(|&c| !Format::E4m3.is_nan(c)).map(distance).fold(f64::MAX, f64::min);
        prop_assert_eq!(distance(code), nearest);
    }
}

#[test]
fn the_largest_magnitude_of_a_slice_with_nan_is_nan_and_with_infinity_infinite() {
    for codec in Codec::available() {
        for len in [1, 15, 16, 17, 100] {
            let mut x = vec![-2.0f32; len];
            assert_eq!(codec.amax_f32(&x), 2.0);
            x[len / 2] = f32::NEG_INFINITY;
            assert_eq!(codec.amax_f32(&x), f32::INFINITY);
            x[len - 1] = f32::NAN;
            assert!(codec.amax_f32(&x).is_nan());
            let mut x: Vec<bf16> = vec![bf16::from_f32(-2.0); len];
            assert_eq!(codec.amax_bf16(&x), 2.0);
            x[len / 2] = bf16::NEG_INFINITY;
            assert_eq!(codec.amax_bf16(&x), f32::INFINITY);
            x[len - 1] = bf16::NAN;
            assert!(codec.amax_bf16(&x).is_nan());
        }
        assert_eq!(codec.amax_f32(&[]), 0.0);
    }
}

#[test]
#[should_panic(expected = "differ in shape")]
fn a_destination_of_another_shape_is_refused() {
    Codec::best().encode_f32(Format::E4m3, Overflow::Saturate, &[1.0, 2.0], &mut [0u8; 3]);
}

#[test]
#[should_panic(expected = "not positive and finite")]
fn a_scale_of_zero_is_refused() {
    let rule = Scaled {
        format: Format::E4m3,
        scale: 0.0,
        quotient: Quotient::F32,
    };
    Codec::best().encode_scaled_f32(&rule, &[1.0], &mut [0u8]);
}

#[test]
fn the_best_implementation_is_one_of_the_available() {
    let best = Codec::best().name();
    assert!(Codec::available().any(|codec| codec.name() == best));
    assert_eq!(Codec::available().next().map(Codec::name), Some("portable"));
}
