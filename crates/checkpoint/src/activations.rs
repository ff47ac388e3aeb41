//! The file of activation statistics: what went into every linear layer while a model ran on a calibration set.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::{Path, PathBuf};

use safetensors::Dtype as Raw;
use safetensors::tensor::{TensorView, serialize};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::format::dtype::Dtype;
use crate::format::header::Header;
use crate::read::store::Store;
use crate::write::atomic::write_atomic;

/// The name of the format.
const SCHEMA: &str = "xgraft.activation-stats/1";

/// The key of the header's metadata under which [`Observed`] stands, as JSON.
const ABOUT: &str = "xgraft";

/// What went into one linear layer, a row a token.
///
/// Sums and not means, so that two files of one model can be added up.
#[derive(Debug, Clone, PartialEq)]
pub struct Activations {
    /// Rows that were seen.
    pub tokens: u64,
    /// Largest magnitude of each input channel. `[in]`
    pub amax_channel: Vec<f32>,
    /// Σ |x| of each input channel over the tokens. `[in]`
    pub abs_sum_channel: Vec<f64>,
    /// Σ x² of each input channel over the tokens. `[in]`
    pub square_sum_channel: Vec<f64>,
    /// Σ over the tokens of the largest magnitude in a token's row.
    pub token_amax_sum: f64,
}

impl Activations {
    /// Nothing seen yet, of so many channels.
    pub fn new(channels: usize) -> Activations {
        Activations {
            tokens: 0,
            amax_channel: vec![0.0; channels],
            abs_sum_channel: vec![0.0; channels],
            square_sum_channel: vec![0.0; channels],
            token_amax_sum: 0.0,
        }
    }

    /// Largest magnitude of all.
    pub fn amax(&self) -> f32 {
        self.amax_channel.iter().copied().fold(0.0, f32::max)
    }

    /// The mean over the tokens of the largest magnitude in a token's row.
    pub fn mean_token_amax(&self) -> f64 {
        self.token_amax_sum / self.tokens.max(1) as f64
    }

    /// Mean |x| of each channel. `[in]`
    pub fn mean_abs(&self) -> Vec<f64> {
        let tokens = self.tokens.max(1) as f64;
        self.abs_sum_channel
            .iter()
            .map(|sum| sum / tokens)
            .collect()
    }

    /// Mean x² of each channel. `[in]`
    pub fn mean_square(&self) -> Vec<f64> {
        let tokens = self.tokens.max(1) as f64;
        let sums = self.square_sum_channel.iter();
        sums.map(|sum| sum / tokens).collect()
    }

    /// Channels that were zero in every token.
    pub fn dead_channels(&self) -> usize {
        self.amax_channel
            .iter()
            .filter(|amax| **amax == 0.0)
            .count()
    }
}

/// Of what the statistics are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    /// BLAKE3 of the model's tensors, by name.
    pub model: BTreeMap<String, String>,
    /// BLAKE3 of the calibration set's file.
    pub set: String,
    /// Samples that were run.
    pub samples: u64,
    /// Tokens that were run.
    pub tokens: u64,
    /// Where samples are cut, in tokens.
    pub limit: u64,
    /// Samples that were cut.
    pub cut_samples: u64,
    /// Tokens that were cut off.
    pub cut_tokens: u64,
}

#[derive(Serialize, Deserialize)]
struct About {
    schema: String,
    #[serde(flatten)]
    observed: Observed,
}

/// Statistics of the inputs of a model's linear layers.
///
/// One safetensors file. A module has the tensors `MODULE.amax` F32 `[1]`, `MODULE.amax_channel` F32 `[in]`,
/// `MODULE.abs_sum_channel` and `MODULE.square_sum_channel` F64 `[in]`, `MODULE.token_amax_sum` F64 `[1]` and `MODULE.tokens`
/// I64 `[1]`. Modules that read the same rows (q, k, v; gate, up) have equal ones. [`Observed`] stands in the metadata.
#[derive(Debug, Clone, PartialEq)]
pub struct ActivationStats {
    /// Of what they are.
    pub observed: Observed,
    /// By module.
    pub modules: BTreeMap<String, Activations>,
}

impl ActivationStats {
    /// The file in a directory of statistics.
    pub const FILE: &'static str = "activations.safetensors";

