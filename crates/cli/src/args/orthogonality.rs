//! The arguments of `xgraft orthogonality`.

use super::{Overwrite, Pool, Random};
use std::path::{Path, PathBuf};

/// Measure how quantization noise lies to an adapter, and two adapters to each other.
///
/// The noise of a layer is N = dequantized − original, always with this sign; the adapter's update is
/// L = s·B·A. Every number stands beside what chance gives for it, and beside controls. A cosine at
/// chance level proves nothing by itself: any two unrelated matrices of that size have it.
#[derive(Debug, clap::Args)]
pub(crate) struct Orthogonality {
    /// A checkpoint and its quantized copy, or that copy dequantized. May be given several times, for
    /// different models too: every two noises are compared.
    #[arg(long = "noise", value_name = "ORIGINAL=QUANTIZED", value_parser = parse_noise)]
    pub(crate) noises: Vec<NoiseArg>,
    /// The adapter; a second one is compared with the first.
    #[arg(long = "adapter", value_name = "DIR", required = true)]
    pub(crate) adapters: Vec<PathBuf>,
    /// Also one line a matrix: cosines with their z, leakage, spectra.
    #[arg(long)]
    pub(crate) all: bool,
    /// Also write the report to a directory.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) output: Overwrite,
    #[command(flatten)]
    pub(crate) pool: Pool,
    #[command(flatten)]
    pub(crate) random: Random,
}

/// The directories of a noise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NoiseArg {
    pub(crate) original: PathBuf,
    pub(crate) quantized: PathBuf,
}

/// `ORIGINAL=QUANTIZED`; where a path holds a `=` itself, the split that gives two directories.
fn parse_noise(text: &str) -> Result<NoiseArg, String> {
    let splits = text.match_indices('=').map(|(at, _)| NoiseArg {
        original: text[..at].into(),
        quantized: text[at + 1..].into(),
    });
    let splits: Vec<NoiseArg> = splits
        .filter(|s| s.original != Path::new("") && s.quantized != Path::new(""))
        .collect();
    let both = |s: &&NoiseArg| s.original.is_dir() && s.quantized.is_dir();
    let split = splits.iter().find(both).or(splits.first());
    split
        .cloned()
        .ok_or_else(|| format!("expected two directories as ORIGINAL=QUANTIZED, found {text:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_noise_is_two_paths() {
        let noise = parse_noise("a/b=c").unwrap();
        assert_eq!(noise.original, Path::new("a/b"));
        assert_eq!(noise.quantized, Path::new("c"));
        for bad in ["a", "=b", "a="] {
            assert!(parse_noise(bad).unwrap_err().contains("ORIGINAL=QUANTIZED"));
        }
        let temp = tempfile::tempdir().unwrap();
        let (x, y) = (temp.path().join("x=1"), temp.path().join("y"));
        std::fs::create_dir_all(&x).unwrap();
        std::fs::create_dir_all(&y).unwrap();
        let noise = parse_noise(&format!("{}={}", x.display(), y.display())).unwrap();
        assert_eq!((noise.original, noise.quantized), (x, y));
    }
}
