//! What a run of `cargo test` came to, read from its output.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

/// The counts, the names of the tests that failed or were ignored, and the lines held back for the end.
#[derive(Debug, Default)]
pub(super) struct Summary {
    /// The package whose unit tests were announced last: cargo goes package by package.
    package: String,
    binary: String,
    binaries: usize,
    passed: usize,
    failed: Vec<String>,
    /// Reason to the tests that give it.
    ignored: BTreeMap<String, Vec<String>>,
    held: Vec<String>,
}

impl Summary {
    /// Reads a line, and returns the lines that may be printed now: all but the closing ones, of which nobody knows yet
    /// whether they are the last.
    pub(super) fn take_in(&mut self, line: &str) -> Vec<String> {
        if let Some(counts) = line.strip_prefix("test result: ") {
            self.binaries += 1;
            self.passed += count(counts, "passed");
        } else if let Some(test) = line.strip_prefix("test ") {
            self.take_in_test(test);
        } else if let Some(binary) = binary_of(line) {
            self.enter(line, binary);
        }
        let closes = line.starts_with("test result: ");
        let opens = binary_of(line).is_some();
        if closes || (opens && !self.held.is_empty()) {
            let ready = std::mem::take(&mut self.held);
            if closes {
                self.held.push(line.to_owned());
                return ready;
            }
            return ready.into_iter().chain([line.to_owned()]).collect();
        }
        if self.held.is_empty() {
            return vec![line.to_owned()];
        }
        self.held.push(line.to_owned());
        Vec::new()
    }

    /// Integration tests are called after their package: `xgraft_results/it`.
    fn enter(&mut self, line: &str, binary: String) {
        if line.trim_start().starts_with("Running unittests") {
            self.package.clone_from(&binary);
            self.binary = binary;
        } else if line.trim_start().starts_with("Running") {
            self.binary = format!("{}/{binary}", self.package);
        } else {
            self.binary = binary;
        }
    }

    fn take_in_test(&mut self, test: &str) {
        let Some((name, outcome)) = test.rsplit_once(" ... ") else {
            return;
        };
        let name = format!("{}: {name}", self.binary);
        if let Some(reason) = outcome.strip_prefix("ignored") {
            let reason = reason.trim_start_matches([',', ' ']).to_owned();
            self.ignored.entry(reason).or_default().push(name);
        } else if outcome == "FAILED" {
            self.failed.push(name);
        }
    }

    /// The summary, and after it cargo's own closing lines.
    pub(super) fn render(&self, elapsed: Duration) -> String {
        let mut out = String::from("\n");
        let ignored: usize = self.ignored.values().map(Vec::len).sum();
        let Self {
            binaries, passed, ..
        } = self;
        let _ = writeln!(
            out,
            "summary: {passed} passed, {} failed, {ignored} ignored in {binaries} test binaries, {:.0} s",
            self.failed.len(),
            elapsed.as_secs_f64()
        );
        for name in &self.failed {
            let _ = writeln!(out, "  FAILED   {name}");
        }
        for (reason, names) in &self.ignored {
            for name in names {
                let _ = writeln!(out, "  ignored  {name} ({reason})");
            }
        }
        out.push('\n');
        for line in &self.held {
            let _ = writeln!(out, "{line}");
        }
        out
    }
}

/// The number before `word` in `ok. 15 passed; 0 failed; ...`.
fn count(counts: &str, word: &str) -> usize {
    counts
        .split([';', '.'])
        .find_map(|part| part.trim().strip_suffix(word)?.trim().parse().ok())
        .unwrap_or(0)
}

/// The short name of the binary that cargo announces: `xgraft_results`, `it`, `xgraft_results doc`.
fn binary_of(line: &str) -> Option<String> {
    let line = line.trim_start();
    if let Some(package) = line.strip_prefix("Doc-tests ") {
        return Some(format!("{package} doc"));
    }
    let (_, path) = line.strip_prefix("Running ")?.rsplit_once('(')?;
    let file = path.trim_end_matches(')').rsplit('/').next()?;
    let (stem, _hash) = file.rsplit_once('-')?;
    Some(stem.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "\
   Compiling a v0.1.0
     Running unittests src/lib.rs (target/debug/deps/a-0123)

running 3 tests
test x::good ... ok
test x::bad ... FAILED
test x::big ... ignored, slow: 2^32 values

test result: FAILED. 1 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s

   Doc-tests a
test src/lib.rs - (line 1) ... ok

test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s

all doctests ran in 0.53s";

    fn read() -> (Vec<String>, Summary) {
        let mut summary = Summary::default();
        let printed = OUTPUT.lines().flat_map(|l| summary.take_in(l)).collect();
        (printed, summary)
    }

    #[test]
    fn every_line_is_printed_once_and_in_order() {
        let (mut printed, summary) = read();
        printed.extend(summary.held.clone());
        assert_eq!(printed.join("\n"), OUTPUT);
    }

    #[test]
    fn the_closing_lines_of_the_last_binary_come_last() {
        let (printed, summary) = read();
        assert!(printed.last().is_some_and(String::is_empty));
        let end = summary.render(Duration::from_secs(2));
        assert!(end.ends_with("finished in 0.00s\n\nall doctests ran in 0.53s\n"));
    }

    #[test]
    fn integration_tests_are_called_after_their_package() {
        let mut summary = Summary::default();
        summary.take_in("     Running unittests src/lib.rs (target/debug/deps/xgraft_a-0123)");
        summary.take_in("     Running tests/it/main.rs (target/debug/deps/it-4567)");
        summary.take_in("test x::big ... ignored, slow: much");
        let text = summary.render(Duration::from_secs(1));
        assert!(text.contains("ignored  xgraft_a/it: x::big (slow: much)"));
    }

    #[test]
    fn counts_and_names_are_summed_over_binaries() {
        let (_, summary) = read();
        let text = summary.render(Duration::from_secs(2));
        assert!(text.contains("summary: 2 passed, 1 failed, 1 ignored in 2 test binaries, 2 s"));
        assert!(text.contains("FAILED   a: x::bad"));
        assert!(text.contains("ignored  a: x::big (slow: 2^32 values)"));
    }
}
