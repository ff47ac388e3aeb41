//! What a repository must not carry: paths of one machine, hosts of one network, large files.

use crate::workspace;
use anyhow::Result;
use std::path::{Path, PathBuf};

/// First components of absolute paths that exist on somebody's machine only.
const MACHINE_FOLDERS: &[&str] = &[
    "Users",
    "home",
    "mnt",
    "root",
    "scratch",
    "srv",
    "tmp",
    "work",
    "workspace",
];

/// Parts of the names of private hosts: a package mirror, a git server.
const PRIVATE_HOSTS: &[&str] = &[
    "artifactory",
    ".corp",
    ".internal",
    "nexus.",
    "localdomain",
    "pypi-mirror",
];

/// The only package source that the lock file may name.
const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

const LARGEST: u64 = 10 * 1024 * 1024;

pub(super) fn faults(files: &[PathBuf]) -> Result<Vec<String>> {
    let mut faults = Vec::new();
    for file in files {
        let name = file.display();
        let bytes = workspace::root().join(file).metadata()?.len();
        if bytes > LARGEST {
            let mib = bytes >> 20;
            faults.push(format!("{name} has {mib} MiB, more than 10"));
            continue;
        }
        if data_or_this(file) {
            continue;
        }
        let text = workspace::text(file)?.unwrap_or_default();
        for (index, line) in text.lines().enumerate() {
            let fault = line_fault(file, line);
            faults.extend(fault.map(|fault| format!("{name}:{}: {fault}", index + 1)));
        }
    }
    Ok(faults)
}

/// Files whose text is not ours (a tokenizer's vocabulary), and this one.
fn data_or_this(file: &Path) -> bool {
    let name = file.file_name().unwrap_or_default();
    file == Path::new("xtask/src/tidy/text.rs")
        || ["tokenizer.json", "vocab.json", "merges.txt"]
            .iter()
            .any(|data| name == *data)
}

fn line_fault(file: &Path, line: &str) -> Option<String> {
    if let Some(path) = machine_path(line) {
        return Some(format!("path of one machine: {path}"));
    }
    if file == Path::new("Cargo.lock") {
        let source = line.strip_prefix("source = ")?.trim_matches('"');
        return (source != CRATES_IO).then(|| format!("package source {source}"));
    }
    private_host(line).map(|host| format!("private host: {host}"))
}

/// An absolute path below one of [`MACHINE_FOLDERS`].
fn machine_path(line: &str) -> Option<&str> {
    line.match_indices('/').find_map(|(at, _)| {
        let before = line[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || "/.~_-})>*$%".contains(c)) {
            return None;
        }
        let end = line[at..]
            .find(|c: char| c.is_whitespace() || "\"'`)>,;".contains(c))
            .map_or(line.len(), |end| at + end);
        let path = &line[at..end];
        let first = path[1..].split('/').next()?;
        let deeper = path.len() > first.len() + 2;
        (MACHINE_FOLDERS.contains(&first) && deeper).then_some(path)
    })
}

/// The host of a URL that contains one of [`PRIVATE_HOSTS`].
fn private_host(line: &str) -> Option<&str> {
    line.split("://").skip(1).find_map(|rest| {
        let end = rest
            .find(|c: char| !(c.is_ascii_alphanumeric() || ".-_@:".contains(c)))
            .unwrap_or(rest.len());
        let host = &rest[..end];
        PRIVATE_HOSTS
            .iter()
            .any(|part| host.contains(part))
            .then_some(host)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absolute_paths_of_one_machine_are_found() {
        for folder in MACHINE_FOLDERS {
            let path = format!("/{folder}/me/x.");
            assert_eq!(machine_path(&format!("see {path}")), Some(&*path));
            let path = format!("/{folder}/.cache");
            assert_eq!(machine_path(&format!("p = \"{path}\"")), Some(&*path));
        }
    }

    #[test]
    fn urls_relative_paths_and_system_paths_are_fine() {
        for folder in MACHINE_FOLDERS {
            for line in [
                format!("https://example.org/{folder}/me"),
                format!("../{folder}/out"),
                format!("$HOME/{folder}/x"),
                format!("/{folder}"),
            ] {
                assert_eq!(machine_path(&line), None, "{line}");
            }
        }
        for line in ["#!/usr/bin/env bash", "read and/or write"] {
            assert_eq!(machine_path(line), None, "{line}");
        }
    }

    #[test]
    fn private_hosts_are_found_in_urls_only() {
        assert!(private_host("https://artifactory.example.org/pypi").is_some());
        assert!(private_host("https://crates.io/crates/nexus").is_none());
        assert!(private_host("an .internal module").is_none());
    }

    #[test]
    fn the_lock_file_names_one_source() {
        let lock = Path::new("Cargo.lock");
        assert!(line_fault(lock, &format!("source = \"{CRATES_IO}\"")).is_none());
        assert!(line_fault(lock, "source = \"registry+https://example.org/index\"").is_some());
    }
}
