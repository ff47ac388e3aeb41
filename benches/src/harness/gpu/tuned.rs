//! The table of measured choices that a run gives: `crates/fp8-gemm/src/plan/measured.txt`.

use super::folder::{Folder, Sample};
use anyhow::Result;
use std::{collections::BTreeMap, fmt::Write as _};

/// One row for each number of tokens that was timed, up to the next one.
pub(super) fn table(run: &Folder) -> Result<String> {
    let identity = &run.machine["identity"];
    let gpu = identity["name"].as_str().unwrap_or("an unknown GPU");
    let multiprocessors = run.machine["multiprocessors"].as_u64().unwrap_or(132);
    let mut text = format!(
        "# What was measured to be fastest on {gpu}, by the median of graphs of launches: one row a class of shapes, found in this order.\n\
         # multiprocessors  n  k  least-m  most-m  kernel  blocks-or-band\n"
    );
    let ours = run
        .samples
        .iter()
        .filter(|sample| sample.name == "xgraft" && sample.n > 0);
    // What was not tuned was guessed, and is no measured choice.
    let ours = ours.filter(|sample| run.tuned.contains(&(sample.layer.clone(), sample.m)));
    let mut of: BTreeMap<(u32, u32), BTreeMap<u32, &Sample>> = BTreeMap::new();
    for sample in ours.filter(|sample| sample.error.is_none()) {
        of.entry((sample.n, sample.k))
            .or_default()
            .insert(sample.m, sample);
    }
    for ((n, k), by_m) in of {
        let mut least = 1;
        for (m, sample) in by_m {
            let config = sample.config.as_deref().unwrap_or("");
            if let Some((kernel, number)) = config.split_once('/') {
                writeln!(
                    text,
                    "{multiprocessors} {n} {k} {least} {m} {kernel} {number}"
                )?;
            }
            least = m + 1;
        }
    }
    Ok(text)
}
