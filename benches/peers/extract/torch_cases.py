#!/usr/bin/env python3
"""torch and compressed-tensors on the CPU, one process and one JSON line for each case.

    torch_cases.py CASE... [--matrix FILE] [--rows M --columns N] [--rank R] [--threads T] [--repeats K]

svd, svd_lowrank, optimum    tuned - base of FILE (see make_data.py): the full SVD as mergekit does it, torch's randomized
                             one (--width, R + 16 by default, --power iterations, 2), and the exact optimum by eigenvalues in F64. They
                             add `residual`, the relative error of the best or found approximation of rank R.
gemm                         [M, N] x [N, R + 16] in f32; adds `gflops`
fp8_{quantize,dequantize}_torch, fp8_{quantize,dequantize}_ct
                             128x128 blocks of a Gaussian BF16 matrix [M, N]; they add `gb_per_s` of BF16 bytes
copy                         a BF16 matrix [M, N]; `gb_per_s` counts the bytes read and written
"""

import argparse
import json
import resource
import subprocess
import sys
import time

import torch
from safetensors.torch import load_file

BLOCK = 128
E4M3_MAX = 448.0


def timed(function, repeats):
    """Runs `function` `repeats` times: (last result, CPU seconds, wall seconds)."""
    cpu, wall, result = [], [], None
    for _ in range(repeats):
        result = None
        start_cpu, start_wall = time.process_time(), time.perf_counter()
        result = function()
        cpu.append(round(time.process_time() - start_cpu, 6))
        wall.append(round(time.perf_counter() - start_wall, 6))
    return result, {"cpu_s": cpu, "wall_s": wall}


def delta(args):
    if not args.matrix:
        sys.exit("this case needs --matrix FILE (make_data.py matrix)")
    pair = load_file(args.matrix)
    return (pair["tuned"] - pair["base"]).float()


def residual_of(kept, total):
    return max(0.0, 1 - kept / total) ** 0.5


def svd(args):
    matrix = delta(args)
    (_, values, _), times = timed(lambda: torch.linalg.svd(matrix, full_matrices=False), args.repeats)
    energy = values.double().square()
    return times | {"residual": residual_of(energy[: args.rank].sum().item(), energy.sum().item())}


def svd_lowrank(args):
    matrix = delta(args)
    torch.manual_seed(0)
    (left, values, right), times = timed(
        lambda: torch.svd_lowrank(matrix, q=args.width or args.rank + 16, niter=args.power), args.repeats
    )
    found = (left[:, : args.rank] * values[: args.rank]) @ right[:, : args.rank].T
    return times | {"residual": ((matrix - found).norm() / matrix.norm()).item()}


def optimum(args):
    matrix = delta(args).double()
    small = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    values, times = timed(lambda: torch.linalg.eigvalsh(small @ small.T), 1)
    return times | {"residual": residual_of(values[-args.rank :].sum().item(), matrix.square().sum().item())}


def gemm(args):
    left, right = torch.randn(args.rows, args.columns), torch.randn(args.columns, args.rank + 16)
    _, times = timed(lambda: left @ right, args.repeats)
    return times | {"gflops": 2 * args.rows * args.columns * (args.rank + 16) / min(times["wall_s"]) / 1e9}


def gaussian(args):
    return (torch.randn(args.rows, args.columns, generator=torch.Generator().manual_seed(1)) * 0.02).bfloat16()


