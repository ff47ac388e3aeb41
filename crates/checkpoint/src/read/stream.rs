//! A tensor's bytes in bounded chunks, hashed on the way.
//!
//! Plain `pread` into a few buffers that stay in the second-level cache. A memory map would make the resident size follow
//! the shard and turn a disk error into a signal; reading into the destination would hash cold memory.
//! Reading out of the page cache costs about as much as hashing, so for a large tensor a few threads do both, each for
//! chunks of its own; the tree of BLAKE3 allows it, and the digest does not depend on how many there are.

use std::fs::File;
use std::num::NonZero;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread;

use super::tree::{Branch, Tree};
use crate::digest::Digest;
use crate::error::{Error, Result};

/// Bytes of one chunk: a multiple of every element's size, a power of two, small enough for the second-level cache.
pub const CHUNK_BYTES: usize = 1 << 20;

/// Tensors below this are read by the calling thread, because starting others costs more than it gives.
const THREADS_FROM: u64 = 8 << 20;

/// Threads that read and hash one tensor.
const MAX_THREADS: usize = 4;

/// A run of bytes of one tensor in an open file.
#[derive(Clone, Copy)]
pub(crate) struct Span<'a> {
    pub(crate) file: &'a File,
    pub(crate) path: &'a Path,
    pub(crate) tensor: &'a str,
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
}

/// Whether the digest of what is read is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hash {
    Yes,
    No,
}

