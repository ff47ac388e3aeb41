//! Layers between our crates, owners of heavy third-party crates, and what the runner may link.

use crate::workspace::{Metadata, Package};

/// Product crates from bottom to top. A crate may depend only on crates in lower layers, never sideways.
/// Crates that do not exist yet stand in their place already.
const LAYERS: &[&[&str]] = &[
    &[
        "cpu-gemm",
        "cuda-jit",
        "dataset",
        "fp8-codec",
        "int-codec",
        "results",
        "statistics",
        "tokenizer",
    ],
    &["block-scale", "low-rank"],
    &["checkpoint", "fp8-gemm", "matmul"],
    &["adapter-sanitize", "autopsy", "model", "orthogonality"],
    &[
        "balancer",
        "calibration",
        "eval",
        "lora-extract",
        "lora-merge",
        "plot",
        "quantize",
        "server",
    ],
    &["cli"],
];

/// Crates that only the layers from the given one upwards may use: measurements are made where the work is, not in a codec.
const FROM_LAYER: &[(&str, usize)] = &[("results", 3)];

/// Third-party crates that only the named product crates may use.
const OWNERS: &[(&str, &[&str])] = &[
    ("anyhow", &["cli"]),
    ("axum", &["eval", "server"]),
    ("clap", &["cli"]),
    ("cudarc", &["cuda-jit"]),
    ("faer", &["lora-extract", "low-rank"]),
    ("hyper", &["balancer", "eval", "server"]),
    ("hyper-util", &["balancer", "eval", "server"]),
    ("hyper-rustls", &["eval"]),
    ("indicatif", &["cli"]),
    ("libloading", &["cuda-jit"]),
    ("llguidance", &["server"]),
    ("landlock", &["eval"]),
    ("memmap2", &["checkpoint"]),
    ("minijinja", &["tokenizer"]),
    ("parquet", &["dataset"]),
    ("plotters", &["plot"]),
    ("prometheus-client", &["balancer", "server"]),
    ("rustls", &["eval"]),
    ("safetensors", &["checkpoint"]),
    ("seccompiler", &["eval"]),
    ("signal-hook", &["cli"]),
    ("tokenizers", &["tokenizer"]),
    ("statrs", &["statistics"]),
    ("subtle", &["balancer", "server"]),
    ("tracing-subscriber", &["cli"]),
];

/// All that the runner may link, so that it builds in seconds.
const XTASK: &[&str] = &["anyhow", "clap", "serde", "serde_json", "toml", "xshell"];

/// Our packages that are for tests only.
const TEST_PACKAGES: &[&str] = &["xgraft-fixtures"];

pub(super) fn faults(metadata: &Metadata) -> Vec<String> {
    metadata.packages.iter().flat_map(package_faults).collect()
}

fn package_faults(package: &Package) -> Vec<String> {
    let mut faults = Vec::new();
    let noun = package.noun();
    if let Some(noun) = &noun {
        faults.extend(name_fault(noun, &package.name));
    }
    for dependency in &package.dependencies {
        let (name, kind) = (dependency.name.as_str(), dependency.kind.as_deref());
        match &noun {
            Some(noun) => {
                faults.extend(layer_fault(noun, name, kind));
                faults.extend(owner_fault(noun, name));
            }
            None if package.name == "xtask" => faults.extend(runner_fault(name)),
            None => {}
        }
    }
    faults
}

fn layer_of(noun: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&noun))
}

fn name_fault(noun: &str, package: &str) -> Option<String> {
    if package != format!("xgraft-{noun}") {
        return Some(format!(
            "crates/{noun} holds package {package}, expected xgraft-{noun}"
        ));
    }
    layer_of(noun)
        .is_none()
        .then(|| format!("crates/{noun} has no layer in xtask/src/tidy/dependencies.rs"))
}

/// Normal and build dependencies go down. A dev-dependency may also go sideways, for tests that need a neighbour's output.
fn layer_fault(noun: &str, dependency: &str, kind: Option<&str>) -> Option<String> {
    let dev = kind == Some("dev");
    let lower = dependency.strip_prefix("xgraft-")?;
    if TEST_PACKAGES.contains(&dependency) {
        return (!dev).then(|| format!("{noun} may use {dependency} only as a dev-dependency"));
    }
    let (from, to) = (layer_of(noun)?, layer_of(lower)?);
    if to > from || (to == from && !dev) {
        return Some(format!(
            "{noun} (layer {from}) must not depend on {lower} (layer {to})"
        ));
    }
    let (_, least) = FROM_LAYER.iter().find(|(name, _)| *name == lower)?;
    (from < *least && !dev)
        .then(|| format!("{noun} (layer {from}) must not depend on {lower}: from layer {least} up"))
}

fn owner_fault(noun: &str, dependency: &str) -> Option<String> {
    let (_, owners) = OWNERS.iter().find(|(name, _)| *name == dependency)?;
    (!owners.contains(&noun)).then(|| {
        let owners = owners.join(", ");
        format!("{noun} must not depend on {dependency}: owned by {owners}")
    })
}

fn runner_fault(dependency: &str) -> Option<String> {
    (!XTASK.contains(&dependency)).then(|| {
        let allowed = XTASK.join(", ");
        format!("xtask must not depend on {dependency}: it builds in seconds with {allowed}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upward_and_sideways_dependencies_are_faults() {
        assert!(layer_fault("block-scale", "xgraft-fp8-codec", None).is_none());
        assert!(layer_fault("fp8-codec", "xgraft-block-scale", None).is_some());
        assert!(layer_fault("quantize", "xgraft-lora-merge", None).is_some());
    }

    #[test]
    fn a_dev_dependency_may_go_sideways_but_not_up() {
        assert!(layer_fault("lora-merge", "xgraft-quantize", Some("dev")).is_none());
        assert!(layer_fault("checkpoint", "xgraft-quantize", Some("dev")).is_some());
    }

    #[test]
    fn fixtures_are_for_tests_only() {
        assert!(layer_fault("checkpoint", "xgraft-fixtures", Some("dev")).is_none());
        assert!(layer_fault("checkpoint", "xgraft-fixtures", None).is_some());
    }

    #[test]
    fn low_layers_do_not_know_measurement_rows() {
        assert!(layer_fault("checkpoint", "xgraft-results", None).is_some());
        assert!(layer_fault("plot", "xgraft-results", None).is_none());
    }

    #[test]
    fn third_party_crates_have_owners() {
        assert!(owner_fault("plot", "plotters").is_none());
        assert!(owner_fault("eval", "plotters").is_some());
        assert!(owner_fault("eval", "serde").is_none());
    }

    #[test]
    fn the_runner_links_no_product_crate() {
        assert!(runner_fault("xgraft-results").is_some());
        assert!(runner_fault("clap").is_none());
    }

    #[test]
    fn a_crate_without_a_layer_or_with_another_name_is_a_fault() {
        assert!(name_fault("plot", "xgraft-plot").is_none());
        assert!(name_fault("plot", "plot").is_some());
        assert!(name_fault("utils", "xgraft-utils").is_some());
    }
}
