#!/usr/bin/env python3
"""The statistics of `xgraft autopsy` of every BF16 tensor of a safetensors file, on one core, by NumPy or torch.

    statistics.py numpy|torch --file model.safetensors

Mean, standard deviation, smallest, largest, kurtosis, zeros, NaN and infinities, in one pass of parts that stay in the
cache: f32 within a part, f64 above it. Imports and opening the file are not part of the cost.
"""

import argparse
import json
import os
import resource
import struct
import time

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import numpy as np  # noqa: E402  (the number of threads is read on import)

PART = 1 << 16


def tensors(path):
    """(name, BF16 bits as a flat array) of every tensor, mapped."""
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    data = np.memmap(path, np.uint8, "c", 8 + length)  # copy on write: torch takes no arrays that are read only
    for name, tensor in header.items():
        if name != "__metadata__":
            assert tensor["dtype"] == "BF16", f"{name}: {tensor['dtype']}"
            start, end = tensor["data_offsets"]
            yield name, data[start:end].view(np.uint16)


def numpy_part(bits):
    x = (bits.astype(np.uint32) << 16).view(np.float32)
    finite = np.isfinite(x)
    nan = infinite = 0
    if not finite.all():
        nan, infinite = int(np.isnan(x).sum()), int(np.isinf(x).sum())
        x = x[finite]
    x2 = x * x
    sums = x.sum(), x2.sum(), np.dot(x2, x), np.dot(x2, x2)
    return len(x), len(x) - np.count_nonzero(x), nan, infinite, x.min(), x.max(), sums


def torch_part(bits):
    import torch

    x = torch.from_numpy(bits.view(np.int16)).view(torch.bfloat16).float()
    finite = torch.isfinite(x)
    nan = infinite = 0
    if not finite.all():
        nan, infinite = int(torch.isnan(x).sum()), int(torch.isinf(x).sum())
        x = x[finite]
    x2 = x * x
    sums = x.sum(), x2.sum(), torch.dot(x2, x), torch.dot(x2, x2)
    low, high = torch.aminmax(x)
    return len(x), len(x) - int(torch.count_nonzero(x)), nan, infinite, float(low), float(high), [float(s) for s in sums]


def statistics(part, bits):
    found = [part(bits[at : at + PART]) for at in range(0, len(bits), PART)]
    n, zeros, nan, infinite = (int(sum(f[i] for f in found)) for i in range(4))
    m1, m2, m3, m4 = (sum(float(f[6][i]) for f in found) / n for i in range(4))
    variance = max(0.0, m2 - m1**2)
    fourth = m4 - 4 * m1 * m3 + 6 * m1**2 * m2 - 3 * m1**4
    return {
        "count": n + nan + infinite,
        "mean": m1,
        "std": variance**0.5,
        "min": float(min(f[4] for f in found)),
        "max": float(max(f[5] for f in found)),
        "kurtosis": fourth / variance**2 if variance > 1e-3 * m2 else None,
        "zero_share": zeros / (n + nan + infinite),
        "nan": nan,
        "infinite": infinite,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("library", choices=["numpy", "torch"])
    parser.add_argument("--file", required=True)
    args = parser.parse_args()
    part = numpy_part
    if args.library == "torch":
        import torch

        torch.set_num_threads(1)
        part = torch_part
    part(np.ones(PART, np.uint16))  # what a library does once is not part of the cost
    every = dict(tensors(args.file))
    cpu, wall = time.process_time(), time.perf_counter()
    found = {name: statistics(part, bits) for name, bits in every.items()}
    line = {
        "case": args.library,
        "threads": 1,
        "cpu_s": [time.process_time() - cpu],
        "wall_s": [time.perf_counter() - wall],
        "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "statistics": found,
    }
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
