//! Tools of a request, and the grammar of a call that must come.

use std::collections::HashSet;

use llguidance::api::TopLevelGrammar;
use serde_json::{Value, json};

use super::format::{Form, literal, tight};
use crate::api::error::{ApiError, Result, quote};

/// Tools of a request at most.
const MOST: usize = 128;

/// A function that the model may call.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Tool {
    name: String,
    /// A JSON schema.
    parameters: Value,
}

/// Calls that an answer consists of.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ToolCalls {
    /// The functions that may be called.
    pub(crate) tools: Vec<Tool>,
    /// Whether there may be several calls.
    pub(crate) several: bool,
}

impl Tool {
    /// Reads `{"type": "function", "function": {"name", "parameters", ...}}`.
    pub(crate) fn read_all(list: &[Value]) -> Result<Vec<Self>> {
        if list.len() > MOST {
            return Err(ApiError::invalid(
                "tools",
                format!("`tools`: expected at most {MOST}"),
            ));
        }
        let tools = list.iter().map(Self::read).collect::<Option<Vec<_>>>();
        let tools = tools.ok_or_else(|| {
            let form =
                r#"expected {"type": "function", "function": {"name": ..., "parameters": {...}}}"#;
            ApiError::invalid("tools", format!("`tools`: {form}"))
        })?;
        let mut names = HashSet::new();
        match tools.iter().position(|tool| !names.insert(tool.name())) {
            None => Ok(tools),
            Some(at) => {
                let param = format!("tools[{at}].function.name");
                let message = format!(
                    "`{param}`: another tool has the name `{}`",
                    quote(tools[at].name())
                );
                Err(ApiError::invalid(&param, message))
            }
        }
    }

    fn read(value: &Value) -> Option<Self> {
        let function = &value["function"];
        let name = function["name"].as_str().filter(|name| !name.is_empty())?;
        let parameters = match &function["parameters"] {
            Value::Null => json!({"type": "object"}),
            parameters @ Value::Object(_) => parameters.clone(),
            _ => return None,
        };
        (value["type"] == "function").then(|| Self {
            name: name.to_owned(),
            parameters,
        })
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

impl ToolCalls {
    /// Qwen3's form, a JSON object between `<tool_call>` and `</tool_call>`; each function's schema is a root of its own,
    /// so that its references hold.
    pub(crate) fn form(&self) -> Form {
        let names = (0..self.tools.len()).map(|at| format!("call_{at}"));
        let any = names.collect::<Vec<_>>().join(" | ");
        let more = if self.several { r#" ("\n" one)*"# } else { "" };
        let mut lark =
            format!("start: one{more}\none: \"<tool_call>\\n\" ({any}) \"\\n</tool_call>\"\n");
        for (at, tool) in self.tools.iter().enumerate() {
            let head = format!(
                r#"{{"name": {}, "arguments": "#,
                Value::from(tool.name.as_str())
            );
            let parameters = tight(tool.parameters.clone());
            lark += &format!("call_{at}: {} arguments_{at} \"}}\"\n", literal(&head));
            lark += &format!("arguments_{at}: %json {parameters}\n");
        }
        Form {
            param: "tools",
            expected: "schemas of `parameters` that some JSON fits",
            grammar: TopLevelGrammar::from_lark(lark),
        }
    }
}
