//! The comparison as tables.
//!
//! Every noise has four: sizes, leakage, spectra and cosines, each by projection and by layer; with `--all` also one line a matrix.

use xgraft_orthogonality::{
    Cosine, Cosines, Leakage, ModuleReport, NoiseReport, NoiseSummary, Report, Summary,
};
use xgraft_results::human::percent;

use crate::output::say;
use crate::table::Table;

/// Leading singular values that a line shows.
const LEADING: usize = 4;

pub(super) fn print(report: &Report, all: bool) -> anyhow::Result<()> {
    let whole = [report.whole.clone()];
    let projections: Vec<&Summary> = report.by_projection.iter().chain(&whole).collect();
    let layers: Vec<&Summary> = report.by_layer.iter().chain(&whole).collect();
    for noise in &report.whole.noises {
        let name = &noise.noise;
        say(&format!("{name}: {}", report.convention))?;
        say(
            "ratios of norms are of all numbers of the weights together; cosines, leakage and ranks are means over the weights\n",
        )?;
        for table in [sizes, leakage, spectra, cosines] {
            say(&table("projection", name, &projections).render())?;
            say(&table("layer", name, &layers).render())?;
        }
        if all {
            say(&matrices(name, &report.modules).render())?;
            say(&spectra_of_matrices(name, &report.modules).render())?;
        }
    }
    if !report.whole.pairs.is_empty() {
        say(&pairs(&projections).render())?;
        say(&pairs(&layers).render())?;
    }
    if report.whole.overlap.is_some() {
        say(&overlaps("projection", &projections).render())?;
        say(&overlaps("layer", &layers).render())?;
    }
    if all && !report.whole.pairs.is_empty() {
        say(&pairs_of_matrices(&report.modules).render())?;
    }
    if all && report.whole.overlap.is_some() {
        say(&overlaps_of_matrices(&report.modules).render())?;
    }
    if !all {
        say("one line a matrix, with z of each: --all; everything: --json, or --out\n")?;
    }
    for words in &report.words {
        say(words)?;
    }
    Ok(())
}

/// The summaries that have this noise.
fn of_noise<'a>(
    noise: &'a str,
    groups: &'a [&'a Summary],
) -> impl Iterator<Item = (&'a str, &'a NoiseSummary)> {
    groups.iter().flat_map(move |group| {
        let these = group.noises.iter().filter(move |n| n.noise == noise);
        these.map(|n| (group.name.as_str(), n))
    })
}

/// The matrices that have this noise.
fn of_matrices<'a>(
    noise: &'a str,
    modules: &'a [ModuleReport],
) -> impl Iterator<Item = (&'a ModuleReport, &'a NoiseReport)> {
    modules.iter().flat_map(move |module| {
        let these = module.noises.iter().filter(move |n| n.noise == noise);
        these.map(move |n| (module, n))
    })
}

fn sizes(by: &str, noise: &str, groups: &[&Summary]) -> Table {
    let mut table = Table::new(&[
        by,
        "weights",
        "‖N‖/‖L‖",
        "‖N‖/‖W‖",
        "‖L‖/‖W‖",
        "SNR inside",
        "SNR in U",
    ]);
    for (name, n) in of_noise(noise, groups) {
        table.row(vec![
            name.to_owned(),
            n.modules.to_string(),
            format!("{:.3}", n.over_adapter),
            percent(n.over_weight),
            percent(n.adapter_over_weight),
            decibel(n.snr_inside_db),
            decibel(n.snr_left_db),
        ]);
    }
    table
}

/// Shares of energy beside r/d, and of norm beside √(r/d).
fn leakage(by: &str, noise: &str, groups: &[&Summary]) -> Table {
    let mut table = Table::new(&[
        by,
        "energy in U",
        "r/d",
        "norm in U",
        "√(r/d)",
        "energy in V",
        "r/d",
        "norm in V",
        "√(r/d)",
        "energy in both",
        "r²/mn",
    ]);
    for (name, n) in of_noise(noise, groups) {
        let mut cells = vec![name.to_owned()];
        for side in [n.left, n.right] {
            cells.extend(leakage_cells(&side));
        }
        cells.extend([percent(n.inside.energy), percent(n.inside.energy_chance)]);
        table.row(cells);
    }
    table
}

fn leakage_cells(side: &Leakage) -> [String; 4] {
    [side.energy, side.energy_chance, side.norm, side.norm_chance].map(percent)
}

/// Stable ranks, and the leading singular values over the norm.
fn spectra(by: &str, noise: &str, groups: &[&Summary]) -> Table {
    let mut table = Table::new(&[
        by,
        "stable rank N",
        "stable rank L",
        "σ₁ N / white",
        "leading σ/‖N‖",
        "leading σ/‖L‖",
    ]);
    for (name, n) in of_noise(noise, groups) {
        table.row(vec![
            name.to_owned(),
            format!("{:.1}", n.stable_rank),
            format!("{:.1}", n.adapter_stable_rank),
            format!("{:.2}", n.over_white_edge),
            leading(&n.spectrum, 1.0),
            leading(&n.adapter_spectrum, 1.0),
        ]);
    }
    table
}

/// Mean |cosine| and largest |z| of the noise with the update and with each control.
fn cosines(by: &str, noise: &str, groups: &[&Summary]) -> Table {
    let mut table = Table::new(&[
        by,
        "chance",
        "N·L",
        "max |z|",
        "N·random",
        "max |z|",
        "N·shuffled",
        "max |z|",
        "N·other layer",
        "max |z|",
    ]);
    for (name, n) in of_noise(noise, groups) {
        let mut cells = vec![name.to_owned(), small(n.cosine.chance)];
        for control in [
            Some(n.cosine),
            Some(n.random),
            Some(n.shuffled),
            n.other_layer,
        ] {
            cells.extend(cosines_cells(control));
        }
        table.row(cells);
    }
    table
}

