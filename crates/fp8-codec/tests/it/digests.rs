//! All 2^32 f32 bit patterns against digests of what `ml_dtypes` makes of them.

use blake3::Hash;
use serde_json::Value;

use crate::{
    golden::{COLUMNS, Encode, json, slice_operation},
    samples::implementations,
};

const CHUNK: u32 = 1 << 24;

fn expected(golden: &Value, column: &str, chunk: u32) -> Hash {
    let index = usize::try_from(chunk).expect("chunk");
    let hex = golden["digests"][column][index].as_str().expect("a digest");
    Hash::from_hex(hex).expect("a digest in hexadecimal")
}

fn inputs(chunk: u32) -> Vec<f32> {
    let first = chunk * CHUNK;
    (first..=first + (CHUNK - 1)).map(f32::from_bits).collect()
}

fn scalar_codes(encode: Encode, inputs: &[f32]) -> Vec<u8> {
    inputs.iter().map(|&x| encode(x)).collect()
}

/// Compares every column of these chunks, by the scalar definition and by every implementation.
fn check(chunks: impl Iterator<Item = u32>) {
    let golden = json("codec_digests.json");
    for chunk in chunks {
        let inputs = inputs(chunk);
        for (column, encode) in COLUMNS {
            let expected = expected(&golden, column, chunk);
            let codes = scalar_codes(encode, &inputs);
            assert_eq!(blake3::hash(&codes), expected, "{column}, chunk {chunk}");
            let Some((format, overflow)) = slice_operation(column) else {
                continue;
            };
            for codec in implementations() {
                let mut found = vec![0; inputs.len()];
                codec.encode_f32(format, overflow, &inputs, &mut found);
                let differs = || found.iter().zip(&codes).position(|(a, b)| a != b);
                assert!(
                    found == codes,
                    "{column} by {}, chunk {chunk}, element {:?}",
                    codec.name(),
                    differs()
                );
            }
        }
    }
}

#[test]
fn the_chunks_where_both_formats_round_encode_as_in_ml_dtypes() {
    // 2^24 bit patterns are two binades: [2^-9, 2^-7) has subnormals of E4M3, [2^7, 2^9) its largest numbers.
    check([0x3b, 0xc3].into_iter());
}

#[test]
#[ignore = "slow: all 2^32 f32 numbers by every implementation, several minutes"]
fn every_f32_encodes_as_in_ml_dtypes() {
    check(0..256);
}
