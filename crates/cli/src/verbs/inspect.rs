//! `xgraft inspect`

use std::process::ExitCode;
use xgraft_results::human::bytes;

use xgraft_autopsy::{Inspection, TensorEntry, inspect, name_pattern};

use crate::args::{Always, Inspect};
use crate::output::{judged, print_grouped, say, say_json};
use crate::table::Table;

/// The most findings of one kind that are printed.
const LIST_FINDINGS: usize = 8;

pub(crate) fn run(args: &Inspect, always: &Always) -> anyhow::Result<ExitCode> {
    let inspection = inspect(&args.dir)?;
    if always.json {
        say_json(&inspection)?;
    } else {
        print(&inspection, args.all)?;
        print_grouped(&inspection.findings, LIST_FINDINGS);
    }
    Ok(judged(inspection.passed()))
}

fn print(inspection: &Inspection, all: bool) -> anyhow::Result<()> {
    let mut table = Table::new(&[
        "tensor", "count", "role", "dtype", "shape", "layout", "scales", "bytes",
    ]);
    for line in lines(&inspection.tensors, all) {
        let (first, count, total) = line;
        let name = if all {
            first.name.clone()
        } else {
            name_pattern(&first.name)
        };
        table.row(vec![
            name,
            count.to_string(),
            first.role.clone(),
            first.dtype.to_owned(),
            format!("{:?}", first.shape),
            first.layout.to_string(),
            first.scales.clone().unwrap_or_default(),
            bytes(total),
        ]);
    }
    say(&table.render())?;
    say(&format!(
        "{}: {} tensors, {} in {} {}",
        inspection.model_type.as_deref().unwrap_or("unknown model"),
        inspection.tensors.len(),
        bytes(inspection.bytes),
        inspection.files.len(),
        if inspection.files.len() == 1 {
            "file"
        } else {
            "files"
        },
    ))?;
    say(&format!("layout by config.json: {}", declared(inspection)))?;
    say(&format!("layout by the tensors: {}", found(inspection)))
}

/// The first tensor of each line, how many are like it, and their bytes.
fn lines(tensors: &[TensorEntry], all: bool) -> Vec<(&TensorEntry, usize, u64)> {
    let mut lines: Vec<(&TensorEntry, usize, u64)> = Vec::new();
    for tensor in tensors {
        let alike = |first: &TensorEntry| {
            !all && (first.dtype, &first.shape, first.layout, &first.scales)
                == (tensor.dtype, &tensor.shape, tensor.layout, &tensor.scales)
                && name_pattern(&first.name) == name_pattern(&tensor.name)
        };
        match lines.iter_mut().find(|(first, ..)| alike(first)) {
            Some((_, count, total)) => {
                *count += 1;
                *total += tensor.bytes;
            }
            None => lines.push((tensor, 1, tensor.bytes)),
        }
    }
    lines
}

fn declared(inspection: &Inspection) -> String {
    let Some(declared) = &inspection.declared else {
        return "unknown, it cannot be read".to_owned();
    };
    let Some(method) = &declared.method else {
        return "no quantization".to_owned();
    };
    let layouts: Vec<&str> = declared.layouts.iter().map(|l| l.name()).collect();
    let scales = declared
        .scales
        .as_ref()
        .map_or_else(String::new, |s| format!(", one scale for each {s}"));
    format!("{method} ({}{scales})", layouts.join(", "))
}

fn found(inspection: &Inspection) -> String {
    let part = |count: &xgraft_autopsy::LayoutCount| {
        let scales = match count.scales.is_empty() {
            true => String::new(),
            false => format!(", one scale for each {}", count.scales.join(" or ")),
        };
        format!("{} in {} modules{scales}", count.layout, count.modules)
    };
    inspection
        .found
        .iter()
        .map(part)
        .collect::<Vec<_>>()
        .join("; ")
}
