//! What a tensor is for, from its name: one table of architecture families.

/// What a tensor does in the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Token embedding, [vocab, hidden].
    Embedding,
    /// Output projection, [vocab, hidden].
    LmHead,
    /// A normalization's weight or bias.
    Norm(NormKind),
    /// Query projection.
    Q,
    /// Key projection.
    K,
    /// Value projection.
    V,
    /// Attention output projection.
    O,
    /// Feed-forward gate projection.
    Gate,
    /// Feed-forward up projection.
    Up,
    /// Feed-forward down projection.
    Down,
    /// A two-dimensional weight that the family's table does not name.
    OtherLinear,
    /// A bias vector.
    Bias,
    /// Anything else: scales of other layouts, position tables, counters.
    Other,
}

/// Which normalization.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NormKind {
    /// Before attention.
    Input,
    /// After attention, before the feed-forward layer.
    PostAttention,
    /// Of the query heads.
    Query,
    /// Of the key heads.
    Key,
    /// After the last layer.
    Final,
    /// Any other.
    Other,
}

impl Role {
    /// Whether it is a linear layer's weight, which LoRA can change; `lm_head` and the embedding are not counted.
    pub fn is_linear(self) -> bool {
        use Role::{Down, Gate, K, O, OtherLinear, Q, Up, V};
        matches!(self, Q | K | V | O | Gate | Up | Down | OtherLinear)
    }

    /// The layer into which an engine fuses this one with its neighbours.
    pub fn fused_group(self) -> Option<&'static str> {
        match self {
            Role::Q | Role::K | Role::V => Some("qkv_proj"),
            Role::Gate | Role::Up => Some("gate_up_proj"),
            _ => None,
        }
    }

    /// The role of tensor `name` with `dimensions` dimensions in a model of `model_type`.
    ///
    /// Names are compared component by component (between the dots), so that `q_norm` is never taken for `norm`.
    /// A model type outside the table is judged by general names; any other two-dimensional `weight` is [`Role::OtherLinear`].
    pub fn of(name: &str, dimensions: usize, model_type: Option<&str>) -> Role {
        let components: Vec<&str> = name.split('.').collect();
        let Some((&leaf, module)) = components.split_last() else {
            return Role::Other;
        };
        let family = FAMILIES
            .iter()
            .find(|f| model_type.is_some_and(|t| f.model_types.contains(&t)));
        let role = family
            .and_then(|f| f.role(module))
            .or_else(|| general(module));
        match (leaf, role) {
            (_, Some(norm @ Role::Norm(_))) if matches!(leaf, "weight" | "bias") => norm,
            ("bias", _) => Role::Bias,
            ("weight", Some(role)) if dimensions == 2 => role,
            ("weight", None) if dimensions == 2 => Role::OtherLinear,
            _ => Role::Other,
        }
    }
}

/// One row of the table: model types whose modules have the same names.
struct Family {
    model_types: &'static [&'static str],
    /// The last components of a module's path, and its role.
    modules: &'static [(&'static [&'static str], Role)],
}

impl Family {
    fn role(&self, module: &[&str]) -> Option<Role> {
        self.modules
            .iter()
            .find(|(path, _)| module.ends_with(path))
            .map(|(_, role)| *role)
    }
}

/// Every architecture that is known by name; a new one is a new row.
///
/// **Source** `transformers`: `models/{qwen3,qwen2,llama,mistral}/modeling_*.py`, the attributes of the module classes.
const FAMILIES: &[Family] = &[Family {
    model_types: &["qwen3", "qwen2", "llama", "mistral"],
    modules: &[
        (&["self_attn", "q_proj"], Role::Q),
        (&["self_attn", "k_proj"], Role::K),
        (&["self_attn", "v_proj"], Role::V),
        (&["self_attn", "o_proj"], Role::O),
        (&["self_attn", "q_norm"], Role::Norm(NormKind::Query)),
        (&["self_attn", "k_norm"], Role::Norm(NormKind::Key)),
        (&["mlp", "gate_proj"], Role::Gate),
        (&["mlp", "up_proj"], Role::Up),
        (&["mlp", "down_proj"], Role::Down),
        (&["input_layernorm"], Role::Norm(NormKind::Input)),
        (
            &["post_attention_layernorm"],
            Role::Norm(NormKind::PostAttention),
        ),
        (&["model", "norm"], Role::Norm(NormKind::Final)),
        (&["model", "embed_tokens"], Role::Embedding),
        (&["lm_head"], Role::LmHead),
    ],
}];

