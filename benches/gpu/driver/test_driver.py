"""Tests of the driver with the mock device, without a GPU and the Rust files: `python3 -m unittest` in this folder."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

import cases
from cases import Case
from journal import Journal
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
        for path in (self.folder / "a").glob("*.json*"):
            for text in path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]:
                self.assertIs(json.loads(text)["mock"], True, path)
        self.assertRegex(said, r"MOCK \[\d+:\d\d left\] time 1/11 gate_up m=1: 15 implementations")

    def test_what_was_fastest_in_tuning_is_timed(self):
        self.run_it("a", *FEW)
        tuned = [row for row in self.rows("a", "tune.jsonl") if row["layer"] == "down"]
        best = min(tuned, key=lambda row: sorted(row["samples_us"])[2])
        (timed,) = self.of("a", "down", 1, "xgraft")
        self.assertEqual(timed["config"], f"{best['kernel']}/{best['number']}")

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

    def test_a_poisoned_case_is_recorded_once_and_the_others_are_measured(self):
        self.assertIn("illegal memory access", self.fault("poison")["error"])
        before = self.rows("a")
        self.run_it("a", *FEW)
        self.assertEqual(self.rows("a"), before)

    def test_a_process_that_dies(self):
        self.assertEqual(self.fault("die")["error"], "the process died of signal 11")

    def test_a_kernel_that_hangs(self):
        self.assertRegex(self.fault("hang", "--stall", "1")["error"], "no sign of life for")

    def test_a_wrong_implementation_gets_no_samples(self):
        row = self.fault("wrong")
        self.assertEqual((row["error"], row["check"]), ("wrong: rel_rms 0.3", {"rel_rms": 0.3}))

    def test_poison_while_tuning(self):
        self.run_it("a", *FEW, "--faults", "poison=gate_up:1:xgraft")
        tuned = [row for row in self.rows("a", "tune.jsonl") if (row["layer"], row["m"]) == ("gate_up", 1)]
        self.assertEqual([bool(row["error"]) for row in tuned], [True] * 4)
        self.others("gate_up", 1, "xgraft")

    def test_a_kernel_whose_check_was_wrong_is_not_timed(self):
        (self.folder / "a").mkdir()
        wrong = {"case": "q", "kernel": "quantize", "ok": False, "mock": True}
        (self.folder / "a/check.jsonl").write_text(json.dumps(wrong) + "\n")
        self.run_it("a", *FEW)
        (row,) = self.of("a", "down", 1, "xgraft-quantize+product")
        self.assertEqual((row["error"], row["samples_us"]), ("the check of quantize was wrong", []))
        self.assertEqual(len(self.of("a", "down", 1, "xgraft")[0]["samples_us"]), 30)

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
        slow = ("--minutes", "0.3", "--faults", "slow=gate_up:1:cublas-bf16")
        said = self.run_it("a", "--layers", "gate_up", "--tokens", "1", *slow, code=3)
        self.assertIn("time 1/1 gate_up m=1: 15 implementations", said)
        self.assertIn("left out (1): time gate_up m=1", said)
        self.assertFalse((self.folder / "a/samples.jsonl").exists())
        self.assertLess(int(said.split("ended after ")[1].split(" s")[0]), 19)

    def test_no_torch_and_no_gpu_are_said_in_one_line(self):
        for text, words in (("raise ImportError('no torch')", "torch cannot be imported: no torch"),
                            ("class cuda:\n    is_available = lambda: False", "torch sees no GPU here")):
            (self.folder / "torch.py").write_text(text)
            said = self.run_it("a", seed=None, code=1, env={"PYTHONPATH": str(self.folder)})
            self.assertTrue(said.startswith(f"error: {words}\n"), said)


class Programs(Driver):
    """What a real run asks of other programs, with programs that pretend."""

    GPU = """#!/bin/sh
case "$*" in
*--list*) printf 'one\\ntwo\\nthree\\n' ;;
*--cold*) echo 'NVRTC is not there'; exit 1 ;;
load*) for kernel in a b all; do echo "{\\"kernel\\": \\"$kernel\\", \\"ms\\": 1}"; done >> "$5" ;;
*--small*) [ -n "$RACE" ] && { echo '========= RACECHECK SUMMARY: 2 hazards'; exit 9; }; echo fine ;;
check*) echo '{"case": "one", "kernel": "a", "ok": true}' >> "$5"
        echo '{"case": "two", "kernel": "b", "ok": false}' >> "$5"; exit 1 ;;
esac
"""
    SANITIZER = """#!/bin/sh
[ "$2" = racecheck ] && export RACE=1
shift 4; "$@" || exit $?
echo '========= ERROR SUMMARY: 0 errors'
"""

    def setUp(self):
        super().setUp()
        for name, text in (("gpu", self.GPU), ("compute-sanitizer", self.SANITIZER)):
            (self.bundle / name).write_text(text)
            (self.bundle / name).chmod(0o755)
        (self.folder / "a").mkdir()
        before = os.environ["PATH"]
        self.addCleanup(os.environ.__setitem__, "PATH", before)
        os.environ["PATH"] = f"{self.bundle}:{before}"
        options = {"out": self.folder / "a", "bundle": self.bundle, "minutes": 25, "mock": 1, "steps": ["load"],
                   "elapsed": 0, "faults": "", "left_out": [], "parent": os.getppid()}
        self.heard = tempfile.TemporaryFile()
        self.addCleanup(self.heard.close)
        self.worker = Worker(options, self.heard.fileno())
        self.worker.mock = False
        self.worker.say = lambda text: None

    def test_load(self):
        for _ in range(2):
            self.worker.load()
            found = [(row["mode"], row["kernel"], row.get("error")) for row in self.rows("a", "load.jsonl")]
            wrong = "exit 1: NVRTC is not there"
            self.assertEqual(found, [("images", name, None) for name in ("a", "b", "all")] + [("cold", "all", wrong)])

    def test_check(self):
        self.worker.check()
        self.assertEqual([row["case"] for row in self.rows("a", "check.jsonl")], ["one", "two"])
        self.assertEqual(self.worker.wrong_kernels(), {"b"})
        self.assertEqual(self.worker.left_out, ["check (1 cases)"])

    def test_sanitize(self):
        self.worker.sanitize()
        found = [(row["tool"], row["ok"], row["summary"]) for row in self.rows("a", "sanitize.jsonl")]
        self.assertEqual(found, [("memcheck", True, "ERROR SUMMARY: 0 errors"),
                                 ("racecheck", False, "RACECHECK SUMMARY: 2 hazards"),
                                 ("synccheck", True, "ERROR SUMMARY: 0 errors")])

    def test_a_program_is_ended_with_its_time(self):
        (self.bundle / "gpu").write_text("#!/bin/sh\nexec sleep 60\n")
        self.worker.device.now = time.monotonic
        begun = time.monotonic()
        self.assertEqual(self.worker.tool(["./gpu"], begun + 0.2), (None, "it did not end in its time"))
        self.assertLess(time.monotonic() - begun, 5)


class Tables(unittest.TestCase):
    def test_the_cases_that_matter_come_first(self):
        listed = cases.ordered(list(cases.LAYERS), cases.TOKENS)
        self.assertEqual(len(listed), len(set(listed)))
        self.assertEqual(len(listed), len(cases.LAYERS) * len(cases.TOKENS) + 1)
        self.assertEqual([str(case) for case in listed[:3]], ["gate_up m=1", "down m=1", "qkv m=1"])
        self.assertEqual(listed[24], Case(cases.STEP, 1))

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
