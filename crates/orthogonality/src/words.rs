//! The result in plain words, and not more than it says.

use crate::report::Report;
use crate::summary::{Cosines, NoiseSummary, OverlapSummary, PairSummary};

/// A mean |cosine| within this factor of chance is called chance.
const NEAR: f64 = 1.5;

pub(crate) fn words(report: &Report) -> Vec<String> {
    let whole = &report.whole;
    let mut words: Vec<String> = whole.noises.iter().map(noise).collect();
    words.extend(whole.pairs.iter().map(pair));
    words.extend(whole.overlap.as_ref().map(adapters));
    if !whole.noises.is_empty() {
        words.push(
            "A cosine at chance level proves nothing by itself: independent matrices of this size have it. Whether the adapter \
             works on the quantized base is told by the size of the noise in the adapter's subspace, and by measuring the served model."
                .to_owned(),
        );
    }
    words
}

fn noise(n: &NoiseSummary) -> String {
    let mut text = format!(
        "{}: over {} matrices the noise is {} times the adapter's update; {}. The adapter's column space holds {:.3} % of the noise's energy \
         ({:.3} % by chance), its row space {:.3} % ({:.3} %).",
        n.noise,
        n.modules,
        three(n.over_adapter),
        cosines("the mean |cosine| of noise and update", &n.cosine),
        100.0 * n.left.energy,
        100.0 * n.left.energy_chance,
        100.0 * n.right.energy,
        100.0 * n.right.energy_chance,
    );
    if let Some(snr) = n.snr_inside_db {
        let side = if snr >= 0.0 { "above" } else { "below" };
        text += &format!(
            " Inside both spaces the update stands {:.1} dB {side} the noise.",
            snr.abs()
        );
    }
    text
}

fn pair(p: &PairSummary) -> String {
    format!(
        "{}: {}; the mean with sign is {:+.3}. Noises cancel where they are opposite, reinforce where they are alike, and \
         add as squares where they are independent.",
        p.pair,
        cosines("the mean |cosine| of the two noises", &p.cosine),
        p.cosine.mean
    )
}

fn adapters(o: &OverlapSummary) -> String {
    format!(
        "Two adapters over {} matrices: their column spaces overlap by {:.3} ({:.3} by chance), their row spaces by {:.3} ({:.3}); {}.",
        o.modules,
        o.left,
        o.left_chance,
        o.right,
        o.right_chance,
        cosines("the mean |cosine| of the updates", &o.cosine)
    )
}

fn cosines(what: &str, c: &Cosines) -> String {
    let times = c.mean_abs / c.chance;
    let verdict = if times <= NEAR {
        "which is chance".to_owned()
    } else {
        format!("{} times chance", three(times))
    };
    let (mean, chance) = (three(c.mean_abs), three(c.chance));
    format!("{what} is {mean}, {verdict} ({chance} for independent matrices)")
}

/// Three significant digits, in powers of ten where it is small.
fn three(x: f64) -> String {
    if x != 0.0 && x.abs() < 1e-3 {
        return format!("{x:.2e}");
    }
    let digits = (2.0 - x.abs().max(1e-9).log10().floor()).clamp(0.0, 6.0) as usize;
    format!("{x:.digits$}")
}