fn cosines_cells(cosines: Option<Cosines>) -> [String; 2] {
    match cosines {
        Some(c) => [small(c.mean_abs), format!("{:.1}", c.max_abs_z)],
        None => ["-".into(), "-".into()],
    }
}

/// One line a matrix.
fn matrices(noise: &str, modules: &[ModuleReport]) -> Table {
    let mut table = Table::new(&[
        "matrix",
        "‖N‖/‖L‖",
        "‖N‖/‖W‖",
        "cos N·L",
        "z",
        "z random",
        "z shuffled",
        "z other",
        "energy in U",
        "r/d",
        "norm in U",
        "√(r/d)",
        "energy in V",
        "r/d",
        "norm in V",
        "√(r/d)",
        "SNR inside",
    ]);
    for (module, n) in of_matrices(noise, modules) {
        let mut cells = vec![
            module.module.clone(),
            format!("{:.3}", n.over_adapter),
            percent(n.over_weight),
        ];
        cells.extend(cosine_cells(&n.cosine));
        let other = n.other_layer.as_ref().map(|o| o.cosine.z);
        for z in [Some(n.random.z), Some(n.shuffled.z), other] {
            cells.push(z.map_or_else(|| "-".into(), |z| format!("{z:+.1}")));
        }
        for side in [n.left, n.right] {
            cells.extend(leakage_cells(&side));
        }
        cells.push(decibel(n.snr_inside_db));
        table.row(cells);
    }
    table
}

fn spectra_of_matrices(noise: &str, modules: &[ModuleReport]) -> Table {
    let mut table = Table::new(&[
        "matrix",
        "stable rank N",
        "stable rank L",
        "σ₁ N / white",
        "leading σ/‖N‖",
        "leading σ/‖L‖",
    ]);
    for (module, n) in of_matrices(noise, modules) {
        table.row(vec![
            module.module.clone(),
            format!("{:.1}", n.stable_rank),
            format!("{:.1}", module.update.stable_rank),
            format!("{:.2}", n.over_white_edge),
            leading(&n.singular_values, n.norm),
            leading(&module.update.singular_values, module.update.norm),
        ]);
    }
    table
}

fn pairs(groups: &[&Summary]) -> Table {
    let mut table = Table::new(&[
        "two noises",
        "weights",
        "mean cos",
        "|cos|",
        "chance",
        "max |z|",
    ]);
    for group in groups {
        for p in &group.pairs {
            table.row(vec![
                format!("{}: {}", p.pair, group.name),
                p.cosine.modules.to_string(),
                format!("{:+.4}", p.cosine.mean),
                small(p.cosine.mean_abs),
                small(p.cosine.chance),
                format!("{:.1}", p.cosine.max_abs_z),
            ]);
        }
    }
    table
}

fn pairs_of_matrices(modules: &[ModuleReport]) -> Table {
    let mut table = Table::new(&["two noises", "cos", "z"]);
    for module in modules {
        for p in &module.pairs {
            let mut cells = vec![format!("{}: {}", p.pair, module.module)];
            cells.extend(cosine_cells(&p.cosine));
            table.row(cells);
        }
    }
    table
}

fn overlaps(by: &str, groups: &[&Summary]) -> Table {
    let mut table = Table::new(&[
        &format!("two adapters by {by}"),
        "weights",
        "U overlap",
        "chance",
        "V overlap",
        "chance",
        "|cos|",
        "chance",
        "max |z|",
    ]);
    for group in groups {
        if let Some(o) = &group.overlap {
            table.row(vec![
                group.name.clone(),
                o.modules.to_string(),
                format!("{:.4}", o.left),
                format!("{:.4}", o.left_chance),
                format!("{:.4}", o.right),
                format!("{:.4}", o.right_chance),
                small(o.cosine.mean_abs),
                small(o.cosine.chance),
                format!("{:.1}", o.cosine.max_abs_z),
            ]);
        }
    }
    table
}

/// The cosines of the principal angles are those of the widest, of the mean and of the narrowest.
fn overlaps_of_matrices(modules: &[ModuleReport]) -> Table {
    let mut table = Table::new(&[
        "two adapters",
        "U overlap",
        "chance",
        "U angles' cos",
        "V overlap",
        "chance",
        "V angles' cos",
        "cos",
        "z",
    ]);
    for module in modules {
        let Some(o) = &module.overlap else { continue };
        let mut cells = vec![module.module.clone()];
        for side in [&o.left, &o.right] {
            cells.push(format!("{:.4}", side.overlap));
            cells.push(format!("{:.4}", side.chance));
            cells.push(format!("{:.2} {:.2} {:.2}", side.min, side.mean, side.max));
        }
        cells.extend(cosine_cells(&o.cosine));
        table.row(cells);
    }
    table
}

fn cosine_cells(cosine: &Cosine) -> [String; 2] {
    [
        format!("{:+.1e}", cosine.value),
        format!("{:+.1}", cosine.z),
    ]
}

fn leading(values: &[f64], norm: f64) -> String {
    let values = values.iter().take(LEADING);
    let values: Vec<String> = values.map(|x| format!("{:.3}", x / norm)).collect();
    values.join(" ")
}

fn decibel(snr: Option<f64>) -> String {
    snr.map_or_else(|| "-".into(), |x| format!("{x:+.1} dB"))
}

/// An absolute cosine, which may be next to nothing.
fn small(x: f64) -> String {
    if x < 0.01 {
        format!("{x:.1e}")
    } else {
        format!("{x:.3}")
    }
}
