//! Weights that stay in the file: a map of the shard, for a model that computes on stored bytes.
#![expect(
    unsafe_code,
    reason = "a file can be mapped only with the promise that nobody writes into it"
)]

use std::fmt;
use std::fs::File;
use std::num::NonZero;
use std::ops::{Deref, Range};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

#[cfg(target_os = "linux")]
use memmap2::Advice;
use memmap2::{Mmap, MmapOptions};
use xgraft_block_scale::{BlockShape, Format};

use super::decode::{BF16, Bits, F16, F32, Finite, codes};
use super::load;
use super::store::Store;
use super::stream::{CHUNK_BYTES, Span};
use crate::error::{Error, Result};
use crate::format::dtype::Dtype;
use crate::model::weight::{Stored, TensorInfo, Weight, matrix_shape};

/// The bytes of one tensor, mapped from its shard. Cheap to clone; the map lives as long as any of them.
#[derive(Clone)]
pub struct Mapped {
    map: Arc<Mmap>,
    range: Range<usize>,
}

impl Deref for Mapped {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.map[self.range.clone()]
    }
}

impl fmt::Debug for Mapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mapped({} bytes)", self.len())
    }
}

/// Some bytes of a tensor for one look at them, mapped from the page cache: a copy would cost as much as the look. Their pages
/// are let go when it is dropped, so that memory does not follow the file.
pub struct Window(Mmap);

impl Deref for Window {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Window({} bytes)", self.len())
    }
}

/// Maps the bytes of a span and brings them in; a disk that fails and a file that was cut are errors here.
pub(crate) fn window(span: Span<'_>) -> Result<Window> {
    let length = span
        .file
        .metadata()
        .map_err(Error::io("read", span.path))?
        .len();
    if span.offset + span.bytes > length {
        return Err(span.cut(length.saturating_sub(span.offset)));
    }
    let mut options = MmapOptions::new();
    options.offset(span.offset).len(span.bytes as usize);
    // SAFETY: as in `map_file`.
    let map = unsafe { options.map(span.file) }.map_err(Error::io("map", span.path))?;
    #[cfg(target_os = "linux")]
    match map.advise(Advice::PopulateRead) {
        // Systems that do not know the advice bring pages in when they are looked at.
        Err(error) if error.raw_os_error() != Some(libc::EINVAL) => {
            return Err(Error::io("read", span.path)(error));
        }
        _ => {}
    }
    Ok(Window(map))
}

/// A weight in the form in which it is stored, still in its file.
///
/// **Shapes** row-major `[rows, cols]`, little-endian, without any alignment.
#[derive(Debug, Clone)]
pub enum MappedWeight {
    /// F32, BF16 or F16.
    Plain {
        /// Which of them.
        dtype: Dtype,
        /// The elements.
        bytes: Mapped,
    },
    /// FP8 codes, with their scales in memory.
    Fp8 {
        /// The code.
        format: Format,
        /// Which elements one scale governs.
        block: BlockShape,
        /// The codes.
        codes: Mapped,
        /// The scales, row-major.
        scales: Vec<f32>,
    },
}

/// Maps a weight and looks at every element of it; `None` for packed integers, which are loaded instead.
pub(crate) fn weight(store: &Store, weight: &Weight) -> Result<Option<MappedWeight>> {
    let tensor = store.tensor(&weight.tensor)?;
    let mapped = match &weight.stored {
        Stored::Plain(dtype) => {
            let bytes = map(store, tensor)?;
            let path = &store.paths[tensor.shard];
            match dtype {
                Dtype::Bf16 => check(&bytes, BF16, tensor, path)?,
                Dtype::F16 => check(&bytes, F16, tensor, path)?,
                Dtype::F32 => check(&bytes, F32, tensor, path)?,
                other => {
                    return Err(Error::Tensor {
                        file: path.clone(),
                        tensor: tensor.name.clone(),
                        expected: "F32, BF16, F16 or FP8 weights".to_owned(),
                        found: other.to_string(),
                    });
                }
            }
            MappedWeight::Plain {
                dtype: *dtype,
                bytes,
            }
        }
        Stored::Fp8 { format, block, .. } => {
            let bytes = map(store, tensor)?;
            check(&bytes, codes(*format), tensor, &store.paths[tensor.shard])?;
            MappedWeight::Fp8 {
                format: *format,
                block: *block,
                codes: bytes,
                scales: load::scales(store, weight)?,
            }
        }
        Stored::Grouped(_) => return Ok(None),
    };
    Ok(Some(mapped))
}

fn map(store: &Store, tensor: &TensorInfo) -> Result<Mapped> {
    let map = store.map(tensor.shard)?;
    // The header was held against the file's length when the shard was opened; the file may have been cut since.
    let range = tensor.offset as usize..(tensor.offset + tensor.bytes) as usize;
    if range.end > map.len() {
        return Err(Error::Tensor {
            file: store.paths[tensor.shard].clone(),
            tensor: tensor.name.clone(),
            expected: format!("{} bytes at {}", tensor.bytes, tensor.offset),
            found: format!(
                "a file of {} bytes: it was cut while it was in use",
                map.len()
            ),
        });
    }
    Ok(Mapped { map, range })
}

/// A map of the whole file.
pub(crate) fn map_file(file: &File, path: &Path) -> Result<Arc<Mmap>> {
    // SAFETY: the map is read-only and private. Writing into the file meanwhile would change bytes under a shared
    // reference, and cutting it would raise SIGBUS; both are ruled out by contract, as for every engine that maps weights:
    // a checkpoint is replaced by renaming a new directory over it, which is how this crate writes them.
    let map = unsafe { Mmap::map(file) };
    map.map(Arc::new).map_err(Error::io("map", path))
}

/// Looks at all elements, on several threads; an error for the first that is no finite number.
fn check<B: Bits>(bytes: &[u8], finite: Finite<B>, tensor: &TensorInfo, path: &Path) -> Result<()> {
    let chunks: Vec<&[u8]> = bytes.chunks(CHUNK_BYTES).collect();
    let (next, first) = (AtomicUsize::new(0), AtomicUsize::new(usize::MAX));
    let work = || {
        while let Some(chunk) = chunks.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Some((at, _)) = finite.first_other(chunk) {
                let start = chunk.as_ptr() as usize - bytes.as_ptr() as usize;
                first.fetch_min(start / B::BYTES + at, Ordering::Relaxed);
            }
        }
    };
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    thread::scope(|scope| {
        for _ in 1..threads.min(chunks.len()) {
            scope.spawn(work);
        }
        work();
    });
    let element = first.into_inner();
    if element == usize::MAX {
        return Ok(());
    }
    let (_, cols) = matrix_shape(&tensor.shape);
    let found = finite.first_other(&bytes[element * B::BYTES..][..B::BYTES]);
    Err(Error::NotFinite {
        file: path.to_owned(),
        tensor: tensor.name.clone(),
        row: element / cols,
        column: element % cols,
        found: found.map_or("NaN", |(_, found)| found).to_owned(),
    })
}
