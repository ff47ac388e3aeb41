//! The workspace as cargo and git see it.

use anyhow::{Context, Result};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use xshell::{Shell, cmd};

/// The folder of the root manifest.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// A path that the developer gave relative to where cargo was called, made absolute.
pub(crate) fn from_callers_folder(path: &Path) -> Result<PathBuf> {
    let here = std::env::current_dir().context("there is no current folder")?;
    Ok(here.join(path))
}

/// A shell that stands in the root folder.
pub(crate) fn shell() -> Result<Shell> {
    let sh = Shell::new()?;
    sh.change_dir(root());
    Ok(sh)
}

/// What `cargo metadata` knows.
#[derive(Debug, Deserialize)]
pub(crate) struct Metadata {
    pub(crate) packages: Vec<Package>,
    pub(crate) target_directory: PathBuf,
}

/// One package of the workspace.
#[derive(Debug, Deserialize)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) rust_version: Option<String>,
    pub(crate) manifest_path: PathBuf,
    pub(crate) dependencies: Vec<Dependency>,
}

/// One line of a package's dependency tables.
#[derive(Debug, Deserialize)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    /// `None` for a normal dependency, else `dev` or `build`.
    pub(crate) kind: Option<String>,
}

impl Package {
    /// The package's folder relative to the root: `crates/results`.
    pub(crate) fn folder(&self) -> PathBuf {
        let folder = self.manifest_path.parent().unwrap_or(&self.manifest_path);
        folder.strip_prefix(root()).unwrap_or(folder).to_owned()
    }

    /// The short noun of a product crate: `results` for `crates/results`. `None` for the other packages.
    pub(crate) fn noun(&self) -> Option<String> {
        let folder = self.folder();
        let noun = folder.strip_prefix("crates").ok()?;
        Some(noun.display().to_string())
    }
}

/// The packages of the workspace, without their dependencies' packages.
pub(crate) fn metadata(sh: &Shell) -> Result<Metadata> {
    let json = cmd!(sh, "cargo metadata --format-version 1 --no-deps")
        .quiet()
        .read()?;
    serde_json::from_str(&json).context("cargo metadata is not what it was")
}

/// Every file that git tracks or would track, relative to the root, in order.
pub(crate) fn files(sh: &Shell) -> Result<Vec<PathBuf>> {
    let list = cmd!(sh, "git ls-files -z --cached --others --exclude-standard")
        .quiet()
        .read()?;
    let mut files: Vec<PathBuf> = list
        .split('\0')
        .filter(|name| !name.is_empty())
        .map(PathBuf::from)
        .filter(|file| root().join(file).is_file())
        .collect();
    files.sort();
    files.dedup();
    Ok(files)
}

/// The text of a file of the repository, or `None` where it is not text.
pub(crate) fn text(file: &Path) -> Result<Option<String>> {
    let bytes = std::fs::read(root().join(file))
        .with_context(|| format!("cannot read {}", file.display()))?;
    Ok(String::from_utf8(bytes).ok())
}

/// Whether the file's name ends in `.{extension}`.
pub(crate) fn has_extension(file: &Path, extension: &str) -> bool {
    file.extension().is_some_and(|found| found == extension)
}
