//! The gate of the kernels without a GPU: compiles every configuration, looks at what came out, and at mistakes that were
//! planted and must be found. `cargo xtask kernels` runs it.
//!
//! It prints a line a configuration and exits with 1 where one is not as it must be. Without NVRTC it says so and exits with 0,
//! or with 1 if `--require` is given. `--ship FOLDER` compiles every image into a folder with a manifest of digests instead, for
//! machines that have a GPU and no compiler.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program that prints what it found"
)]

mod accuracy;
mod canaries;
mod check;
mod sass;

use std::process::ExitCode;

use xgraft_cuda_jit::{Nvrtc, Program, Shipped};
use xgraft_fp8_gemm::{
    kernel::all,
    ring::{Ring, interpret},
};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [ship, folder] = arguments.as_slice()
        && ship == "--ship"
    {
        return self::ship(folder);
    }
    let required = arguments.iter().any(|argument| argument == "--require");
    accuracy::print();
    let mut faults = rings();
    let nvrtc = match Nvrtc::find() {
        Ok(nvrtc) => nvrtc,
        Err(error) => {
            println!("kernels: compilation SKIPPED: {error}");
            return if required {
                ExitCode::FAILURE
            } else {
                verdict(faults, "not compiled here; the ring is as it must be")
            };
        }
    };
    println!("\nNVRTC {} ({})", nvrtc.version(), nvrtc.path().display());
    let disassembler = sass::Disassembler::find(&nvrtc);
    match &disassembler {
        Some(found) => println!("nvdisasm {}", found.path().display()),
        None => println!(
            "nvdisasm SKIPPED: not beside NVRTC and not in PATH, so no instruction is counted"
        ),
    }
    check::print_head();
    for kernel in all() {
        let outcome = check::check(&nvrtc, disassembler.as_ref(), kernel, &kernel.program());
        println!("{outcome}");
        faults += outcome.faults.len();
    }
    println!("\nplanted, and to be found:");
    faults += canaries::run(&nvrtc, disassembler.as_ref());
    verdict(faults, "as they must be; run on no GPU here")
}

/// What images are shipped from: later ones may need a later driver, and the tables of the pages are its.
const PINNED: &str = "13.0";

/// Every image into a folder.
fn ship(folder: &str) -> ExitCode {
    let programs: Vec<Program> = all().iter().map(|kernel| kernel.program()).collect();
    let nvrtc = match Nvrtc::find() {
        Ok(nvrtc) => nvrtc,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    if nvrtc.version().to_string() != PINNED {
        eprintln!(
            "error: {} is NVRTC {}; images are shipped from {PINNED} (pip install nvidia-cuda-nvrtc==13.0.88, named by XGRAFT_NVRTC)",
            nvrtc.path().display(),
            nvrtc.version()
        );
        return ExitCode::FAILURE;
    }
    match Shipped::build(folder, &nvrtc, &programs) {
        Ok(shipped) => {
            let images = &shipped.manifest().images;
            let bytes: u64 = images.iter().map(|image| image.bytes).sum();
            let compiler = &shipped.manifest().compiler;
            println!(
                "{} images, {bytes} bytes, by {compiler}, in {folder}",
                images.len()
            );
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn verdict(faults: usize, right: &str) -> ExitCode {
    if faults == 0 {
        println!("kernels: {right}");
        return ExitCode::SUCCESS;
    }
    eprintln!("kernels: {faults} faults");
    ExitCode::FAILURE
}

/// The ring's table in every order, and every table with a step left out.
fn rings() -> usize {
    let mut faults = 0;
    let rings = [
        (Ring::new(2, 2, 1), 9),
        (Ring::new(3, 2, 1), 9),
        (Ring::new(4, 2, 1), 9),
        (Ring::new(3, 3, 1), 7),
        (Ring::new(3, 2, 1).with_early(), 7),
        (Ring::new(2, 1, 2), 5),
        (Ring::new(2, 2, 2), 3),
    ];
    for (ring, slots) in &rings {
        let Ring {
            stages,
            consumers,
            cluster,
            early,
            ..
        } = ring;
        let name = format!(
            "ring of {stages}, {consumers} consumers, {cluster} blocks, {early} early, {slots} slots"
        );
        match interpret(ring, *slots) {
            Ok(states) => println!("{name}: no fault in {states} states"),
            Err(fault) => {
                println!("{name}: {fault:?}");
                faults += 1;
            }
        }
    }
    let (mut planted, mut found) = (0, 0);
    for (whole, slots) in [
        (Ring::new(3, 2, 1), 8),
        (Ring::new(3, 2, 1).with_early(), 8),
        (Ring::new(2, 1, 2), 4),
    ] {
        for role in 0..2 {
            let steps = if role == 0 {
                whole.producer.len()
            } else {
                whole.consumer.len()
            };
            for at in 0..steps {
                let mut ring = whole.clone();
                let steps = if role == 0 {
                    &mut ring.producer
                } else {
                    &mut ring.consumer
                };
                steps.remove(at);
                planted += 1;
                found += usize::from(interpret(&ring, slots).is_err());
            }
        }
    }
    println!("ring with one step left out: {found} of {planted} found");
    faults + planted - found
}
