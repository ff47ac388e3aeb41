//! Which layer a module belongs to, and which role it plays there.

/// The roles of a transformer block in the order in which data flows; others follow by name.
const ORDER: &[&str] = &[
    "q_proj",
    "k_proj",
    "v_proj",
    "qkv_proj",
    "o_proj",
    "gate_proj",
    "up_proj",
    "gate_up_proj",
    "down_proj",
];

/// A module's path, taken apart: `model.layers.12.self_attn.q_proj` is layer 12, role `q_proj`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModulePath<'a> {
    /// The first component that is a number.
    pub layer: Option<usize>,
    /// The last component that is not a number.
    pub role: &'a str,
}

impl<'a> ModulePath<'a> {
    /// Takes a path apart.
    #[must_use]
    pub fn parse(path: &'a str) -> Self {
        let numbers = |part: &&str| part.parse::<usize>().is_ok();
        Self {
            layer: path.split('.').find_map(|part| part.parse().ok()),
            role: path.split('.').rfind(|part| !numbers(part)).unwrap_or(path),
        }
    }

    /// A key that sorts roles in the order in which data flows.
    #[must_use]
    pub fn role_order(&self) -> (usize, &'a str) {
        let known = ORDER.iter().position(|role| *role == self.role);
        (known.unwrap_or(ORDER.len()), self.role)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layer_and_role_are_the_first_number_and_the_last_word() {
        let path = ModulePath::parse("model.layers.12.self_attn.q_proj");
        assert_eq!((path.layer, path.role), (Some(12), "q_proj"));
        let path = ModulePath::parse("model.layers.3.mlp.experts.7.gate_proj");
        assert_eq!((path.layer, path.role), (Some(3), "gate_proj"));
        let path = ModulePath::parse("lm_head");
        assert_eq!((path.layer, path.role), (None, "lm_head"));
    }

    #[test]
    fn roles_sort_as_data_flows_and_unknown_ones_come_last() {
        let mut paths = ["in_proj", "down_proj", "q_proj", "gate_proj"].map(ModulePath::parse);
        paths.sort_by_key(ModulePath::role_order);
        let roles = paths.map(|path| path.role);
        assert_eq!(roles, ["q_proj", "gate_proj", "down_proj", "in_proj"]);
    }
}
