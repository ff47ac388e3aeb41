//! What a backend says of itself at `/v1/models`.

use std::sync::Arc;

use serde_json::Value;

/// Bytes of the list that are read at most.
pub(crate) const LONGEST: usize = 4 << 20;

/// The models and adapters of a backend.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct ModelList {
    /// Nothing if it has not said yet, or does not say.
    cards: Option<Arc<[Value]>>,
    /// Whether it is one of ours, which continues from token ids.
    continues: bool,
}

impl ModelList {
    /// Reads an answer of `/v1/models`; one in another form says nothing.
    pub(crate) fn parse(body: &[u8]) -> Self {
        let mut list: Value = serde_json::from_slice(body).unwrap_or_default();
        let data = list.get_mut("data").map(Value::take);
        let Some(Value::Array(cards)) = data else {
            return Self::default();
        };
        if !cards.iter().all(|card| card["id"].is_string()) {
            return Self::default();
        }
        let ours = |card: &Value| card["owned_by"] == "xgraft";
        Self {
            continues: !cards.is_empty() && cards.iter().all(ours),
            cards: Some(cards.into()),
        }
    }

    #[cfg(test)]
    pub(crate) fn of(names: &[&str]) -> Self {
        let card = |name: &&str| serde_json::json!({"id": name, "owned_by": "xgraft"});
        let cards: Value = names.iter().map(card).collect();
        Self::parse(serde_json::json!({"data": cards}).to_string().as_bytes())
    }

    /// As the backend wrote them.
    pub(crate) fn cards(&self) -> &[Value] {
        self.cards.as_deref().unwrap_or_default()
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.cards().iter().filter_map(|card| card["id"].as_str())
    }

    /// Whether it has this model, as far as is known.
    pub(crate) fn may_have(&self, name: &str) -> bool {
        self.cards.is_none() || self.names().any(|known| known == name)
    }

    /// Whether it goes on after given token ids.
    pub(crate) fn continues(&self) -> bool {
        self.continues
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_are_known_by_their_owner() {
        let ours = br#"{"object":"list","data":[{"id":"m","owned_by":"xgraft"},{"id":"a","owned_by":"xgraft","parent":"m"}]}"#;
        let ours = ModelList::parse(ours);
        assert!(ours.continues() && ours.may_have("a") && !ours.may_have("b"));
        let other = ModelList::parse(br#"{"data":[{"id":"m","owned_by":"vllm"}]}"#);
        assert!(!other.continues() && other.may_have("m"));
        let none = ModelList::parse(br#"{"data":[]}"#);
        assert!(!none.continues() && !none.may_have("m"));
    }

    #[test]
    fn what_is_no_list_says_nothing() {
        for body in ["", "{}", "[]", "null", r#"{"data":[{}]}"#] {
            let list = ModelList::parse(body.as_bytes());
            assert_eq!(list, ModelList::default(), "{body}");
            assert!(list.may_have("anything"));
        }
    }
}
