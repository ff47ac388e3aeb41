#!/usr/bin/env python3
"""Cost of `mergekit-extract-lora` on a pair, as a whole process; one JSON line.

    mergekit_case.py --pair DIR [--rank R] [--threads T] [--repeats K] [--keep OUT] [-- mergekit's flags]

DIR has base/ and tuned/ (make_data.py pair). The adapter of the last run is kept in OUT if that is given. The program is
looked for beside this Python first, then on PATH.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def program():
    beside = Path(sys.executable).parent / "mergekit-extract-lora"
    found = str(beside) if beside.exists() else shutil.which("mergekit-extract-lora")
    return found or sys.exit("mergekit-extract-lora is not installed (benches/peers/requirements.txt)")


def measured(command, environment):
    """Runs a command: (CPU seconds, wall seconds, peak RSS in MiB) of its whole process."""
    start = time.perf_counter()
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
        if status != 0:
            log.seek(0)
            sys.exit(log.read().decode(errors="replace")[-2000:])
    return usage.ru_utime + usage.ru_stime, wall, usage.ru_maxrss // 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pair", type=Path, required=True)
    parser.add_argument("--rank", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("flags", nargs="*")
    args = parser.parse_args()
    threads = {name: str(args.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    pair = ["--model", args.pair.resolve() / "tuned", "--base-model", args.pair.resolve() / "base"]
    runs = []
    for _ in range(args.repeats):
        with tempfile.TemporaryDirectory() as scratch:
            out = args.keep or Path(scratch) / "adapter"
            options = ["--out-path", out, "--max-rank", str(args.rank), "--no-copy-tokenizer", "--quiet", *args.flags]
            runs.append(measured([program(), *pair, *options], {**os.environ, **threads}))
    cpu, wall, peak = zip(*runs)
    line = {
        "case": "mergekit",
        "threads": args.threads,
        "rank": args.rank,
        "flags": args.flags,
        "cpu_s": [round(s, 3) for s in cpu],
        "wall_s": [round(s, 3) for s in wall],
        "peak_rss_mib": max(peak),
    }
    print(json.dumps(line))


if __name__ == "__main__":
    main()
