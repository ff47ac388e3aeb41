//! `adapter_config.json`, as PEFT reads and writes it.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::pattern::Patterns;
use crate::error::Result;
use crate::json::{Fields, brief, parse_object, read_object};

/// Configuration of a LoRA adapter.
///
/// Fields that the file lacks have PEFT's defaults; fields that are not known here are kept in `extra`.
#[derive(Debug, Clone, PartialEq)]
pub struct AdapterConfig {
    /// The model that the adapter belongs to, as a path or a name on the hub.
    pub base_model_name_or_path: Option<String>,
    /// `LORA`, or another method that this crate does not read.
    pub peft_type: String,
    /// `CAUSAL_LM`.
    pub task_type: Option<String>,
    /// Rank of every module that `rank_pattern` does not name.
    pub r: usize,
    /// Alpha of every module that `alpha_pattern` does not name; the update is alpha / rank · B · A.
    pub lora_alpha: f64,
    /// Which modules are adapted.
    pub target_modules: TargetModules,
    /// Ranks of single modules; a key is a regular expression for the end of a module's name, the first match governs.
    pub rank_pattern: Vec<(String, usize)>,
    /// Alphas of single modules, by the same rule.
    pub alpha_pattern: Vec<(String, f64)>,
    /// Whether the scale is alpha / √rank.
    pub use_rslora: bool,
    /// Whether the update is a `DoRA` one, with magnitudes.
    pub use_dora: bool,
    /// Whether the base stores its weights as [in, out].
    pub fan_in_fan_out: bool,
    /// Whether B has a bias.
    pub lora_bias: bool,
    /// `none`, `all` or `lora_only`: which biases of the base were trained.
    pub bias: String,
    /// Modules that are stored whole.
    pub modules_to_save: Option<Vec<String>>,
    /// Dropout in training.
    pub lora_dropout: f64,
    /// Whether the adapter is loaded frozen.
    pub inference_mode: bool,
    /// How training started; a servable adapter says `true`.
    pub init_lora_weights: Value,
    /// Every other field of the file.
    pub extra: Map<String, Value>,
}

/// The `target_modules` of an adapter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetModules {
    /// Nothing is said.
    Unset,
    /// Names, each the end of a module's name.
    Names(Vec<String>),
    /// A regular expression, or `all-linear`.
    Pattern(String),
}

/// PEFT's own defaults of `r` and `lora_alpha`.
const DEFAULT_RANK: usize = 8;
const DEFAULT_ALPHA: f64 = 8.0;

/// Every field that [`AdapterConfig`] names.
const KNOWN: [&str; 18] = [
    "base_model_name_or_path",
    "peft_type",
    "task_type",
    "r",
    "lora_alpha",
    "target_modules",
    "rank_pattern",
    "alpha_pattern",
    "use_rslora",
    "use_dora",
    "fan_in_fan_out",
    "lora_bias",
    "bias",
    "modules_to_save",
    "lora_dropout",
    "inference_mode",
    "init_lora_weights",
    "auto_mapping",
];

impl AdapterConfig {
    /// A servable adapter of rank `r` and alpha = `r`, so that the update is exactly B · A.
    pub fn new(base: impl Into<String>, r: usize, target_modules: Vec<String>) -> AdapterConfig {
        AdapterConfig {
            base_model_name_or_path: Some(base.into()),
            peft_type: "LORA".to_owned(),
            task_type: Some("CAUSAL_LM".to_owned()),
            r,
            lora_alpha: r as f64,
            target_modules: TargetModules::Names(target_modules),
            rank_pattern: Vec::new(),
            alpha_pattern: Vec::new(),
            use_rslora: false,
            use_dora: false,
            fan_in_fan_out: false,
            lora_bias: false,
            bias: "none".to_owned(),
            modules_to_save: None,
            lora_dropout: 0.0,
            inference_mode: true,
            init_lora_weights: Value::Bool(true),
            extra: Map::new(),
        }
    }

    /// Reads `path`, an `adapter_config.json`.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io), [`Error::Json`](crate::Error::Json),
    /// [`Error::Config`](crate::Error::Config).
    pub fn read(path: &Path) -> Result<AdapterConfig> {
        AdapterConfig::from_map(read_object(path)?, path)
    }

    /// Parses the text of an `adapter_config.json`; `file` only names it in messages.
    ///
    /// # Errors
    /// As [`AdapterConfig::read`].
    pub fn parse(json: &[u8], file: &Path) -> Result<AdapterConfig> {
        AdapterConfig::from_map(parse_object(json, file)?, file)
    }

    fn from_map(mut raw: Map<String, Value>, file: &Path) -> Result<AdapterConfig> {
        let fields = Fields {
            file,
            prefix: "",
            map: &raw,
        };
        let text = |field: &str| fields.str(field).map(|s| s.map(str::to_owned));
        let flag = |field: &str, default| fields.bool(field).map(|b| b.unwrap_or(default));
        let config = AdapterConfig {
            base_model_name_or_path: text("base_model_name_or_path")?,
            peft_type: text("peft_type")?.unwrap_or_else(|| "LORA".to_owned()),
            task_type: text("task_type")?,
            r: positive(fields, "r", fields.usize("r")?.unwrap_or(DEFAULT_RANK))?,
            lora_alpha: fields.f64("lora_alpha")?.unwrap_or(DEFAULT_ALPHA),
            target_modules: targets(fields)?,
            rank_pattern: rank_pattern(fields)?,
            alpha_pattern: pattern(fields, "alpha_pattern", "a number", Value::as_f64)?,
            use_rslora: flag("use_rslora", false)?,
            use_dora: flag("use_dora", false)?,
            fan_in_fan_out: flag("fan_in_fan_out", false)?,
            lora_bias: flag("lora_bias", false)?,
            bias: text("bias")?.unwrap_or_else(|| "none".to_owned()),
            modules_to_save: fields.strings("modules_to_save")?,
            lora_dropout: fields.f64("lora_dropout")?.unwrap_or(0.0),
            inference_mode: flag("inference_mode", true)?,
            init_lora_weights: raw
                .get("init_lora_weights")
                .cloned()
                .unwrap_or(Value::Bool(true)),
            extra: Map::new(),
        };
        let resolver = config.resolver(file)?;
        drop(resolver);
        raw.retain(|field, _| !KNOWN.contains(&field.as_str()));
        Ok(AdapterConfig {
            extra: raw,
            ..config
        })
    }

