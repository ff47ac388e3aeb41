//! What a person should know of the inputs.

use xgraft_results::Finding;

use crate::noise::Noise;
use crate::report::Report;

/// Above this ‖N‖/‖W‖ the quantized checkpoint is not a copy of the original: FP8 leaves 0.03, four bits 0.1.
const RELATED: f64 = 0.5;

/// A random control beyond this many standard deviations is worth a look.
const CONTROL: f64 = 4.0;

pub(crate) fn findings(noises: &[Noise], report: &Report, empty: &[String]) -> Vec<Finding> {
    let mut findings: Vec<Finding> = empty
        .iter()
        .map(|module| {
            Finding::warning(
                "zero-pair",
                module,
                "the adapter's pair is zero here; there is nothing to compare",
            )
        })
        .collect();
    if report.modules.is_empty() {
        findings.push(
            Finding::error(
                "zero-adapter",
                "adapter",
                format!(
                    "expected an update in one of {} modules, found only pairs of zeros",
                    empty.len()
                ),
            )
            .hint("the adapter is as it was before training: take it after"),
        );
    }
    for noise in noises {
        findings.extend(unrelated(noise, report));
        findings.extend(unquantized(noise, report));
    }
    findings.extend(control(report));
    findings
}

/// A quantized checkpoint that is not of its original.
fn unrelated(noise: &Noise, report: &Report) -> Option<Finding> {
    let far = report.modules.iter().flat_map(|m| {
        let these = m.noises.iter().filter(|n| n.noise == noise.label);
        these.map(|n| (m.module.as_str(), n.over_weight))
    });
    let far: Vec<(&str, f64)> = far.filter(|(_, error)| *error > RELATED).collect();
    let (module, error) = far.iter().copied().max_by(|a, b| a.1.total_cmp(&b.1))?;
    Some(
        Finding::error(
            "not-its-copy",
            noise.quantized.dir().display().to_string(),
            format!(
                "expected ‖dequantized − original‖/‖original‖ below {RELATED} as of a quantized copy of {}, found {error:.3} at {module} ({} modules)",
                noise.original.dir().display(),
                far.len()
            ),
        )
        .hint("give as ORIGINAL the very checkpoint that was quantized; or its codes are decoded wrongly")
        .value(error),
    )
}

/// Layers that are as they were.
fn unquantized(noise: &Noise, report: &Report) -> Option<Finding> {
    let same = report
        .modules
        .iter()
        .filter(|m| m.not_quantized.contains(&noise.label));
    let same = same.count();
    let (subject, all) = (
        noise.quantized.dir().display().to_string(),
        report.modules.len(),
    );
    match same {
        0 => None,
        _ if same == all => Some(
            Finding::error(
                "no-noise",
                subject,
                format!(
                    "expected a quantized copy of {}, found equal weights in all {all} modules",
                    noise.original.dir().display()
                ),
            )
            .hint("give the quantized checkpoint after the `=` of --noise"),
        ),
        _ => Some(
            Finding::info(
                "not-quantized",
                subject,
                format!("{same} of {all} modules are not quantized: their noise is zero, and they are left out"),
            )
            .value(same as f64),
        ),
    }
}

/// Random controls that are too far out.
fn control(report: &Report) -> Option<Finding> {
    let controls = report
        .modules
        .iter()
        .flat_map(|m| m.noises.iter().map(|n| (m.module.as_str(), n.random.z)));
    let controls: Vec<(&str, f64)> = controls.collect();
    let out: Vec<_> = controls.iter().filter(|(_, z)| z.abs() > CONTROL).collect();
    let (module, z) = out.iter().max_by(|a, b| a.1.abs().total_cmp(&b.1.abs()))?;
    Some(
        Finding::warning(
            "random-control",
            *module,
            format!(
                "{} of {} random controls lie beyond ±{CONTROL} standard deviations, this one at {z:.1}",
                out.len(),
                controls.len()
            ),
        )
        .hint("one in sixteen thousand does by chance: try another --seed")
        .value(*z),
    )
}
