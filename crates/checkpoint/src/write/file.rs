//! One safetensors file being filled, and the writer of one tensor in it.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use half::{bf16, f16};

use super::atomic::write_error;
use super::plan::{FileLayout, Slot};
use crate::error::{Error, Result};
use crate::format::dtype::Dtype;
use crate::sys;

/// An open file with its header in place and room for its tensors.
#[derive(Debug)]
pub(crate) struct FileInProgress {
    pub(crate) path: PathBuf,
    pub(crate) file: File,
    /// Whether it was there already, with the same header and the same length.
    pub(crate) resumed: bool,
}

impl FileInProgress {
    /// Opens or makes the file, gives it its full length and writes its header.
    pub(crate) fn open(dir: &Path, layout: &FileLayout) -> Result<FileInProgress> {
        let path = dir.join(&layout.name);
        let mut options = OpenOptions::new();
        let opened = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path);
        let file = opened.map_err(Error::io("create", &path))?;
        let resumed = holds(&file, layout);
        if !resumed {
            let prepared = file
                .set_len(0)
                .and_then(|()| sys::allocate(&file, layout.file_bytes))
                .and_then(|()| file.write_all_at(&layout.head, 0));
            prepared.map_err(|source| write_error(&path, layout.file_bytes, source))?;
        }
        Ok(FileInProgress {
            path,
            file,
            resumed,
        })
    }

    /// Bytes that the file system still has to find for `layout` in `dir`.
    pub(crate) fn missing_bytes(dir: &Path, layout: &FileLayout) -> u64 {
        let allocated = std::fs::metadata(dir.join(&layout.name)).map_or(0, |m| m.blocks() * 512);
        layout.file_bytes.saturating_sub(allocated)
    }
}

fn holds(file: &File, layout: &FileLayout) -> bool {
    let mut head = vec![0; layout.head.len()];
    let same_length = file.metadata().is_ok_and(|m| m.len() == layout.file_bytes);
    same_length && file.read_exact_at(&mut head, 0).is_ok() && head == layout.head
}

/// What is told when a tensor is complete, or given up.
pub(crate) trait Ledger: Sync {
    fn finished(&self, slot: &Slot, file: &FileInProgress) -> Result<()>;
    fn given_up(&self, slot: &Slot);
}

/// Writes the bytes of one tensor from its first to its last.
///
/// Dropped before [`TensorWriter::finish`], it leaves the tensor unwritten and free to be asked for again.
#[must_use = "the tensor is written only when finish is called"]
pub struct TensorWriter<'a> {
    file: &'a FileInProgress,
    slot: &'a Slot,
    ledger: &'a dyn Ledger,
    written: u64,
    finished: bool,
}

impl std::fmt::Debug for TensorWriter<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TensorWriter")
            .field("slot", self.slot)
            .field("written", &self.written)
            .finish()
    }
}

impl<'a> TensorWriter<'a> {
    pub(crate) fn new(
        file: &'a FileInProgress,
        slot: &'a Slot,
        ledger: &'a dyn Ledger,
    ) -> TensorWriter<'a> {
        TensorWriter {
            file,
            slot,
            ledger,
            written: 0,
            finished: false,
        }
    }

    /// Appends bytes in the tensor's own type, little-endian.
    ///
    /// # Errors
    /// [`Error::Plan`] beyond the planned size, [`Error::DiskFull`], [`Error::Io`].
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let end = self.written + bytes.len() as u64;
        if end > self.slot.bytes {
            return Err(self.off_plan(format!("at least {end} bytes")));
        }
        let at = self.slot.offset + self.written;
        let left = self.slot.bytes - self.written;
        self.file
            .file
            .write_all_at(bytes, at)
            .map_err(|source| write_error(&self.file.path, left, source))?;
        self.written = end;
        Ok(())
    }

    /// Appends numbers, rounded to nearest even into the planned type.
    ///
    /// # Errors
    /// As [`TensorWriter::write`]; [`Error::Plan`] when the planned type is no F32, BF16 or F16, or is `F8_E8M0`
    /// and a number is no power of two.
    pub fn write_f32(&mut self, values: &[f32]) -> Result<()> {
        // In pieces, so that the encoded copy stays small and in the cache.
        let mut bytes = Vec::with_capacity(4 * values.len().min(PIECE));
        for piece in values.chunks(PIECE) {
            bytes.clear();
            self.encode(piece, &mut bytes)?;
            self.write(&bytes)?;
        }
        Ok(())
    }

    /// Appends BF16 numbers to a tensor that is planned as BF16.
    ///
    /// # Errors
    /// As [`TensorWriter::write`]; [`Error::Plan`] when another type is planned.
    pub fn write_bf16(&mut self, values: &[bf16]) -> Result<()> {
        if self.slot.tensor.dtype != Dtype::Bf16 {
            return Err(self.off_plan("BF16 numbers".to_owned()));
        }
        let mut bytes = Vec::with_capacity(2 * values.len().min(PIECE));
        for piece in values.chunks(PIECE) {
            bytes.clear();
            bytes.extend(piece.iter().flat_map(|x| x.to_le_bytes()));
            self.write(&bytes)?;
        }
        Ok(())
    }

    /// Declares the tensor complete; a resumed job will not ask for it again.
    ///
    /// # Errors
    /// [`Error::Plan`] if bytes are missing, [`Error::Io`].
    pub fn finish(mut self) -> Result<()> {
        if self.written != self.slot.bytes {
            return Err(self.off_plan(format!("{} bytes", self.written)));
        }
        self.ledger.finished(self.slot, self.file)?;
        self.finished = true;
        Ok(())
    }

    fn encode(&self, values: &[f32], out: &mut Vec<u8>) -> Result<()> {
        match self.slot.tensor.dtype {
            Dtype::F32 => out.extend(values.iter().flat_map(|x| x.to_le_bytes())),
            Dtype::Bf16 => out.extend(values.iter().flat_map(|&x| bf16::from_f32(x).to_le_bytes())),
            Dtype::F16 => out.extend(values.iter().flat_map(|&x| f16::from_f32(x).to_le_bytes())),
            Dtype::F8E8m0 => {
                for &x in values {
                    let exponent =
                        power_of_two(x).ok_or_else(|| self.off_plan(format!("the number {x}")))?;
                    out.push(exponent);
                }
            }
            _ => return Err(self.off_plan("f32 numbers".to_owned())),
        }
        Ok(())
    }

    fn off_plan(&self, found: String) -> Error {
        Error::Plan {
            file: self.file.path.clone(),
            tensor: self.slot.tensor.name.clone(),
            expected: format!("{} bytes of {}", self.slot.bytes, self.slot.tensor.dtype),
            found,
        }
    }
}

/// Numbers that are encoded at a time.
const PIECE: usize = 1 << 16;

impl Drop for TensorWriter<'_> {
    fn drop(&mut self) {
        if !self.finished {
            self.ledger.given_up(self.slot);
        }
    }
}

/// The biased exponent of an exact power of two, from 2^-127 on.
fn power_of_two(x: f32) -> Option<u8> {
    match x.to_bits() {
        0x0040_0000 => Some(0),
        bits if bits & 0x807f_ffff == 0 && (1..=254).contains(&(bits >> 23)) => {
            Some((bits >> 23) as u8)
        }
        _ => None,
    }
}
