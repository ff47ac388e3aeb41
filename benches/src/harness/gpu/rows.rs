//! Rows that figures are drawn from.

use super::{
    floor::{self, Peaks},
    folder::Folder,
};
use xgraft_results::Row;

/// Every time with its tenth and ninetieth percentile, and what each product costs at least.
pub(super) fn all(run: &Folder, peaks: Peaks) -> Vec<Row> {
    let mut rows = vec![
        Row::new("peak_bytes", peaks.bytes_per_s).unit("bytes/s"),
        Row::new("peak_flops", peaks.flops_per_s).unit("flop/s"),
    ];
    let mut shapes: Vec<(String, (u32, u32, u32))> = Vec::new();
    for sample in &run.samples {
        let (ordered, task) = (sample.ordered(), task(sample.m));
        let Some(median) = sample.median() else {
            continue;
        };
        let at = |share: f64| ordered[(share * (ordered.len() - 1) as f64).round() as usize];
        rows.push(
            Row::new("kernel_us", median)
                .unit("us")
                .n(ordered.len() as u64)
                .interval(at(0.1), at(0.9))
                .arm(sample.arm())
                .module(&sample.layer)
                .task(&task),
        );
        let shape = (sample.m, sample.n, sample.k);
        if sample.n > 0 && !shapes.contains(&(sample.layer.clone(), shape)) {
            shapes.push((sample.layer.clone(), shape));
        }
    }
    for (layer, shape) in shapes {
        for (metric, value, unit) in [
            ("kernel_floor_us", floor::microseconds(peaks, shape), "us"),
            ("kernel_bytes", floor::bytes(shape), "bytes"),
            ("kernel_flops", floor::flops(shape), "flop"),
        ] {
            let row = Row::new(metric, value).unit(unit);
            rows.push(row.module(&layer).task(task(shape.0)));
        }
    }
    rows
}

fn task(m: u32) -> String {
    format!("m={m}")
}
