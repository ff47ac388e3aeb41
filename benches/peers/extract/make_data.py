#!/usr/bin/env python3
"""Seeded synthetic data for the extraction benchmarks.

    make_data.py pair DIR                     a two-layer Qwen3 pair: DIR/base, DIR/tuned
    make_data.py matrix FILE ROWS COLUMNS     one weight: FILE.safetensors with `base` and `tuned` in BF16,
                                              or FILE.f32 with tuned - base as raw row-major f32

Every matrix: base is N(0, 0.02) rounded to BF16; the planted delta is P diag(k^-0.8) Q^T with Gaussian P, Q of width
min(512, rows, columns), scaled to 2 % of the base's norm; tuned is base + delta rounded to BF16. That rounding is the
noise floor that every pair of BF16 checkpoints has.
"""

import argparse
import json
from pathlib import Path

import torch
from safetensors.torch import save_file

RELATIVE_DELTA = 0.02
LAYERS, HIDDEN, INTERMEDIATE, HEADS, KV_HEADS, HEAD_DIM, VOCABULARY = 2, 1024, 3072, 16, 8, 128, 8192


def weight_pair(rows, columns, seed):
    """(base, tuned), both BF16 [rows, columns]."""
    generator = torch.Generator().manual_seed(seed)
    base = (torch.randn(rows, columns, generator=generator) * 0.02).bfloat16()
    width = min(512, rows, columns)
    left = torch.randn(rows, width, generator=generator)
    right = torch.randn(columns, width, generator=generator)
    delta = (left * torch.arange(1, width + 1) ** -0.8) @ right.T
    delta *= RELATIVE_DELTA * base.float().norm() / delta.norm()
    return base, (base.float() + delta).bfloat16()


def norm_pair(size, seed):
    noise = torch.randn(size, generator=torch.Generator().manual_seed(seed))
    return torch.ones(size, dtype=torch.bfloat16), (1 + 0.02 * noise).bfloat16()


def shapes():
    sizes = {"model.embed_tokens": (VOCABULARY, HIDDEN), "lm_head": (VOCABULARY, HIDDEN), "model.norm": (HIDDEN,)}
    for layer in range(LAYERS):
        sizes |= {
            f"model.layers.{layer}.{module}": size
            for module, size in {
                "input_layernorm": (HIDDEN,),
                "post_attention_layernorm": (HIDDEN,),
                "self_attn.q_norm": (HEAD_DIM,),
                "self_attn.k_norm": (HEAD_DIM,),
                "self_attn.q_proj": (HEADS * HEAD_DIM, HIDDEN),
                "self_attn.k_proj": (KV_HEADS * HEAD_DIM, HIDDEN),
                "self_attn.v_proj": (KV_HEADS * HEAD_DIM, HIDDEN),
                "self_attn.o_proj": (HIDDEN, HEADS * HEAD_DIM),
                "mlp.gate_proj": (INTERMEDIATE, HIDDEN),
                "mlp.up_proj": (INTERMEDIATE, HIDDEN),
                "mlp.down_proj": (HIDDEN, INTERMEDIATE),
            }.items()
        }
    return sizes


def config():
    return {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "head_dim": HEAD_DIM,
        "hidden_act": "silu",
        "hidden_size": HIDDEN,
        "initializer_range": 0.02,
        "intermediate_size": INTERMEDIATE,
        "max_position_embeddings": 4096,
        "max_window_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_hidden_layers": LAYERS,
        "num_key_value_heads": KV_HEADS,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1000000.0,
        "sliding_window": None,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "use_cache": True,
        "use_sliding_window": False,
        "vocab_size": VOCABULARY,
    }


def write_pair(directory):
    models = {"base": {}, "tuned": {}}
    for number, (name, size) in enumerate(sorted(shapes().items())):
        made = norm_pair(size[0], 5000 + number) if len(size) == 1 else weight_pair(*size, 1000 + number)
        models["base"][f"{name}.weight"], models["tuned"][f"{name}.weight"] = made
    for model, tensors in models.items():
        (directory / model).mkdir(parents=True, exist_ok=True)
        (directory / model / "config.json").write_text(json.dumps(config(), indent=2) + "\n")
        save_file(tensors, directory / model / "model.safetensors", metadata={"format": "pt"})


def write_matrix(file, rows, columns):
    base, tuned = weight_pair(rows, columns, 42)
    if file.suffix == ".f32":
        (tuned - base).float().numpy().tofile(file)
    else:
        save_file({"base": base, "tuned": tuned}, file)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    modes = parser.add_subparsers(dest="mode", required=True)
    pair = modes.add_parser("pair")
    pair.add_argument("directory", type=Path)
    matrix = modes.add_parser("matrix")
    matrix.add_argument("file", type=Path)
    matrix.add_argument("rows", type=int)
    matrix.add_argument("columns", type=int)
    args = parser.parse_args()
    if args.mode == "pair":
        write_pair(args.directory)
    else:
        write_matrix(args.file, args.rows, args.columns)


if __name__ == "__main__":
    main()
