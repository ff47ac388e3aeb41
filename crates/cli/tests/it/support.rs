//! Running the binary.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

pub(crate) fn fixture(name: &str) -> String {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fixtures")
        .join(name);
    path.to_str().unwrap().to_owned()
}

/// Runs `xgraft` and gives its output.
pub(crate) fn xgraft(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_xgraft"))
        .args(args)
        .output()
        .unwrap()
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Runs `xgraft` and demands success.
pub(crate) fn succeed(args: &[&str]) -> String {
    let output = xgraft(args);
    assert!(
        output.status.success(),
        "xgraft {args:?}\n{}",
        stderr(&output)
    );
    stdout(&output)
}

/// Extracts an adapter of this rank, with more arguments, and gives what is printed.
pub(crate) fn extract(
    (base, tuned): (&str, &str),
    rank: usize,
    out: &str,
    more: &[&str],
) -> String {
    let rank = rank.to_string();
    let head = [
        "extract", "--base", base, "--tuned", tuned, "--rank", &rank, "--out", out,
    ];
    succeed(&[&head[..], more].concat())
}

/// Copies a fixture directory, so that it can be damaged.
pub(crate) fn copy(from: &str, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}
