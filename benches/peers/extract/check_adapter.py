#!/usr/bin/env python3
"""Error of a PEFT adapter against the pair it was extracted from, and against the optimum of its rank (full SVD in F64).

    check_adapter.py BASE TUNED ADAPTER

Prints a JSON line for each module and one for all: `residual` = ||D - s B A|| / ||D||, `optimal`, and `excess`, the ratio
of the two minus one. D is tuned - base. Ranks and alphas by pattern are not read: one scale, alpha / r, for all.
"""

import argparse
import json
from pathlib import Path

import torch
from safetensors.torch import load_file


def load(directory):
    tensors = {}
    for file in sorted(directory.glob("*.safetensors")):
        tensors |= load_file(file)
    return tensors


def report(module, rank, error, best, norm):
    """`error`, `best` and `norm` are squared Frobenius norms."""
    line = {"module": module, "rank": rank, "residual": (error / norm) ** 0.5, "optimal": (best / norm) ** 0.5}
    print(json.dumps(line | {"excess": (error / best) ** 0.5 - 1 if best > 0 else None}))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", type=Path)
    parser.add_argument("tuned", type=Path)
    parser.add_argument("adapter", type=Path)
    args = parser.parse_args()
    base, tuned, adapter = load(args.base), load(args.tuned), load(args.adapter)
    config = json.loads((args.adapter / "adapter_config.json").read_text())
    scale = config["lora_alpha"] / config["r"]
    totals = torch.zeros(3, dtype=torch.float64)
    for name in sorted(n for n in adapter if n.endswith("lora_A.weight")):
        module = name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
        lora_a, lora_b = adapter[name].double(), adapter[name.replace("lora_A", "lora_B")].double()
        delta = tuned[f"{module}.weight"].double() - base[f"{module}.weight"].double()
        energies = torch.linalg.svdvals(delta).square()
        error = (delta - scale * lora_b @ lora_a).square().sum()
        row = torch.stack([error, energies[lora_a.shape[0] :].sum(), energies.sum()])
        report(module, lora_a.shape[0], *row.tolist())
        totals += row
    report("all", None, *totals.tolist())


if __name__ == "__main__":
    main()
