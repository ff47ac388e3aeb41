//! One configuration: what it takes, what it is made of, and whether that is right.

use std::{fmt, time::Instant};

use xgraft_cuda_jit::{Nvrtc, Program, Report, Target};
use xgraft_fp8_gemm::kernel::{Kernel, Resources};

use crate::sass::{Counts, Disassembler};

/// What was found of a configuration.
pub(crate) struct Outcome {
    name: String,
    milliseconds: u128,
    bytes: usize,
    report: Report,
    resources: Resources,
    counts: Option<Counts>,
    /// What is not as it must be.
    pub(crate) faults: Vec<String>,
}

pub(crate) fn print_head() {
    println!(
        "\n{:32} {:>5} {:>6} {:>4} {:>6} {:>5} {:>6} {:>6} | {:>5} {:>5} {:>4} {:>4} {:>5} {:>5}",
        "configuration",
        "ms",
        "bytes",
        "regs",
        "spills",
        "stack",
        "shared",
        "pool",
        "QGMMA",
        "HGMMA",
        "HMMA",
        "TMA",
        "SYNCS",
        "local"
    );
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (report, resources) = (&self.report, &self.resources);
        write!(
            f,
            "{:32} {:5} {:6} {:4} {:6} {:5} {:6} {:6} | ",
            self.name,
            self.milliseconds,
            self.bytes,
            report.registers(),
            report.spills(),
            report.stack(),
            resources.shared,
            resources.pool()
        )?;
        match &self.counts {
            Some(c) => write!(
                f,
                "{:5} {:5} {:4} {:4} {:5} {:5} ",
                c.qgmma, c.hgmma, c.hmma, c.utmaldg, c.syncs, c.local
            )?,
            None => write!(
                f,
                "{:>5} {:>5} {:>4} {:>4} {:>5} {:>5} ",
                "-", "-", "-", "-", "-", "-"
            )?,
        }
        match self.faults.as_slice() {
            [] => write!(f, "ok"),
            faults => write!(f, "WRONG: {}", faults.join("; ")),
        }
    }
}

/// Compiles a program as a configuration of a kernel and looks at it.
pub(crate) fn check(
    nvrtc: &Nvrtc,
    disassembler: Option<&Disassembler>,
    kernel: Kernel,
    program: &Program,
) -> Outcome {
    let started = Instant::now();
    let compiled = nvrtc.compile(program);
    let mut outcome = Outcome {
        name: program.name.clone(),
        milliseconds: started.elapsed().as_millis(),
        bytes: 0,
        report: Report::default(),
        resources: kernel.resources(),
        counts: None,
        faults: kernel.resources().fault().into_iter().collect(),
    };
    let compiled = match compiled {
        Ok(compiled) => compiled,
        Err(error) => {
            outcome.faults.push(error.to_string());
            return outcome;
        }
    };
    outcome.bytes = compiled.image.len();
    if matches!(kernel.target(), Target::Ptx(_)) {
        let text = String::from_utf8_lossy(&compiled.image);
        if !text.contains("mma.sync.aligned.m16n8k16") {
            outcome.faults.push("no mma.sync in the PTX".to_owned());
        }
        return outcome;
    }
    outcome.report = compiled.report();
    outcome.faults.extend(log_faults(&outcome.report));
    let Some(disassembler) = disassembler else {
        return outcome;
    };
    let rows = kernel.tile().map_or(0, |tile| tile.rows_b);
    match disassembler.counts(
        &compiled.image,
        &format!("QGMMA.64x{rows}x32.F32.E4M3.E4M3"),
    ) {
        Ok(counts) => {
            outcome.faults.extend(sass_faults(kernel, &counts));
            outcome.counts = Some(counts);
        }
        Err(error) => outcome.faults.push(format!("nvdisasm: {error}")),
    }
    outcome
}

fn log_faults(report: &Report) -> Vec<String> {
    let mut faults = Vec::new();
    if report.kernels.len() != 1 {
        faults.push(format!("{} kernels in the log", report.kernels.len()));
    }
    if report.spills() > 0 {
        faults.push(format!("{} bytes spilled", report.spills()));
    }
    if report.stack() > 0 {
        faults.push(format!("{} bytes of stack", report.stack()));
    }
    if !report.serialized.is_empty() {
        faults.push("wgmma is serialised".to_owned());
    }
    faults
}

fn sass_faults(kernel: Kernel, counts: &Counts) -> Vec<String> {
    let mut faults = Vec::new();
    let mut ask = |fine: bool, fault: &str| {
        if !fine {
            faults.push(fault.to_owned());
        }
    };
    ask(counts.local == 0, "local memory is used");
    ask(
        (counts.waits > 0, counts.leaves > 0) == (kernel.waits(), kernel.waits()),
        "a kernel that begins early and does not wait for the one in front, or the other way round",
    );
    let adds_parts = matches!(
        kernel,
        Kernel::Prefill(_) | Kernel::Decode(_) | Kernel::Quantize(_)
    );
    ask(
        (counts.fences >= 2, counts.atomics > 0) == (adds_parts, adds_parts),
        "parts without fences or without a counter",
    );
    match kernel {
        Kernel::Prefill(tile) | Kernel::Decode(tile) => {
            // Four steps of 32 for each 64 rows of a warp-group.
            let needed = 4 * (tile.rows_a / tile.groups / 64) as usize;
            ask(
                counts.qgmma >= needed,
                "not the FP8 wgmmas of the tile's shape",
            );
            ask(counts.utmaldg >= 3, "no copies by TMA");
            ask(
                (counts.multicast > 0) == (tile.cluster > 1),
                "multicast where there is no cluster, or none where there is one",
            );
            ask(counts.syncs > 0, "no barriers");
            ask(counts.setmaxreg == 2, "not two exchanges of registers");
            ask(
                (counts.hgmma > 0) == tile.lora,
                "BF16 wgmma where there is no adapter, or none where there is one",
            );
        }
        Kernel::Plain(_) | Kernel::Quantize(_) | Kernel::Expand(_) => {
            ask(counts.hmma > 0, "no tensor core");
        }
        Kernel::W8a16 => {}
    }
    faults
}
