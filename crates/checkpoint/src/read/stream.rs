//! A tensor's bytes in order, in bounded chunks, hashed on the way.
//!
//! Plain `pread` into two or three buffers that stay in the cache. A memory map would make the resident size follow the
//! shard and turn a disk error into a signal; reading into the destination would hash cold memory.
//! For a large tensor a second thread reads ahead, so that the disk (or the page cache's copy) and the hash overlap.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::mpsc::sync_channel;

use crate::error::{Error, Result};

/// Bytes of one chunk: a multiple of every element's size, small enough for the second-level cache.
pub const CHUNK_BYTES: usize = 1 << 20;

/// Tensors below this are read by one thread, because starting another costs more than it gives.
const READ_AHEAD_FROM: u64 = 8 << 20;

/// Chunks that are read ahead, besides the one in use.
const AHEAD: usize = 2;

/// A run of bytes of one tensor in an open file.
#[derive(Clone, Copy)]
pub(crate) struct Span<'a> {
    pub(crate) file: &'a File,
    pub(crate) path: &'a Path,
    pub(crate) tensor: &'a str,
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
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

    /// Gives every chunk to `use_chunk` in order, and to `hasher` first.
    pub(crate) fn stream(
        self,
        hasher: Option<&mut blake3::Hasher>,
        mut use_chunk: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let mut hasher = hasher;
        let mut hash_and_use = |chunk: &[u8]| {
            if let Some(hasher) = &mut hasher {
                hasher.update(chunk);
            }
            use_chunk(chunk)
        };
        if self.bytes < READ_AHEAD_FROM {
            self.in_turn(&mut hash_and_use)
        } else {
            self.read_ahead(&mut hash_and_use)
        }
    }

    /// Fills `buffer` with the bytes from `start` on, without hashing.
    pub(crate) fn read_exact(self, start: u64, buffer: &mut [u8]) -> Result<()> {
        self.file
            .read_exact_at(buffer, self.offset + start)
            .map_err(|source| self.read_error(start, source))
    }

    fn in_turn(self, use_chunk: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let mut buffer = vec![0; CHUNK_BYTES.min(self.bytes as usize)];
        for start in (0..self.bytes).step_by(CHUNK_BYTES) {
            let chunk = &mut buffer[..self.chunk_len(start)];
            self.read_exact(start, chunk)?;
            use_chunk(chunk)?;
        }
        Ok(())
    }

    fn read_ahead(self, use_chunk: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let (give_filled, filled) = sync_channel::<Result<Vec<u8>>>(AHEAD);
        let (give_empty, empty) = sync_channel::<Vec<u8>>(AHEAD + 1);
        for _ in 0..=AHEAD {
            // The channel has room for all of them and its other end is in this function.
            let _ = give_empty.send(Vec::new());
        }
        std::thread::scope(|scope| {
            // The reader ends when the file does, at an error, or when this side has hung up.
            scope.spawn(move || {
                for start in (0..self.bytes).step_by(CHUNK_BYTES) {
                    let Ok(mut buffer) = empty.recv() else { return };
                    buffer.resize(self.chunk_len(start), 0);
                    let read = self.read_exact(start, &mut buffer).map(|()| buffer);
                    let failed = read.is_err();
                    if give_filled.send(read).is_err() || failed {
                        return;
                    }
                }
            });
            for read in filled {
                let buffer = read?;
                use_chunk(&buffer)?;
                let _ = give_empty.send(buffer);
            }
            Ok(())
        })
    }

    fn chunk_len(self, start: u64) -> usize {
        (self.bytes - start).min(CHUNK_BYTES as u64) as usize
    }

    fn read_error(self, start: u64, source: std::io::Error) -> Error {
        if source.kind() != std::io::ErrorKind::UnexpectedEof {
            return Error::Io {
                action: "read",
                path: self.path.to_owned(),
                source,
            };
        }
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
