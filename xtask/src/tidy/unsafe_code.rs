//! `unsafe` stands only in the files listed here, and each of them says why.

use super::source;
use crate::workspace::{self, has_extension};
use anyhow::Result;
use std::path::{Path, PathBuf};

/// Files, or folders of files, that may hold `unsafe`.
const FILES: &[&str] = &[
    "benches/gpu/src/lib.rs",
    "benches/src",
    "crates/autopsy/src/arch",
    "crates/balancer/src/fleet/spawn.rs",
    "crates/checkpoint/src/read/mapped.rs",
    "crates/checkpoint/src/sys.rs",
    "crates/cpu-gemm/src/arch",
    "crates/cuda-jit/src/ffi",
    "crates/eval/src/sandbox/namespace.rs",
    "crates/fp8-codec/src/arch",
    "crates/fp8-gemm/src/cuda.rs",
    "crates/int-codec/src/arch",
    "crates/matmul/src/lanes",
    "crates/server/src/sampling/isa.rs",
];

pub(super) fn faults(files: &[PathBuf]) -> Result<Vec<String>> {
    let mut faults = Vec::new();
    let mut used = Vec::new();
    for file in files.iter().filter(|file| has_extension(file, "rs")) {
        let text = workspace::text(file)?.unwrap_or_default();
        let Some(line) = first_unsafe(&text) else {
            continue;
        };
        match FILES.iter().find(|entry| file.starts_with(entry)) {
            None => faults.push(format!(
                "{}:{line}: unsafe in a file that is not listed",
                file.display()
            )),
            Some(entry) => used.push(*entry),
        }
        faults.extend(reason_fault(file, &text));
    }
    let idle = FILES.iter().filter(|entry| !used.contains(entry));
    faults.extend(idle.map(|entry| format!("{entry} is listed for unsafe and has none")));
    Ok(faults)
}

/// The number of the first line with the keyword.
fn first_unsafe(text: &str) -> Option<usize> {
    let code = source::code(text);
    let at = code
        .lines()
        .position(|line| source::has_word(line, "unsafe"))?;
    Some(at + 1)
}

/// The lint is denied for the workspace, so a file or its module lifts it, with a reason.
fn reason_fault(file: &Path, text: &str) -> Option<String> {
    let lifted = text.contains("unsafe_code") && text.contains("reason = ");
    (!lifted).then(|| {
        let file = file.display();
        format!("{file}: write #![expect(unsafe_code, reason = \"...\")] in this file")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keyword_counts_and_the_lint_name_does_not() {
        assert_eq!(first_unsafe("#![deny(unsafe_code)]\n// unsafe\n"), None);
        assert_eq!(first_unsafe("\nfn f() { unsafe { g() } }"), Some(2));
    }

    #[test]
    fn a_reason_is_asked_for() {
        let file = Path::new("a.rs");
        assert!(reason_fault(file, "unsafe fn f() {}").is_some());
        assert!(reason_fault(file, "#![expect(unsafe_code, reason = \"SIMD\")]").is_none());
    }
}
