"""Tests of the driver with the mock device, without a GPU and the Rust files: `python3 -m unittest` in this folder."""

import hashlib
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path
from types import ModuleType, SimpleNamespace
from unittest.mock import Mock, patch

import cases
import programs
import worker as workers
from cases import Case, Impl
from cuda import CudaDevice
from device import Ready
from journal import Journal
from library import Library
from run import Supervisor
from worker import Worker

RUN = Path(__file__).resolve().parent / "run.py"
FEW = ("--layers", "gate_up,down", "--tokens", "1")
GPU = """#!/bin/sh
[ "$2" = --list ] && printf 'decode 1x128x128\\nprefill 64x128x256\\n' || { echo 'not without --list' >&2; exit 9; }
"""

# The driver's modules are compiled once, and not beside their text.
CACHE = tempfile.TemporaryDirectory()
os.environ["PYTHONPYCACHEPREFIX"] = CACHE.name
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


class Driver(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.bundle = self.folder / "bundle"
        self.bundle.mkdir()
        (self.bundle / "gpu").write_text(GPU)
        (self.bundle / "gpu").chmod(0o755)
        self.describe()

    def describe(self, **other):
        files = {"gpu": hashlib.sha256((self.bundle / "gpu").read_bytes()).hexdigest()}
        described = {"revision": "v1-2-gabc", "compiler": "nvrtc 13.0", "images": "00ff", "files": files} | other
        (self.bundle / "bundle.json").write_text(json.dumps(described))

    def command(self, out, *more, seed=7):
        mock = () if seed is None else ("--mock", str(seed))
        folders = ("--out", str(self.folder / out), "--bundle", str(self.bundle))
        return [sys.executable, str(RUN), *folders, *mock, *more]

    def run_it(self, out, *more, seed=7, code=0, env=None):
        done = subprocess.run(self.command(out, *more, seed=seed), capture_output=True, text=True, timeout=60,
                              env=os.environ | (env or {}))
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return done.stdout + done.stderr

    def rows(self, out, name="samples.jsonl"):
        return [json.loads(line) for line in (self.folder / out / name).read_text().splitlines()]

    def same(self, one, other):
        for name in ("load.jsonl", "check.jsonl", "sanitize.jsonl", "tune.jsonl", "samples.jsonl", "left_out.json"):
            with self.subTest(file=name):
                self.assertEqual(*((self.folder / out / name).read_text() for out in (one, other)))

    def of(self, out, layer, m, impl, name="samples.jsonl"):
        return [row for row in self.rows(out, name) if (row["layer"], row["m"], row["impl"]) == (layer, m, impl)]


class WholeRun(Driver):
    def test_every_case_has_every_implementation_and_every_file_says_mock(self):
        said = self.run_it("a", "--layers", "k,qkv,o,gate_up,down", "--tokens", "1,512")
        found = {(row["layer"], row["m"], row["rank"], row["impl"]) for row in self.rows("a")}
        wanted = cases.ordered(["k", "qkv", "o", "gate_up", "down"], [1, 512])
        self.assertEqual(found, {(c.layer, c.m, i.rank, i.name) for c in wanted for i in cases.implementations(c)})
        self.assertIn((cases.STEP, 1, 0, "xgraft"), found)
        self.assertEqual(len(found), len(self.rows("a")))
        for row in self.rows("a"):
            if row["impl"] == "deepgemm":
                self.assertTrue(row["error"] and not row["samples_us"])
            else:
                self.assertEqual((len(row["samples_us"]), len(row["sm_mhz"]), row["error"]), (30, 30, None))
                self.assertEqual(row["round_of"], list(range(30)))
                self.assertGreaterEqual(row["launches"], 20)
                self.assertLess(row["check"]["rel_rms"], 5e-3)
        machine = json.loads((self.folder / "a/machine.json").read_text())
        self.assertEqual((machine["identity"]["multiprocessors"], machine["multiprocessors"]), (132, 132))
        for path in (self.folder / "a").glob("*.json*"):
            for text in path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]:
                self.assertIs(json.loads(text)["mock"], True, path)
        self.assertRegex(said, r"MOCK \[\d+:\d\d left\] time 1/11 gate_up m=1: 16 implementations")

    def test_what_was_fastest_in_tuning_is_timed(self):
        self.run_it("a", *FEW)
        best, tuned = {}, [row for row in self.rows("a", "tune.jsonl") if row["layer"] == "down"]
        for rank in (0, 64, 256):
            of = [row for row in tuned if row["rank"] == rank]
            fastest = min(of, key=lambda row: statistics.median(row["samples_us"]))
            best[rank] = f"{fastest['kernel']}/{fastest['number']}"
            self.assertEqual({"-lora" in row["kernel"] for row in of}, {rank > 0})
            self.assertTrue(len(of) == 8 if not rank else 1 <= len(of) <= 3, (rank, len(of)))
        self.assertEqual(self.of("a", "down", 1, "xgraft")[0]["config"], best[0])
        for row in self.of("a", "down", 1, "xgraft-lora"):
            self.assertEqual(row["config"], best[256 if row["rank"] == 256 else 64])
        for row in self.of("a", "down", 1, "xgraft-unfused-lora"):
            self.assertEqual(row["config"], best[0])

    def test_few_tokens_take_what_is_tuned_for_the_next_number(self):
        self.run_it("a", "--layers", "down", "--tokens", "2,8")
        self.assertEqual({row["m"] for row in self.rows("a", "tune.jsonl")}, {8})
        (two,), (eight,) = (self.of("a", "down", m, "xgraft") for m in (2, 8))
        self.assertEqual(two["config"], eight["config"])

    def test_thermal_warm_up_comes_before_the_samples(self):
        self.run_it("a", "--layers", "gate_up", "--tokens", "1")
        self.assertLess(max(mhz for row in self.rows("a") for mhz in row["sm_mhz"]), 1800)


