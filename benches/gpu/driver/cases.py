"""What is measured: layers, numbers of tokens, implementations, their order, and the floors."""

from dataclasses import dataclass

# Linears of Qwen3-32B, (n, k). "k" stands for k and for v.
LAYERS = {
    "q": (8192, 5120),
    "k": (1024, 5120),
    "qkv": (10240, 5120),
    "o": (5120, 8192),
    "gate": (25600, 5120),
    "gate_up": (51200, 5120),
    "down": (5120, 25600),
}
TOKENS = (1, 2, 4, 8, 16, 64, 128, 512, 2048, 4096, 8192)
FIRST_LAYERS = ("gate_up", "down", "qkv", "o")
FIRST_TOKENS = (1, 8, 16, 64, 128, 512, 2048, 4096)
RANKS = (16, 64, 256)
# The rank whose tuning a rank takes: 16 and 64 are one slot each.
TUNED_RANK = {0: 0, 16: 64, 64: 64, 256: 256}
# Tokens for which the kernel without quantized ones is timed; of 2 and 4 only what stands beside it, tuned as 8.
W8A16_TOKENS = (1, 2, 4)
TUNED_TOKENS = {2: 8, 4: 8}

# One decoded token: these linears in each of 64 layers.
STEP = "decode-step"
STEP_LAYERS = ("qkv", "o", "gate_up", "down")
STEP_DEPTH = 64

ROUNDS = 30
TUNE_SAMPLES = 5
TUNE_LORA = 2  # of the fastest without an adapter, beside what our library chooses with one
TUNE_HOPELESS = 2  # times the fastest: no further samples
LAUNCHES = 20
BYTES_PER_S, FLOPS_PER_S = 3.35e12, 1979e12

BLOCK, TENSOR, BF16, W_BLOCK = "1x128/128x128", "tensor", "bf16", "w128x128/bf16"
# Relative rms that a result may have: the rounding of bf16 is 1.1e-3 of it, the tensor core's 13 bits up to 3e-3.
LIMIT = {BLOCK: 5e-3, TENSOR: 1e-2, BF16: 5e-3, W_BLOCK: 5e-3}


@dataclass(frozen=True)
class Case:
    layer: str
    m: int

    @property
    def n(self):
        return LAYERS[self.layer][0] if self.layer in LAYERS else 0

    @property
    def k(self):
        return LAYERS[self.layer][1] if self.layer in LAYERS else 0

    def __str__(self):
        return f"{self.layer} m={self.m}"


@dataclass(frozen=True)
class Impl:
    """An implementation, with the kernel and number (blocks or band) for each layer where it is ours."""

    name: str
    rank: int = 0
    scale_mode: str = BLOCK
    includes_quant: bool = False
    picks: tuple = ()

    def __str__(self):
        return f"{self.name} r{self.rank}" if self.rank else self.name

    def kernels(self):
        """Ours that run in it; what a wrong check of one of them stops."""
        beside = {
            "xgraft-unfused-lora": ("expand",),
            "xgraft-quantize+product": ("quantize",),
            "xgraft-shrink+lora": ("quantize",),
            "xgraft-w8a16": ("w8a16",),
        }
        return tuple(kernel for _, kernel, _ in self.picks) + beside.get(self.name, ())


def implementations(case):
    if case.layer == STEP:
        return [Impl("xgraft"), Impl("cublaslt-block"), Impl("cublas-bf16", scale_mode=BF16)]
    w8a16 = [Impl("xgraft-w8a16", scale_mode=W_BLOCK)] if case.m in W8A16_TOKENS else []
    quantized = [Impl("xgraft-quantize+product", includes_quant=True)]
    if case.m in TUNED_TOKENS:
        return [Impl("xgraft"), *quantized, *w8a16, Impl("cublas-bf16", scale_mode=BF16)]
    ours = [Impl("xgraft")]
    ours += [Impl(name, rank) for name in ("xgraft-lora", "xgraft-unfused-lora") for rank in RANKS]
    quantized += [Impl("xgraft-shrink+lora", 64, includes_quant=True)]
    return ours + quantized + w8a16 + [
        Impl("cublaslt-block"),
        Impl("cublaslt-block-best"),
        Impl("cublaslt-tensor", scale_mode=TENSOR),
        Impl("cublas-bf16", scale_mode=BF16),
        Impl("triton-block"),
        Impl("deepgemm"),
    ]


def is_ours(impl):
    return impl.name.startswith("xgraft")


def ordered(layers, tokens):
    """Layers that have targets come first; the slowest number of tokens, a decoded token, and 2 and 4 tokens are the
    last of them."""
    few = [m for m in tokens if m in TUNED_TOKENS]
    tokens = [m for m in tokens if m not in TUNED_TOKENS]
    later = [m for m in tokens if m not in FIRST_TOKENS]
    first = [m for m in FIRST_TOKENS if m in tokens] + later
    first = [Case(layer, m) for m in first for layer in FIRST_LAYERS if layer in layers]
    step = [Case(STEP, 1)] if 1 in tokens and all(layer in layers for layer in STEP_LAYERS) else []
    step += [Case(layer, m) for m in few for layer in FIRST_LAYERS if layer in layers]
    rest = [Case(layer, m) for m in tokens for layer in layers]
    return first + step + [case for case in rest if case not in first]


def floor_us(layer, m, weight_bytes=1):
    """The time that memory or arithmetic needs at least, FP8 unless a weight has other bytes."""
    n, k = LAYERS[layer]
    scales = 4 * (k // 128) * (m + n // 128) if weight_bytes == 1 else 0
    moved = weight_bytes * (n * k + m * k) + 2 * m * n + scales
    return 1e6 * max(moved / BYTES_PER_S, 2 * m * n * k * weight_bytes / FLOPS_PER_S)


def case_floor_us(case, weight_bytes=1):
    if case.layer == STEP:
        return STEP_DEPTH * sum(floor_us(layer, case.m, weight_bytes) for layer in STEP_LAYERS)
    return floor_us(case.layer, case.m, weight_bytes)


def copies_of(case, l2_bytes):
    """Copies of W: together more than four times the L2, and at least two, so that each is read from memory."""
    return max(2, 4 * l2_bytes // (case.n * case.k) + 1)


def launches_of(copies):
    """At least LAUNCHES, and each copy equally often."""
    return copies * -(-LAUNCHES // copies)


def seconds(case, implementations, samples, l2_bytes):
    """What a case may take: preparing, comparing, and samples at three times the floor."""
    launches = 1 if case.layer == STEP else launches_of(copies_of(case, l2_bytes))
    return 1 + implementations * (0.4 + (samples + 4) * (launches * case_floor_us(case) * 3e-6 + 5e-4))


def tunings(cases):
    """What is tuned, (case, rank): with an adapter only the layers that have targets."""
    tuned = [case for case in cases if case.layer != STEP and case.m not in TUNED_TOKENS]
    judged = [case for case in tuned if case.layer in FIRST_LAYERS]
    rest = [case for case in tuned if case not in judged]
    parts = ((judged, 0), (judged, TUNED_RANK[64]), (rest, 0), (judged, TUNED_RANK[256]))
    return [(case, rank) for part, rank in parts for case in part]
