#!/usr/bin/env python3
"""A GGUF file of a Qwen3 checkpoint in BF16: the same numbers, and no tokenizer.

    make_gguf.py CHECKPOINT OUT.gguf

Needs numpy and gguf.
"""

import argparse
import json
import struct
from pathlib import Path

import gguf
import numpy as np

LAYER = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
TOP = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


def tensors(folder):
    """(name, BF16 bits) of every tensor of every shard, mapped."""
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(length))
        data = np.memmap(path, np.uint8, "r", 8 + length)
        for name, tensor in header.items():
            if name != "__metadata__":
                assert tensor["dtype"] == "BF16", f"{name}: {tensor['dtype']}"
                start, end = tensor["data_offsets"]
                yield name, data[start:end].view(np.uint16).reshape(tensor["shape"])


def renamed(name):
    module = name.removesuffix(".weight")
    if module in TOP:
        return f"{TOP[module]}.weight"
    _, _, layer, rest = module.split(".", 3)
    return f"blk.{layer}.{LAYER[rest]}.weight"


def write_config(out, config):
    rope = config.get("rope_scaling")
    out.add_context_length(config["max_position_embeddings"])
    out.add_embedding_length(config["hidden_size"])
    out.add_block_count(config["num_hidden_layers"])
    out.add_feed_forward_length(config["intermediate_size"])
    out.add_head_count(config["num_attention_heads"])
    out.add_head_count_kv(config["num_key_value_heads"])
    out.add_key_length(config["head_dim"])
    out.add_value_length(config["head_dim"])
    out.add_rope_freq_base(config["rope_theta"])
    out.add_layer_norm_rms_eps(config["rms_norm_eps"])
    if rope:
        assert rope["rope_type"] == "yarn", rope
        out.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        out.add_rope_scaling_factor(rope["factor"])
        out.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
    out.add_tokenizer_model("no_vocab")
    out.add_vocab_size(config["vocab_size"])
    out.add_file_type(gguf.LlamaFileType.MOSTLY_BF16)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    config = json.loads((args.checkpoint / "config.json").read_text())
    assert config["model_type"] == "qwen3", config["model_type"]
    partial = args.out.with_suffix(".partial")
    out = gguf.GGUFWriter(partial, "qwen3")
    write_config(out, config)
    for name, bits in tensors(args.checkpoint):
        if bits.ndim == 1:  # llama.cpp takes norms in F32
            out.add_tensor(renamed(name), (bits.astype(np.uint32) << 16).view(np.float32))
        else:
            out.add_tensor(renamed(name), bits.view(np.uint8), raw_dtype=gguf.GGMLQuantizationType.BF16)
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()
    partial.rename(args.out)


if __name__ == "__main__":
    main()
