//! The header of a safetensors file, validated before anything in it is believed.
//!
//! The container is 8 bytes of header length (little-endian), the header as JSON, then the tensors' bytes.
//! The `safetensors` crate checks the same rules, but wants the whole file in memory
//! and cannot say which tensor is wrong; hence this reader, which sees the header and the file's length only.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use serde::de::{DeserializeSeed, Deserializer as _, Error as _, MapAccess, SeqAccess, Visitor};

use super::dtype::Dtype;
use crate::error::{Error, Result, shape_text};

/// The largest header that is read; the `safetensors` library has the same limit.
pub const MAX_HEADER_BYTES: u64 = 100_000_000;

/// More dimensions than any weight has, so that a hostile shape cannot fill the memory.
const MAX_DIMENSIONS: usize = 16;

/// The validated header of one safetensors file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The tensors in the order of their bytes.
    pub tensors: Vec<HeaderTensor>,
    /// The free texts of `__metadata__`.
    pub metadata: BTreeMap<String, String>,
    /// Where the tensors' bytes start in the file.
    pub data_start: u64,
}

/// One tensor as a header describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderTensor {
    /// Its name.
    pub name: String,
    /// The type of its elements.
    pub dtype: Dtype,
    /// Its shape, row-major; empty for a scalar.
    pub shape: Vec<usize>,
    /// Where its bytes start, from the start of the file.
    pub offset: u64,
    /// How many bytes it has.
    pub bytes: u64,
}

impl Header {
    /// Validates a header: `json` is what follows the 8 bytes of length, `file_bytes` the length of the whole file.
    ///
    /// Nothing is believed: names must be unique, types known, shapes free of overflow and equal to their byte range,
    /// ranges without hole or overlap from the header's end to the file's end.
    ///
    /// # Errors
    /// [`Error::Header`] or [`Error::Tensor`], with `file` only as a name for the message.
    pub fn parse(json: &[u8], file_bytes: u64, file: &Path) -> Result<Header> {
        let data_start = 8 + json.len() as u64;
        let (raw, metadata) = parse_json(json, file)?;
        let data_bytes = file_bytes
            .checked_sub(data_start)
            .ok_or_else(|| Error::Header {
                file: file.to_owned(),
                expected: format!("a file of at least {data_start} bytes"),
                found: format!("{file_bytes} bytes"),
            })?;
        let tensors = place(raw, data_start, data_bytes, file)?;
        Ok(Header {
            tensors,
            metadata,
            data_start,
        })
    }

    /// As [`Header::parse`], but a wrong tensor does not hide the others: every tensor whose type and shape make sense,
    /// and everything that is wrong with the header.
    pub(crate) fn survey(
        json: &[u8],
        file_bytes: u64,
        file: &Path,
    ) -> (Vec<HeaderTensor>, Vec<Error>) {
        let data_start = 8 + json.len() as u64;
        match parse_json(json, file) {
            Ok((raw, _)) => survey(raw, data_start, file_bytes.saturating_sub(data_start), file),
            Err(error) => (Vec::new(), vec![error]),
        }
    }

    /// Reads and validates the header of an open file; the tensors' bytes are not touched.
    ///
    /// # Errors
    /// As [`Header::parse`], and [`Error::Io`].
    pub fn read(handle: &File, file: &Path) -> Result<Header> {
        let (json, file_bytes) = read_json(handle, file)?;
        Header::parse(&json, file_bytes, file)
    }
}

/// The raw header text and the length of the file.
pub(crate) fn read_json(handle: &File, file: &Path) -> Result<(Vec<u8>, u64)> {
    let header_error = |expected: String, found: String| Error::Header {
        file: file.to_owned(),
        expected,
        found,
    };
    let meta = handle.metadata().map_err(Error::io("read", file))?;
    if !meta.is_file() {
        return Err(header_error(
            "a regular file".into(),
            "something else".into(),
        ));
    }
    let file_bytes = meta.len();
    if file_bytes < 8 {
        return Err(header_error(
            "at least 8 bytes".into(),
            format!("a file of {file_bytes} bytes"),
        ));
    }
    let mut length = [0u8; 8];
    handle
        .read_exact_at(&mut length, 0)
        .map_err(Error::io("read", file))?;
    let length = u64::from_le_bytes(length);
    // Compared before it is used: a hostile length must cost nothing.
    if length > MAX_HEADER_BYTES {
        return Err(header_error(
            format!("a header of at most {MAX_HEADER_BYTES} bytes"),
            format!("a header length of {length}"),
        ));
    }
    if length > file_bytes - 8 {
        return Err(header_error(
            format!("a header of {length} bytes"),
            format!(
                "{} bytes after the length: the file is truncated",
                file_bytes - 8
            ),
        ));
    }
    let mut json = vec![0u8; length as usize];
    handle
        .read_exact_at(&mut json, 8)
        .map_err(Error::io("read", file))?;
    Ok((json, file_bytes))
}