    /// Reads the file in a directory of `xgraft calibrate stats`, or the file itself.
    ///
    /// # Errors
    /// [`Error::Missing`], and those of a damaged file: tensors that are missing, of another shape, negative or not finite.
    pub fn open(path: impl AsRef<Path>) -> Result<ActivationStats> {
        let path = path.as_ref();
        let file = match path.is_dir() {
            true => path.join(Self::FILE),
            false => path.to_owned(),
        };
        let (dir, name) = (file.parent(), file.file_name().and_then(|n| n.to_str()));
        let (Some(dir), Some(name), true) = (dir, name, file.is_file()) else {
            return Err(Error::Missing {
                path: path.to_owned(),
                expected: format!("activation statistics ({})", Self::FILE),
                found: "no such file".to_owned(),
                hint: "`xgraft calibrate stats` makes them",
            });
        };
        let observed = observed(&file)?;
        let store = Store::open_single(dir, name)?;
        let reader = Reader { store, file };
        let ends = ".amax_channel";
        let names = reader.store.tensors.keys();
        let modules: Vec<String> = names
            .filter_map(|name| Some(name.strip_suffix(ends)?.to_owned()))
            .collect();
        let read = |module: String| Ok((module.clone(), reader.module(&module)?));
        let modules = modules.into_iter().map(read).collect::<Result<_>>()?;
        Ok(ActivationStats { observed, modules })
    }

    /// Writes the file, whole or not at all.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::DiskFull`].
    pub fn write(&self, path: &Path) -> Result<()> {
        write_atomic(path, &self.to_bytes(path)?)
    }

    fn to_bytes(&self, path: &Path) -> Result<Vec<u8>> {
        let about = About {
            schema: SCHEMA.to_owned(),
            observed: self.observed.clone(),
        };
        let about = serde_json::to_string(&about).map_err(|e| encode(path, e.into()))?;
        let mut tensors = Vec::new();
        for (module, seen) in &self.modules {
            let f32s = |values: &[f32]| values.iter().flat_map(|x| x.to_le_bytes()).collect();
            let f64s = |values: &[f64]| values.iter().flat_map(|x| x.to_le_bytes()).collect();
            let parts: [(&str, Raw, usize, Vec<u8>); 6] = [
                ("amax", Raw::F32, 1, f32s(&[seen.amax()])),
                (
                    "amax_channel",
                    Raw::F32,
                    seen.amax_channel.len(),
                    f32s(&seen.amax_channel),
                ),
                (
                    "abs_sum_channel",
                    Raw::F64,
                    seen.abs_sum_channel.len(),
                    f64s(&seen.abs_sum_channel),
                ),
                (
                    "square_sum_channel",
                    Raw::F64,
                    seen.square_sum_channel.len(),
                    f64s(&seen.square_sum_channel),
                ),
                ("token_amax_sum", Raw::F64, 1, f64s(&[seen.token_amax_sum])),
                ("tokens", Raw::I64, 1, seen.tokens.to_le_bytes().to_vec()),
            ];
            let named = parts
                .map(|(part, dtype, len, bytes)| (format!("{module}.{part}"), dtype, len, bytes));
            tensors.extend(named);
        }
        let views = tensors.iter().map(|(name, dtype, len, bytes)| {
            let view = TensorView::new(*dtype, vec![*len], bytes);
            view.map(|view| (name.as_str(), view))
        });
        let views = views.collect::<Result<Vec<_>, _>>();
        let bytes = views
            .and_then(|views| serialize(views, Some(HashMap::from([(ABOUT.to_owned(), about)]))));
        bytes.map_err(|e| encode(path, std::io::Error::other(e)))
    }
}

fn encode(path: &Path, source: std::io::Error) -> Error {
    Error::Io {
        action: "encode",
        path: path.to_owned(),
        source,
    }
}

fn observed(path: &Path) -> Result<Observed> {
    let file = File::open(path).map_err(Error::io("open", path))?;
    let header = Header::read(&file, path)?;
    let about = header
        .metadata
        .get(ABOUT)
        .map(|text| serde_json::from_str::<About>(text));
    let wrong = |found: String| Error::Header {
        file: path.to_owned(),
        expected: format!("metadata `{ABOUT}` of schema {SCHEMA}"),
        found,
    };
    match about {
        Some(Ok(about)) if about.schema == SCHEMA => Ok(about.observed),
        Some(Ok(about)) => Err(wrong(about.schema)),
        Some(Err(error)) => Err(wrong(error.to_string())),
        None => Err(wrong("none".to_owned())),
    }
}

