//! Tensor names of an adapter, as PEFT writes them and as others have written them.

/// Which part of a module's update a tensor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AdapterPart {
    /// `lora_A.weight`, [rank, in].
    LoraA,
    /// `lora_B.weight`, [out, rank].
    LoraB,
    /// `lora_embedding_A`, [rank, vocab].
    EmbeddingA,
    /// `lora_embedding_B`, [hidden, rank].
    EmbeddingB,
    /// Anything else: a module saved whole, a bias, a `DoRA` magnitude.
    Other,
}

/// What stands before every module in an adapter's file.
const PREFIX: &str = "base_model.model.";

/// The name under which PEFT stores a part of the update of `module`.
///
/// [`AdapterPart::Other`] gives the name of a module that is saved whole.
///
/// ```
/// use xgraft_checkpoint::{AdapterPart, peft_name};
///
/// let name = peft_name("model.layers.0.mlp.up_proj", AdapterPart::LoraA);
/// assert_eq!(name, "base_model.model.model.layers.0.mlp.up_proj.lora_A.weight");
/// ```
///
/// **Source** PEFT 0.21: `utils/save_and_load.py`, `get_peft_model_state_dict`.
pub fn peft_name(module: &str, part: AdapterPart) -> String {
    let suffix = match part {
        AdapterPart::LoraA => "lora_A.weight",
        AdapterPart::LoraB => "lora_B.weight",
        AdapterPart::EmbeddingA => "lora_embedding_A",
        AdapterPart::EmbeddingB => "lora_embedding_B",
        AdapterPart::Other => "weight",
    };
    format!("{PREFIX}{module}.{suffix}")
}

/// The module and the part that a name means.
///
/// Accepted: with and without `base_model.model.`, and with an adapter's name after the part (`lora_A.default.weight`),
/// as a training script stores it that does not ask PEFT to save.
pub(crate) fn parse_name(name: &str) -> (String, AdapterPart) {
    let name = name.strip_prefix(PREFIX).unwrap_or(name);
    let components: Vec<&str> = name.split('.').collect();
    let lora = components.iter().rposition(|c| c.starts_with("lora_"));
    let Some(at) = lora else {
        return (whole_module(&components), AdapterPart::Other);
    };
    let part = match (components[at], &components[at + 1..]) {
        ("lora_A", ["weight"] | [_, "weight"]) => AdapterPart::LoraA,
        ("lora_B", ["weight"] | [_, "weight"]) => AdapterPart::LoraB,
        ("lora_embedding_A", [] | [_]) => AdapterPart::EmbeddingA,
        ("lora_embedding_B", [] | [_]) => AdapterPart::EmbeddingB,
        _ => AdapterPart::Other,
    };
    (components[..at].join("."), part)
}

/// The module of a tensor that is saved whole, without the wrappers that PEFT puts around it.
fn whole_module(components: &[&str]) -> String {
    let without_leaf = components
        .split_last()
        .map_or(components, |(_, module)| module);
    let wrapper = without_leaf
        .iter()
        .position(|c| matches!(*c, "modules_to_save" | "base_layer" | "original_module"));
    without_leaf[..wrapper.unwrap_or(without_leaf.len())].join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_reads_back_from_its_name() {
        use AdapterPart::{EmbeddingA, EmbeddingB, LoraA, LoraB, Other};
        for part in [LoraA, LoraB, EmbeddingA, EmbeddingB, Other] {
            let name = peft_name("model.layers.0.self_attn.q_proj", part);
            assert_eq!(
                parse_name(&name),
                ("model.layers.0.self_attn.q_proj".to_owned(), part)
            );
        }
    }

    #[test]
    fn prefix_and_adapter_name_are_optional() {
        for name in [
            "model.layers.0.mlp.up_proj.lora_A.weight",
            "base_model.model.model.layers.0.mlp.up_proj.lora_A.default.weight",
            "model.layers.0.mlp.up_proj.lora_A.mine.weight",
        ] {
            assert_eq!(
                parse_name(name),
                ("model.layers.0.mlp.up_proj".to_owned(), AdapterPart::LoraA)
            );
        }
        assert_eq!(
            parse_name("lm_head.lora_embedding_B.default"),
            ("lm_head".to_owned(), AdapterPart::EmbeddingB)
        );
    }

    #[test]
    fn other_tensors_belong_to_the_module_without_wrappers() {
        for (name, module) in [
            ("base_model.model.lm_head.weight", "lm_head"),
            ("base_model.model.lm_head.base_layer.weight", "lm_head"),
            (
                "base_model.model.lm_head.modules_to_save.default.weight",
                "lm_head",
            ),
            ("base_model.model.model.norm.weight", "model.norm"),
            ("base_model.model.q.lora_B.bias", "q"),
            ("base_model.model.q.lora_magnitude_vector", "q"),
        ] {
            assert_eq!(
                parse_name(name),
                (module.to_owned(), AdapterPart::Other),
                "{name}"
            );
        }
    }
}