impl Span<'_> {
    /// The part of it from byte `start` on.
    pub(crate) fn part(self, start: u64, bytes: u64) -> Self {
        Span {
            offset: self.offset + start,
            bytes,
            ..self
        }
    }

    /// Reads all of it into `out`, whose content is replaced.
    pub(crate) fn read(self, out: &mut Vec<u8>) -> Result<()> {
        out.resize(self.bytes as usize, 0);
        let read = self.file.read_exact_at(out, self.offset);
        read.map_err(|source| self.read_error(0, source))
    }

    /// Gives every chunk to `use_chunk` in order; returns the digest of all of them.
    pub(crate) fn stream(self, mut use_chunk: impl FnMut(&[u8]) -> Result<()>) -> Result<Digest> {
        let mut tree = Tree::new(self.bytes);
        let mut take = |index, chunk: &[u8], branch| {
            tree.set(index, branch);
            use_chunk(chunk)
        };
        match self.threads() {
            1 => self.stream_alone(&mut take)?,
            threads => self.stream_together(threads, &mut take)?,
        }
        Ok(tree.digest())
    }

    fn stream_alone(self, take: &mut TakeChunk<'_>) -> Result<()> {
        let mut buffer = Vec::new();
        for index in 0..self.chunks() {
            let chunk = self.read_chunk(index, &mut buffer)?;
            take(index, chunk, Branch::new(chunk, index, self.bytes))?;
        }
        Ok(())
    }

    /// Thread `t` of `n` reads and hashes the chunks `t`, `t + n`, ...; this one takes them in turn.
    fn stream_together(self, threads: usize, take: &mut TakeChunk<'_>) -> Result<()> {
        thread::scope(|scope| {
            let readers: Vec<Reader> = (0..threads)
                .map(|first| {
                    let (reader, filled, empty) = Reader::new();
                    scope.spawn(move || self.read_every(first, threads, &filled, &empty));
                    reader
                })
                .collect();
            // A return on an error hangs up, and the readers end.
            for index in 0..self.chunks() {
                let reader = &readers[index % threads];
                let Ok(read) = reader.filled.recv() else {
                    break;
                };
                let (buffer, branch) = read?;
                take(index, &buffer, branch)?;
                // A reader that has no more chunks has gone, and needs no buffer.
                let _ = reader.empty.send(buffer);
            }
            Ok(())
        })
    }

    fn read_every(
        self,
        first: usize,
        step: usize,
        filled: &SyncSender<Filled>,
        empty: &Receiver<Vec<u8>>,
    ) {
        for index in (first..self.chunks()).step_by(step) {
            let Ok(mut buffer) = empty.recv() else { return };
            let branch = self
                .read_chunk(index, &mut buffer)
                .map(|chunk| Branch::new(chunk, index, self.bytes));
            let failed = branch.is_err();
            if filled.send(branch.map(|branch| (buffer, branch))).is_err() || failed {
                return;
            }
        }
    }

    /// Decodes every chunk into its place in `out`, on several threads if the span is long.
    ///
    /// `decode` gets the index of the chunk's first element, its bytes and its place.
    /// Of several errors the one of the first chunk is returned, as if one thread had done it.
    ///
    /// **Shapes** `out` has one element for each `element_bytes` of the span.
    pub(crate) fn fill<T: Send>(
        self,
        out: &mut [T],
        element_bytes: usize,
        hash: Hash,
        decode: impl Fn(usize, &[u8], &mut [T]) -> Result<()> + Sync,
    ) -> Result<Option<Digest>> {
        let per_chunk = CHUNK_BYTES / element_bytes;
        let tree = Mutex::new(Tree::new(self.bytes));
        let places = Mutex::new(out.chunks_mut(per_chunk).enumerate());
        let errors = Mutex::new(Vec::new());
        let one = |index: usize, place: &mut [T], buffer: &mut Vec<u8>| {
            let chunk = self.read_chunk(index, buffer)?;
            if hash == Hash::Yes {
                let branch = Branch::new(chunk, index, self.bytes);
                unpoisoned(&tree).set(index, branch);
            }
            decode(index * per_chunk, chunk, place)
        };
        let work = || {
            let mut buffer = Vec::new();
            // Chunks are taken in order, so when one fails every earlier one is done or in hand.
            while unpoisoned(&errors).is_empty() {
                let Some((index, place)) = unpoisoned(&places).next() else {
                    return;
                };
                if let Err(error) = one(index, place, &mut buffer) {
                    unpoisoned(&errors).push((index, error));
                }
            }
        };
        thread::scope(|scope| {
            for _ in 1..self.threads() {
                scope.spawn(work);
            }
            work();
        });
        let errors = errors.into_inner().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, error)) = errors.into_iter().min_by_key(|(index, _)| *index) {
            return Err(error);
        }
        Ok((hash == Hash::Yes).then(|| unpoisoned(&tree).digest()))
    }

    fn threads(self) -> usize {
        if self.bytes < THREADS_FROM {
            return 1;
        }
        thread::available_parallelism()
            .map_or(1, NonZero::get)
            .min(MAX_THREADS)
    }

    fn chunks(self) -> usize {
        self.bytes.div_ceil(CHUNK_BYTES as u64) as usize
    }

    fn read_chunk(self, index: usize, buffer: &mut Vec<u8>) -> Result<&[u8]> {
        let start = index as u64 * CHUNK_BYTES as u64;
        let len = (self.bytes - start).min(CHUNK_BYTES as u64) as usize;
        buffer.resize(len, 0);
        let read = self.file.read_exact_at(buffer, self.offset + start);
        read.map_err(|source| self.read_error(start, source))?;
        Ok(buffer)
    }

    fn read_error(self, start: u64, source: std::io::Error) -> Error {
        if source.kind() != std::io::ErrorKind::UnexpectedEof {
            return Error::Io {
                action: "read",
                path: self.path.to_owned(),
                source,
            };
        }
        self.cut(start)
    }

    /// The file ends after the first `start` bytes.
    pub(crate) fn cut(self, start: u64) -> Error {
        Error::Tensor {
            file: self.path.to_owned(),
            tensor: self.tensor.to_owned(),
            expected: format!("{} bytes at {}", self.bytes, self.offset),
            found: format!(
                "the end of the file after {start} of them: the file was cut while it was in use"
            ),
        }
    }
}

/// Gets a chunk's index, its bytes and its hash.
type TakeChunk<'a> = dyn FnMut(usize, &[u8], Branch) -> Result<()> + 'a;

/// A chunk that was read, and its hash.
type Filled = Result<(Vec<u8>, Branch)>;

/// The two ends that the consumer has of one reading thread.
struct Reader {
    filled: Receiver<Filled>,
    empty: SyncSender<Vec<u8>>,
}

impl Reader {
    /// With two buffers: one to fill while the other is used.
    fn new() -> (Reader, SyncSender<Filled>, Receiver<Vec<u8>>) {
        let (give_filled, filled) = sync_channel(2);
        let (give_empty, empty) = sync_channel(2);
        for _ in 0..2 {
            // There is room for both, and the other end is in this function.
            let _ = give_empty.send(Vec::new());
        }
        (
            Reader {
                filled,
                empty: give_empty,
            },
            give_filled,
            empty,
        )
    }
}

/// A lock whose content is whole between any two statements, so that a panic elsewhere does not spoil it.
fn unpoisoned<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