/// An open file of statistics.
struct Reader {
    store: Store,
    file: PathBuf,
}

impl Reader {
    fn module(&self, module: &str) -> Result<Activations> {
        let amax = self.numbers(module, "amax_channel", Dtype::F32, None, |b: [u8; 4]| {
            f64::from(f32::from_le_bytes(b))
        })?;
        let channels = Some(amax.len());
        let f64s = |part, len| self.numbers(module, part, Dtype::F64, len, f64::from_le_bytes);
        let tokens = self.numbers(module, "tokens", Dtype::I64, Some(1), |b| {
            i64::from_le_bytes(b) as f64
        })?;
        Ok(Activations {
            tokens: tokens[0] as u64,
            amax_channel: amax.into_iter().map(|x| x as f32).collect(),
            abs_sum_channel: f64s("abs_sum_channel", channels)?,
            square_sum_channel: f64s("square_sum_channel", channels)?,
            token_amax_sum: f64s("token_amax_sum", Some(1))?[0],
        })
    }

    /// The numbers of a vector, none of them negative.
    fn numbers<const N: usize>(
        &self,
        module: &str,
        part: &str,
        dtype: Dtype,
        len: Option<usize>,
        number: impl Fn([u8; N]) -> f64,
    ) -> Result<Vec<f64>> {
        let name = format!("{module}.{part}");
        let info = self.store.tensor(&name)?;
        let wrong = |expected: String, found: String| Error::Tensor {
            file: self.file.clone(),
            tensor: name.clone(),
            expected,
            found,
        };
        let fits = info.shape.len() == 1 && len.is_none_or(|len| info.shape[0] == len);
        if info.dtype != dtype || !fits {
            let len = len.map_or_else(|| "in".to_owned(), |len| len.to_string());
            let found = format!("{} {:?}", info.dtype, info.shape);
            return Err(wrong(format!("{dtype} [{len}]"), found));
        }
        let mut bytes = Vec::new();
        self.store.span(info)?.read(&mut bytes)?;
        let numbers: Vec<f64> = bytes
            .as_chunks::<N>()
            .0
            .iter()
            .map(|b| number(*b))
            .collect();
        match numbers.iter().position(|x| !(x.is_finite() && *x >= 0.0)) {
            None => Ok(numbers),
            Some(at) => Err(wrong(
                "finite numbers that are not negative".to_owned(),
                format!("{} at channel {at}", numbers[at]),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stats() -> ActivationStats {
        let seen = Activations {
            tokens: 3,
            amax_channel: vec![2.0, 0.0],
            abs_sum_channel: vec![4.5, 0.0],
            square_sum_channel: vec![7.25, 0.0],
            token_amax_sum: 4.5,
        };
        let observed = Observed {
            model: BTreeMap::from([("m.weight".to_owned(), "ab".to_owned())]),
            tokens: 3,
            samples: 1,
            limit: 8,
            ..Observed::default()
        };
        let modules = BTreeMap::from([("m".to_owned(), seen)]);
        ActivationStats { observed, modules }
    }

    #[test]
    fn a_file_comes_back_as_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(ActivationStats::FILE);
        stats().write(&path).unwrap();
        let read = ActivationStats::open(dir.path()).unwrap();
        assert_eq!(read, stats());
        assert_eq!(ActivationStats::open(&path).unwrap(), stats());
        let seen = &read.modules["m"];
        assert_eq!((seen.amax(), seen.dead_channels()), (2.0, 1));
        assert_eq!(seen.mean_abs(), [1.5, 0.0]);
    }

    #[test]
    fn nan_a_missing_part_and_another_file_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(ActivationStats::FILE);
        let mut broken = stats();
        broken.modules.get_mut("m").unwrap().square_sum_channel[1] = f64::NAN;
        broken.write(&path).unwrap();
        let error = ActivationStats::open(&path).unwrap_err().to_string();
        assert!(
            error.contains("m.square_sum_channel") && error.contains("channel 1"),
            "{error}"
        );
        broken.modules.get_mut("m").unwrap().square_sum_channel = vec![1.0];
        broken.write(&path).unwrap();
        let error = ActivationStats::open(&path).unwrap_err().to_string();
        assert!(error.contains("expected F64 [2], found F64 [1]"), "{error}");
        let error = ActivationStats::open(dir.path().join("none")).unwrap_err();
        assert!(
            error.to_string().contains("activation statistics"),
            "{error}"
        );
    }
}
