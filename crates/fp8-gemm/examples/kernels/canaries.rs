//! Mistakes that must be found, or the gate is none.

use xgraft_cuda_jit::{Nvrtc, Program};
use xgraft_fp8_gemm::kernel::{Kernel, Tile};

use crate::{check::check, sass::Disassembler};

/// A kernel that is wrong, and a word of the fault that must be told.
struct Canary {
    what: &'static str,
    kernel: Kernel,
    program: Program,
    fault: &'static str,
    /// Whether only the machine code shows it.
    in_sass: bool,
}

const TILE: Tile = Tile {
    rows_a: 128,
    rows_b: 128,
    stages: 6,
    groups: 2,
    cluster: 1,
    lora: false,
};

fn all() -> Vec<Canary> {
    let tile = |rows_a, stages, groups, lora| {
        Kernel::Prefill(Tile {
            rows_a,
            stages,
            groups,
            lora,
            ..TILE
        })
    };
    let canary = |what, kernel: Kernel, fault| Canary {
        what,
        kernel,
        program: kernel.program(),
        fault,
        in_sass: false,
    };
    let edit = |kernel: Kernel, what, from: &str, to: &str, fault| {
        let mut program = kernel.program();
        assert!(program.text.contains(from), "no longer in the text: {from}");
        program.text = program.text.replace(from, to);
        Canary {
            program,
            ..canary(what, kernel, fault)
        }
    };
    let right = tile(128, 6, 2, false);
    let edited = |what, from, to, fault| edit(right, what, from, to, fault);
    let pair = Kernel::Prefill(Tile { cluster: 2, ..TILE });
    vec![
        canary(
            "four warp-groups of 152 registers",
            tile(256, 4, 4, false),
            "registers of",
        ),
        canary(
            "eight slots of 49 KiB",
            tile(256, 8, 2, false),
            "shared memory",
        ),
        canary(
            "three warp-groups with 152 registers for 160",
            tile(192, 4, 3, true),
            "spilled",
        ),
        edited(
            "sums that are read before the wait",
            "  pin(out);\n  wgmma_wait();",
            "",
            "serialised",
        ),
        edited(
            "an array by a run-time index",
            "float scale = work.begin < blocks_end ? __ldg(scales + work.begin) : 0.f;",
            "float scale = 0.f; float spare[64]; for (u32 q = 0; q < 64; ++q) spare[q] = scales[q]; scale = spare[n % 64];",
            "stack",
        ),
        edited(
            "a text that is no C++",
            "WAVES",
            "WAVES WAVES",
            "does not compile",
        ),
        Canary {
            in_sass: true,
            ..edited(
                "no wgmma",
                "  for (u32 step = 0; step < 4; ++step) wgmma_e4m3",
                "  for (u32 step = 0; step < 0; ++step) wgmma_e4m3",
                "not the FP8 wgmmas",
            )
        },
        Canary {
            in_sass: true,
            ..edited(
                "no exchange of registers",
                "MORE(MATH_REGISTERS);",
                "",
                "registers",
            )
        },
        Canary {
            in_sass: true,
            ..edit(
                tile(256, 4, 2, false),
                "half of the rows",
                "for (u32 wave = 0; wave < WAVES; ++wave) {\n          float part",
                "for (u32 wave = 0; wave < 1; ++wave) {\n          float part",
                "not the FP8 wgmmas",
            )
        },
        Canary {
            in_sass: true,
            ..edited(
                "no wait for the kernel in front",
                "  wait_for_previous();\n  let_next",
                "  let_next",
                "does not wait",
            )
        },
        Canary {
            in_sass: true,
            ..edited("parts without fences", "__threadfence();", "", "fences")
        },
        Canary {
            in_sass: true,
            ..edit(
                pair,
                "a pair of blocks that bring each other nothing",
                "tma_load_all(to, map, bar, x, y, ALL_BLOCKS, policy)",
                "tma_load(to, map, bar, x, y, policy)",
                "multicast",
            )
        },
    ]
}

/// Prints each and how it was found; the number that were not.
pub(crate) fn run(nvrtc: &Nvrtc, disassembler: Option<&Disassembler>) -> usize {
    let mut missed = 0;
    for canary in all() {
        if canary.in_sass && disassembler.is_none() {
            println!("  SKIPPED  {}: only the machine code shows it", canary.what);
            continue;
        }
        let outcome = check(nvrtc, disassembler, canary.kernel, &canary.program);
        let found = outcome
            .faults
            .iter()
            .find(|fault| fault.contains(canary.fault));
        match found {
            Some(fault) => println!(
                "  found    {}: {}",
                canary.what,
                fault.lines().next().unwrap_or("")
            ),
            None => {
                println!("  MISSED   {}: {outcome}", canary.what);
                missed += 1;
            }
        }
    }
    missed
}
