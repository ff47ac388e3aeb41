//! What a tensor can suffer from, and how it is said.

use serde::Serialize;

/// What a tensor suffers from, in rising severity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Nothing was found.
    Healthy,
    /// Numbers are shifted.
    Biased,
    /// Numbers are right up to a factor, which differs between blocks or from the reference.
    MisScaled,
    /// Numbers are those of another decoding, or of another tensor.
    MisDecoded,
    /// Numbers are missing: zeros where weights should be.
    Flat,
    /// Numbers are too large for any model.
    Exploded,
    /// Numbers are NaN or infinite, or a scale cannot be meant.
    NotFinite,
}

impl Verdict {
    /// Its name: `mis-scaled`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Healthy => "healthy",
            Verdict::Biased => "biased",
            Verdict::MisScaled => "mis-scaled",
            Verdict::MisDecoded => "mis-decoded",
            Verdict::Flat => "flat",
            Verdict::Exploded => "exploded",
            Verdict::NotFinite => "not-finite",
        }
    }

    /// What a person can do about it.
    #[must_use]
    pub fn hint(self) -> Option<&'static str> {
        Some(match self {
            Verdict::Healthy => return None,
            Verdict::Biased => {
                "something was added to the weights: look for a zero point that was not subtracted"
            }
            Verdict::MisScaled => {
                "check that every block has its own scale, that the grid of scales is that of weight_block_size, and that value = code × scale"
            }
            Verdict::MisDecoded => {
                "the bits were read in another way than they were written (INT4 of compressed-tensors is nibble − 8, not two's complement; orders of packing differ), or it is another tensor"
            }
            Verdict::Flat => {
                "part of the tensor was never written, or a scale of zero wiped it out: convert it again"
            }
            Verdict::Exploded => {
                "the codes were used without their scales, or divided by them: value = code × scale, also where the file calls it weight_scale_inv"
            }
            Verdict::NotFinite => {
                "look for NaN codes (0x7f, 0xff), scales that are zero, negative or NaN, or a conversion to F16 that overflowed; nothing repairs them in place: convert or quantize the original again, or fetch the file again"
            }
        })
    }
}

/// One thing that is wrong with a tensor.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Fault {
    /// What it makes of the tensor.
    pub verdict: Verdict,
    /// The limit that is passed, a field of [`Limits`](crate::Limits); `None` for what no limit allows.
    pub limit: Option<&'static str>,
    /// What was measured, of the worst block if it is about blocks.
    pub measured: f64,
    /// Blocks concerned; 0 when it is about the whole tensor.
    pub blocks: u64,
    /// First row and row after the last of the worst block.
    pub rows: Option<[usize; 2]>,
    /// First column and column after the last of the worst block.
    pub columns: Option<[usize; 2]>,
    /// What was found, for a person.
    pub message: String,
}

impl Fault {
    /// What a person can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self.limit {
            Some("peer_ratio_max") => Some(
                "all of it was multiplied by one factor, or by none of its scales: compare with the checkpoint it was made from (--reference DIR); if training made it so, raise the limit (--threshold ROLE.peer_ratio_max=N)",
            ),
            Some("mean_min") => Some(
                "it was negated, or is another tensor: compare with the checkpoint it was made from (--reference DIR)",
            ),
            _ => self.verdict.hint(),
        }
    }
}