    /// The file's text: keys sorted, two spaces, no last newline, as PEFT writes it.
    ///
    /// **Source** PEFT 0.21: `config.py`, `save_pretrained`.
    pub fn to_json(&self) -> String {
        let mut map = self.extra.clone();
        let targets = match &self.target_modules {
            TargetModules::Unset => Value::Null,
            TargetModules::Names(names) => json!(names),
            TargetModules::Pattern(pattern) => json!(pattern),
        };
        let ranks: Map<_, _> = self
            .rank_pattern
            .iter()
            .map(|(k, r)| (k.clone(), json!(r)))
            .collect();
        let alphas: Map<_, _> = self
            .alpha_pattern
            .iter()
            .map(|(k, a)| (k.clone(), number(*a)))
            .collect();
        for (field, value) in [
            (
                "base_model_name_or_path",
                json!(self.base_model_name_or_path),
            ),
            ("peft_type", json!(self.peft_type)),
            ("task_type", json!(self.task_type)),
            ("r", json!(self.r)),
            ("lora_alpha", number(self.lora_alpha)),
            ("target_modules", targets),
            ("rank_pattern", Value::Object(ranks)),
            ("alpha_pattern", Value::Object(alphas)),
            ("use_rslora", json!(self.use_rslora)),
            ("use_dora", json!(self.use_dora)),
            ("fan_in_fan_out", json!(self.fan_in_fan_out)),
            ("lora_bias", json!(self.lora_bias)),
            ("bias", json!(self.bias)),
            ("modules_to_save", json!(self.modules_to_save)),
            ("lora_dropout", json!(self.lora_dropout)),
            ("inference_mode", json!(self.inference_mode)),
            ("init_lora_weights", self.init_lora_weights.clone()),
            ("auto_mapping", Value::Null),
        ] {
            map.insert(field.to_owned(), value);
        }
        map.sort_keys();
        format!("{:#}", Value::Object(map))
    }

    /// Ranks, alphas and scales of single modules; `file` only names the configuration in messages.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) for a key of a pattern that is no regular expression.
    pub fn resolver(&self, file: &Path) -> Result<Resolver> {
        Ok(Resolver {
            r: self.r,
            alpha: self.lora_alpha,
            ranks: Patterns::new(&self.rank_pattern, file, "rank_pattern")?,
            alphas: Patterns::new(&self.alpha_pattern, file, "alpha_pattern")?,
            use_rslora: self.use_rslora,
        })
    }
}

/// What a configuration says of single modules, its patterns compiled.
#[derive(Debug, Clone)]
pub struct Resolver {
    r: usize,
    alpha: f64,
    ranks: Patterns<usize>,
    alphas: Patterns<f64>,
    use_rslora: bool,
}

impl Resolver {
    /// The rank of a module.
    pub fn rank(&self, module: &str) -> usize {
        self.ranks.get(module).unwrap_or(self.r)
    }

    /// The alpha of a module.
    pub fn alpha(&self, module: &str) -> f64 {
        self.alphas.get(module).unwrap_or(self.alpha)
    }

    /// The factor before B · A: alpha / rank, or alpha / √rank under rsLoRA.
    pub fn scale(&self, module: &str) -> f64 {
        let rank = self.rank(module) as f64;
        self.alpha(module) / if self.use_rslora { rank.sqrt() } else { rank }
    }
}

fn targets(fields: Fields<'_>) -> Result<TargetModules> {
    match fields.get("target_modules") {
        None => Ok(TargetModules::Unset),
        Some(Value::String(pattern)) => Ok(TargetModules::Pattern(pattern.clone())),
        Some(Value::Array(_)) => Ok(TargetModules::Names(
            fields.strings("target_modules")?.unwrap_or_default(),
        )),
        Some(other) => Err(fields.error("target_modules", "names, or a pattern", brief(other))),
    }
}

fn rank_pattern(fields: Fields<'_>) -> Result<Vec<(String, usize)>> {
    let rank = |v: &Value| {
        v.as_u64()
            .and_then(|n| usize::try_from(n).ok())
            .filter(|&n| n > 0)
    };
    pattern(fields, "rank_pattern", "a positive whole number", rank)
}

fn pattern<T>(
    fields: Fields<'_>,
    field: &str,
    expected: &str,
    read: impl Fn(&Value) -> Option<T>,
) -> Result<Vec<(String, T)>> {
    let map = fields.object(field)?;
    let entries = map
        .into_iter()
        .flatten()
        .map(|(key, value)| match read(value) {
            Some(value) => Ok((key.clone(), value)),
            None => Err(fields.error(&format!("{field}.{key}"), expected, brief(value))),
        });
    entries.collect()
}

fn positive(fields: Fields<'_>, field: &str, value: usize) -> Result<usize> {
    match value {
        0 => Err(fields.error(field, "a positive whole number", "0")),
        n => Ok(n),
    }
}

/// A whole number without its point, as Python writes an `int`.
fn number(x: f64) -> Value {
    if x.fract() == 0.0 && x.abs() < 9e15 {
        json!(x as i64)
    } else {
        json!(x)
    }
}
