//! A kernel's text, put together.

use std::fmt::Write as _;

use super::{Form, Kernel, Tile};
use crate::layout::Descriptor;

const DEVICE: &str = include_str!("../../kernels/device.cuh");
const ARITHMETIC: &str = include_str!("../../kernels/arithmetic.cuh");
const HOST: &str = include_str!("../../kernels/host/host.h");
const HOST_MAIN: &str = include_str!("../../kernels/host/main.h");
const HOPPER: &str = include_str!("../../kernels/hopper.cuh");
const PORTABLE: &str = include_str!("../../kernels/portable.cuh");
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
    let instructions = match (kernel, kernel.tile()) {
        (Kernel::Plain(_), _) => Vec::new(),
        (Kernel::Quantize(Form::Ptx) | Kernel::Expand(Form::Ptx), _) => {
            // Kernels come one after the other.
            let alone = "#define wait_for_previous()\n#define let_next_start()\n";
            vec![alone.to_owned(), PORTABLE.to_owned()]
        }
        (_, None) => vec![descriptor(), HOPPER.to_owned(), FP8.to_owned()],
        (_, Some(tile)) => vec![descriptor(), HOPPER.to_owned(), wrappers(tile)],
    };
    let head = [DEVICE, ARITHMETIC].map(str::to_owned);
    let all = head.into_iter().chain(instructions).chain(body(kernel));
    all.collect()
}

/// The same text as a C++ program for a CPU, with software in place of the instructions.
///
/// It reads operands and parameters from its input, runs the grid with threads that are interleaved at random, and writes the
/// operands back; [`crate::call`] has the form of both.
pub(super) fn of_host(kernel: Kernel, parameters: usize) -> String {
    let arguments: Vec<String> = (0..parameters).map(|i| format!("p[{i}]")).collect();
    let call = format!(
        "#define CALL {}({})\n",
        kernel.function(),
        arguments.join(", ")
    );
    let codes = match kernel {
        Kernel::Quantize(Form::Ptx) => ["#define CODES_OF_KERNEL\n", HOST, PORTABLE],
        _ => ["", HOST, ""],
    };
    let head = codes.into_iter().chain([ARITHMETIC]).map(str::to_owned);
    let all = head.chain(body(kernel));
    all.chain([call, HOST_MAIN.to_owned()]).collect()
}

/// What a kernel is beside instructions: sizes, ring, and its own text.
fn body(kernel: Kernel) -> Vec<String> {
    let own = match kernel {
        Kernel::Prefill(_) => PREFILL,
        Kernel::Decode(_) => DECODE,
        Kernel::Plain(_) => PLAIN,
        Kernel::Quantize(_) => QUANTIZE,
        Kernel::Expand(_) => EXPAND,
        Kernel::W8a16 => W8A16,
    };
    let mut parts = Vec::new();
    if let (Some(tile), Some(ring)) = (kernel.tile(), kernel.ring()) {
        parts.extend([macros(kernel, tile), ring.header(), RING_GEMM.to_owned()]);
    }
    parts.push(own.to_owned());
    parts
}

/// The functions around wgmma.
fn wrappers(tile: Tile) -> String {
    let mut text = wgmma("wgmma_e4m3", tile.rows_b, "k32.f32.e4m3.e4m3", "1, 1");
    if tile.lora {
        let layout = "1, 1, 0, 0"; // neither operand negated, neither transposed
        text += &wgmma("wgmma_bf16", tile.rows_b, "k16.f32.bf16.bf16", layout);
    }
    text
}

/// The sizes that the text leaves open.
fn macros(kernel: Kernel, tile: Tile) -> String {
    let resources = kernel.resources();
    let scales = match kernel {
        Kernel::Prefill(_) => tile.rows_a,
        _ => tile.rows_b,
    };
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