class Resumed(Driver):
    whole = None

    def setUp(self):
        """An unbroken run is there: the same for all tests."""
        super().setUp()
        if not Resumed.whole:
            Resumed.whole = tempfile.TemporaryDirectory()
            self.run_it("whole", *FEW)
            shutil.copytree(self.folder / "whole", Resumed.whole.name, dirs_exist_ok=True)
        shutil.copytree(Resumed.whole.name, self.folder / "whole", dirs_exist_ok=True)

    def test_killed_at_points_of_its_own(self):
        for at in (1, 45, 200, 31):
            killed = subprocess.run(self.command("a", *FEW, "--faults", f"kill={at}"), capture_output=True)
            self.assertEqual(killed.returncode, -signal.SIGKILL)
        self.run_it("a", *FEW)
        self.same("whole", "a")

    def test_killed_at_any_time(self):
        for seconds in (0.2, 0.35, 0.5):
            run = subprocess.Popen(self.command("a", *FEW, "--faults", "pace=0.0005"), stdout=subprocess.DEVNULL)
            time.sleep(seconds)
            run.kill()
            run.wait()
        self.run_it("a", *FEW)
        self.same("whole", "a")

    def test_interrupted_it_ends_after_the_sample_at_hand(self):
        for name in (signal.SIGINT, signal.SIGTERM):
            run = subprocess.Popen(self.command("a", *FEW, "--faults", "pace=0.001"), stdout=subprocess.PIPE, text=True)
            while " implementations" not in run.stdout.readline():
                pass
            run.send_signal(name)
            said, _ = run.communicate(timeout=5)
            self.assertEqual((run.returncode, said.count("\n")), (130, 1), said)
        self.run_it("a", *FEW)
        self.same("whole", "a")

    def test_a_cut_last_line_and_a_cut_batch(self):
        text = (self.folder / "whole/samples.jsonl").read_bytes()
        shutil.copytree(self.folder / "whole", self.folder / "a")
        for keep in (len(text) - 1, len(text) // 2, 17, text.index(b"\n") + 1):
            (self.folder / "a/samples.jsonl").write_bytes(text[:keep])
            self.run_it("a", *FEW)
            self.same("whole", "a")

    def test_a_finished_run_does_nothing_again(self):
        before = (self.folder / "whole/samples.jsonl").stat().st_mtime_ns
        self.assertNotIn(" implementations", self.run_it("whole", *FEW))
        self.assertEqual(before, (self.folder / "whole/samples.jsonl").stat().st_mtime_ns)

    def test_another_bundle_or_device_is_refused(self):
        others = (("revision", {"revision": "v2"}, 7), ("images", {"images": "11"}, 7), ("device", {}, 8))
        for what, other, seed in others:
            self.describe(**other)
            said = self.run_it("whole", *FEW, seed=seed, code=1)
            self.assertRegex(said, f"error: .* holds a run of another {what} .*: take another --out")
            self.assertEqual(said.count("\n"), 1)
        (self.bundle / "gpu").write_text(GPU + "# another\n")
        self.describe()
        self.assertIn("another files", self.run_it("whole", *FEW, code=1))

    def test_a_changed_file_is_refused(self):
        (self.bundle / "gpu").write_text(GPU + "# another\n")
        self.assertRegex(self.run_it("a", code=1), "^error: gpu is not the file that the bundle was made with")


class Faults(Driver):
    def others(self, layer, m, impl):
        for row in self.rows("a"):
            if (row["layer"], row["m"], row["impl"]) != (layer, m, impl) and row["impl"] != "deepgemm":
                self.assertEqual((row["error"], len(row["samples_us"])), (None, 30))

    def fault(self, kind, *more):
        self.run_it("a", *FEW, "--faults", f"{kind}=down:1:cublas-bf16", *more)
        (row,) = self.of("a", "down", 1, "cublas-bf16")
        self.assertEqual(row["samples_us"], [])
        self.others("down", 1, "cublas-bf16")
        return row

    def test_a_poisoned_case_is_recorded_and_the_others_are_measured(self):
        self.assertIn("illegal memory access", self.fault("poison")["error"])
        self.assertFalse((self.folder / "a/retried.jsonl").exists())

    def test_what_may_not_fail_again_is_tried_in_the_next_run(self):
        for kind in ("memory", "poison"):
            with self.subTest(kind):
                shutil.rmtree(self.folder / "a", ignore_errors=True)
                self.assertTrue(self.fault(kind)["error"])
                self.assertIn("time: 1 that failed are tried again", self.run_it("a", *FEW))
                (row,) = self.of("a", "down", 1, "cublas-bf16")
                self.assertEqual((row["error"], len(row["samples_us"])), (None, 30))
                self.others(None, None, None)
                self.assertNotIn("again", self.run_it("a", *FEW))

    def test_what_fails_each_time_is_not_tried_for_ever(self):
        for at in range(4):
            said = self.run_it("a", *FEW, "--faults", "poison=down:1:cublas-bf16")
            self.assertEqual("tried again" in said, at in (1, 2), at)
            (row,) = self.of("a", "down", 1, "cublas-bf16")
            self.assertIn("illegal memory access", row["error"])
            self.others("down", 1, "cublas-bf16")
        self.assertEqual(len(self.rows("a", "retried.jsonl")), 2)

    def test_a_verdict_is_not_tried_again(self):
        self.fault("wrong")
        before = self.rows("a")
        self.assertNotIn("again", self.run_it("a", *FEW))
        self.assertEqual(self.rows("a"), before)

    def test_a_race_that_shows_only_back_to_back_is_an_error_and_gets_no_samples(self):
        said = self.run_it("a", *FEW, "--faults", "race=down:1:xgraft-lora,race=down:1:cublas-bf16")
        words = "a race: launches back to back gave other bits than one alone"
        raced = self.of("a", "down", 1, "xgraft-lora")
        self.assertEqual([row["rank"] for row in raced], [16, 64, 256])
        for row in raced:
            self.assertEqual((row["error"], row["samples_us"], row["round_of"]), (words, [], []))
        self.assertIn(f"no samples: xgraft-lora r64: {words}", said)
        self.others("down", 1, "xgraft-lora")
        self.assertNotIn("again", self.run_it("a", *FEW))

    def test_a_process_that_dies(self):
        self.assertEqual(self.fault("die")["error"], "the process died of signal 11")

    def test_a_kernel_that_hangs(self):
        self.assertRegex(self.fault("hang", "--stall", "1")["error"], "no sign of life for")

    def test_a_wrong_implementation_gets_no_samples(self):
        row = self.fault("wrong")
        self.assertEqual((row["error"], row["check"]), ("wrong: rel_rms 0.3", {"rel_rms": 0.3}))

    def test_poison_while_tuning(self):
        self.run_it("a", "--layers", "gate_up", "--tokens", "1", "--faults", "poison=gate_up:1:prefill-64x128-s8")
        tuned = [row for row in self.rows("a", "tune.jsonl") if (row["layer"], row["m"]) == ("gate_up", 1)]
        self.assertTrue(tuned)
        for row in tuned:
            self.assertEqual(bool(row["error"]), row["kernel"] == "prefill-64x128-s8")
        self.others(None, None, None)

    def test_a_kernel_whose_check_was_wrong_is_not_timed(self):
        (self.folder / "a").mkdir()
        wrong = {"case": "q", "kernel": "quantize", "ok": False, "mock": True}
        (self.folder / "a/check.jsonl").write_text(json.dumps(wrong) + "\n")
        self.run_it("a", *FEW)
        (row,) = self.of("a", "down", 1, "xgraft-quantize+product")
        self.assertEqual((row["error"], row["samples_us"]), ("the check of quantize was wrong", []))
        self.assertEqual(len(self.of("a", "down", 1, "xgraft")[0]["samples_us"]), 30)

    def test_nothing_of_ours_is_timed_where_it_could_not_be_checked(self):
        (self.folder / "a").mkdir()
        words = "gpu check: exit 1: no driver"
        (self.folder / "a/check.json").write_text(json.dumps({"mock": True, "exit": 1, "error": words}))
        self.run_it("a", "--layers", "down", "--tokens", "1")
        self.assertFalse((self.folder / "a/tune.jsonl").exists())
        for row in self.rows("a"):
            if row["impl"].startswith("xgraft"):
                self.assertEqual((row["error"], row["samples_us"]), (words, []))
            elif row["impl"] != "deepgemm":
                self.assertEqual((row["error"], len(row["samples_us"])), (None, 30))

    def test_the_time_limit_holds_and_what_was_left_out_is_said(self):
        said = self.run_it("a", "--minutes", "1", code=3)
        self.assertRegex(said, r"out of time, left out \(\d+\): .*time q m=1")
        seconds = int(said.split("ended after ")[1].split(" s")[0])
        self.assertLessEqual(seconds, 60)
        left = json.loads((self.folder / "a/left_out.json").read_text())["left_out"]
        done = {(row["layer"], row["m"]) for row in self.rows("a")}
        self.assertIn(("gate_up", 1), done)
        for case in cases.ordered(list(cases.LAYERS), cases.TOKENS):
            self.assertNotEqual((case.layer, case.m) in done, f"time {case}" in left, case)

    def test_the_time_limit_holds_for_a_case_that_is_slower_than_thought(self):
        slow = ("--minutes", "0.5", "--faults", "slow=gate_up:1:cublas-bf16")
        said = self.run_it("a", "--layers", "gate_up", "--tokens", "1", *slow, code=3)
        self.assertIn("time 1/1 gate_up m=1: 16 implementations", said)
        self.assertRegex(said, r"left out \(\d\): .*time gate_up m=1")
        self.assertFalse((self.folder / "a/samples.jsonl").exists())
        self.assertLess(int(said.split("ended after ")[1].split(" s")[0]), 31)

    def test_no_torch_and_no_gpu_are_said_in_one_line(self):
        for text, words in (("raise ImportError('no torch')", "torch cannot be imported: no torch"),
                            ("class cuda:\n    is_available = lambda: False", "torch sees no GPU here")):
            (self.folder / "torch.py").write_text(text)
            said = self.run_it("a", seed=None, code=1, env={"PYTHONPATH": str(self.folder)})
            self.assertTrue(said.startswith(f"error: {words}\n"), said)


class Inside(Driver):
    """A worker in this process, that takes itself for a real one, and programs that pretend."""

    def setUp(self):
        super().setUp()
        (self.folder / "a").mkdir()
        options = {"out": self.folder / "a", "bundle": self.bundle, "minutes": 25, "mock": 1, "steps": ["load"],
                   "elapsed": 0, "faults": "", "left_out": [], "deadlines": {}, "parent": os.getppid(), "first": True}
        self.heard = tempfile.TemporaryFile()
        self.addCleanup(self.heard.close)
        self.worker = Worker(options, self.heard.fileno())
        self.worker.mock = False
        self.said = []
        self.worker.say = self.said.append

    def changed(self, patcher):
        patcher.start()
        self.addCleanup(patcher.stop)

    def constants(self, **values):
        for name, value in values.items():
            self.changed(patch.object(programs, name, value))

    def real_clock(self):
        begun = time.monotonic()
        self.worker.device.now = lambda: time.monotonic() - begun

    def program(self, text, name="gpu"):
        (self.bundle / name).write_text("#!/bin/sh\n" + text)
        (self.bundle / name).chmod(0o755)


class OtherPrograms(Inside):
    """What a real run asks of them, beside the check."""

    GPU = """
case "$*" in
*--cold*) echo "no NVRTC in $XGRAFT_NVRTC"; exit 1 ;;
load*) for kernel in a b all; do echo "{\\"kernel\\": \\"$kernel\\", \\"ms\\": 1}"; done >> "$5" ;;
*--small*) [ -n "$RACE" ] && { echo '========= RACECHECK SUMMARY: 2 hazards'; exit 9; }; echo fine ;;
esac
"""
    SANITIZER = """
[ "$2" = racecheck ] && export RACE=1
shift 4; "$@" || exit $?
echo '========= ERROR SUMMARY: 0 errors'
"""

    def setUp(self):
        super().setUp()
        self.program(self.GPU)
        self.program(self.SANITIZER, "compute-sanitizer")
        self.changed(patch.dict(os.environ, {"PATH": f"{self.bundle}:{os.environ['PATH']}"}))
        os.environ.pop("XGRAFT_NVRTC", None)

    def test_load_with_the_nvrtc_that_torch_brought(self):
        wheel = self.folder / "site/nvidia/cuda_nvrtc/lib"
        wheel.mkdir(parents=True)
        (wheel / "libnvrtc.so.13").touch()
        torch = ModuleType("torch")
        torch.__file__ = str(self.folder / "site/torch/__init__.py")
        self.changed(patch.dict(sys.modules, torch=torch))
        for _ in range(2):
            self.worker.load()
            found = [(row["mode"], row["kernel"], row.get("error")) for row in self.rows("a", "load.jsonl")]
            wrong = f"exit 1: no NVRTC in {wheel}"
            self.assertEqual(found, [("images", name, None) for name in ("a", "b", "all")] + [("cold", "all", wrong)])
        with patch.dict(os.environ, {"XGRAFT_NVRTC": "/mine"}):
            self.assertEqual(programs.nvrtc(), {})

    def test_what_was_ended_for_its_time_is_tried_again_in_the_next_run(self):
        self.constants(TOOLS=("memcheck",))
        self.real_clock()
        for run, seconds in enumerate((0.2, 0.2, 20, 20)):
            self.program(self.SANITIZER if seconds > 1 else "sleep 60", "compute-sanitizer")
            self.worker.deadlines["sanitize"] = self.worker.device.now() + seconds
            self.worker.options["steps"] = ["sanitize"]
            self.worker.options["layers"], self.worker.options["tokens"] = [], []
            self.worker.try_again()
            self.worker.sanitize()
            (row,) = self.rows("a", "sanitize.jsonl")
            self.assertEqual(row["ok"], None if run < 2 else True)
        self.assertEqual(len(self.rows("a", "retried.jsonl")), 2)

    def test_sanitize(self):
        self.worker.sanitize()
        found = [(row["tool"], row["ok"], row["summary"]) for row in self.rows("a", "sanitize.jsonl")]
        self.assertEqual(found, [("memcheck", True, "ERROR SUMMARY: 0 errors"),
                                 ("racecheck", False, "RACECHECK SUMMARY: 2 hazards"),
                                 ("synccheck", True, "ERROR SUMMARY: 0 errors")])

    def test_a_program_is_ended_with_its_time_even_if_it_does_not_want_to(self):
        self.constants(DYING=0.2)
        self.real_clock()
        for text in ("exec sleep 60", "trap '' TERM; while :; do sleep 0.05; done"):
            self.program(text)
            begun = self.worker.device.now()
            self.assertEqual(self.worker.tool(["./gpu"], begun + 0.2), (None, "it did not end in its time"))
            self.assertLess(self.worker.device.now() - begun, 5)


    def lives(self, pid, seconds):
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            try:
                if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                    return False
            except OSError:
                return False
            time.sleep(0.02)
        return True

    def started(self, name):
        """The process that wrote its number into a file."""
        path, until = self.bundle / name, time.monotonic() + 10
        while not (path.exists() and path.read_text().endswith("\n")):
            self.assertLess(time.monotonic(), until)
            time.sleep(0.02)
        return int(path.read_text())

    # As compute-sanitizer: it starts what it watches, here also in a session of its own.
    LAUNCHER = """
sleep 60 & echo $! > same
setsid sh -c 'echo $$ > other; exec sleep 60' &
"""

    def test_what_a_program_started_ends_with_it(self):
        self.real_clock()
        for end, said in (("wait", (None, "it did not end in its time")), ("sleep 0.4; exit 9", (9, ""))):
            self.program(self.LAUNCHER + end, "compute-sanitizer")
            found = self.worker.tool(["./compute-sanitizer"], self.worker.device.now() + (1 if end == "wait" else 20))
            self.assertEqual(found, said)
            for name in ("same", "other"):
                self.assertFalse(self.lives(self.started(name), 5), (end, name))
                (self.bundle / name).unlink()

    def test_nothing_outlives_a_driver_that_is_killed(self):
        self.program(self.LAUNCHER + "wait", "compute-sanitizer")
        text = "import sys; sys.path.insert(0, sys.argv[1]); import pathlib, programs\n" \
               "class Worker(programs.Programs):\n" \
               "    bundle, tell = pathlib.Path(sys.argv[2]), lambda *_: None\n" \
               "    class device:\n" \
               "        now = lambda: 0\n" \
               "Worker().tool(['./compute-sanitizer'], 60)"
        driver = subprocess.Popen([sys.executable, "-c", text, str(RUN.parent), str(self.bundle)])
        pids = [self.started(name) for name in ("same", "other")]
        driver.kill()
        driver.wait()
        for pid in pids:
            self.assertFalse(self.lives(pid, 5))


class Check(Inside):
    """With a program that behaves as `gpu check` does, but for one trouble."""

    GPU = """
case "$*" in *--list*) printf 'one\\ntwo\\nthree\\nfour'; exit ;; esac
out="$5" begun="${5%.jsonl}.begun"
line() { echo "{\\"case\\": \\"$1\\", \\"kernel\\": \\"$1\\", \\"ok\\": $2, \\"usable\\": $3}" >> "$out"; }
[ -f "$begun" ] && { line $(cat "$begun") false false; rm "$begun"; }
for case in one two three four; do
    grep -qs "\\"$case\\"" "$out" && continue
    [ "$7" = 0 ] && exit 3
    printf $case > "$begun"
    case $case in TROUBLE esac
    line $case true true
    rm "$begun"
done
exit 2
"""

    def checked(self, trouble, until=None):
        """The cases that have lines, and what was kept of the program's end."""
        self.constants(STALL=0.6)
        self.real_clock()
        if until:
            self.worker.deadlines["check"] = until
        self.program(self.GPU.replace("TROUBLE", trouble))
        self.worker.check()
        path = self.folder / "a/check.jsonl"
        found = [row["case"] for row in self.rows("a", "check.jsonl")] if path.exists() else []
        return found, json.loads((self.folder / "a/check.json").read_text())

    def test_cases_that_hang_or_crash_cost_only_themselves(self):
        found, end = self.checked("one|three) kill -SEGV $$ ;; two) exec sleep 60 ;;")
        self.assertEqual((found, end["exit"], end["error"]), (["one", "two", "three", "four"], 2, None))
        self.assertEqual((self.worker.wrong_kernels(), self.worker.left_out), ({"one", "two", "three"}, []))
        # What is all on this card the program knows, and not the names of the list.
        self.program("exit 1")
        self.worker.check()

    def test_a_case_that_hangs_is_written_down_where_no_time_is_left(self):
        found, end = self.checked("two) exec sleep 60 ;;", until=1.4)
        self.assertEqual((found, end["exit"], end["error"]), (["one", "two"], 3, None))
        self.assertEqual((self.worker.wrong_kernels(), self.worker.left_out), ({"two"}, ["check (2 cases)"]))

    def test_a_case_that_time_cuts_gets_another_try_and_no_third(self):
        self.constants(STALL=5, SLACK=-4.5)
        self.real_clock()
        self.worker.deadlines["check"] = 0
        self.program(self.GPU.replace("TROUBLE", "two) exec sleep 60 ;;").replace('"$7" = 0', '"$7" = x'))
        self.worker.check()
        self.assertEqual(self.worker.checked(), {"mock": False, "exit": None, "error": None})
        self.assertEqual((self.worker.wrong_kernels(), self.worker.left_out), (set(), ["check (3 cases)"]))
        begun, lines = self.folder / "a/check.begun", self.folder / "a/check.jsonl"
        self.assertEqual(begun.read_text(), "two")
        self.program(self.GPU.replace("TROUBLE", ""))
        for wrong in (set(), {"two"}):
            (self.folder / "a/check.json").unlink()
            self.worker.deadlines.clear()
            self.worker.check()
            self.assertEqual((len(self.rows("a", "check.jsonl")), self.worker.wrong_kernels()), (4, wrong))
            lines.unlink()
            begun.write_text("two")

    def test_a_case_in_which_the_gpu_failed_is_checked_again_in_the_next_run(self):
        self.worker.options |= {"steps": ["check"], "layers": [], "tokens": []}
        noted = {"case": "two", "kernel": "two", "ok": False, "usable": False, "note": "out of memory"}
        wrong = {"case": "three", "kernel": "three", "ok": False, "usable": False, "note": None}
        for row in (noted, wrong):
            self.worker.journal("check.jsonl").append([row])
        self.checked("")
        self.assertEqual(self.worker.wrong_kernels(), {"two", "three"})
        self.worker.try_again()
        found, end = self.checked("")
        self.assertEqual((sorted(found), end["exit"]), (["four", "one", "three", "two"], 2))
        self.assertEqual(self.worker.wrong_kernels(), {"three"})

    def test_an_error_is_said_and_stops_ours_unless_every_case_has_a_line(self):
        found, end = self.checked("two) echo 'no driver'; rm \"$begun\"; exit 1 ;;")
        self.assertEqual((found, end["error"]), (["one"], "gpu check: exit 1: no driver"))
        self.assertIn("gpu check: exit 1: no driver", self.said)
        self.assertEqual(self.worker.left_out, ["check (3 cases)"])
        lines = [json.dumps({"case": case, "kernel": case, "ok": True}) for case in ("two", "three", "four")]
        with open(self.folder / "a/check.jsonl", "a") as file:
            file.write("\n".join(lines) + "\n")
        self.program("[ \"$2\" = --list ] && printf 'one\\ntwo\\nthree\\nfour' || exit 1")
        self.worker.check()
        self.assertIsNone(self.worker.checked()["error"])

    def test_a_program_that_crashes_at_every_start_is_given_up(self):
        found, end = self.checked("*) rm \"$begun\"; kill -SEGV $$ ;;")
        self.assertEqual((found, end["exit"]), ([], -signal.SIGSEGV))
        self.assertTrue(end["error"])

    def test_only_what_is_not_usable_is_stopped(self):
        lines = [("bits", False, True), ("far", False, False), ("fine", True, True), ("old", False, None)]
        for kernel, ok, near in lines:
            row = {"case": kernel, "kernel": kernel, "ok": ok} | ({} if near is None else {"usable": near})
            self.worker.journal("check.jsonl").append([row])
        self.assertEqual(self.worker.wrong_kernels(), {"far", "old"})
        self.worker.report_check()
        self.assertIn("1 cases ['bits'] differ from the model of the tensor core by bits", self.said[-1])


class Steps(Inside):
    """Tuning and timing, with times that are given."""

    def sampled(self, us):
        order = []

        def sample(ready, index):
            order.append((index, ready.config))
            return us[ready.config], 1755

        self.worker.device.sample = sample
        return order

    def test_the_order_turns_from_round_to_round(self):
        order = self.sampled(dict.fromkeys("abc", 1.0))
        timed = [(workers.sample_row(Case("q", 1), Impl(name)), Ready(Impl(name), name, 0, 1, 1)) for name in "abc"]
        self.assertTrue(self.worker.rounds(Case("q", 1), timed))
        order = "".join(name for _, name in order)
        self.assertEqual((order[:12], len(order)), ("abcbcacababc", 90))
        for row, _ in timed:
            self.assertEqual(row["round_of"], list(range(30)))

    def test_the_graph_of_a_hopeless_candidate_is_given_back_after_its_first_sample(self):
        order = self.sampled({"a/1": 1.0, "b/1": 1.9, "c/1": 2.1})
        built = {}

        def ready(impl):
            ((_, kernel, number),) = impl.picks
            built[kernel] = Ready(impl, f"{kernel}/{number}", 1e-3, 1, 1, graph=object())
            return built[kernel]

        self.worker.device.ready, self.worker.warm = ready, lambda *_: None
        candidates = [{"kernel": kernel, "number": 1, "chosen": False, "us": 1.5} for kernel in "cab"]
        rows = self.worker.tune_case(Case("q", 1), 0, candidates, set())
        self.assertEqual([(row["kernel"], len(row["samples_us"])) for row in rows], [("c", 1), ("a", 5), ("b", 5)])
        self.assertEqual([built[kernel].graph is None for kernel in "abc"], [False, False, True])
        self.assertEqual(len(order), 11)

    def test_a_step_that_goes_on_in_a_new_process_keeps_its_deadline(self):
        first = self.worker.until("tune")
        self.assertEqual(first, workers.SHARE["tune"] * 25 * 60)
        self.heard.seek(0)
        told = [line for line in self.heard.read().split(b"\n") if line]
        args = SimpleNamespace(steps=["load", "tune"], out=self.folder, bundle=self.bundle, minutes=25, mock=1,
                               layers=[], tokens=[], faults="")
        supervisor = Supervisor(args, None)
        supervisor.hear([*told, told[0].replace(b'"deadlines"', b'"other"')])
        self.assertEqual(supervisor.options()["deadlines"], {"tune": first})
        next_one = Worker(supervisor.options() | {"parent": os.getppid(), "elapsed": 300}, self.heard.fileno())
        self.assertEqual(next_one.until("tune"), first)


class RealDevice(unittest.TestCase):
    """What needs no GPU of the device that has one."""

    def device(self):
        self.calls = Mock()
        device = CudaDevice.__new__(CudaDevice)
        device.torch, device.library, device.cold = self.calls.torch, self.calls.library, self.calls.cold
        device.begin_event, device.end_event, device.clock = self.calls.begin, self.calls.end, self.calls.clock
        device.case, device.operands, device.scratches = None, {}, {}
        self.calls.begin.elapsed_time.return_value = 2.0
        return device

    def test_a_sample_begins_with_a_cold_cache_and_a_launch_that_is_over(self):
        us, _ = self.device().replayed(self.calls.graph, 20)
        self.assertEqual(us, 100.0)
        names = [name for name, _, _ in self.calls.mock_calls]
        self.assertEqual(names[:5], ["cold.sum", "torch.cuda._sleep", "begin.record", "graph.replay", "end.record"])

    def test_ours_write_two_results_by_turns_and_both_must_be_what_one_launch_alone_gives(self):
        torch = Mock(equal=lambda one, other: one == other)
        with patch.dict(sys.modules, torch=torch):
            sys.modules.pop("operands", None)
            from operands import Operands
            o = Operands.__new__(Operands)
        for copies in (2, 5):
            o.w, o.ys = [None] * copies, ["y", "before"]
            written = [o.y_of(i) for i in range(copies)]
            self.assertEqual(written[-2:], ["before", "y"])
        device = self.device()
        device.torch = torch
        for found, steady in ((["a", "a"], True), (["a", "b"], False), (["b", "a"], False)):
            device.operands = {"q": Mock(**{"results.return_value": found})}
            self.assertIs(device.steady(Ready(Impl("xgraft"), "", 0, 1, 1, kept={"q": "a"})), steady)

    def test_one_launch_alone_is_awaited_before_its_result_is_kept(self):
        device = self.device()
        device.operands = {"q": self.calls.q, "o": self.calls.o}
        for o, copies in ((self.calls.q, 2), (self.calls.o, 3)):
            o.w, o.results.return_value = [None] * copies, [Mock(), Mock()]
        device.alone({"q": self.calls.built_q, "o": self.calls.built_o})
        names = [name for name, _, _ in self.calls.mock_calls]
        one = ["built_q.launch", "torch.cuda.synchronize", "q.results"]
        self.assertEqual([name for name in names if name in one][:3], one)
        self.assertEqual(self.calls.built_o.launch.call_args.args, (2,))

    def test_candidates_of_a_case_share_their_memory(self):
        device, torch = self.device(), Mock()
        torch.empty.side_effect = lambda size, **_: Mock(**{"numel.return_value": size})
        device.torch = torch
        listed = [{"kernel": "a", "number": n, "chosen": False, "parts": 100 * n, "counters": n} for n in (0, 3, 2)]
        device.library.candidates.return_value = listed
        operands = Mock(w=[1, 2], w_scales=[3, 4])
        with patch.dict(sys.modules, torch=torch):
            import implementations
            operands.y_of = lambda i: f"y{i}"
            for number in (2, 3, 0):
                implementations.product(device, operands, 0, ("q", "a", number))
        self.assertEqual([call.args[0] for call in torch.empty.call_args_list], [300, 3])
        given = [call.args[1] for call in device.library.prepare.call_args_list]
        self.assertEqual(len(given), 6)
        self.assertEqual(len({id(operands["parts"]) for operands in given[:4]}), 1)
        self.assertNotIn("parts", given[4])
        self.assertEqual([operands["y"] for operands in given], ["y0", "y1"] * 3)
        self.assertEqual(given[0]["counters"].zero_.call_count, 2)

    def test_the_library_is_closed_only_where_nothing_is_broken(self):
        device = self.device()
        device.torch.ones().sum().item.return_value = 8
        device.close()
        self.calls.library.close.assert_called_once()
        device = self.device()
        device.torch.cuda.synchronize.side_effect = RuntimeError("poisoned")
        device.close()
        self.calls.library.close.assert_not_called()

    def test_close_reaches_the_library(self):
        with patch("library.ctypes.CDLL") as loaded:
            loaded.return_value.xg_open.return_value = 17
            Library(Path("libxgraft_gpu.so"), "images", 0).close()
        loaded.return_value.xg_close.assert_called_once_with(17)

    def test_identity_has_the_multiprocessors(self):
        device = self.device()
        device.uuid, device.multiprocessors = "u", 114
        self.assertEqual(device.identity()["multiprocessors"], 114)


class Tables(unittest.TestCase):
    def test_the_cases_that_matter_come_first(self):
        listed = cases.ordered(list(cases.LAYERS), cases.TOKENS)
        self.assertEqual(len(listed), len(set(listed)))
        few = [Case(layer, m) for m in (2, 4) for layer in ("gate_up", "down", "qkv", "o")]
        self.assertEqual(len(listed), len(cases.LAYERS) * (len(cases.TOKENS) - 2) + 1 + len(few))
        judged = ("gate_up", "down", "qkv", "o")
        tokens = (1, 8, 16, 64, 128, 512, 2048, 4096, 8192)
        self.assertEqual(listed[:36], [Case(layer, m) for m in tokens for layer in judged])
        self.assertEqual(listed[36:45], [Case(cases.STEP, 1), *few])

    def test_what_is_not_quantized_is_timed_wherever_its_kernel_takes_one_pass(self):
        timed = {case.m for case in cases.ordered(list(cases.LAYERS), cases.TOKENS) if case.layer == "o"
                 and {"xgraft", "xgraft-quantize+product", "xgraft-w8a16", "cublas-bf16"}
                 <= {impl.name for impl in cases.implementations(case)}}
        self.assertEqual(timed, {1, 2, 4})

    def test_tuning_of_the_layers_that_have_targets_fits_its_share(self):
        todo = cases.tunings(cases.ordered(list(cases.LAYERS), cases.TOKENS))
        self.assertEqual([rank for _, rank in todo[:72]], [0] * 36 + [64] * 36)
        self.assertEqual({case.layer for case, _ in todo[:72]}, set(cases.FIRST_LAYERS))
        few = {0: 12, 64: cases.TUNE_LORA + 1}
        needed = sum(cases.seconds(case, few[rank], cases.TUNE_SAMPLES, 60 << 20) for case, rank in todo[:72])
        self.assertLess(needed, workers.SHARE["tune"] * 25 * 60)

    def test_floors_are_those_of_the_published_table(self):
        for layer, m, us in (("q", 1, 12.5), ("gate_up", 128, 82.4), ("down", 512, 67.8), ("k", 8192, 43.4)):
            self.assertAlmostEqual(cases.floor_us(layer, m), us, delta=0.06)
        self.assertAlmostEqual(cases.case_floor_us(Case(cases.STEP, 1)) / 1000, 9.32, delta=0.01)

    def test_copies_of_weights_exceed_the_l2_four_times(self):
        for layer in cases.LAYERS:
            case = Case(layer, 1)
            copies = cases.copies_of(case, 60 << 20)
            self.assertGreater(copies * case.n * case.k, 4 * (60 << 20))
            launches = cases.launches_of(copies)
            self.assertTrue(launches >= 20 and launches % copies == 0)

    def test_lines_of_one_append_count_together_or_not_at_all(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "a.jsonl"
            Journal(path, True).append([{"a": 0}])
            one = path.stat().st_size
            Journal(path, True).append([{"a": 1}, {"a": 2}, {"a": 3}])
            whole = path.read_bytes()
            for keep in range(len(whole) + 1):
                path.write_bytes(whole[:keep])
                rows = [row["a"] for row in Journal(path, True).rows]
                self.assertEqual(rows, [0, 1, 2, 3] if keep == len(whole) else [0] if keep >= one else [])


if __name__ == "__main__":
    unittest.main()
