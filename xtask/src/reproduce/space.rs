//! Room on the disk.

use super::{plan::prices, recipe::Recipe, steps::Step, units};
use crate::workspace;
use anyhow::Result;
use std::path::{Path, PathBuf};
use xshell::{Shell, cmd};

/// Bytes that can be written where `path` is or will be; `None` where `df` does not say.
pub(super) fn free(sh: &Shell, path: &Path) -> Option<u64> {
    let there = existing(&workspace::root().join(path));
    let table = cmd!(sh, "df -Pk {there}")
        .quiet()
        .ignore_stderr()
        .read()
        .ok()?;
    parse(&table)
}

/// The nearest folder above that exists.
fn existing(path: &Path) -> PathBuf {
    let mut folders = path.ancestors();
    let there = folders.find(|folder| folder.exists());
    there.unwrap_or(Path::new("/")).to_owned()
}

/// The fourth column of the second line, in KiB.
fn parse(table: &str) -> Option<u64> {
    let line = table.lines().nth(1)?;
    let kib: u64 = line.split_whitespace().nth(3)?.parse().ok()?;
    Some(kib * 1024)
}

/// Says so before hours are spent, where the prices say that the disk will not do.
pub(super) fn warn_if_short(sh: &Shell, recipe: &Recipe, steps: &[Step]) -> Result<()> {
    let there = |step: &Step| workspace::root().join(&step.out).exists();
    let prices = prices(recipe, steps)?;
    let todo = steps.iter().zip(&prices).filter(|(step, _)| !there(step));
    let needed: u64 = todo.map(|(_, price)| price.writes).sum();
    let Some(out) = steps.first().map(|step| &step.out) else {
        return Ok(());
    };
    if let Some(free) = free(sh, out).filter(|free| *free < needed) {
        let (needed, free) = (units::bytes(needed), units::bytes(free));
        eprintln!("warning: the steps will write about {needed}, and {free} are free");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_portable_table_is_read() {
        let table =
            "Filesystem 1024-blocks Used Available Capacity Mounted on\n/dev/x 100 60 40 60% /\n";
        assert_eq!(parse(table), Some(40 * 1024));
        assert_eq!(parse("nonsense"), None);
    }

    #[test]
    fn a_path_that_is_not_there_lies_where_its_folder_is() {
        let root = workspace::root();
        assert_eq!(existing(&root.join("no/such/folder")), root);
    }
}
