//! The mark of simulated formats: their values are stored in BF16, and nothing but this mark tells them from a model's own.

use serde_json::{Value, json};
use xgraft_checkpoint::Checkpoint;
use xgraft_results::Finding;

use crate::config::Config;
use crate::scheme::Layout;

/// The field of `config.json`.
pub(crate) const FIELD: &str = "xgraft_simulated_quantization";

/// The formats that were simulated on the weights of a checkpoint, first to last; none for most.
///
/// The mark stays in `config.json` whatever is made of the checkpoint after: the rounding stays in its weights.
#[must_use]
pub fn simulated(checkpoint: &Checkpoint) -> Vec<String> {
    simulated_in(checkpoint.config().raw().get(FIELD))
}

/// The same of the field's value.
fn simulated_in(mark: Option<&Value>) -> Vec<String> {
    let Some(mark) = mark else { return Vec::new() };
    let mut schemes = simulated_in(mark.get("before"));
    let name = mark.get("scheme").and_then(Value::as_str);
    schemes.push(name.unwrap_or("an unnamed format").to_owned());
    schemes
}

/// The mark of a checkpoint made of `source`.
pub(crate) fn mark(source: &Checkpoint, config: &Config) -> Value {
    let mut mark = json!({
        "scheme": config.scheme.name(),
        "group_size": config.group_size(),
        "symmetric": config.symmetric,
        "note": "the weights are the values of this format, stored in BF16; nothing is compressed",
    });
    if config.awq {
        mark["awq"] = json!(true);
    }
    if let Some(before) = source.config().raw().get(FIELD) {
        mark["before"] = before.clone();
    }
    mark
}

/// What a reader of the result should know.
pub(crate) fn findings(source: &Checkpoint, config: Option<&Config>) -> Vec<Finding> {
    let dir = source.dir().display().to_string();
    let before = simulated(source);
    let mut findings = Vec::new();
    if !before.is_empty() {
        findings.push(Finding::warning(
            "simulated-source",
            &dir,
            format!(
                "its weights are the values of a simulated format ({}); so is what is made of them, whatever its format",
                before.join(", then ")
            ),
        ));
    }
    if let Some(config) = config.filter(|config| config.layout == Layout::Simulated) {
        findings.push(Finding::info(
            "simulated",
            dir,
            format!(
                "the result holds the values of {} in BF16: for experiments, nothing is compressed and no engine computes in this format",
                config.scheme.name()
            ),
        ));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_read_first_to_last() {
        let mark = json!({"scheme": "nvfp4", "before": {"scheme": "int2"}});
        assert_eq!(simulated_in(Some(&mark)), ["int2", "nvfp4"]);
        assert_eq!(simulated_in(None), [""; 0]);
    }
}
