//! The hub's metadata: the YAML in front of a card.
//!
//! **Source** the hub's model card specification (`huggingface/hub-docs`, `modelcard.md`): `license` is an identifier of its list, or
//! `other` with `license_name` and `license_link`; `base_model` a name on the hub; `base_model_relation` one of `adapter`, `merge`,
//! `quantized` and `finetune`.

use anyhow::{bail, ensure};
use serde_json::Value;
use xgraft_results::Manifest;

use super::contents::Contents;
use crate::args::Card;

/// What the front matter is made of.
pub(super) struct Metadata<'a> {
    pub(super) base: Option<&'a str>,
    pub(super) license: Option<&'a License>,
    pub(super) contents: &'a Contents,
    pub(super) manifest: &'a Manifest,
}

/// The licence of the weights.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum License {
    /// An identifier of the hub's list.
    Listed(String),
    /// Another, with its name and where it can be read.
    Other { name: String, link: String },
}

impl License {
    /// As the options say; nothing is made up.
    pub(super) fn of(args: &Card) -> anyhow::Result<Option<Self>> {
        let Some(id) = &args.license else {
            return Ok(None);
        };
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c);
        ensure!(
            !id.is_empty() && id.chars().all(plain),
            "--license: expected an identifier of the hub's list such as apache-2.0, or other, found {id:?}"
        );
        Ok(Some(match (&args.license_name, &args.license_link) {
            (Some(name), Some(link)) if id == "other" => Self::Other {
                name: name.clone(),
                link: link.clone(),
            },
            (None, None) if id != "other" => Self::Listed(id.clone()),
            _ => bail!(
                "--license {id}: expected --license-name and --license-link with `other`, and with nothing else"
            ),
        }))
    }

    fn lines(&self) -> Vec<String> {
        match self {
            Self::Listed(id) => vec![format!("license: {id}")],
            Self::Other { name, link } => vec![
                "license: other".to_owned(),
                format!("license_name: {}", quoted(name)),
                format!("license_link: {}", quoted(link)),
            ],
        }
    }
}

impl Metadata<'_> {
    pub(super) fn front_matter(&self) -> String {
        let mut lines = vec!["---".to_owned()];
        lines.extend(self.license.into_iter().flat_map(License::lines));
        if let Some(base) = self.base {
            lines.push(format!("base_model: {}", quoted(base)));
            let relation = self.relation();
            lines.extend(relation.map(|relation| format!("base_model_relation: {relation}")));
        }
        let library = match self.contents.adapter {
            Some(_) => "peft",
            None => "transformers",
        };
        lines.push(format!("library_name: {library}"));
        lines.push("pipeline_tag: text-generation".to_owned());
        lines.push("tags:".to_owned());
        lines.extend(self.tags().into_iter().map(|tag| format!("- {tag}")));
        lines.push("---\n\n".to_owned());
        lines.join("\n")
    }

    /// What this is to its base, in the hub's words.
    fn relation(&self) -> Option<&'static str> {
        match (&self.contents.adapter, self.manifest.verb.as_str()) {
            (Some(_), _) => Some("adapter"),
            (_, "quantize") => Some("quantized"),
            (_, "merge") => Some("merge"),
            _ => None,
        }
    }

    fn tags(&self) -> Vec<String> {
        let mut tags = vec!["xgraft".to_owned()];
        if self.contents.adapter.is_some() {
            tags.push("lora".to_owned());
        }
        let scheme = self.manifest.config["scheme"].as_str();
        tags.extend(
            scheme
                .filter(|_| self.manifest.verb == "quantize")
                .map(str::to_owned),
        );
        if !self.contents.simulated.is_empty() {
            tags.push("simulated".to_owned());
        }
        tags
    }
}

/// A YAML string: JSON's are some of them.
fn quoted(text: &str) -> String {
    Value::String(text.to_owned()).to_string()
}

/// `NAME` or `ORG/NAME` of letters, digits, `-`, `_` and `.`, as the hub has them; a path of a disk is none.
pub(super) fn is_hub_name(name: &str) -> bool {
    let part = |part: &str| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        !part.is_empty() && !part.starts_with('.') && part.chars().all(plain)
    };
    let mut parts = name.split('/');
    parts.clone().count() == 2 && parts.all(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_no_names_on_the_hub() {
        assert!(is_hub_name("Qwen/Qwen3-32B"));
        for path in ["base", "/models/x", "./x", "a/b/c", "../x", "x/", "a b/c"] {
            assert!(!is_hub_name(path), "{path}");
        }
    }
}
