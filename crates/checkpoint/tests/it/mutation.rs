//! The fuzz targets' entry functions over a committed corpus and mutations of it, the same ones at every run.

use std::fs;
use std::path::PathBuf;

use crate::entry;

/// Mutations of each file of the corpus.
const ROUNDS: u64 = 3000;

/// The generator of the mutations: splitmix64, so that a failure is the same on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }
}

/// Pieces that parsers stumble over.
const TOKENS: [&str; 20] = [
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "null",
    "-1",
    "0",
    "1e999",
    "18446744073709551615",
    "18446744073709551616",
    "\\u0000",
    "../",
    "/",
    "__metadata__",
    "F8_E4M3",
    "\u{e9}",
    "(",
];

/// One to four changes: a byte, a cut, a repeated piece, a token.
fn mutate(bytes: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len());
        match random.below(5) {
            0 if !bytes.is_empty() => bytes[at] = random.next() as u8,
            1 => bytes.truncate(at),
            2 => {
                let end = (at + random.below(40)).min(bytes.len());
                let piece = bytes[at..end].to_vec();
                let to = random.below(bytes.len());
                bytes.splice(to..to, piece);
            }
            3 => {
                let token = TOKENS[random.below(TOKENS.len())].bytes();
                bytes.splice(at..at, token);
            }
            _ if !bytes.is_empty() => drop(bytes.remove(at)),
            _ => {}
        }
    }
    bytes
}

/// Runs an entry function over its corpus, then over mutations; a panic fails the test.
fn run(target: &str, entry: fn(&[u8])) {
    let dir = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus")).join(target);
    let mut files: Vec<PathBuf> = fs::read_dir(&dir)
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    files.sort();
    assert!(files.len() >= 5, "the corpus of {target} is committed");
    for (at, file) in files.iter().enumerate() {
        let bytes = fs::read(file).unwrap();
        entry(&bytes);
        let mut random = Random(at as u64);
        for _ in 0..ROUNDS {
            entry(&mutate(&bytes, &mut random));
        }
    }
}

#[test]
fn mutated_headers_are_refused_or_true() {
    run("safetensors_header", entry::safetensors_header);
}

/// The length field is fixed up after the change, so that the change reaches the JSON.
#[test]
fn mutated_headers_with_a_true_length_are_refused_or_true() {
    run("safetensors_header", |file| {
        let Some(rest) = file.get(8..) else { return };
        let length = rest.iter().rposition(|b| *b == b'}').map_or(0, |at| at + 1);
        let fixed = [&(length as u64).to_le_bytes()[..], rest].concat();
        entry::safetensors_header(&fixed);
    });
}

#[test]
fn mutated_indexes_are_refused_or_true() {
    run("shard_index", entry::shard_index);
}

#[test]
fn mutated_configurations_are_refused_or_true() {
    run("adapter_config", entry::adapter_config);
}