/// A tensor as it stands in the text: offsets relative to the data, nothing checked yet.
struct RawTensor {
    name: String,
    dtype: String,
    shape: Vec<u64>,
    start: u64,
    end: u64,
}

/// What a header says of a tensor; the format has no other fields.
const FIELDS: [&str; 3] = ["dtype", "shape", "data_offsets"];

type Metadata = BTreeMap<String, String>;

fn parse_json(json: &[u8], file: &Path) -> Result<(Vec<RawTensor>, Metadata)> {
    let header_error = |expected: &str, found: String| Error::Header {
        file: file.to_owned(),
        expected: expected.to_owned(),
        found,
    };
    let text = std::str::from_utf8(json).map_err(|e| header_error("UTF-8 text", e.to_string()))?;
    let current = RefCell::new(None);
    let mut parser = serde_json::Deserializer::from_str(text);
    let parsed = parser
        .deserialize_map(HeaderVisitor { current: &current })
        .and_then(|parsed| parser.end().map(|()| parsed));
    parsed.map_err(|e| match current.into_inner() {
        Some(tensor) => Error::Tensor {
            file: file.to_owned(),
            tensor,
            expected: "an object with dtype, shape and data_offsets, once".to_owned(),
            found: e.to_string(),
        },
        None => header_error("a JSON object of tensors", e.to_string()),
    })
}

/// Walks the outer object; `current` names the tensor for the message when an inner value fails.
struct HeaderVisitor<'a> {
    current: &'a RefCell<Option<String>>,
}

impl<'de> Visitor<'de> for HeaderVisitor<'_> {
    type Value = (Vec<RawTensor>, Metadata);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut tensors = Vec::new();
        let mut metadata = None;
        let mut names = HashSet::new();
        while let Some(name) = map.next_key::<String>()? {
            self.current.replace(Some(name.clone()));
            if name == "__metadata__" {
                if metadata.replace(map.next_value()?).is_some() {
                    return Err(A::Error::custom("the name twice"));
                }
            } else {
                if !names.insert(name.clone()) {
                    return Err(A::Error::custom("the name twice"));
                }
                tensors.push(map.next_value_seed(TensorSeed { name })?);
            }
            self.current.replace(None);
        }
        Ok((tensors, metadata.unwrap_or_default()))
    }
}

struct TensorSeed {
    name: String,
}

impl<'de> DeserializeSeed<'de> for TensorSeed {
    type Value = RawTensor;

    fn deserialize<D: serde::Deserializer<'de>>(
        self,
        deserializer: D,
    ) -> Result<RawTensor, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for TensorSeed {
    type Value = RawTensor;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with dtype, shape and data_offsets")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawTensor, A::Error> {
        let (mut dtype, mut shape, mut offsets) = (None, None, None);
        while let Some(key) = map.next_key::<String>()? {
            let twice = match key.as_str() {
                "dtype" => dtype.replace(map.next_value::<String>()?).is_some(),
                "shape" => shape
                    .replace(map.next_value_seed(ShortList {
                        at_most: MAX_DIMENSIONS,
                    })?)
                    .is_some(),
                "data_offsets" => offsets.replace(map.next_value::<(u64, u64)>()?).is_some(),
                _ => return Err(A::Error::unknown_field(&key, &FIELDS)),
            };
            if twice {
                return Err(A::Error::custom(format!("`{key}` twice")));
            }
        }
        let (start, end) = offsets.ok_or_else(|| A::Error::missing_field("data_offsets"))?;
        Ok(RawTensor {
            name: self.name,
            dtype: dtype.ok_or_else(|| A::Error::missing_field("dtype"))?,
            shape: shape.ok_or_else(|| A::Error::missing_field("shape"))?,
            start,
            end,
        })
    }
}

/// A list of numbers that stops reading when it grows too long.
struct ShortList {
    at_most: usize,
}

impl<'de> DeserializeSeed<'de> for ShortList {
    type Value = Vec<u64>;

    fn deserialize<D: serde::Deserializer<'de>>(
        self,
        deserializer: D,
    ) -> Result<Vec<u64>, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for ShortList {
    type Value = Vec<u64>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of at most {} numbers", self.at_most)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<u64>, A::Error> {
        let mut numbers = Vec::new();
        while let Some(number) = list.next_element()? {
            if numbers.len() == self.at_most {
                return Err(A::Error::invalid_length(self.at_most + 1, &self));
            }
            numbers.push(number);
        }
        Ok(numbers)
    }
}

