"""How each implementation is launched: ours by the library, the rivals by torch, cuBLASLt, Triton and DeepGEMM."""

import importlib
from dataclasses import dataclass
from typing import Any, Callable

import torch

import cublaslt
from cases import RANKS, TUNED_RANK
from device import DeviceError

NO_ADAPTER = -1  # 0xffffffff as the i32 that torch has
TILE_TOKENS, TILE_PART = 16, 16384
MOST_PARTS = 16  # of k in quantizing: more are added one after the other for longer than they save


@dataclass
class Built:
    """`launch(i)` computes y with the i-th copy of W; `kind` and `rank` say what y should be."""

    launch: Callable[[int], Any]
    config: str
    kind: str = "block"
    rank: int = 0


def build(device, operands, impl, pick):
    of = {
        "xgraft": xgraft,
        "xgraft-lora": xgraft,
        "xgraft-unfused-lora": xgraft_unfused,
        "xgraft-quantize+product": xgraft_quantized,
        "xgraft-shrink+lora": xgraft_quantized,
        "xgraft-w8a16": xgraft_w8a16,
        "cublaslt-block": torch_block,
        "cublaslt-block-best": cublaslt_best,
        "cublaslt-tensor": torch_tensor,
        "cublas-bf16": torch_bf16,
        "triton-block": triton_block,
        "deepgemm": deepgemm,
    }[impl.name]
    return of(device, operands, impl, pick)


def padding(o):
    return f" m padded to {o.padded}" if o.padded != o.m else ""


# Ours


def candidate(listed, pick):
    _, kernel, number = pick
    for one in listed:
        if (one["kernel"], one["number"]) == (kernel, number):
            return one
    raise DeviceError(f"the library has no {kernel}/{number} for this")


def product(device, o, rank, pick, x=None, x_scales=None, t=None):
    """Prepared products, one for each copy of W, and the configuration."""
    listed = device.library.candidates(o.m, o.n, o.k, TUNED_RANK[rank])
    chosen = candidate(listed, pick)
    shared = {"x": o.codes if x is None else x, "x_scales": o.x_scales if x_scales is None else x_scales}
    for name, dtype in (("parts", torch.uint8), ("counters", torch.int32)):
        if chosen[name]:
            shared[name] = device.scratch(name, max(c[name] for c in listed), dtype)
    if "counters" in shared:
        # They are zero before and after a launch, but for one that failed.
        shared["counters"].zero_()
    launches = []
    for i, (w, w_scales) in enumerate(zip(o.w, o.w_scales)):
        operands = shared | {"w": w, "w_scales": w_scales, "y": o.y_of(i)}
        if rank:
            made, b = o.adapter(rank)
            operands |= {"t": made if t is None else t, "b": b[i]}
        launches.append(device.library.prepare("product", operands, m=o.m, n=o.n, k=o.k, rank=rank, output="bf16",
                                               kernel=chosen["kernel"], number=chosen["number"]))

    def launch(i, keep=shared):  # the library has only addresses
        device.library.launch(launches[i % len(launches)])

    return launch, f"{chosen['kernel']}/{chosen['number']}"


def xgraft(device, o, impl, pick):
    launch, config = product(device, o, impl.rank, pick)
    return Built(launch, config, rank=impl.rank)


def token_tiles(o, adapter):
    tiles = [(at, min(TILE_TOKENS, o.m - at), adapter) for at in range(0, o.m, TILE_TOKENS)]
    return torch.tensor(tiles, dtype=torch.int32, device=o.device)


def xgraft_unfused(device, o, impl, pick):
    multiply, config = product(device, o, 0, pick)
    t, bs = o.adapter(impl.rank)
    tokens = token_tiles(o, 0)
    # An adapter for each copy of B: the table of the i-th launch begins at the i-th address.
    b_of = torch.tensor([b.data_ptr() for b in bs], dtype=torch.int64, device=o.device)
    ranks = torch.full((len(bs),), impl.rank, dtype=torch.int32, device=o.device)
    expands = []
    for i in range(len(bs)):
        operands = {"t": t, "tokens": tokens, "b_of": b_of[i:], "rank_of": ranks[i:], "y": o.y_of(i)}
        expands.append(device.library.prepare("expand", operands, m=o.m, n=o.n, tiles=len(tokens), t_stride=impl.rank,
                                              output="bf16"))

    def launch(i, keep=(tokens, b_of, ranks)):
        multiply(i)
        device.library.launch(expands[i % len(expands)])

    return Built(launch, f"{config} + our own expand", rank=impl.rank)


