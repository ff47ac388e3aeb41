"""A device that pretends: times from the floor, a factor and noise, all of a seed, and a clock that is simulated.

Faults, separated by commas: poison=CASE, memory=CASE, wrong=CASE, die=CASE, hang=CASE, slow=CASE (200 times) and
race=CASE (other bits from the tenth sample on) with CASE as layer:m:implementation or layer:m:kernel; kill=N (the
whole driver, at the N-th sample), pace=SECONDS (real ones, for each sample).
"""

import math
import os
import random
import signal
import time

from cases import BF16, STEP, STEP_LAYERS, W_BLOCK, case_floor_us, copies_of, launches_of
from device import Device, DeviceError, Ready

# Times the floor at few tokens and at many, and microseconds that each launch needs besides.
FACTORS = {
    "xgraft": (1.15, 1.50, 1.0),
    "xgraft-lora": (1.18, 1.54, 1.0),
    "xgraft-unfused-lora": (1.25, 1.75, 4.0),
    "xgraft-quantize+product": (1.20, 1.55, 3.0),
    "xgraft-shrink+lora": (1.24, 1.60, 3.0),
    "xgraft-w8a16": (1.30, 9.00, 1.0),
    "cublaslt-block": (2.20, 1.90, 3.0),
    "cublaslt-block-best": (2.00, 1.85, 2.0),
    "cublaslt-tensor": (1.25, 1.40, 2.0),
    "cublas-bf16": (1.10, 1.25, 2.0),
    "triton-block": (2.40, 4.60, 2.0),
}
HOT, COLD = 1755, 1980


class MockDevice(Device):
    mock = True

    def __init__(self, seed, elapsed=0.0, faults=""):
        self.seed, self.elapsed, self.case = seed, elapsed, None
        self.samples, self.busy = 0, 0.0
        kinds = ("poison", "memory", "wrong", "die", "hang", "slow", "race", "kill", "pace")
        self.faults = {kind: [] for kind in kinds}
        self.index = 0
        for fault in filter(None, faults.split(",")):
            kind, what = fault.split("=", 1)
            self.faults[kind].append(what)

    def now(self):
        return self.elapsed

    def spent(self, seconds):
        self.elapsed += seconds

    def identity(self):
        return {"name": f"mock {self.seed}", "uuid_sha256": "0" * 16, "multiprocessors": 132}

    def describe(self):
        return {"multiprocessors": 132, "note": "no GPU: every number of this folder is made up"}

    def candidates(self, case, rank):
        lora = "-lora" if rank else ""
        if case.m <= 128:
            width = next(width for width in (8, 16, 32, 64, 128) if case.m <= width)
            stages = {8: 12, 16: 12, 32: 10, 64: 8, 128: 6}[width]
            listed = [(f"decode-128x{width}-s{stages}", blocks) for blocks in (132, 40, 80, 120)]
            listed += [("prefill-64x128-s8", band) for band in (1, 2, 4, 8)]
        else:
            names = ("prefill-64x128-s8", "prefill-128x128-s6", "prefill-128x128-s6-c2", "prefill-256x128-s4-c2")
            listed = [(name, band) for name in names for band in (4, 8, 16, 32)]
        return [{"kernel": k + lora, "number": n, "chosen": i == 0, "parts": 0, "counters": 0,
                 "us": case_floor_us(case) * (1.1 + i / 20)} for i, (k, n) in enumerate(listed)]

    def begin(self, case):
        self.case = case
        self.spent(0.2)

    def _fault(self, kind, impl):
        names = (impl.name, *(kernel for _, kernel, _ in impl.picks))
        return any(f"{self.case.layer}:{self.case.m}:{name}" in self.faults[kind] for name in names)

    def _random(self, *what):
        return random.Random(f"{self.seed}/{self.case}/{'/'.join(map(str, what))}")

    def ready(self, impl):
        self.spent(0.3)
        if self._fault("poison", impl):
            raise DeviceError("CUDA error: an illegal memory access was encountered (mock)", poisoned=True)
        if self._fault("memory", impl):
            raise DeviceError("OutOfMemoryError: CUDA out of memory (mock)")
        if self._fault("die", impl):
            os.kill(os.getpid(), signal.SIGSEGV)
        if self._fault("hang", impl):
            time.sleep(3600)
        if impl.name not in FACTORS:
            raise DeviceError("not there (mock)")
        rel_rms = 0.3 if self._fault("wrong", impl) else 1.1e-3 * self._random(impl, "rms").uniform(0.9, 1.1)
        copies = 1 if self.case.layer == STEP else copies_of(self.case, self.l2_bytes)
        launches = 4 * 64 if self.case.layer == STEP else launches_of(copies)
        config = " ".join(f"{kernel}/{number}" for _, kernel, number in impl.picks) or "mock"
        return Ready(impl, config, rel_rms, launches, copies)

    def steady(self, ready):
        return self.index < 9 or not self._fault("race", ready.impl)

    def sample(self, ready, index):
        self.index = index
        self.samples += index >= 0
        if self.samples in map(int, self.faults["kill"]):
            os.kill(os.getppid(), signal.SIGKILL)
            time.sleep(3600)
        for pace in self.faults["pace"]:
            time.sleep(float(pace))
        impl = ready.impl
        low, high, extra = FACTORS[impl.name]
        many = min(1.0, math.log2(self.case.m) / 12)
        mhz = HOT if self.busy >= 2 else COLD
        bytes_each = 2 if impl.scale_mode in (BF16, W_BLOCK) and impl.name != "xgraft-w8a16" else 1
        us = case_floor_us(self.case, bytes_each) * (low + (high - low) * many)
        us += extra * (64 * len(STEP_LAYERS) if self.case.layer == STEP else 1)
        us *= 1 + impl.rank / 5000
        us *= 200 if self._fault("slow", impl) else 1
        for pick in impl.picks:  # Each kernel and number has its own quality, so that tuning finds something.
            us *= 1 + 0.2 * self._random(*pick[1:]).random() / len(impl.picks)
        us *= 1 + many * (HOT / mhz - 1)
        count = 1 if self.case.layer == STEP else ready.launches
        # Warming up goes in larger steps.
        seconds = count * us * 1e-6 + (1e-4 if index >= 0 else 0.02)
        self.busy += seconds
        self.spent(seconds)
        noise = self._random(impl.name, impl.rank, impl.picks, index)
        return us * math.exp(noise.gauss(0, 0.01)), mhz + noise.choice((-15, 0, 15))
