//! What a full block holds, in 32 bytes.

use crate::engine::TokenId;

/// The digest of an adapter generation and of all tokens from position 0 to the end of a block.
///
/// Two blocks whose digests are equal hold the same tokens at the same positions under the same weights: BLAKE3 is strong
/// enough for that to be taken for certain, also where somebody chooses prompts to make it fail.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Prefix([u8; 32]);

impl Prefix {
    /// Of no tokens yet.
    pub(crate) fn root(generation: u64) -> Self {
        Self(blake3::hash(&generation.to_le_bytes()).into())
    }

    /// With the tokens of one more block.
    pub(crate) fn child(&self, tokens: &[TokenId]) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.0);
        let mut bytes = [0; 64];
        for few in tokens.chunks(16) {
            for (four, token) in bytes.chunks_exact_mut(4).zip(few) {
                four.copy_from_slice(&token.to_le_bytes());
            }
            hasher.update(&bytes[..4 * few.len()]);
        }
        Self(hasher.finalize().into())
    }
}
