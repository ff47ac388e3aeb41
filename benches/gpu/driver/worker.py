"""The steps. Runs in its own process, because an error of CUDA can leave a process useless; `run.py` starts it anew."""

import json
import math
import os
import signal
import statistics
import sys
import threading
import time
import traceback
from dataclasses import replace
from pathlib import Path

from cases import LIMIT, ROUNDS, STEP, STEP_LAYERS, TUNE_HOPELESS, TUNE_LORA, TUNE_SAMPLES, TUNED_RANK, TUNED_TOKENS
from cases import Case, Impl, case_floor_us, implementations, is_ours, ordered, seconds, tunings
from device import DeviceError, Fatal
from journal import Journal, try_again, write_whole
from programs import CHECKED, Programs

DONE, FATAL, OUT_OF_TIME, UNEXPECTED, AGAIN, STOPPED = 0, 1, 3, 70, 75, 130
MACHINE = "machine.json"
FILES = {step: f"{step}.jsonl" for step in ("load", "check", "sanitize", "tune")} | {"time": "samples.jsonl"}
# At most this part of the whole time.
SHARE = {"load": 0.08, "check": 0.25, "sanitize": 0.12, "tune": 0.30}
RETRIED = "retried.jsonl"
# What may have failed by no fault of its own is tried again in so many of the runs that go on in a folder.
TRIES = 2
RACE = "a race: launches back to back gave other bits than one alone"
WARM_SECONDS, WARM_CASE_SECONDS = 4.0, 0.1


class Ended(Exception):
    """Ends this process with an exit code."""

    def __init__(self, code):
        super().__init__(code)
        self.code = code


def key(row):
    return row["layer"], row["m"], row["rank"], row["impl"]


def tune_key(row):
    return row["layer"], row["m"], row["rank"], row["kernel"], row["number"]


def sample_row(case, impl, **more):
    row = {"layer": case.layer, "m": case.m, "n": case.n, "k": case.k, "rank": impl.rank, "impl": impl.name}
    row |= {"scale_mode": impl.scale_mode, "config": "", "includes_quant": impl.includes_quant, "l2": "cold"}
    row |= {"unit": "step" if case.layer == STEP else "launch", "launches": 0, "copies": 0}
    return row | {"samples_us": [], "sm_mhz": [], "round_of": [], "error": None, "check": None} | more


def tune_row(case, rank, candidate, **more):
    row = {"layer": case.layer, "m": case.m, "n": case.n, "k": case.k, "rank": rank}
    row |= {name: candidate[name] for name in ("kernel", "number", "chosen")}
    row["model_us"] = candidate.get("us")
    return row | {"samples_us": [], "error": None, "check": None} | more


def rotated(timed, index):
    """Each is first in its turn, so that none always follows the same end of a round."""
    at = index % len(timed) if timed else 0
    return timed[at:] + timed[:at]


