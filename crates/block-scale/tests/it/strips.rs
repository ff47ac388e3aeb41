//! Strips, threads and passes do not change a byte.

use half::bf16;
use proptest::prelude::*;
use xgraft_block_scale::{
    BlockShape, Matrix, QuantizedMatrix, QuantizedRows, Recipe, RoundTrip, Rows, ScaleDtype, Stats,
    WeightDtype, amax_rows, dequantize, dequantize_rows, quantize, quantize_rows,
    quantize_rows_with_scales, round_trip, round_trip_rows,
};

use crate::shapes::{block_shapes, weights};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn strips_of_block_rows_give_the_bytes_of_the_whole((rows, cols, data) in weights(), bands in 1usize..4, height in 1usize..70) {
        let block = BlockShape::new(height, 128).expect("positive");
        let recipe = Recipe::f32(block, ScaleDtype::Bf16);
        let whole = quantize(&Matrix::new(rows, cols, data.clone()), &recipe).expect("finite");
        let (mut codes, mut scales) = (vec![0; data.len()], vec![0.0; whole.scales.len()]);
        let strip = bands * height * cols;
        let strips = data.chunks(strip).zip(codes.chunks_mut(strip));
        let mut stats = Stats::default();
        for ((data, codes), scales) in strips.zip(scales.chunks_mut(bands * block.cols.blocks(cols))) {
            stats = stats.merge(quantize_rows(data, cols, &recipe, codes, scales).expect("finite"));
        }
        prop_assert_eq!(stats.blocks, scales.len());
        prop_assert_eq!(codes, whole.codes);
        prop_assert_eq!(scales, whole.scales);
    }

    #[test]
    fn two_passes_over_strips_give_the_bytes_of_the_whole((rows, cols, data) in weights(), strip_rows in 1usize..90) {
        let recipe = Recipe::f32(BlockShape::TENSOR, ScaleDtype::F32);
        let whole = quantize(&Matrix::new(rows, cols, data.clone()), &recipe).expect("finite");
        let mut amax = [0.0];
        for strip in data.chunks(strip_rows * cols) {
            amax_rows(strip, cols, &recipe.block, &mut amax).expect("finite");
        }
        let scales = recipe.scales(&amax, 1, WeightDtype::F32).expect("in range");
        let mut codes = vec![0; data.len()];
        for (data, codes) in data.chunks(strip_rows * cols).zip(codes.chunks_mut(strip_rows * cols)) {
            quantize_rows_with_scales(data, cols, &recipe, &scales, codes);
        }
        prop_assert_eq!(&scales, &whole.scales);
        prop_assert_eq!(codes, whole.codes);
    }

    #[test]
    fn rows_from_anywhere_dequantize_to_their_part((rows, cols, data) in weights(), block in block_shapes(), cut in 0.0..1.0f64, len in 0.0..1.0f64) {
        let matrix = Matrix::new(rows, cols, data);
        let quantized = quantize(&matrix, &Recipe::f32(block, ScaleDtype::F32)).expect("finite");
        let whole = dequantize(&quantized);
        let first = (cut * rows as f64) as usize;
        let last = first + (len * (rows - first) as f64) as usize;
        let mut part = vec![0.0; (last - first) * cols];
        dequantize_rows(quantized.rows_in(first..last), part.as_mut_slice());
        prop_assert_eq!(&part, &whole.data[first * cols..last * cols]);
        let trip = round_trip_rows(Rows::F32(&matrix.data[first * cols..last * cols]), quantized.rows_in(first..last));
        prop_assert_eq!(trip.elements, part.len());
    }
}

/// A matrix large enough for every kind of task, with a ragged edge.
fn large() -> (usize, usize, Vec<bf16>) {
    let (rows, cols) = (700, 1000);
    let weight = |i: usize| bf16::from_f32(((i * 7919 % 10007) as f32 / 10007.0 - 0.5) * 0.1);
    (rows, cols, (0..rows * cols).map(weight).collect())
}

fn with_threads<T: Send>(threads: usize, work: impl FnOnce() -> T + Send) -> T {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    pool.expect("threads").install(work)
}

#[test]
fn the_number_of_threads_does_not_change_a_byte() {
    let (rows, cols, data) = large();
    let blocks = [
        BlockShape::B128,
        BlockShape::ROW,
        BlockShape::TENSOR,
        BlockShape::new(512, 512).expect("positive"),
        BlockShape::new(1, 128).expect("positive"),
    ];
    for block in blocks {
        let recipe = Recipe::f32(block, ScaleDtype::Bf16);
        let run = || {
            let (mut codes, mut scales) = (vec![0; data.len()], vec![0.0; block.count(rows, cols)]);
            let stats = quantize_rows(data.as_slice(), cols, &recipe, &mut codes, &mut scales)
                .expect("finite");
            let shape = (rows, cols);
            let quantized =
                QuantizedMatrix::new(shape, recipe.format, block, codes, scales).expect("a matrix");
            let values = dequantize(&quantized);
            let trip = round_trip(data.as_slice().into(), &quantized);
            (quantized, values, trip, stats)
        };
        let one = with_threads(1, run);
        assert_eq!(one, with_threads(2, run));
        assert_eq!(one, with_threads(5, run));
        assert!(one.2.relative_error() < 0.03, "{:?}", one.2);
    }
}

#[test]
fn round_trips_of_strips_merge_to_that_of_the_whole() {
    let (rows, cols, data) = large();
    let recipe = Recipe::compressed_tensors(BlockShape::B128);
    let (mut codes, mut scales) = (
        vec![0; data.len()],
        vec![0.0; recipe.block.count(rows, cols)],
    );
    quantize_rows(data.as_slice(), cols, &recipe, &mut codes, &mut scales).expect("finite");
    let quantized = QuantizedMatrix::new((rows, cols), recipe.format, recipe.block, codes, scales)
        .expect("a matrix");
    let whole = round_trip(data.as_slice().into(), &quantized);
    let parts = [0..200, 200..201, 201..700].map(|part| {
        let weights = &data[part.start * cols..part.end * cols];
        round_trip_rows(weights.into(), quantized.rows_in(part))
    });
    let merged = parts
        .into_iter()
        .fold(RoundTrip::default(), RoundTrip::merge);
    assert!((merged.error2 - whole.error2).abs() < 1e-12 * whole.error2);
    assert_eq!(merged.elements, whole.elements);
    assert_eq!(merged.max_abs_error, whole.max_abs_error);
}

#[test]
#[should_panic(expected = "scales of the matrix")]
fn rows_with_too_few_scales_are_refused() {
    let rows = QuantizedRows {
        shape: (1, 256),
        first_row: 0,
        format: xgraft_block_scale::Format::E4m3,
        block: BlockShape::B128,
        codes: &[0; 256],
        scales: &[1.0],
    };
    dequantize_rows(rows, vec![0.0f32; 256].as_mut_slice());
}
