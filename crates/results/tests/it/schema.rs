//! As much of JSON Schema as the documents in `docs/schemas` use; stricter in one way: every field must be declared.

use serde_json::Value;
use std::{fs, path::Path};

pub(crate) struct Schema(Value);

impl Schema {
    pub(crate) fn of(record: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../docs/schemas")
            .join(record)
            .with_extension("json");
        let text = fs::read_to_string(&path).expect("the schema document exists");
        Self(serde_json::from_str(&text).expect("the schema document is JSON"))
    }

    pub(crate) fn examples(&self) -> &[Value] {
        self.0["examples"].as_array().expect("examples is an array")
    }

    pub(crate) fn faults(&self, value: &Value) -> Vec<String> {
        let mut faults = Vec::new();
        self.check(&self.0, value, "$", &mut faults);
        faults
    }

    fn check(&self, schema: &Value, value: &Value, at: &str, faults: &mut Vec<String>) {
        if let Some(name) = schema["$ref"].as_str() {
            let target = self.0.pointer(name.trim_start_matches('#'));
            return self.check(target.expect("$ref resolves"), value, at, faults);
        }
        let kind_fits = match schema["type"].as_str() {
            None => true,
            Some("object") => value.is_object(),
            Some("array") => value.is_array(),
            Some("string") => value.is_string(),
            Some("number") => value.is_number(),
            Some("integer") => value.is_u64(),
            Some(other) => panic!("{at}: unknown type {other}"),
        };
        let literal_fits = schema.get("const").is_none_or(|only| only == value)
            && schema["enum"]
                .as_array()
                .is_none_or(|all| all.contains(value));
        if !kind_fits || !literal_fits {
            faults.push(format!("{at}: {value} does not fit {schema}"));
        }
        self.check_fields(schema, value, at, faults);
        if let (Some(items), Some(values)) = (schema.get("items"), value.as_array()) {
            for (index, value) in values.iter().enumerate() {
                self.check(items, value, &format!("{at}[{index}]"), faults);
            }
        }
    }

    fn check_fields(&self, schema: &Value, value: &Value, at: &str, faults: &mut Vec<String>) {
        let (Some(declared), Some(fields)) = (schema["properties"].as_object(), value.as_object())
        else {
            return;
        };
        let required = schema["required"].as_array().into_iter().flatten();
        for name in required.filter_map(Value::as_str) {
            if !fields.contains_key(name) {
                faults.push(format!("{at}: `{name}` is missing"));
            }
        }
        for (name, value) in fields {
            match declared.get(name) {
                Some(schema) => self.check(schema, value, &format!("{at}.{name}"), faults),
                None => faults.push(format!("{at}: `{name}` is not declared")),
            }
        }
    }
}
