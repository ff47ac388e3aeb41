//! The shape of a decoder, read from `config.json`.

use serde_json::Value;
use xgraft_checkpoint::{Checkpoint, ModelConfig};

use crate::error::{Error, Result};
use crate::rope::Rope;

/// A family of decoders that differ in little.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Qwen3, dense: queries and keys are normalized by head.
    Qwen3,
    /// Llama 2 and 3, and what uses its layout.
    Llama,
}

/// The shape of a decoder.
#[derive(Debug, Clone, PartialEq)]
pub struct Spec {
    /// Which family it is.
    pub family: Family,
    /// Decoder layers.
    pub layers: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Width of the feed-forward layer.
    pub intermediate: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; a divisor of `heads`.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Rows of the embedding and logits of a token.
    pub vocab: usize,
    /// Added to the mean square in normalizations.
    pub norm_eps: f32,
    /// The output projection is the embedding.
    pub tied: bool,
    /// Positions that the model was made for, with the scaling of its rotary embedding.
    pub max_positions: usize,
    /// Its rotary embedding.
    pub rope: Rope,
}

impl Spec {
    /// Reads the shape of a checkpoint's model.
    ///
    /// # Errors
    /// [`Error::Config`] for another family, and for every option that this decoder does not have.
    pub fn of(checkpoint: &Checkpoint) -> Result<Spec> {
        let fields = Fields(checkpoint.config());
        let config = checkpoint.config();
        let family = fields.family()?;
        fields.refuse_options()?;
        let heads = fields.size("num_attention_heads", config.num_attention_heads)?;
        let hidden = fields.size("hidden_size", config.hidden_size)?;
        let kv_heads = config.num_key_value_heads.unwrap_or(heads);
        let head_dim = config.head_dim.unwrap_or(hidden / heads);
        if kv_heads == 0 || !heads.is_multiple_of(kv_heads) {
            let expected = format!("a divisor of the {heads} query heads");
            return Err(fields.error("num_key_value_heads", expected, kv_heads));
        }
        if !head_dim.is_multiple_of(16) || head_dim == 0 {
            return Err(fields.error("head_dim", "a multiple of 16", head_dim));
        }
        let stated = fields.size(
            "max_position_embeddings",
            fields.usize("max_position_embeddings")?,
        )?;
        let (rope, max_positions) = Rope::of(&fields, head_dim, stated)?;
        Ok(Spec {
            family,
            layers: fields.size("num_hidden_layers", config.num_hidden_layers)?,
            hidden,
            intermediate: fields.size("intermediate_size", config.intermediate_size)?,
            heads,
            kv_heads,
            head_dim,
            vocab: fields.size("vocab_size", config.vocab_size)?,
            norm_eps: fields.f64("rms_norm_eps")?.unwrap_or(1e-6) as f32,
            tied: checkpoint.tied_embeddings(),
            max_positions,
            rope,
        })
    }

    /// Bytes of keys and values of one position, in all layers, at so many bytes an element.
    pub fn kv_bytes(&self, element: usize) -> usize {
        2 * self.layers * self.kv_heads * self.head_dim * element
    }
}

/// The fields of a configuration, with errors that name them.
pub(crate) struct Fields<'a>(pub(crate) &'a ModelConfig);

impl Fields<'_> {
    fn family(&self) -> Result<Family> {
        let known = "Qwen3ForCausalLM or LlamaForCausalLM";
        match self.0.architectures.as_slice() {
            [one] if one == "Qwen3ForCausalLM" => Ok(Family::Qwen3),
            [one] if one == "LlamaForCausalLM" => Ok(Family::Llama),
            other => Err(self.error("architectures", known, other.join(", "))),
        }
    }

    /// Options that would change the result without changing a shape.
    fn refuse_options(&self) -> Result<()> {
        let raw = self.0.raw();
        for (field, fine) in [
            ("hidden_act", Value::from("silu")),
            ("attention_bias", Value::from(false)),
            ("mlp_bias", Value::from(false)),
            ("use_sliding_window", Value::from(false)),
            ("pretraining_tp", Value::from(1)),
            ("partial_rotary_factor", Value::from(1.0)),
        ] {
            if let Some(found) = raw.get(field).filter(|v| !v.is_null() && **v != fine) {
                return Err(self.error(field, fine, found));
            }
        }
        let other = raw
            .get("layer_types")
            .and_then(Value::as_array)
            .and_then(|types| types.iter().find(|t| *t != "full_attention"));
        other.map_or(Ok(()), |found| {
            Err(self.error("layer_types", "full_attention", found))
        })
    }

    fn size(&self, field: &str, value: Option<usize>) -> Result<usize> {
        match value {
            Some(0) => Err(self.error(field, "a number above 0", 0)),
            Some(size) => Ok(size),
            None => Err(self.error(field, "a number", "nothing")),
        }
    }

    fn usize(&self, field: &str) -> Result<Option<usize>> {
        let value = self.0.raw().get(field).filter(|v| !v.is_null());
        let number = |v: &Value| v.as_u64().and_then(|n| usize::try_from(n).ok());
        value
            .map(|v| number(v).ok_or_else(|| self.error(field, "a whole number", v)))
            .transpose()
    }

    pub(crate) fn f64(&self, field: &str) -> Result<Option<f64>> {
        let value = self.0.raw().get(field).filter(|v| !v.is_null());
        value
            .map(|v| v.as_f64().ok_or_else(|| self.error(field, "a number", v)))
            .transpose()
    }

    #[allow(
        clippy::needless_pass_by_value,
        reason = "callers hand over numbers, texts and JSON as they have them"
    )]
    pub(crate) fn error(
        &self,
        field: &str,
        expected: impl ToString,
        found: impl ToString,
    ) -> Error {
        Error::Config {
            file: self.0.file().to_owned(),
            field: field.to_owned(),
            expected: expected.to_string(),
            found: found.to_string(),
        }
    }
}
