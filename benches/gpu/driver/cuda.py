"""The real device: torch for memory, events and graphs; NVML for the clock."""

import ctypes
import gc
import hashlib
import statistics
import subprocess
import sys
import time

from cases import BF16, LAYERS, STEP, STEP_DEPTH, STEP_LAYERS, copies_of, is_ours, launches_of
from device import Device, DeviceError, Fatal, Ready
from library import Library

SMI = ("name", "uuid", "driver_version", "vbios_version", "power.limit", "power.default_limit", "clocks.max.sm",
       "clocks.max.memory", "clocks.applications.graphics", "clocks.current.sm", "clocks.current.memory",
       "ecc.mode.current", "mig.mode.current", "persistence_mode", "compute_mode", "temperature.gpu", "pstate")
KEPT_BYTES = 6 << 30
QUICK_SAMPLES = 4
COLD_BYTES = 256 << 20
DELAY_CYCLES = 200_000  # 0.1 ms


class SmClock:
    """The MHz of the multiprocessors, by NVML; None where there is none."""

    SM = 1

    def __init__(self, uuid):
        self.device = ctypes.c_void_p()
        try:
            self.c = ctypes.CDLL("libnvidia-ml.so.1")
            ok = self.c.nvmlInit_v2() == 0
            by_uuid = self.c.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}".encode(), ctypes.byref(self.device)) if ok else 1
            self.ok = ok and (by_uuid == 0 or self.c.nvmlDeviceGetHandleByIndex_v2(0, ctypes.byref(self.device)) == 0)
        except (OSError, AttributeError):
            self.ok = False

    def read(self):
        mhz = ctypes.c_uint()
        if self.ok and self.c.nvmlDeviceGetClockInfo(self.device, self.SM, ctypes.byref(mhz)) == 0:
            return mhz.value
        return None


