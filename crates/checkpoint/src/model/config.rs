//! `config.json`: the fields that concern weights, and the whole for rewriting.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::error::Result;
use crate::json::{Fields, parse_object, read_object};

/// A model's configuration: known fields parsed, every field kept in its order.
///
/// A field that the file lacks is `None`; nothing is filled in, because the defaults differ by architecture.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ModelConfig {
    /// Class names such as `Qwen3ForCausalLM`.
    pub architectures: Vec<String>,
    /// `qwen3`, `llama`, ...
    pub model_type: Option<String>,
    /// Width of the residual stream.
    pub hidden_size: Option<usize>,
    /// Width of the feed-forward layer.
    pub intermediate_size: Option<usize>,
    /// Number of decoder layers.
    pub num_hidden_layers: Option<usize>,
    /// Query heads.
    pub num_attention_heads: Option<usize>,
    /// Key and value heads.
    pub num_key_value_heads: Option<usize>,
    /// Width of one head.
    pub head_dim: Option<usize>,
    /// Rows of the embedding.
    pub vocab_size: Option<usize>,
    /// Whether the output projection is the embedding.
    pub tie_word_embeddings: Option<bool>,
    /// `bfloat16`, from `dtype` or the older `torch_dtype`.
    pub dtype: Option<String>,
    file: PathBuf,
    raw: Map<String, Value>,
}

impl ModelConfig {
    /// Reads `path`, a `config.json`.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io), [`Error::Json`](crate::Error::Json), or
    /// [`Error::Config`](crate::Error::Config) when a known field has a value of another kind.
    pub fn read(path: &Path) -> Result<ModelConfig> {
        ModelConfig::from_map(read_object(path)?, path)
    }

    /// Parses the text of a `config.json`; `file` only names it in messages.
    ///
    /// # Errors
    /// As [`ModelConfig::read`].
    pub fn parse(json: &[u8], file: &Path) -> Result<ModelConfig> {
        ModelConfig::from_map(parse_object(json, file)?, file)
    }

    fn from_map(raw: Map<String, Value>, file: &Path) -> Result<ModelConfig> {
        let fields = Fields {
            file,
            prefix: "",
            map: &raw,
        };
        let text = |field: &str| fields.str(field).map(|s| s.map(str::to_owned));
        let dtype = match text("dtype")? {
            Some(dtype) => Some(dtype),
            None => text("torch_dtype")?,
        };
        Ok(ModelConfig {
            architectures: fields.strings("architectures")?.unwrap_or_default(),
            model_type: text("model_type")?,
            hidden_size: fields.usize("hidden_size")?,
            intermediate_size: fields.usize("intermediate_size")?,
            num_hidden_layers: fields.usize("num_hidden_layers")?,
            num_attention_heads: fields.usize("num_attention_heads")?,
            num_key_value_heads: fields.usize("num_key_value_heads")?,
            head_dim: fields.usize("head_dim")?,
            vocab_size: fields.usize("vocab_size")?,
            tie_word_embeddings: fields.bool("tie_word_embeddings")?,
            dtype,
            file: file.to_owned(),
            raw,
        })
    }

    /// The first field that says that two models are not of one architecture, with its value here and there.
    ///
    /// A field that either lacks is not compared.
    pub fn first_difference(&self, other: &Self) -> Option<(&'static str, String, String)> {
        if !self.architectures.is_empty()
            && !other.architectures.is_empty()
            && self.architectures != other.architectures
        {
            let names = |config: &Self| config.architectures.join(",");
            return Some(("architectures", names(self), names(other)));
        }
        let sizes = |config: &Self| {
            [
                ("hidden_size", config.hidden_size),
                ("intermediate_size", config.intermediate_size),
                ("num_hidden_layers", config.num_hidden_layers),
                ("num_attention_heads", config.num_attention_heads),
                ("num_key_value_heads", config.num_key_value_heads),
                ("head_dim", config.head_dim),
            ]
        };
        let both = sizes(self).into_iter().zip(sizes(other));
        both.filter_map(|((field, here), (_, there))| Some((field, here?, there?)))
            .find(|(_, here, there)| here != there)
            .map(|(field, here, there)| (field, here.to_string(), there.to_string()))
    }

    /// Where it was read from.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Every field in the order of the file.
    pub fn raw(&self) -> &Map<String, Value> {
        &self.raw
    }

    /// The text of a `config.json` with `quantization_config` put in place of what was there, or taken out.
    ///
    /// The other fields keep their values and their order; the layout is that of `transformers` (two spaces, last newline).
    pub fn with_quantization(&self, quantization: Option<&Value>) -> String {
        let mut raw = self.raw.clone();
        raw.shift_remove("compression_config");
        match quantization {
            Some(value) => drop(raw.insert("quantization_config".to_owned(), value.clone())),
            None => drop(raw.shift_remove("quantization_config")),
        }
        format!("{:#}\n", Value::Object(raw))
    }

    /// The same with one more field.
    pub fn with_quantization_and(
        &self,
        quantization: Option<&Value>,
        field: &str,
        value: &Value,
    ) -> String {
        let mut other = self.clone();
        other.raw.insert(field.to_owned(), value.clone());
        other.with_quantization(quantization)
    }

    /// The text of a `config.json` without quantization and with one more field.
    pub fn with_field(&self, field: &str, value: &Value) -> String {
        let mut raw = self.raw.clone();
        raw.shift_remove("compression_config");
        raw.shift_remove("quantization_config");
        raw.insert(field.to_owned(), value.clone());
        format!("{:#}\n", Value::Object(raw))
    }

    /// The object that describes quantization, under its present or its older name, with that name.
    pub(crate) fn quantization(&self) -> Result<Option<(&'static str, &Map<String, Value>)>> {
        let fields = Fields {
            file: &self.file,
            prefix: "",
            map: &self.raw,
        };
        for name in ["quantization_config", "compression_config"] {
            if let Some(object) = fields.object(name)? {
                return Ok(Some((name, object)));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(json: &str) -> ModelConfig {
        ModelConfig::parse(json.as_bytes(), Path::new("config.json")).unwrap()
    }

    #[test]
    fn the_first_difference_is_told_and_what_either_lacks_is_not_compared() {
        let base = config(r#"{"architectures": ["A"], "hidden_size": 64, "head_dim": 8}"#);
        assert_eq!(base.first_difference(&base), None);
        assert_eq!(
            base.first_difference(&config(r#"{"hidden_size": 64}"#)),
            None
        );
        let wider = config(r#"{"hidden_size": 64, "head_dim": 16}"#);
        let found = base.first_difference(&wider);
        assert_eq!(found, Some(("head_dim", "8".to_owned(), "16".to_owned())));
        let other = config(r#"{"architectures": ["B"], "head_dim": 16}"#);
        let found = base.first_difference(&other);
        assert_eq!(
            found,
            Some(("architectures", "A".to_owned(), "B".to_owned()))
        );
    }
}
