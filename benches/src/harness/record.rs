//! Keeping a run: `benches/runs/<date>-<machine>/{README.md,raw.jsonl,rows.jsonl}`.

use super::{
    Programs, Table,
    balance::routers::{HAPROXY, haproxy_program},
    machine::{Machine, first_line, load},
};
use anyhow::{Context, Result};
use std::{
    fs,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};
use xgraft_results::{Row, jsonl};

/// A run under way.
#[derive(Debug)]
pub struct Record {
    folder: PathBuf,
    command: String,
    machine: Machine,
    load_before: String,
}

impl Record {
    /// Begins a run that will be kept in a new folder below `runs`.
    #[must_use]
    pub fn begin(runs: &Path, command: String) -> Self {
        let machine = Machine::here();
        let name = format!("{}-{}", today(), machine.short_name());
        let numbered = (2..).map(|n| runs.join(format!("{name}-{n}")));
        let mut names = std::iter::once(runs.join(&name)).chain(numbered);
        Self {
            folder: names.find(|path| !path.exists()).unwrap_or_default(),
            command,
            machine,
            load_before: load(),
        }
    }

    /// Writes what was measured; gives the folder.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn write(&self, programs: &Programs, table: &Table) -> Result<&Path> {
        let folder = &self.folder;
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let mut raw = String::new();
        for sample in &programs.samples.0 {
            raw += &serde_json::to_string(sample)?;
            raw.push('\n');
        }
        fs::write(folder.join("raw.jsonl"), raw)?;
        let rows: Vec<Row> = table.0.iter().filter_map(row).collect();
        jsonl::write_file(&folder.join("rows.jsonl"), &rows)?;
        fs::write(folder.join("README.md"), self.readme(programs, table))?;
        Ok(folder)
    }

    fn readme(&self, programs: &Programs, table: &Table) -> String {
        let Self {
            command, machine, ..
        } = self;
        let Machine {
            processor,
            cores,
            memory_gib,
        } = machine;
        let (before, after) = (&self.load_before, load());
        let revision = first_line("git", &["describe", "--always", "--dirty", "--abbrev=12"]);
        let rustc = first_line("rustc", &["--version"]);
        let kernel = first_line("uname", &["-sr"]);
        let rounds = programs.rounds();
        let quick = if programs.quick {
            "\n**A quick run: it tries the harness and measures nothing.**\n"
        } else {
            ""
        };
        format!(
            "# Benchmark run of {date}\n{quick}\n\
             `{command}`\n\n\
             | | |\n|---|---|\n\
             | processor | {processor}, {cores} cores |\n\
             | memory | {memory_gib:.0} GiB |\n\
             | system | {kernel} |\n\
             | load average before and after | {before}; {after} |\n\
             | revision | {revision} |\n\
             | compiler | {rustc}, release profile |\n\
             | peers | {peers} |\n\n\
             Ours and theirs ran by turns, {rounds} rounds. Ratios with one thread are of the smallest CPU times, because the machine may have \
             been shared; what is said of two threads and of whole jobs is wall time. Every sample is in `raw.jsonl`, the table's numbers \
             are in `rows.jsonl`.\n\n{table}",
            date = today(),
            peers = peers(programs),
            table = table.markdown(),
        )
    }
}

fn row(line: &super::Line) -> Option<Row> {
    let value = line.value.filter(|value| value.is_finite())?;
    Some(Row::new(line.metric, value).source("bench").arm(&line.what))
}

/// The peers' versions.
fn peers(programs: &Programs) -> String {
    let print = |python: &Path, script| first_line(&python.display().to_string(), &["-c", script]);
    let python = programs.python.as_ref().map(|python| {
        print(
            python,
            "import importlib.metadata as m, sys\n\
             names = ['torch', 'compressed-tensors', 'mergekit', 'numpy']\n\
             print('Python ' + sys.version.split()[0], *[n + ' ' + m.version(n) for n in names], sep=', ')",
        )
    });
    let llama = programs.llama.as_ref().map(|python| {
        print(
            python,
            "import llama_cpp as l\n\
             print('llama.cpp of llama-cpp-python', l.__version__, 'with', l.llama_print_system_info().decode().replace('|', ','))",
        )
    });
    let routers = programs.routers.as_ref().map(|python| {
        print(
            python,
            "import importlib.metadata as m\n\
             print(*[n + ' ' + m.version(n) for n in ['vllm-router', 'sglang-router']], sep=', ')",
        )
    });
    let haproxy = haproxy_program()
        .filter(|_| {
            programs
                .samples
                .0
                .iter()
                .any(|sample| sample.who == HAPROXY)
        })
        .map(|program| first_line(&program.display().to_string(), &["-v"]));
    let found: Vec<String> = [python, llama, routers, haproxy]
        .into_iter()
        .flatten()
        .collect();
    if found.is_empty() {
        "none was there".to_owned()
    } else {
        found.join("; ")
    }
}

/// The date in UTC: `2026-11-21`.
pub(super) fn today() -> String {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let (year, month, day) = civil(now.as_secs() / 86_400);
    format!("{year:04}-{month:02}-{day:02}")
}

/// Year, month and day of a number of days since 1970 (Hinnant, "chrono-compatible low-level date algorithms").
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_become_dates() {
        assert_eq!(civil(0), (1970, 1, 1));
        assert_eq!(civil(11_016), (2000, 2, 29));
        assert_eq!(civil(20_778), (2026, 11, 21));
    }
}