class CudaDevice(Device):
    def __init__(self, bundle, started):
        try:
            import torch
        except ImportError as error:
            raise Fatal(f"torch cannot be imported: {error}") from None
        if not torch.cuda.is_available():
            raise Fatal("torch sees no GPU here")
        major, minor = torch.cuda.get_device_capability(0)
        if (major, minor) != (9, 0):
            raise Fatal(f"the GPU is an sm_{major}{minor}; these kernels are for sm_90 (H100, H200)")
        self.torch, self.started = torch, started
        # TF32 would do for no reference here; all are in f64.
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.set_grad_enabled(False)
        self.stream = torch.cuda.Stream()
        torch.cuda.set_stream(self.stream)
        torch.zeros(1, device="cuda")
        self.properties = torch.cuda.get_device_properties(0)
        self.multiprocessors = self.properties.multi_processor_count
        self.l2_bytes = getattr(self.properties, "L2_cache_size", 60 << 20)
        self.uuid = str(getattr(self.properties, "uuid", ""))
        self.library = Library(bundle / "libxgraft_gpu.so", bundle / "images", self.stream.cuda_stream)
        self.clock = SmClock(self.uuid)
        self.begin_event, self.end_event = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        self.cold = torch.ones(COLD_BYTES // 4, device="cuda")
        self.case, self.operands, self.scratches = None, {}, {}
        gc.freeze()

    def now(self):
        return time.monotonic() - self.started

    def identity(self):
        hashed = hashlib.sha256(self.uuid.encode()).hexdigest()[:16]
        return {"name": self.torch.cuda.get_device_name(0), "uuid_sha256": hashed,
                "multiprocessors": self.multiprocessors}

    def describe(self):
        import cublaslt
        torch = self.torch
        versions = {"python": sys.version.split()[0], "torch": torch.__version__, "cuda": torch.version.cuda}
        for name in ("triton", "deep_gemm", "sgl_deep_gemm"):
            try:
                versions[name] = str(getattr(__import__(name), "__version__", "there"))
            except Exception as error:
                versions[name] = f"not there: {type(error).__name__}"
        try:
            versions["cublaslt"] = cublaslt.library().version()
        except (OSError, AttributeError, RuntimeError) as error:
            versions["cublaslt"] = f"not there: {error}"
        return {
            "multiprocessors": self.multiprocessors,
            "l2_bytes": self.l2_bytes,
            "memory_bytes": self.properties.total_memory,
            "nvidia_smi": self.smi(),
            "versions": versions,
        }

    def smi(self):
        """All fields at once, or one by one: a driver refuses a whole list for one field that it does not know."""
        found = self.asked(SMI) or {}
        for field in () if found else SMI:
            found |= self.asked((field,)) or {field: None}
        if found.get("uuid"):
            found["uuid"] = "sha256 " + hashlib.sha256(found["uuid"].encode()).hexdigest()[:16]
        return found

    def asked(self, fields):
        command = ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader"]
        command += [f"--id=GPU-{self.uuid}"] if self.uuid else []
        try:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                                  timeout=20)
        except (OSError, subprocess.TimeoutExpired):
            return None
        values = [value.strip() for value in done.stdout.split("\n")[0].split(",")]
        return dict(zip(fields, values)) if done.returncode == 0 and len(values) == len(fields) else None

    def alive(self):
        """Whether this process can still use the GPU."""
        try:
            self.torch.cuda.synchronize()
            return self.torch.ones(8, device="cuda").sum().item() == 8
        except Exception:
            return False

    def guarded(self, what, *arguments):
        """Whatever fails is the error of the implementation at hand."""
        try:
            return what(*arguments)
        except Exception as error:
            words = str(error) if isinstance(error, DeviceError) else f"{type(error).__name__}: {error}"
        alive = self.alive()
        if alive:
            gc.collect()
            self.torch.cuda.empty_cache()
        raise DeviceError(words, poisoned=not alive)

    def candidates(self, case, rank):
        return self.guarded(self.library.candidates, case.m, case.n, case.k, rank)

    def begin(self, case):
        self.case, self.operands, self.scratches = case, {}, {}
        gc.collect()
        self.guarded(self.torch.cuda.empty_cache)
        self.guarded(self._begin, case)

    def _begin(self, case):
        from operands import Operands
        layers = STEP_LAYERS if case.layer == STEP else (case.layer,)
        for seed, layer in enumerate(layers, 1):
            n, k = LAYERS[layer]
            copies = STEP_DEPTH if case.layer == STEP else copies_of(case, self.l2_bytes)
            self.operands[layer] = Operands(n, k, case.m, copies, seed)
        self.torch.cuda.synchronize()
        if case.layer == STEP:
            # Of bf16 as many layers as there is room for; even one is many times the L2.
            self.torch.cuda.empty_cache()
            free, _ = self.torch.cuda.mem_get_info()
            one = 2 * sum(o.n * o.k for o in self.operands.values())
            for o in self.operands.values():
                o.most_w16 = max(1, min(STEP_DEPTH, (free - KEPT_BYTES) // one))

    def scratch(self, name, size, dtype):
        """What all launches of a case share, for they run one after the other. A larger one takes the place of a
        smaller one, which the launches that were prepared with it keep."""
        have = self.scratches.get(name)
        if have is None or have.numel() < size:
            have = self.scratches[name] = self.torch.empty(size, dtype=dtype, device="cuda")
        return have

    def ready(self, impl):
        return self.guarded(self._ready, impl)

    def _ready(self, impl):
        from implementations import build
        step = self.case.layer == STEP
        picks = {pick[0]: pick for pick in impl.picks}
        built = {layer: build(self, o, impl, picks.get(layer)) for layer, o in self.operands.items()}
        if step:
            def launch(_):
                for depth in range(STEP_DEPTH):
                    for one in built.values():
                        one.launch(depth)
        else:
            (only,) = built.values()
            launch = only.launch
        copies = {len(o.w16) if impl.scale_mode == BF16 else len(o.w) for o in self.operands.values()}
        count = 1 if step else launches_of(max(copies))
        kept = self.alone(built) if is_ours(impl) else None
        graph = self.capture(launch, count)
        for o in self.operands.values():
            for y in o.ys:
                y.fill_(float("nan"))
        graph.replay()
        self.torch.cuda.synchronize()
        worst = max((self.operands[layer].compare(one.kind, one.rank) for layer, one in built.items()),
                    key=lambda rms: rms if rms == rms else float("inf"))
        config = "; ".join(dict.fromkeys(one.config for one in built.values()))
        launches = STEP_DEPTH * len(built) if step else count
        # The launches hold what the graph's kernels read.
        return Ready(impl, config, worst, launches, max(copies), (graph, count, built), kept)

    def alone(self, built):
        """What each gives when nothing runs before or after it."""
        kept = {}
        for layer, o in self.operands.items():
            built[layer].launch(len(o.w) - 1)
            self.torch.cuda.synchronize()
            kept[layer] = o.results()[0].clone()
        return kept

    def steady(self, ready):
        return self.guarded(self.as_alone, ready.kept)

    def as_alone(self, kept):
        return all(self.torch.equal(found, kept[layer]) for layer, o in self.operands.items() for found in o.results())

    def capture(self, launch, count):
        """The first launch is outside: it may compile, load and allocate."""
        launch(0)
        self.torch.cuda.synchronize()
        graph = self.torch.cuda.CUDAGraph()
        with self.torch.cuda.graph(graph, stream=self.stream, capture_error_mode="thread_local"):
            for i in range(count):
                launch(i)
        return graph

    def replayed(self, graph, count):
        # Of what ran before nothing is in the L2 then: none gains by it, and none suffers for it.
        self.cold.sum()
        # The host has launched the graph before this ends, so that no launch lies between the events.
        self.torch.cuda._sleep(DELAY_CYCLES)
        self.begin_event.record()
        graph.replay()
        self.end_event.record()
        mhz = self.clock.read()  # while the GPU is at it
        self.end_event.synchronize()
        return 1e3 * self.begin_event.elapsed_time(self.end_event) / count, mhz

    def sample(self, ready, index):
        graph, count, _ = ready.graph
        return self.guarded(self.replayed, graph, count)

    def quick(self, launch):
        """Microseconds a launch, roughly: for choosing between configurations of a rival."""
        (o,) = self.operands.values()
        count = launches_of(len(o.w))
        graph = self.capture(launch, count)
        self.replayed(graph, count)
        return statistics.median(self.replayed(graph, count)[0] for _ in range(QUICK_SAMPLES))

    def close(self):
        """After an error the context is not touched again: giving back could hang."""
        self.case, self.operands, self.scratches = None, {}, {}
        gc.collect()
        if self.alive():
            self.library.close()
