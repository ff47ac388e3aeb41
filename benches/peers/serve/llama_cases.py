#!/usr/bin/env python3
"""Prefill and decoding by llama.cpp, in the cases of our `forward`.

    llama_cases.py MODEL.gguf bf16|q8_0|f32 --batch 1,8 --prompt 128 --steps 24 --reps 3

The file is in BF16; another format is quantized by llama.cpp itself, once, beside it. Prompts go one after the other, and
every step of decoding is timed until its logits are there. Prints `logits`, the first ones after 33 tokens, so that another's
can be held against them, and then `base-b8` for a batch of 8. Needs llama-cpp-python.
"""

import argparse
import ctypes
import json
import os
import resource
import time

import llama_cpp as llama
import numpy as np

FORMATS = {"q8_0": llama.LLAMA_FTYPE_MOSTLY_Q8_0, "f32": llama.LLAMA_FTYPE_ALL_F32}
SHOWN = 64


@llama.llama_log_callback
def silent(*_):
    pass


def token(sequence, position):
    return (sequence * 7919 + position * 104729) % 255


def quantized(path, name):
    """The file in another format, made if it is not there."""
    if name == "bf16":
        return path
    out = path.removesuffix(".gguf") + f"-{name}.gguf"
    if not os.path.exists(out):
        params = llama.llama_model_quantize_default_params()
        params.ftype = FORMATS[name]
        code = llama.llama_model_quantize(path.encode(), f"{out}.partial".encode(), ctypes.byref(params))
        assert code == 0, f"llama.cpp cannot make {out}: {code}"
        os.rename(f"{out}.partial", out)
    return out


class Context:
    """A cache for some sequences, and batches for it."""

    def __init__(self, model, sequences, positions, threads):
        params = llama.llama_context_default_params()
        params.n_ctx = sequences * ((positions + 255) // 256 * 256)
        params.n_batch = params.n_ubatch = max(512, positions)
        params.n_threads = params.n_threads_batch = threads
        params.n_seq_max = sequences
        self.context = llama.llama_init_from_model(model, params)
        assert self.context, "llama.cpp made no context"
        self.batch = llama.llama_batch_init(max(512, positions), 0, 1)

    def clear(self):
        llama.llama_memory_clear(llama.llama_get_memory(self.context), True)

    def decode(self, items):
        """Items are (sequence, position, whether its logits are wanted)."""
        batch = self.batch
        batch.n_tokens = len(items)
        for i, (sequence, position, wanted) in enumerate(items):
            batch.token[i] = token(sequence, position)
            batch.pos[i] = position
            batch.n_seq_id[i] = 1
            batch.seq_id[i][0] = sequence
            batch.logits[i] = wanted
        code = llama.llama_decode(self.context, batch)
        assert code == 0, f"llama_decode: {code}"
        llama.llama_synchronize(self.context)

    def logits(self, index, count):
        return np.ctypeslib.as_array(llama.llama_get_logits_ith(self.context, index), (count,)).copy()

    def free(self):
        llama.llama_batch_free(self.batch)
        llama.llama_free(self.context)


class Times:
    def __init__(self):
        self.wall, self.cpu = [], []

    def measure(self, work):
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        self.wall.append(time.perf_counter() - wall)
        self.cpu.append(time.process_time() - cpu)


def run(context, batch, prompt, steps, prefill, decode):
    context.clear()

    def prompts():
        for sequence in range(batch):
            context.decode([(sequence, position, position == prompt - 1) for position in range(prompt)])

    prefill.measure(prompts)
    for position in range(prompt, prompt + steps):
        decode.measure(lambda: context.decode([(sequence, position, True) for sequence in range(batch)]))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("format", choices=["bf16", *FORMATS])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", default="1,8")
    parser.add_argument("--prompt", type=int, default=128)
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--reps", type=int, default=3)
    args = parser.parse_args()
    llama.llama_log_set(silent, ctypes.c_void_p(0))
    llama.llama_backend_init()
    path = quantized(args.model, args.format)
    model = llama.llama_model_load_from_file(path.encode(), llama.llama_model_default_params())
    assert model, f"llama.cpp cannot load {path}"
    first = Context(model, 1, 33, args.threads)
    first.decode([(0, position, position == 32) for position in range(33)])
    vocabulary = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(model))
    values = first.logits(32, min(SHOWN, vocabulary))
    first.free()
    print(json.dumps({"case": "logits", "values": [float(x) for x in values]}), flush=True)
    for batch in map(int, args.batch.split(",")):
        prefill, decode = Times(), Times()
        context = Context(model, batch, args.prompt + args.steps, args.threads)
        for _ in range(args.reps):
            run(context, batch, args.prompt, args.steps, prefill, decode)
        context.free()
        line = {
            "case": f"base-b{batch}",
            "batch": batch,
            "threads": args.threads,
            "prompt": args.prompt,
            "prefill_tok_s": batch * args.prompt / min(prefill.wall),
            "decode_tok_s": batch / min(decode.wall) if decode.wall else None,
            "prefill_wall": prefill.wall,
            "prefill_cpu": prefill.cpu,
            "decode_wall": decode.wall,
            "decode_cpu": decode.cpu,
            "bytes": llama.llama_model_size(model),
            "system": llama.llama_print_system_info().decode(),
            "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
