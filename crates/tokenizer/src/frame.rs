//! The special tokens that `post_processor` puts around a text: `<|begin_of_text|>` of Llama 3, none of Qwen.

use crate::file::field;
use crate::{Result, TokenId};
use serde_json::Value;
use std::path::Path;

/// Ids before and after those of the text.
#[derive(Debug, Default)]
pub(crate) struct Frame {
    pub(crate) before: Vec<TokenId>,
    pub(crate) after: Vec<TokenId>,
}

impl Frame {
    /// Reads the field `post_processor`: null, `ByteLevel` (which changes offsets only), `TemplateProcessing`, or a `Sequence`.
    pub(crate) fn parse(value: &Value, file: &Path) -> Result<Self> {
        let mut frame = Self::default();
        frame.add(value, "post_processor", file)?;
        Ok(frame)
    }

    fn add(&mut self, value: &Value, path: &str, file: &Path) -> Result<()> {
        let none = Vec::new();
        match value["type"].as_str() {
            None if value.is_null() => Ok(()),
            Some("ByteLevel") => Ok(()),
            Some("TemplateProcessing") => self.add_template(value, path, file),
            Some("Sequence") if path == "post_processor" => {
                let parts = value["processors"].as_array().unwrap_or(&none);
                let mut parts = parts.iter().enumerate();
                parts.try_for_each(|(at, part)| {
                    self.add(part, &format!("{path}.processors[{at}]"), file)
                })
            }
            _ => {
                let expected = "null, ByteLevel, TemplateProcessing, or a Sequence of these";
                Err(field(
                    file,
                    &format!("{path}.type"),
                    expected,
                    value["type"].to_string(),
                ))
            }
        }
    }

    /// The part `single` of a template: special tokens and one sequence. Those of a later template lie further out.
    fn add_template(&mut self, value: &Value, path: &str, file: &Path) -> Result<()> {
        let path = format!("{path}.single");
        let refuse = |found: &Value| {
            field(
                file,
                &path,
                "special tokens around one sequence A",
                found.to_string(),
            )
        };
        let pieces = value["single"]
            .as_array()
            .ok_or_else(|| refuse(&value["single"]))?;
        let (mut before, mut after, mut seen) = (Vec::new(), Vec::new(), false);
        for piece in pieces {
            if let Some(name) = piece["SpecialToken"]["id"].as_str() {
                let ids =
                    ids(&value["special_tokens"][name]["ids"]).ok_or_else(|| refuse(piece))?;
                if seen {
                    after.extend(ids);
                } else {
                    before.extend(ids);
                }
            } else if piece["Sequence"]["id"] == "A" && !seen {
                seen = true;
            } else {
                return Err(refuse(piece));
            }
        }
        if !seen {
            return Err(refuse(&value["single"]));
        }
        self.before.splice(0..0, before);
        self.after.extend(after);
        Ok(())
    }
}

fn ids(value: &Value) -> Option<Vec<TokenId>> {
    let id = |value: &Value| TokenId::try_from(value.as_u64()?).ok();
    value.as_array()?.iter().map(id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(value: &Value) -> Result<(Vec<TokenId>, Vec<TokenId>)> {
        let frame = Frame::parse(value, Path::new("tokenizer.json"))?;
        Ok((frame.before, frame.after))
    }

    fn template() -> Value {
        json!({
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [7], "tokens": ["<s>"]}, "</s>": {"id": "</s>", "ids": [8, 9], "tokens": ["</s>", "."]}},
        })
    }

    #[test]
    fn a_template_puts_its_tokens_around_the_text() {
        let bytes = json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": false});
        assert_eq!(parse(&Value::Null).expect("none"), (vec![], vec![]));
        assert_eq!(parse(&bytes).expect("none"), (vec![], vec![]));
        assert_eq!(parse(&template()).expect("parses"), (vec![7], vec![8, 9]));
        let sequence = json!({"type": "Sequence", "processors": [bytes, template()]});
        assert_eq!(parse(&sequence).expect("parses"), (vec![7], vec![8, 9]));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        assert!(parse(&json!({"type": "BertProcessing"})).is_err());
        for (pointer, value) in [
            ("/single", json!([])),
            ("/single/1", json!({"Sequence": {"id": "B"}})),
            ("/single/0", json!({"Sequence": {"id": "A"}})),
            ("/single/0/SpecialToken/id", json!("<unknown>")),
            ("/special_tokens/<s>/ids/0", json!(1u64 << 40)),
        ] {
            let mut bad = template();
            *bad.pointer_mut(pointer).expect("is there") = value;
            assert!(parse(&bad).is_err(), "{pointer}");
        }
    }
}