/// Checks types, shapes and ranges, and turns offsets into those of the file.
fn place(
    mut raw: Vec<RawTensor>,
    data_start: u64,
    data_bytes: u64,
    file: &Path,
) -> Result<Vec<HeaderTensor>> {
    raw.sort_by(|a, b| (a.start, a.end, &a.name).cmp(&(b.start, b.end, &b.name)));
    let mut covered = 0;
    let mut tensors = Vec::with_capacity(raw.len());
    for tensor in raw {
        let placed = place_one(tensor, data_start, data_bytes, covered, file)?;
        covered += placed.bytes;
        tensors.push(placed);
    }
    if covered != data_bytes {
        return Err(Error::Header {
            file: file.to_owned(),
            expected: format!("{covered} bytes of tensors, as the header says"),
            found: format!("{data_bytes} bytes after the header"),
        });
    }
    Ok(tensors)
}

/// As [`place`], without stopping at the first error.
fn survey(
    mut raw: Vec<RawTensor>,
    data_start: u64,
    data_bytes: u64,
    file: &Path,
) -> (Vec<HeaderTensor>, Vec<Error>) {
    raw.sort_by(|a, b| (a.start, a.end, &a.name).cmp(&(b.start, b.end, &b.name)));
    let (mut covered, mut tensors, mut problems) = (0, Vec::with_capacity(raw.len()), Vec::new());
    for tensor in raw {
        let end = tensor.end;
        let described = Dtype::from_name(&tensor.dtype).and_then(|dtype| {
            let (shape, bytes) = checked_shape(&tensor.shape, dtype)?;
            Some(HeaderTensor {
                name: tensor.name.clone(),
                dtype,
                shape,
                offset: data_start.checked_add(tensor.start)?,
                bytes,
            })
        });
        match place_one(tensor, data_start, data_bytes, covered, file) {
            Ok(placed) => tensors.push(placed),
            Err(error) => {
                problems.push(error);
                tensors.extend(described);
            }
        }
        covered = covered.max(end);
    }
    if covered < data_bytes {
        problems.push(Error::Header {
            file: file.to_owned(),
            expected: format!("{covered} bytes of tensors, as the header says"),
            found: format!("{data_bytes} bytes after the header"),
        });
    }
    (tensors, problems)
}

fn place_one(
    raw: RawTensor,
    data_start: u64,
    data_bytes: u64,
    covered: u64,
    file: &Path,
) -> Result<HeaderTensor> {
    let (start, end) = (raw.start, raw.end);
    let fail = |expected: String, found: String| {
        Err(Error::Tensor {
            file: file.to_owned(),
            tensor: raw.name.clone(),
            expected,
            found,
        })
    };
    let Some(dtype) = Dtype::from_name(&raw.dtype) else {
        return fail("a known dtype".into(), format!("dtype {:?}", raw.dtype));
    };
    let Some((shape, bytes)) = checked_shape(&raw.shape, dtype) else {
        return fail(
            "a shape whose size fits in 64 bits".into(),
            format!("shape {:?} of {dtype}", raw.shape),
        );
    };
    if end < start {
        return fail("data_offsets that rise".into(), format!("[{start}, {end}]"));
    }
    if end > data_bytes {
        return fail(
            format!("data_offsets within the {data_bytes} bytes after the header"),
            format!("[{start}, {end}]: the file is truncated or the offsets are wrong"),
        );
    }
    if end - start != bytes {
        let shape = shape_text(&shape);
        return fail(
            format!("{bytes} bytes for shape {shape} of {dtype}"),
            format!("{} bytes", end - start),
        );
    }
    if start != covered {
        let what = if start < covered {
            "an overlap"
        } else {
            "a hole"
        };
        return fail(
            format!("data that starts at {covered}, where the one before ends"),
            format!("{start}: {what}"),
        );
    }
    Ok(HeaderTensor {
        name: raw.name,
        dtype,
        shape,
        offset: data_start + start,
        bytes,
    })
}

/// The shape as `usize` and its size in bytes, if neither overflows.
fn checked_shape(shape: &[u64], dtype: Dtype) -> Option<(Vec<usize>, u64)> {
    let elements = shape
        .iter()
        .try_fold(1u64, |product, &n| product.checked_mul(n))?;
    let bytes = elements.checked_mul(dtype.bytes() as u64)?;
    let shape = shape
        .iter()
        .map(|&n| usize::try_from(n))
        .collect::<Result<Vec<_>, _>>();
    // A zero among huge dimensions hides an overflow that later arithmetic would meet.
    let nonzero = shape.as_ref().ok()?.iter().filter(|&&n| n != 0);
    nonzero.copied().try_fold(1usize, usize::checked_mul)?;
    Some((shape.ok()?, bytes))
}
