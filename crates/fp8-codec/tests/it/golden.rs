//! Tables and encodings that `ml_dtypes` made.

use std::{collections::BTreeMap, fs, path::PathBuf};

use serde_json::Value;
use xgraft_fp8_codec::{Codec, E4m3, E5m2, Format, Overflow, Ue8m0};

/// A file of golden data.
pub(crate) fn path(name: &str) -> PathBuf {
    let crate_dir = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    crate_dir.join("../../fixtures/golden").join(name)
}

pub(crate) fn json(name: &str) -> Value {
    let text = fs::read_to_string(path(name)).expect("golden file");
    serde_json::from_str(&text).expect("JSON")
}

/// How one f32 becomes the byte of a column of the golden files.
pub(crate) type Encode = fn(f32) -> u8;

/// How a byte becomes an f32.
type Decode = fn(u8) -> f32;

/// The columns of the golden files.
pub(crate) const COLUMNS: [(&str, Encode); 6] = [
    ("e4m3fn", |x| E4m3::encode(x, Overflow::NonFinite).to_bits()),
    ("e4m3fn_saturating", |x| {
        E4m3::encode(x, Overflow::Saturate).to_bits()
    }),
    ("e5m2", |x| E5m2::encode(x, Overflow::NonFinite).to_bits()),
    ("e5m2_saturating", |x| {
        E5m2::encode(x, Overflow::Saturate).to_bits()
    }),
    ("e8m0_nearest", |x| Ue8m0::encode_nearest(x).to_bits()),
    ("e8m0_ceil", |x| Ue8m0::encode_ceil(x).to_bits()),
];

/// The column's operation on slices, where there is one.
pub(crate) fn slice_operation(column: &str) -> Option<(Format, Overflow)> {
    match column {
        "e4m3fn" => Some((Format::E4m3, Overflow::NonFinite)),
        "e4m3fn_saturating" => Some((Format::E4m3, Overflow::Saturate)),
        "e5m2" => Some((Format::E5m2, Overflow::NonFinite)),
        "e5m2_saturating" => Some((Format::E5m2, Overflow::Saturate)),
        _ => None,
    }
}

/// The tensors of a safetensors file, as bytes.
fn tensors(name: &str) -> BTreeMap<String, Vec<u8>> {
    let file = fs::read(path(name)).expect("golden file");
    let (length, rest) = file.split_first_chunk().expect("header length");
    let length = usize::try_from(u64::from_le_bytes(*length)).expect("header length");
    let (header, data) = rest.split_at(length);
    let header: BTreeMap<String, Value> = serde_json::from_slice(header).expect("header");
    let entries = header
        .into_iter()
        .filter(|(name, _)| name != "__metadata__");
    entries
        .map(|(name, info)| {
            let at = |i: usize| {
                let offset = info["data_offsets"][i].as_u64().expect("offset");
                usize::try_from(offset).expect("offset")
            };
            (name, data[at(0)..at(1)].to_vec())
        })
        .collect()
}

#[test]
fn every_code_decodes_to_the_value_of_ml_dtypes() {
    let golden = json("codec_decode.json");
    let decoders: [(&str, Decode); 3] = [
        ("e4m3fn", |code| E4m3::from_bits(code).decode()),
        ("e5m2", |code| E5m2::from_bits(code).decode()),
        ("e8m0fnu", |code| Ue8m0::from_bits(code).decode()),
    ];
    for (name, decode) in decoders {
        for code in 0..=u8::MAX {
            let ours = decode(code);
            match golden[name][usize::from(code)].as_u64() {
                Some(bits) => assert_eq!(u64::from(ours.to_bits()), bits, "{name} {code:#04x}"),
                None => assert!(ours.is_nan(), "{name} {code:#04x}"),
            }
        }
    }
}

#[test]
fn interesting_numbers_encode_as_in_ml_dtypes() {
    let tensors = tensors("codec_encode.safetensors");
    let (bits, []) = tensors["f32_bits"].as_chunks::<4>() else {
        panic!("whole numbers")
    };
    let inputs: Vec<f32> = bits.iter().map(|&bits| f32::from_le_bytes(bits)).collect();
    assert!(inputs.len() > 5000);
    for (column, encode) in COLUMNS {
        for (&x, &expected) in inputs.iter().zip(&tensors[column]) {
            let found = encode(x);
            assert_eq!(found, expected, "{column} of {x:e} ({:#010x})", x.to_bits());
        }
        let Some((format, overflow)) = slice_operation(column) else {
            continue;
        };
        for codec in Codec::available() {
            let mut codes = vec![0; inputs.len()];
            codec.encode_f32(format, overflow, &inputs, &mut codes);
            assert!(codes == tensors[column], "{column} by {}", codec.name());
        }
    }
}