class Worker(Programs):
    def __init__(self, options, channel):
        self.options, self.channel = options, channel
        self.out, self.bundle = Path(options["out"]), Path(options["bundle"])
        self.limit = options["minutes"] * 60 * 0.98
        self.stopping = False
        self.left_out, self.step = options["left_out"], options["steps"][0]
        self.deadlines = options["deadlines"]
        if options["mock"] is not None:
            from mock import MockDevice
            self.device = MockDevice(options["mock"], options["elapsed"], options["faults"])
        else:
            from cuda import CudaDevice
            self.device = CudaDevice(self.bundle, options["started"])
        self.mock = self.device.mock
        self.warmed = self.spoiled = False

    # What the parent hears of: where we are, and how long it may take.

    def tell(self, limit, row=None, file=None, **more):
        if os.getppid() != self.options["parent"]:
            raise Ended(STOPPED)
        message = {"now": self.device.now(), "limit": limit, "step": self.step, "row": row, "file": file} | more
        os.write(self.channel, json.dumps(message).encode() + b"\n")
        if self.stopping:
            raise Ended(STOPPED)

    def say(self, text):
        left = max(0, int(self.options["minutes"] * 60 - self.device.now()))
        mock = "MOCK " if self.mock else ""
        print(f"{mock}[{left // 60:2}:{left % 60:02} left] {text}", flush=True)

    def journal(self, name):
        return Journal(self.out / name, self.mock)

    def until(self, step):
        """When a step must end: fixed when it first begins, so that a process that follows gets no share of its own."""
        if step not in self.deadlines:
            share = SHARE.get(step, 1) * self.options["minutes"] * 60
            self.deadlines[step] = min(self.limit, self.device.now() + share)
            self.tell(60, deadlines=self.deadlines)
        return self.deadlines[step]

    def leave_out(self, what):
        if what not in self.left_out:
            self.left_out.append(what)
            self.tell(60, left_out=self.left_out)

    def run(self):
        self.machine()
        if self.options["first"]:
            self.try_again()
        steps = {"load": self.load, "check": self.check, "sanitize": self.sanitize}
        steps |= {"tune": self.tune, "time": self.time}
        for self.step in self.options["steps"]:
            self.tell(60)
            if self.step in steps:
                steps[self.step]()
        self.tell(60, left_out=self.left_out)
        if self.left_out:
            self.say(f"out of time, left out ({len(self.left_out)}): " + ", ".join(self.left_out))
        self.device.close()
        return OUT_OF_TIME if self.left_out else DONE

    def try_again(self):
        """Of an earlier run: what had no memory, hung, died or was ended for its time."""
        cases = {(case.layer, case.m) for case in self.cases()}
        parts = ("layer", "m", "rank", "impl", "kernel", "number", "case", "mode", "tool")

        def name(row):
            mine = "layer" not in row or (row["layer"], row["m"]) in cases
            if not mine or not (row.get("again") or row.get("note") and row.get("ok") is False):
                return None
            return [row.get(part) for part in parts]

        for step, file in FILES.items():
            if step not in self.options["steps"]:
                continue
            count = try_again(self.out / file, self.out / RETRIED, name, TRIES)
            if count:
                self.say(f"{step}: {count} that failed are tried again")
            if count and step == "check":
                (self.out / CHECKED).unlink(missing_ok=True)

    # machine

    def machine(self):
        bundle = json.loads((self.bundle / "bundle.json").read_text())
        own = {name: bundle[name] for name in ("revision", "compiler", "images", "files")}
        path, identity = self.out / MACHINE, self.device.identity()
        if path.exists():
            before = json.loads(path.read_text())
            pairs = {
                "mock": (before["mock"], self.mock),
                "revision": (before["bundle"]["revision"], own["revision"]),
                "images": (before["bundle"]["images"], own["images"]),
                "files": (before["bundle"]["files"], own["files"]),
                "device": (before["identity"], identity),
            }
            for what, (old, new) in pairs.items():
                if old != new:
                    old, new = ("others", "these") if what == "files" else (old, new)
                    raise Fatal(f"{self.out} holds a run of another {what} ({old}, now {new}): take another --out")
        else:
            started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            machine = {"mock": self.mock, "started": started, "bundle": own, "identity": identity}
            write_whole(path, machine | self.device.describe())
        self.say(f"machine: {identity['name']}, revision {own['revision']}")

    # tune and time

    def cases(self):
        return ordered(self.options["layers"], self.options["tokens"])

    def begin(self, case):
        """Operands of a case; for a row what failed, if they could not be had."""
        self.tell(180)
        try:
            self.device.begin(case)
        except DeviceError as error:
            self.spoiled = error.poisoned
            return {"error": f"no operands: {error}", "again": error.again}

    def write(self, journal, rows):
        self.tell(60)
        journal.append(rows)
        if self.spoiled:
            raise Ended(AGAIN)

    def attempt(self, case, impl, row, file):
        """An implementation that is right and can be timed; else None, with the error in the row."""
        self.tell(150, row, file)
        try:
            ready = self.device.ready(impl)
        except DeviceError as error:
            if error.poisoned:
                self.poisoned(row, file, error)
            row |= {"error": str(error), "again": error.again}
            return None
        # JSON has no NaN.
        row["check"] = {"rel_rms": ready.rel_rms if math.isfinite(ready.rel_rms) else None}
        if not ready.rel_rms <= LIMIT[impl.scale_mode]:
            row["error"] = f"wrong: rel_rms {ready.rel_rms:.3g}"
            return None
        return ready

    def sampled(self, ready, index, row, file):
        """Microseconds a launch, MHz."""
        self.tell(30, row, file)
        try:
            return self.device.sample(ready, index)
        except DeviceError as error:
            self.poisoned(row, file, error)

    def steady(self, ready, row, file):
        """Whether what was sampled gave the bits that it must; only ours must give the same ones always."""
        if not is_ours(ready.impl):
            return True
        try:
            return self.device.steady(ready)
        except DeviceError as error:
            self.poisoned(row, file, error)

    def poisoned(self, row, file, error):
        self.say(f"{row['layer']} m={row['m']} {row.get('impl') or row['kernel']}: {error}; going on in a new process")
        self.journal(file).append([row | {"error": str(error), "again": True}])
        raise Ended(AGAIN)

    def warm(self, timed, file):
        """Runs what will be timed until clock and temperature settle."""
        until = self.device.now() + (WARM_CASE_SECONDS if self.warmed else WARM_SECONDS)
        while timed and self.device.now() < min(until, self.limit):
            for row, ready in timed:
                self.sampled(ready, -1, row, file)
        self.warmed = self.warmed or bool(timed)

    def tune(self):
        if self.checked().get("error"):
            self.say("tune: nothing of ours, for it could not be checked")
            return
        journal, wrong = self.journal("tune.jsonl"), self.wrong_kernels()
        done = {tune_key(row) for row in journal.rows}
        until = self.until("tune")
        todo = tunings(self.cases())
        for place, (case, rank) in enumerate(todo):
            self.tell(60)
            what = f"{case} r{rank}" if rank else str(case)
            try:
                candidates = self.tried(case, rank, journal.rows)
            except DeviceError as error:
                self.say(f"tune {what}: {error}")
                continue
            candidates = [c for c in candidates if tune_key(tune_row(case, rank, c)) not in done]
            if not candidates:
                continue
            if self.device.now() + seconds(case, len(candidates), TUNE_SAMPLES, self.device.l2_bytes) > until:
                self.leave_out(f"tune {what}")
                continue
            self.say(f"tune {place + 1}/{len(todo)} {what}: {len(candidates)} candidates")
            self.write(journal, self.tune_case(case, rank, candidates, wrong))

    def tried(self, case, rank, tuned):
        """The candidates that are tuned: with an adapter few, for those that are fast without one are likely."""
        candidates = self.device.candidates(case, rank)
        if not rank:
            return candidates
        fastest = [(f"{row['kernel']}-lora", row["number"]) for row in self.by_time(tuned, case.layer, case.m, 0)]
        listed = {(c["kernel"], c["number"]) for c in candidates}
        likely = [pair for pair in fastest if pair in listed][:TUNE_LORA]
        return [c for c in candidates if c["chosen"] or (c["kernel"], c["number"]) in likely]

    def by_time(self, tuned, layer, m, rank):
        rows = [row for row in tuned if (row["layer"], row["m"], row["rank"]) == (layer, m, rank)]
        return sorted((row for row in rows if row["samples_us"] and not row["error"]),
                      key=lambda row: statistics.median(row["samples_us"]))

    def tune_case(self, case, rank, candidates, wrong):
        failed = self.begin(case)
        rows, timed = [], []
        for candidate in candidates:
            row = tune_row(case, rank, candidate)
            rows.append(row)
            row |= failed or {"error": "its check was wrong" if candidate["kernel"] in wrong else None}
            if row["error"]:
                continue
            picks = ((case.layer, candidate["kernel"], candidate["number"]),)
            impl = Impl("xgraft-lora" if rank else "xgraft", rank, picks=picks)
            ready = self.attempt(case, impl, row, "tune.jsonl")
            if ready:
                timed.append((row, ready))
        self.warm(timed, "tune.jsonl")
        for index in range(TUNE_SAMPLES):
            for row, ready in rotated(timed, index):
                us, _ = self.sampled(ready, index, row | {"samples_us": []}, "tune.jsonl")
                row["samples_us"].append(round(us, 4))
                if not self.steady(ready, row | {"samples_us": []}, "tune.jsonl"):
                    row |= {"error": RACE, "samples_us": []}
            timed = [(row, ready) for row, ready in timed if not row["error"]]
            if index == 0:
                timed = self.hopeful(timed)
        return rows

    def hopeful(self, timed):
        """Those that may still be the fastest; the graphs of the others give their memory back."""
        best = min((row["samples_us"][0] for row, _ in timed), default=None)
        for row, ready in timed:
            if row["samples_us"][0] > TUNE_HOPELESS * best:
                ready.graph = ready.kept = None
        return [(row, ready) for row, ready in timed if row["samples_us"][0] <= TUNE_HOPELESS * best]

    def pick(self, tuned, layer, m, rank):
        """The fastest that was tuned, or else what our library chooses."""
        m, rank = TUNED_TOKENS.get(m, m), TUNED_RANK[rank]
        for best in self.by_time(tuned, layer, m, rank):
            return (layer, best["kernel"], best["number"])
        candidates = self.device.candidates(Case(layer, m), rank)
        chosen = next((c for c in candidates if c["chosen"]), candidates[0])
        return (layer, chosen["kernel"], chosen["number"])

    def time(self):
        journal, wrong = self.journal("samples.jsonl"), self.wrong_kernels()
        tuned = self.journal("tune.jsonl").rows
        done = {key(row) for row in journal.rows}
        cases = self.cases()
        for place, case in enumerate(cases):
            todo = [i for i in implementations(case) if (case.layer, case.m, i.rank, i.name) not in done]
            if not todo:
                continue
            if self.device.now() + seconds(case, len(todo), ROUNDS, self.device.l2_bytes) > self.limit:
                self.leave_out(f"time {case}")
                continue
            self.say(f"time {place + 1}/{len(cases)} {case}: {len(todo)} implementations")
            rows = self.time_case(case, todo, tuned, wrong)
            if rows:
                self.left_out = [what for what in self.left_out if what != f"time {case}"]
                self.write(journal, rows)
                self.report(case, rows)

    def time_case(self, case, todo, tuned, wrong):
        """A line for each implementation; nothing if time ran out before all were there."""
        failed = self.begin(case)
        unchecked = self.checked().get("error")
        rows, timed = [], []
        for impl in todo:
            ours, unpicked = is_ours(impl), None
            if ours and impl.name != "xgraft-w8a16":
                picks, unpicked = self.picks(tuned, case, 0 if impl.name == "xgraft-unfused-lora" else impl.rank)
                impl = replace(impl, picks=picks)
            row = sample_row(case, impl)
            rows.append(row)
            stopped = sorted(wrong.intersection(impl.kernels()))
            row |= failed or {"error": (ours and (unchecked or unpicked)) or None}
            if stopped:
                row |= {"error": f"the check of {stopped[0]} was wrong", "again": False}
            if row["error"]:
                continue
            ready = self.attempt(case, impl, row, "samples.jsonl")
            if ready:
                row |= {"config": ready.config, "launches": ready.launches, "copies": ready.copies}
                timed.append((row, ready))
        self.warm(timed, "samples.jsonl")
        return rows if self.rounds(case, timed) else None

    def picks(self, tuned, case, rank):
        """The kernels of ours for a case, and why there are none if there are none."""
        layers = STEP_LAYERS if case.layer == STEP else (case.layer,)
        try:
            return tuple(self.pick(tuned, layer, case.m, rank) for layer in layers), None
        except DeviceError as error:
            return (), str(error)

    def rounds(self, case, timed):
        """One sample of each, again and again, in turning order. False if time ran out before all were there."""
        for index in range(ROUNDS):
            for row, ready in rotated(timed, index):
                if self.device.now() > self.limit:
                    self.leave_out(f"time {case}")
                    return False
                empty = row | {"samples_us": [], "sm_mhz": [], "round_of": []}
                us, mhz = self.sampled(ready, index, empty, "samples.jsonl")
                row["samples_us"].append(round(us, 4))
                row["sm_mhz"].append(mhz)
                row["round_of"].append(index)
                if not self.steady(ready, empty, "samples.jsonl"):
                    row |= {"error": RACE, "samples_us": [], "sm_mhz": [], "round_of": []}
            timed = [(row, ready) for row, ready in timed if not row["error"]]
        return True

    def report(self, case, rows):
        medians = {key(row): statistics.median(row["samples_us"]) for row in rows if row["samples_us"]}
        ours = medians.get((case.layer, case.m, 0, "xgraft"))
        if ours:
            ratios = [f"{impl} {us / ours:.2f}x" for (_, _, rank, impl), us in medians.items() if not rank]
            floor = ours / case_floor_us(case)
            self.say(f"    xgraft {ours:.2f} us, {floor:.2f}x floor; against it: {', '.join(ratios[1:])}")
        for row in rows:
            if row["error"]:
                rank = f" r{row['rank']}" if row["rank"] else ""
                self.say(f"    no samples: {row['impl']}{rank}: {row['error']}")


def watch_parent():
    """The parent holds the other end of our standard input: when that closes it is dead, and so are we."""
    os.read(0, 1)
    os.killpg(0, signal.SIGKILL)


def main(options, channel):
    threading.Thread(target=watch_parent, daemon=True).start()
    try:
        worker = Worker(options, channel)

        def stop(*_):
            worker.stopping = True

        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        code = worker.run()
    except Ended as ended:
        code = ended.code
    except (Fatal, OSError) as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        code = FATAL
    except Exception:  # The parent records it with what was being done, and goes on.
        traceback.print_exc()
        code = UNEXPECTED
    sys.stdout.flush()
    # Not through the interpreter's end: destructors of a poisoned context can hang.
    os._exit(code)