/// Names that mean the same in most architectures.
fn general(module: &[&str]) -> Option<Role> {
    match *module.last()? {
        "embed_tokens"
        | "word_embeddings"
        | "tok_embeddings"
        | "wte"
        | "wpe"
        | "embed_in"
        | "embedding"
        | "embeddings"
        | "position_embeddings" => Some(Role::Embedding),
        "lm_head" | "embed_out" => Some(Role::LmHead),
        "q_norm" => Some(Role::Norm(NormKind::Query)),
        "k_norm" => Some(Role::Norm(NormKind::Key)),
        leaf if is_norm(leaf) => Some(Role::Norm(NormKind::Other)),
        _ => None,
    }
}

/// A whole component, or its last word: `norm`, `ffn_norm`, `input_layernorm`, `ln_1`.
fn is_norm(component: &str) -> bool {
    let word = component.rsplit('_').next().unwrap_or(component);
    matches!(word, "norm" | "layernorm" | "rmsnorm")
        || matches!(component, "ln_1" | "ln_2" | "ln_f")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn qwen3(name: &str, dimensions: usize) -> Role {
        Role::of(name, dimensions, Some("qwen3"))
    }

    #[test]
    fn every_tensor_of_a_qwen3_layer_has_its_role() {
        let at = "model.layers.3.";
        for (name, dimensions, role) in [
            ("self_attn.q_proj.weight", 2, Role::Q),
            ("self_attn.q_proj.bias", 1, Role::Bias),
            ("self_attn.q_norm.weight", 1, Role::Norm(NormKind::Query)),
            ("mlp.down_proj.weight", 2, Role::Down),
            (
                "post_attention_layernorm.weight",
                1,
                Role::Norm(NormKind::PostAttention),
            ),
        ] {
            assert_eq!(qwen3(&format!("{at}{name}"), dimensions), role, "{name}");
        }
        assert_eq!(qwen3("model.norm.weight", 1), Role::Norm(NormKind::Final));
        assert_eq!(qwen3("lm_head.weight", 2), Role::LmHead);
        assert_eq!(qwen3("model.embed_tokens.weight", 2), Role::Embedding);
    }

    #[test]
    fn a_name_that_only_contains_another_is_not_that_other() {
        assert_eq!(
            qwen3("model.layers.0.mlp.normalizer.weight", 2),
            Role::OtherLinear
        );
        assert_eq!(
            qwen3("model.layers.0.self_attn.q_proj_extra.weight", 2),
            Role::OtherLinear
        );
        assert_eq!(
            qwen3("model.layers.0.experts.1.gate_proj.weight", 2),
            Role::OtherLinear
        );
        assert_eq!(qwen3("model.renorm.weight", 2), Role::OtherLinear);
    }

    #[test]
    fn an_unknown_architecture_has_linears_embeddings_and_norms() {
        let unknown = |name, dimensions| Role::of(name, dimensions, Some("somethingnew"));
        assert_eq!(
            unknown("transformer.h.0.attn.c_attn.weight", 2),
            Role::OtherLinear
        );
        assert_eq!(unknown("transformer.wte.weight", 2), Role::Embedding);
        assert_eq!(
            unknown("transformer.ln_f.bias", 1),
            Role::Norm(NormKind::Other)
        );
        assert_eq!(
            unknown("transformer.h.0.ffn_norm.weight", 1),
            Role::Norm(NormKind::Other)
        );
        assert_eq!(unknown("alone", 2), Role::Other);
    }

    #[test]
    fn fused_groups_are_those_of_the_engines() {
        assert_eq!(Role::K.fused_group(), Some("qkv_proj"));
        assert_eq!(Role::Up.fused_group(), Some("gate_up_proj"));
        assert_eq!(Role::Down.fused_group(), None);
    }
}
