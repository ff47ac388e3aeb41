//! The oldest supported Rust version is the pinned toolchain: no other one is ever tried.

use crate::workspace::{self, Metadata};
use anyhow::{Context, Result};
use std::path::Path;

pub(super) fn faults(metadata: &Metadata) -> Result<Vec<String>> {
    let text = workspace::text(Path::new("rust-toolchain.toml"))?.unwrap_or_default();
    let file: toml::Table = text.parse().context("rust-toolchain.toml")?;
    let channel = file
        .get("toolchain")
        .and_then(|table| table.get("channel"))
        .and_then(toml::Value::as_str)
        .context("rust-toolchain.toml names no channel")?;
    let found = |package: &workspace::Package| package.rust_version.clone();
    Ok(metadata
        .packages
        .iter()
        .filter_map(|package| version_fault(&package.name, found(package).as_deref(), channel))
        .collect())
}

fn version_fault(package: &str, version: Option<&str>, channel: &str) -> Option<String> {
    let version = version.unwrap_or("none");
    let same = channel == version || channel.starts_with(&format!("{version}."));
    (!same).then(|| format!("{package}: rust-version is {version}, the toolchain is {channel}"))
}

#[cfg(test)]
mod tests {
    use super::version_fault;

    #[test]
    fn the_rust_version_is_a_prefix_of_the_toolchain_by_component() {
        assert!(version_fault("a", Some("1.95"), "1.95.0").is_none());
        assert!(version_fault("a", Some("1.9"), "1.95.0").is_some());
        assert!(version_fault("a", None, "1.95.0").is_some());
    }
}
