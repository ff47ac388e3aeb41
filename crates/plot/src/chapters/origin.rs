//! What everything was made from.

use crate::{Result, Section, Table, inputs::Inputs};
use serde_json::Value;
use std::collections::BTreeMap;
use xgraft_results::{Manifest, human::bytes};

pub(super) fn section(inputs: &Inputs) -> Result<Option<Section>> {
    let mut table = Table::new(
        "The steps, from their manifests. Each manifest holds the BLAKE3 of every tensor that was read.",
        [
            ("step", false),
            ("verb", false),
            ("tool", false),
            ("inputs", false),
            ("seed", true),
            ("configuration", false),
        ],
    );
    for input in &inputs.0 {
        if let Some(manifest) = &input.manifest {
            let tool = &manifest.tool;
            table.push([
                input.label.clone(),
                manifest.verb.clone(),
                tool.to_string(),
                read(manifest),
                manifest
                    .seed
                    .map_or_else(|| "–".to_owned(), |seed| seed.to_string()),
                listed(&manifest.config),
            ]);
        }
    }
    let known = !table.rows.is_empty();
    Ok(known.then(|| Section::new("How this was made").table(table)))
}

/// The top of the configuration as `name: value, ...`, so that lines can break.
fn listed(config: &Value) -> String {
    let Some(fields) = config.as_object() else {
        return config.to_string();
    };
    let field = |(name, value): (&String, &Value)| match value {
        Value::String(text) => format!("{name}: {text}"),
        other => format!("{name}: {other}"),
    };
    fields.iter().map(field).collect::<Vec<_>>().join(", ")
}

/// `base: 28 read, 3.7 MB; tuned: ...`
fn read(manifest: &Manifest) -> String {
    let mut roles: BTreeMap<&str, (usize, u64)> = BTreeMap::new();
    for input in &manifest.inputs {
        let (count, size) = roles.entry(&input.role).or_default();
        *count += 1;
        *size += input.bytes;
    }
    let roles = roles
        .into_iter()
        .map(|(role, (count, size))| format!("{role}: {count} read, {}", bytes(size)));
    roles.collect::<Vec<_>>().join("; ")
}