def xgraft_quantized(device, o, impl, pick):
    """From X in bf16; with a rank, T is made of X and A on the way, as a server has to."""
    rank = impl.rank
    tokens = token_tiles(o, 0 if rank else NO_ADAPTER)
    split = max(1, min(o.k // 128, MOST_PARTS, -(-device.multiprocessors // len(tokens))))
    empty = {"dtype": torch.uint8, "device": o.device}
    codes, scales = torch.zeros_like(o.codes), torch.ones_like(o.x_scales)
    a = o.shrink(rank) if rank else None
    address = torch.tensor([a.data_ptr() if rank else 0], dtype=torch.int64, device=o.device)
    ranks = torch.tensor([rank], dtype=torch.int32, device=o.device)
    factors = torch.ones(1, device=o.device)
    t = torch.zeros(o.m, rank or RANKS[0], dtype=torch.bfloat16, device=o.device)
    operands = {
        "x": o.x16, "codes": codes, "x_scales": scales, "tokens": tokens,
        "a_of": address, "rank_of": ranks, "factor_of": factors, "t": t,
        "parts": torch.empty(len(tokens) * split * TILE_PART, **empty),
        "counters": torch.zeros(len(tokens), dtype=torch.int32, device=o.device),
    }
    quantize = device.library.prepare("quantize", operands, m=o.m, k=o.k, tiles=len(tokens), split=split,
                                      t_stride=t.shape[1])
    multiply, config = product(device, o, rank, pick, codes, scales, t)

    def launch(i, keep=(operands, a)):
        device.library.launch(quantize)
        multiply(i)

    return Built(launch, f"quantize/{split} + {config}", "shrink" if rank else "block", rank)


def xgraft_w8a16(device, o, impl, pick):
    launches = []
    for i, (w, w_scales) in enumerate(zip(o.w, o.w_scales)):
        operands = {"x": o.x16, "w": w, "w_scales": w_scales, "y": o.y_of(i)}
        launches.append(device.library.prepare("w8a16", operands, m=o.m, n=o.n, k=o.k, output="bf16"))
    return Built(lambda i: device.library.launch(launches[i % len(launches)]), "w8a16", "w8a16")


# Rivals


def torch_block(device, o, impl, pick):
    """cuBLASLt as torch calls it: scales of x (m, k / 128) with strides (1, m), of W (k / 128, n / 128) by columns."""
    x_scales = o.x_scales.t()

    def old(i):
        i %= len(o.w)
        torch._scaled_mm(o.codes, o.w[i].t(), x_scales, o.w_scales[i].t(), out_dtype=torch.bfloat16, out=o.y)

    def new(i):
        from torch.nn.functional import ScalingType, scaled_mm
        i %= len(o.w)
        o.y.copy_(scaled_mm(o.codes, o.w[i].t(), x_scales, ScalingType.BlockWise1x128,
                            o.w_scales[i].t(), ScalingType.BlockWise128x128, output_dtype=torch.bfloat16))

    try:
        old(0)
        torch.cuda.synchronize()
        return Built(old, "torch._scaled_mm" + padding(o))
    except (RuntimeError, ValueError, TypeError) as error:
        first = error
    if not device.alive():
        raise first
    new(0)
    return Built(new, "torch.nn.functional.scaled_mm and a copy of y" + padding(o))


def torch_tensor(device, o, impl, pick):
    def launch(i):
        torch._scaled_mm(o.codes, o.w[i % len(o.w)].t(), o.x_scale, o.w_scale, out_dtype=torch.bfloat16,
                         use_fast_accum=True, out=o.y)

    return Built(launch, "torch._scaled_mm, fast accumulation" + padding(o), "tensor")


def torch_bf16(device, o, impl, pick):
    w16, y = o.w16, o.y[:o.m]
    return Built(lambda i: torch.mm(o.x16, w16[i % len(w16)].t(), out=y), f"torch.mm, {len(w16)} copies", "bf16")


def cublaslt_best(device, o, impl, pick):
    workspace = torch.empty(cublaslt.WORKSPACE, dtype=torch.uint8, device=o.device)
    plan = cublaslt.BlockProduct(cublaslt.library(), o.padded, o.n, o.k, workspace.data_ptr())
    plan.scales(o.w_scales[0].data_ptr(), o.x_scales.data_ptr())

    def of(algorithm):
        def launch(i, keep=workspace):
            i %= len(o.w)
            plan.launch(algorithm, o.w[i].data_ptr(), o.w_scales[i].data_ptr(), o.codes.data_ptr(),
                        o.x_scales.data_ptr(), o.y.data_ptr(), device.stream.cuda_stream)
        return launch

    listed = plan.algorithms()
    best, launch = fastest(device, [(str(index), of(algorithm)) for index, algorithm in enumerate(listed)])
    return Built(launch, f"number {best} of {len(listed)} by the heuristics" + padding(o))


def triton_block(device, o, impl, pick):
    import triton_block as text

    def of(config):
        def launch(i):
            i %= len(o.w)
            text.launch(config, o.codes, o.x_scales, o.w[i], o.w_scales[i], o.y, o.m)
        return launch

    configs = text.FEW if o.m <= 64 else text.MANY
    names = ["{}x{} band {} stages {} warps {}".format(*config) for config in configs]
    best, launch = fastest(device, [(name, of(config)) for name, config in zip(names, configs)])
    return Built(launch, f"{best}, best of {len(configs)}")


def fastest(device, named):
    """Of launches with names, the one that takes the least time; those that fail are passed over."""
    times, errors = [], []
    for name, launch in named:
        try:
            times.append((device.quick(launch), name, launch))
        except Exception as error:
            if not device.alive():
                raise
            errors.append(f"{name}: {error}")
    if not times:
        raise DeviceError("none of the configurations ran: " + "; ".join(errors[:2]))
    _, name, launch = min(times, key=lambda time: time[0])
    return name, launch


def deepgemm(device, o, impl, pick):
    words = []
    for name in ("deep_gemm", "sgl_deep_gemm"):
        try:
            module = importlib.import_module(name)
            break
        except Exception as error:  # a wheel of another torch fails with whatever it likes
            words.append(f"{name}: {error}")
    else:
        raise DeviceError("not there: " + "; ".join(words))
    function = getattr(module, "fp8_gemm_nt", None) or getattr(module, "gemm_fp8_fp8_bf16_nt")
    # The scales of x lie as it wants them: (m, k / 128) with a stride of m rounded up to 16 bytes.
    x, y = (o.codes[:o.m], o.x_scales.t()[:o.m]), o.y[:o.m]

    def launch(i):
        i %= len(o.w)
        function(x, (o.w[i], o.w_scales[i]), y)

    return Built(launch, f"{name} {getattr(module, '__version__', '')}".strip())
