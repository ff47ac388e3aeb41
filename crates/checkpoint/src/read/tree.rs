//! BLAKE3 of a long run of bytes, put together from chunks that were hashed apart, in any order and on any thread.
//!
//! BLAKE3 is a tree, and a chunk whose length is a power of two is a whole branch of it.
//! The result is the ordinary digest, the one that `b3sum` prints.

use blake3::Hasher;
use blake3::hazmat::{
    ChainingValue, HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root,
};

use super::stream::CHUNK_BYTES;
use crate::digest::Digest;

/// The chunks of one run, as far as they have been hashed.
#[derive(Debug)]
pub(crate) enum Tree {
    /// The run is a single chunk, hashed as a whole.
    One(Option<Digest>),
    /// The branches, one a chunk.
    Many(Vec<ChainingValue>),
}

/// One hashed chunk.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Branch {
    Whole(Digest),
    Part(ChainingValue),
}

impl Branch {
    /// Hashes chunk `index` of a run of `run_bytes`; every chunk but the last has [`CHUNK_BYTES`].
    pub(crate) fn new(chunk: &[u8], index: usize, run_bytes: u64) -> Branch {
        if run_bytes <= CHUNK_BYTES as u64 {
            return Branch::Whole(Digest::of(chunk));
        }
        let mut hasher = Hasher::new();
        hasher.set_input_offset(index as u64 * CHUNK_BYTES as u64);
        Branch::Part(hasher.update(chunk).finalize_non_root())
    }
}

impl Tree {
    /// A run of so many bytes, of which nothing is hashed yet.
    pub(crate) fn new(run_bytes: u64) -> Tree {
        match run_bytes.div_ceil(CHUNK_BYTES as u64) {
            0 => Tree::One(Some(Digest::of(&[]))),
            1 => Tree::One(None),
            chunks => Tree::Many(vec![[0; 32]; chunks as usize]),
        }
    }

    /// Puts a hashed chunk in its place.
    pub(crate) fn set(&mut self, index: usize, branch: Branch) {
        match (self, branch) {
            (Tree::One(slot), Branch::Whole(digest)) => *slot = Some(digest),
            (Tree::Many(branches), Branch::Part(value)) => branches[index] = value,
            _ => unreachable!("a run has one chunk or several"),
        }
    }

    /// The digest of the run.
    pub(crate) fn digest(&self) -> Digest {
        match self {
            Tree::One(digest) => digest.unwrap_or_else(|| Digest::of(&[])),
            Tree::Many(branches) => {
                let (left, right) = halves(branches);
                merge_subtrees_root(&join(left), &join(right), Mode::Hash).into()
            }
        }
    }
}

/// The value of a branch of several chunks.
fn join(branches: &[ChainingValue]) -> ChainingValue {
    match branches {
        [one] => *one,
        several => {
            let (left, right) = halves(several);
            merge_subtrees_non_root(&join(left), &join(right), Mode::Hash)
        }
    }
}

/// The left branch is the largest power of two that leaves something on the right.
fn halves(branches: &[ChainingValue]) -> (&[ChainingValue], &[ChainingValue]) {
    branches.split_at(branches.len().next_power_of_two() / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn branches_in_any_order_give_the_ordinary_digest() {
        let c = CHUNK_BYTES;
        for len in [
            0,
            1,
            c - 1,
            c,
            c + 1,
            2 * c,
            2 * c + 1,
            3 * c,
            4 * c,
            5 * c + 77,
            7 * c,
            8 * c + 1,
        ] {
            let bytes: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
            let mut tree = Tree::new(len as u64);
            for (index, chunk) in bytes
                .chunks(c)
                .enumerate()
                .collect::<Vec<_>>()
                .into_iter()
                .rev()
            {
                tree.set(index, Branch::new(chunk, index, len as u64));
            }
            assert_eq!(tree.digest(), Digest::of(&bytes), "{len} bytes");
        }
    }
}
