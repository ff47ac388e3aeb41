//! A kernel's text, put together.

use std::fmt::Write as _;

use super::{Kernel, Tile};
use crate::{layout::Descriptor, ring::Ring};

const DEVICE: &str = include_str!("../../kernels/device.cuh");
const COMMON: &str = include_str!("../../kernels/common.cuh");
const HOPPER: &str = include_str!("../../kernels/hopper.cuh");
const FP8: &str = include_str!("../../kernels/fp8.cuh");
const RING_GEMM: &str = include_str!("../../kernels/ring_gemm.cuh");
const PREFILL: &str = include_str!("../../kernels/prefill.cu");
const DECODE: &str = include_str!("../../kernels/decode.cu");
const PLAIN: &str = include_str!("../../kernels/plain.cu");
const QUANTIZE: &str = include_str!("../../kernels/quantize.cu");
const EXPAND: &str = include_str!("../../kernels/expand.cu");
const W8A16: &str = include_str!("../../kernels/w8a16.cu");

/// The whole text of a kernel.
pub(super) fn of(kernel: Kernel) -> String {
    let parts = match kernel {
        Kernel::Prefill(tile) => ring_parts(kernel, tile, tile.rows_a, PREFILL),
        Kernel::Decode(tile) => ring_parts(kernel, tile, tile.rows_b, DECODE),
        Kernel::Plain | Kernel::PlainPtx => vec![PLAIN.to_owned()],
        Kernel::Quantize => hopper_parts(QUANTIZE),
        Kernel::Expand => hopper_parts(EXPAND),
        Kernel::W8a16 => hopper_parts(W8A16),
    };
    let head = [DEVICE.to_owned(), COMMON.to_owned()];
    head.into_iter().chain(parts).collect()
}

fn hopper_parts(body: &str) -> Vec<String> {
    [&descriptor(), HOPPER, FP8, body]
        .map(str::to_owned)
        .to_vec()
}

fn ring_parts(kernel: Kernel, tile: Tile, scales: u32, body: &str) -> Vec<String> {
    let ring = kernel.ring().unwrap_or_else(|| Ring::new(tile.stages, 1));
    let mut wrappers = wgmma("wgmma_e4m3", tile.rows_b, "k32.f32.e4m3.e4m3", "1, 1");
    if tile.lora {
        let layout = "1, 1, 0, 0"; // neither operand negated, neither transposed
        wrappers += &wgmma("wgmma_bf16", tile.rows_b, "k16.f32.bf16.bf16", layout);
    }
    vec![
        macros(kernel, tile, scales),
        ring.header(),
        descriptor(),
        HOPPER.to_owned(),
        wrappers,
        RING_GEMM.to_owned(),
        body.to_owned(),
    ]
}

/// The sizes that the text leaves open.
pub(super) fn macros(kernel: Kernel, tile: Tile, scales: u32) -> String {
    let resources = kernel.resources();
    let mut text = String::new();
    for (name, value) in [
        ("ROWS_A", tile.rows_a),
        ("ROWS_B", tile.rows_b),
        ("SCALES", scales),
        ("MATH_GROUPS", tile.groups),
        ("PRODUCER_REGISTERS", resources.producer_registers),
        ("MATH_REGISTERS", resources.math_registers),
    ] {
        // Without `u`: some stand in assembly.
        let _ = writeln!(text, "#define {name} {value}");
    }
    if tile.lora {
        text += "#define LORA\n";
    }
    text
}

fn descriptor() -> String {
    format!("#define DESCRIPTOR {:#x}ull\n", Descriptor::fixed())
}

/// The function around one wgmma of 64 × `n`: all of its registers are named, as the assembler wants it.
pub fn wgmma(name: &str, n: u32, kind: &str, immediates: &str) -> String {
    let registers = n / 2;
    let list = |item: &dyn Fn(u32) -> String| -> String {
        let all: Vec<String> = (0..registers).map(item).collect();
        all.join(", ")
    };
    let (places, operands) = (
        list(&|i| format!("%{i}")),
        list(&|i| format!("\"+f\"(d[{i}])")),
    );
    let (a, b, add) = (registers, registers + 1, registers + 2);
    format!(
        "DEVICE void {name}(float (&d)[{registers}], u64 a, u64 b, int add) {{\n  \
         asm volatile(\"{{\\n.reg .pred p;\\nsetp.ne.b32 p, %{add}, 0;\\n\"\n    \
         \"wgmma.mma_async.sync.aligned.m64n{n}{kind} {{{places}}}, %{a}, %{b}, p, {immediates};\\n}}\\n\"\n    \
         : {operands} : \"l\"(a), \"l\"(b), \"r\"(add));\n}}\n"
    )
}
