//! Methods A, B and C beside each other, by the weights that they serve.

mod arm;
mod by_noise;
mod by_rank;

use crate::inputs::Inputs;
use crate::{Result, Section, Table};
use arm::Pair;
use xgraft_results::human::{number, percent};

/// Longer tables are folded.
const LISTED: usize = 40;

pub(super) fn section(inputs: &Inputs) -> Result<Option<Section>> {
    let pairs = arm::pairs(inputs);
    if pairs.is_empty() {
        return Ok(None);
    }
    let mut section = Section::new("Methods A, B and C, by the weights that they serve")
        .say(
            "A extracts the delta of the tuned and the base weights and serves it on the quantized base. B extracts the delta of the \
             tuned and the quantized base, so that its pair also corrects quantization noise. C quantizes the tuned weights themselves. \
             N is the noise of quantization, dequantized − original, and ΔW the fine-tune, tuned − base; both over all linear layers.",
        )
        .say(
            "Weight error is ‖served − tuned‖/‖tuned‖. By Eckart and Young no pair of its rank comes nearer to the tuned weights than \
             B's, so B's error is never above A's; that says nothing of accuracy. Delta cosine is that of served − base and tuned − base: \
             how much of what is served, beside the base, is the fine-tune.",
        );
    if let Some(figure) = by_noise::figure(&pairs)? {
        section = section.figure(figure);
    }
    if let Some(figure) = by_rank::figure(&pairs)? {
        section = section.figure(figure);
    }
    Ok(Some(section.table(table(&pairs).folded_above(LISTED))))
}

fn table(pairs: &[Pair<'_>]) -> Table {
    let mut table = Table::new(
        "Every arm. The least error is the Eckart-Young bound of the rank on that base.",
        [
            ("pair", false),
            ("format", false),
            ("‖N‖/‖ΔW‖", true),
            ("method", false),
            ("rank", true),
            ("weight error", true),
            ("least error", true),
            ("without adapter", true),
            ("delta cosine", true),
            ("sign kept", true),
        ],
    );
    for arm in pairs.iter().flat_map(|pair| &pair.arms) {
        let cell =
            |metric, show: fn(f64) -> String| arm.get(metric).map_or_else(|| "–".to_owned(), show);
        table.push([
            if arm.pair.is_empty() { "–" } else { arm.pair }.to_owned(),
            arm.scheme.to_owned(),
            cell("total_noise_ratio", number),
            arm.method.to_owned(),
            arm.rank
                .map_or_else(|| "–".to_owned(), |rank| rank.to_string()),
            cell("total_relative_error", percent),
            cell("total_bound", percent),
            cell("total_base_error", percent),
            cell("total_delta_cosine", number),
            cell("total_delta_sign_agreement", percent),
        ]);
    }
    table
}