def blocks(matrix):
    rows, columns = matrix.shape
    return matrix.view(rows // BLOCK, BLOCK, columns // BLOCK, BLOCK)


def quantize_torch(matrix):
    values = blocks(matrix).float()
    scale = values.abs().amax(dim=(1, 3), keepdim=True).clamp_min(1e-12) / E4M3_MAX
    codes = (values / scale).clamp_(-E4M3_MAX, E4M3_MAX).to(torch.float8_e4m3fn)
    return codes.view(matrix.shape), scale


def dequantize_torch(codes, scale):
    return (blocks(codes).float() * scale).bfloat16().view(codes.shape)


def block_arguments():
    from compressed_tensors.quantization import QuantizationArgs

    return QuantizationArgs(num_bits=8, type="float", strategy="block", block_structure=[BLOCK, BLOCK], symmetric=True)


def quantize_ct(matrix):
    """What compressed-tensors does for FP8_BLOCK, with its own functions."""
    from compressed_tensors.quantization.lifecycle.forward import quantize
    from compressed_tensors.quantization.utils import calculate_qparams

    arguments, values = block_arguments(), blocks(matrix)
    scale, zero = calculate_qparams(values.amin(dim=(1, 3)), values.amax(dim=(1, 3)), arguments)
    return quantize(matrix, scale, zero, arguments, dtype=torch.float8_e4m3fn), scale


def dequantize_ct(codes, scale):
    from compressed_tensors.quantization.lifecycle.forward import dequantize

    return dequantize(codes, scale, args=block_arguments())


def integer_arguments(bits):
    from compressed_tensors.quantization import QuantizationArgs

    if bits == 8:
        return QuantizationArgs(num_bits=8, type="int", strategy="channel")
    return QuantizationArgs(num_bits=4, type="int", strategy="group", group_size=BLOCK)


def quantize_integers(bits):
    """What compressed-tensors does for W8A8 and W4A16, with its own functions; four bits are packed into words."""

    def quantize_ct(matrix):
        from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32
        from compressed_tensors.quantization.lifecycle.forward import quantize
        from compressed_tensors.quantization.utils import calculate_qparams

        arguments = integer_arguments(bits)
        values = matrix.view(matrix.shape[0], -1, arguments.group_size or matrix.shape[1])
        scale, _ = calculate_qparams(values.amin(-1), values.amax(-1), arguments)
        codes = quantize(matrix, scale, None, arguments, dtype=torch.int8)
        return (pack_to_int32(codes, 4) if bits == 4 else codes), scale

    return quantize_ct


def dequantize_integers(bits):
    def dequantize_ct(codes, scale):
        from compressed_tensors.compressors.pack_quantized.helpers import unpack_from_int32
        from compressed_tensors.quantization.lifecycle.forward import dequantize

        if bits == 4:
            codes = unpack_from_int32(codes, 4, torch.Size((codes.shape[0], 8 * codes.shape[1])))
        return dequantize(codes, scale, args=integer_arguments(bits))

    return dequantize_ct


def rate(times, bytes_moved):
    return times | {"gb_per_s": bytes_moved / min(times["wall_s"]) / 1e9}


def quantize_case(quantize):
    def case(args):
        matrix = gaussian(args)
        quantize(matrix[:BLOCK, :BLOCK].contiguous())  # imports are not part of the cost
        _, times = timed(lambda: quantize(matrix), args.repeats)
        return rate(times, 2 * matrix.numel())

    return case


def dequantize_case(quantize, dequantize, bound=0.03):
    def case(args):
        matrix = gaussian(args)
        codes, scale = quantize(matrix)
        back, times = timed(lambda: dequantize(codes, scale), args.repeats)
        error = (back.float() - matrix.float()).norm() / matrix.float().norm()
        assert error < bound, f"the round trip is wrong: {error}"
        return rate(times, 2 * matrix.numel()) | {"relative_error": error.item()}

    return case


def copy(args):
    source = gaussian(args)
    target = torch.empty_like(source)
    _, times = timed(lambda: target.copy_(source), args.repeats)
    return rate(times, 4 * source.numel())


CASES = {
    "svd": svd,
    "svd_lowrank": svd_lowrank,
    "optimum": optimum,
    "gemm": gemm,
    "fp8_quantize_torch": quantize_case(quantize_torch),
    "fp8_dequantize_torch": dequantize_case(quantize_torch, dequantize_torch),
    "fp8_quantize_ct": quantize_case(quantize_ct),
    "fp8_dequantize_ct": dequantize_case(quantize_ct, dequantize_ct),
    "int8_quantize_ct": quantize_case(quantize_integers(8)),
    "int8_dequantize_ct": dequantize_case(quantize_integers(8), dequantize_integers(8)),
    "int4_quantize_ct": quantize_case(quantize_integers(4)),
    "int4_dequantize_ct": dequantize_case(quantize_integers(4), dequantize_integers(4), 0.13),
    "copy": copy,
}


def run_here(name, args):
    torch.set_num_threads(args.threads)
    shape = {} if args.matrix else {"rows": args.rows, "columns": args.columns}
    result = CASES[name](args)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    head = {"case": name, "threads": args.threads, **shape, "rank": args.rank}
    print(json.dumps({**head, **result, "peak_rss_mib": peak, "torch": torch.__version__}), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="+", choices=CASES)
    parser.add_argument("--matrix", help="safetensors file with `base` and `tuned`")
    parser.add_argument("--rows", type=int, default=25600)
    parser.add_argument("--columns", type=int, default=5120)
    parser.add_argument("--rank", type=int, default=256)
    parser.add_argument("--width", type=int, help="columns of torch's random basis")
    parser.add_argument("--power", type=int, default=2, help="torch's power iterations")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    if len(args.cases) == 1:
        return run_here(args.cases[0], args)
    options = sys.argv[1:]
    for case in args.cases:
        others = [o for o in options if o not in args.cases]
        subprocess.run([sys.executable, __file__, case, *others], check=True)


if __name__ == "__main__":
    main()
