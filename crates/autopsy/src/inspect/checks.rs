//! Contradictions: tensors against config.json, tensors against each other.

use std::collections::{BTreeMap, BTreeSet};

use xgraft_checkpoint::{Inventory, ModelConfig, Role};
use xgraft_results::Finding;

use super::declared::Declared;
use super::layout::{Layout, Module, Scales};

const ONE_SOURCE: &str = "take config.json and all shards from one source";
const GEOMETRY: &str = "the scales fit the codes beside them, so it is config.json that is of another checkpoint: take it from where \
     the shards are from; decoded by this one, every value gets the scale of another";
const SCALES: &str =
    "codes mean nothing without exactly their scales: take all shards from one source";

/// Codes, scales and the layout that config.json says.
pub(crate) fn layouts(modules: &[Module<'_>], declared: Option<&Declared>) -> Vec<Finding> {
    let mut findings: Vec<Finding> = modules.iter().flat_map(scales).collect();
    let Some(declared) = declared else {
        return findings;
    };
    let quantized: Vec<&Module<'_>> = modules
        .iter()
        .filter(|m| m.layout != Layout::Plain)
        .collect();
    let says = &declared.words();
    for module in &quantized {
        findings.extend(against_declared(module, declared, says));
    }
    let promised = declared.method.is_some() && !declared.layouts.is_empty();
    if promised && quantized.is_empty() {
        findings.push(
            Finding::error(
                "layout-mismatch",
                "quantization_config",
                format!(
                    "config.json says {says}, expected quantized tensors, found only plain ones"
                ),
            )
            .hint("remove quantization_config from config.json, or take the quantized shards"),
        );
    } else if promised {
        findings.extend(left_plain(modules, declared, says));
    }
    findings
}

/// Codes without scales, scales without codes, a grid of scales that no block makes.
fn scales(module: &Module<'_>) -> Option<Finding> {
    let (code, message) = if module.layout == Layout::Unknown {
        let leaves: Vec<&str> = module.tensors.keys().copied().collect();
        let found = leaves.join(", ");
        (
            "missing-scales",
            format!("expected codes with their scales, found only {found}"),
        )
    } else if module.scales == Some(Scales::Odd) {
        let shapes: Vec<String> = module
            .tensors
            .iter()
            .map(|(leaf, t)| format!("{leaf} {:?}", t.shape))
            .collect();
        (
            "bad-scale-shape",
            format!(
                "expected scales whose grid divides the weight, found {}",
                shapes.join(", ")
            ),
        )
    } else {
        let orphan = [
            "weight_scale_inv",
            "weight_scale",
            "qzeros",
            "scales",
            "weight_zero_point",
            "weight.absmax",
        ]
        .into_iter()
        .find(|leaf| module.layout == Layout::Plain && module.get(leaf).is_some())?;
        let found = match module.get("weight") {
            Some(weight) => weight.dtype.to_string(),
            None => "no codes".to_owned(),
        };
        (
            "orphan-scales",
            format!("expected quantized codes beside `{orphan}`, found {found}"),
        )
    };
    Some(Finding::error(code, module.name, message).hint(SCALES))
}

fn against_declared(module: &Module<'_>, declared: &Declared, says: &str) -> Option<Finding> {
    let found = module.layout;
    if found == Layout::Unknown {
        return None;
    }
    let error = |code: &str, message: String| {
        Some(Finding::error(code, module.name, message).hint(ONE_SOURCE))
    };
    // One scale per tensor is called `weight_scale` under `quant_method: fp8` too.
    let per_tensor = found == Layout::FloatQuantized
        && declared.layouts.contains(&Layout::HfFp8)
        && module.scales == Some(Scales::Tensor);
    let known = declared.method.is_none() || !declared.layouts.is_empty();
    if known && !declared.layouts.contains(&found) && !per_tensor {
        let message = format!("config.json says {says}, found {}", found.words());
        return error("layout-mismatch", message);
    }
    if declared.ignored.iter().any(|name| name == module.name) {
        let message = format!(
            "config.json lists it as unquantized, found {}",
            found.words()
        );
        return error("ignored-but-quantized", message);
    }
    let scales = module.scales?;
    let fits = |said: &Scales| match (*said, scales, module.weight_shape()) {
        (said, found, _) if said == found => true,
        // The grid decides: several blocks may give the same one on a small weight.
        (Scales::Block(rows, cols), found, Some((r, c))) => {
            grid(found, (r, c)) == (r.div_ceil(rows), c.div_ceil(cols))
        }
        (Scales::Group(_), Scales::Row | Scales::Tensor, _) => false,
        _ => false,
    };
    if declared.geometry.is_empty() || declared.geometry.iter().any(fits) {
        return None;
    }
    let said = declared.scales.as_deref().unwrap_or("nothing");
    let message = format!(
        "config.json says one scale for each {said}, found a grid of scales with one for each {scales}"
    );
    Some(Finding::error("scale-mismatch", module.name, message).hint(GEOMETRY))
}

/// Rows and columns of the grid of scales.
fn grid(scales: Scales, (rows, cols): (usize, usize)) -> (usize, usize) {
    match scales {
        Scales::Tensor => (1, 1),
        Scales::Row => (rows, 1),
        Scales::Block(r, c) => (rows.div_ceil(r), cols.div_ceil(c)),
        Scales::Group(size) => (rows, cols.div_ceil(size.max(1))),
        Scales::Odd => (0, 0),
    }
}

/// Named projections that engines expect quantized, and that are not.
fn left_plain(modules: &[Module<'_>], declared: &Declared, says: &str) -> Vec<Finding> {
    if declared.ignored.iter().any(|name| name.starts_with("re:")) {
        return Vec::new();
    }
    let ignored = |module: &Module<'_>| {
        let name = module.name;
        declared.ignored.iter().any(|entry| {
            name == entry
                || name.starts_with(&format!("{entry}."))
                || name.ends_with(entry.as_str())
        })
    };
    modules
        .iter()
        .filter(|m| m.layout == Layout::Plain && m.get("weight").is_some())
        .filter(|m| m.role.is_linear() && m.role != Role::OtherLinear && !ignored(m))
        .map(|m| {
            Finding::error(
                "left-plain",
                m.name,
                format!("config.json says {says} and does not list it as unquantized, found plain numbers"),
            )
            .hint("an engine will look for its scales: list the module in config.json, or quantize it")
        })
        .collect()
}

/// The shapes and the number of layers against config.json, and the layers against each other.
pub(crate) fn model(inventory: &Inventory, modules: &[Module<'_>]) -> Vec<Finding> {
    let mut findings = layers(inventory, modules);
    if let Some(config) = &inventory.config {
        for module in modules {
            findings.extend(shape(module, config));
        }
        findings.extend(head(config, modules));
    }
    findings
}

/// The layer that a module belongs to, and its name inside it.
fn layer_of(name: &str) -> Option<(usize, &str)> {
    let start = ["layers.", "h.", "blocks."].iter().find_map(|word| {
        let at = name.find(word)?;
        (at == 0 || name[..at].ends_with('.')).then_some(at + word.len())
    })?;
    let (number, rest) = name[start..].split_once('.')?;
    Some((number.parse().ok()?, rest))
}

fn layers(inventory: &Inventory, modules: &[Module<'_>]) -> Vec<Finding> {
    let mut by_layer: BTreeMap<usize, BTreeSet<String>> = BTreeMap::new();
    let mut holders: BTreeMap<String, usize> = BTreeMap::new();
    for module in modules {
        let Some((layer, rest)) = layer_of(module.name) else {
            continue;
        };
        for leaf in module.tensors.keys() {
            let name = format!("{rest}.{leaf}");
            if by_layer.entry(layer).or_default().insert(name.clone()) {
                *holders.entry(name).or_default() += 1;
            }
        }
    }
    let mut findings = Vec::new();
    let said = inventory.config.as_ref().and_then(|c| c.num_hidden_layers);
    let count = by_layer.keys().last().map_or(0, |last| last + 1);
    if said.is_some_and(|said| said != count) {
        findings.push(
            Finding::error(
                "layer-count",
                "num_hidden_layers",
                format!(
                    "config.json says {} layers, found {count}",
                    said.unwrap_or_default()
                ),
            )
            .hint("a shard is missing, or config.json is of another model"),
        );
    }
    let missing = |layer: usize, name: &str| {
        Finding::error(
            "missing-tensor",
            format!("layer {layer}"),
            format!("expected `{name}` as in the other layers, found none"),
        )
        .hint("a shard is missing or was not converted: download the directory again")
    };
    // What most layers have, each should; quantizing may leave single layers plain, which is no loss.
    for layer in 0..count {
        let present = by_layer.get(&layer);
        let has = |name: &str| present.is_some_and(|p| p.contains(name));
        for (name, holders) in &holders {
            let usual = 2 * holders > by_layer.len() && by_layer.len() > 2;
            let weight = name
                .split_once(".weight.")
                .or(name.rsplit_once('.'))
                .is_some_and(|(module, _)| has(&format!("{module}.weight")));
            if usual && !has(name) && !weight {
                findings.push(missing(layer, name));
            }
        }
    }
    findings
}

/// The shape of a named weight against the sizes in config.json.
fn shape(module: &Module<'_>, config: &ModelConfig) -> Option<Finding> {
    let found = module.weight_shape()?;
    let hidden = config.hidden_size;
    let head_dim = config
        .head_dim
        .or_else(|| hidden?.checked_div(config.num_attention_heads?));
    let queries = head_dim.zip(config.num_attention_heads).map(|(d, n)| d * n);
    let keys = head_dim
        .zip(config.num_key_value_heads.or(config.num_attention_heads))
        .map(|(d, n)| d * n);
    let wide = config.intermediate_size;
    let (rows, cols) = match module.role {
        Role::Embedding if module.name.ends_with("embed_tokens") => (config.vocab_size, hidden),
        Role::LmHead => (config.vocab_size, hidden),
        Role::Q => (queries, hidden),
        Role::K | Role::V => (keys, hidden),
        Role::O => (hidden, queries),
        Role::Gate | Role::Up => (wide, hidden),
        Role::Down => (hidden, wide),
        _ => return None,
    };
    let wrong = |said: Option<usize>, found: usize| said.is_some_and(|said| said != found);
    if !wrong(rows, found.0) && !wrong(cols, found.1) {
        return None;
    }
    let side = |n: Option<usize>| n.map_or("any".to_owned(), |n| n.to_string());
    Some(
        Finding::error(
            "shape-mismatch",
            module.name,
            format!(
                "config.json says [{}, {}], found [{}, {}]",
                side(rows),
                side(cols),
                found.0,
                found.1
            ),
        )
        .hint(ONE_SOURCE),
    )
}

/// The output projection and `tie_word_embeddings`.
fn head(config: &ModelConfig, modules: &[Module<'_>]) -> Option<Finding> {
    let present = modules.iter().any(|m| m.role == Role::LmHead);
    let embedded = modules.iter().any(|m| m.role == Role::Embedding);
    match config.tie_word_embeddings {
        Some(false) if !present && embedded => Some(
            Finding::error(
                "missing-head",
                "tie_word_embeddings",
                "config.json says false, expected `lm_head.weight`, found none",
            )
            .hint("the last shard is missing, or tie_word_embeddings should be true"),
        ),
        Some(true) if present => Some(Finding::info(
            "tied-head",
            "tie_word_embeddings",
            "config.json says true, so engines ignore the `lm_head.weight` that is there",
        )),
        _ => None,
    }
}

/// Files that nothing refers to, sizes that the index states, types that config.json states.
pub(crate) fn files(inventory: &Inventory) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in &inventory.unused {
        let name = file.display().to_string();
        findings.push(
            Finding::warning("unused-file", name, "no index refers to it")
                .hint("remove it if it is left over from another version"),
        );
    }
    let bytes: u64 = inventory.tensors.iter().map(|t| t.bytes).sum();
    let said = inventory.index.as_ref().and_then(|i| i.total_size);
    if let Some(said) = said.filter(|said| *said != bytes) {
        findings.push(Finding::warning(
            "total-size",
            "metadata.total_size",
            format!("the index says {said} bytes of tensors, found {bytes}"),
        ));
    }
    for tensor in &inventory.tensors {
        if tensor.shape.contains(&0) {
            findings.push(Finding::warning(
                "empty-tensor",
                tensor.name.clone(),
                format!("shape {:?} holds nothing", tensor.shape),
            ));
        }
    }
    findings
}
