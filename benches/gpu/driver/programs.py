"""The steps that are programs of their own, beside the worker's: load, check and sanitize."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from device import Fatal
from journal import Journal, write_whole

TOOLS = ("memcheck", "racecheck", "synccheck")
NVRTC = "XGRAFT_NVRTC"
CHECKED = "check.json"
KEEP = Path(__file__).resolve().parent / "keep.py"
# What `gpu check` says by its exit code, and what `tool` says where it ended a program.
RIGHT, WRONG, UNFINISHED, ERROR = 0, 2, 3, 1
LATE, STALLED = "it did not end in its time", "it hangs"
# Seconds without a line after which a case of the check hangs.
STALL = 60
SLACK, DYING, LISTED = 5, 10, 30


def usable(row):
    """False of a kernel that may not be timed: far from the exact result, or unsteady. Old lines know bits only."""
    return row.get("usable", row["ok"])


def nvrtc():
    """Where to find the NVRTC that torch brought: the Python that runs us need not be the active environment's."""
    torch = getattr(sys.modules.get("torch"), "__file__", None)
    if torch and not os.environ.get(NVRTC):
        for wheel in ("nvidia/cu13/lib", "nvidia/cuda_nvrtc/lib"):
            folder = Path(torch).resolve().parents[1] / wheel
            if any(folder.glob("libnvrtc.so*")):
                return {NVRTC: str(folder)}
    return {}


def size_of(path):
    return path.stat().st_size if path.exists() else 0


def ended(child, seconds):
    """Whether it ends so soon. One that is in a call of the GPU's driver may never, even when it was killed."""
    try:
        child.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def another_try(begun):
    """What an earlier run was cut in is not to blame for that, unless the next one was cut in it too: the program
    would write it down as what ended it."""
    cut = begun.with_suffix(".cut")
    if begun.exists() and not (cut.exists() and cut.read_text() == begun.read_text()):
        begun.replace(cut)


class Programs:
    """What a worker does by them."""

    def tool(self, command, until, growing=None, more=None):
        """Runs a program until it ends, its time does, a file stops growing, or we are stopped: its exit code, or None
        where it was ended, and what it said. What it started ends with it, and with us."""
        with tempfile.TemporaryFile() as words:
            child = subprocess.Popen([sys.executable, "-S", str(KEEP), *command], cwd=self.bundle, stdout=words,
                                     stdin=subprocess.PIPE, stderr=subprocess.STDOUT, env=os.environ | (more or {}))
            size, grown = -1, self.device.now()
            try:
                while not ended(child, 0.05):
                    self.tell(60)
                    now = self.device.now()
                    if growing and size_of(growing) != size:
                        size, grown = size_of(growing), now
                    if growing and now - grown > STALL:
                        return None, STALLED
                    if now >= until:
                        return None, LATE
            finally:
                child.stdin.close()
                if not ended(child, DYING):
                    child.kill()
            words.seek(0)
            return child.returncode, words.read().decode(errors="replace").strip()

    def load(self):
        journal = self.journal("load.jsonl")
        for mode, flags, more in (("images", [], {}), ("cold", ["--cold"], nvrtc())):
            if any(row["mode"] == mode for row in journal.rows):
                continue
            if self.mock:
                journal.append([{"mode": mode, "kernel": "all", "origin": None, "ms": None, "error": "not run"}])
                continue
            until = self.until("load")
            if self.device.now() >= until:
                self.leave_out(f"load {mode}")
                continue
            self.say(f"load: {mode}")
            part = self.out / "load.part"
            part.unlink(missing_ok=True)
            code, words = self.tool(["./gpu", "load", "--images", "images", "--out", part, *flags], until, more=more)
            rows = [{"mode": mode, **row} for row in Journal(part, False).rows]
            if code != 0:
                last = words.splitlines()[-1] if words else ""
                empty = {"mode": mode, "kernel": "all", "origin": None, "ms": None}
                error = f"exit {code}: {last}" if code is not None else words
                rows.append(empty | {"error": error, "again": code is None})
            journal.append(rows)
            part.unlink(missing_ok=True)

    # check

    def names(self):
        """The cases as an H100 has them: on a card with other multiprocessors the plan, and some names, differ."""
        code, words = self.tool(["./gpu", "check", "--list"], self.device.now() + LISTED)
        if code != 0:
            raise Fatal(f"./gpu check --list: exit {code}: {words[-200:]}")
        return words.split("\n")

    def check(self):
        if self.mock:
            self.check_mock(self.names())
            return
        if self.checked().get("exit") in (RIGHT, WRONG):
            return
        names, path = self.names(), self.out / "check.jsonl"
        undone = set(names) - self.cases_checked()
        self.say(f"check: {len(undone)} of {len(names)} cases to do")
        code, words = self.run_check(path, self.until("check"))
        done = code in (RIGHT, WRONG)
        # Only the program knows what all is; without its word the names of an H100 must do.
        undone = set() if done else set(names) - self.cases_checked()
        failed = not done and code != UNFINISHED and words != LATE
        error = f"gpu check: exit {code}: {' '.join(words[-300:].split())}" if failed else None
        if failed:
            self.say(error)
        self.report_check()
        if not done and (undone or not failed):
            self.say(f"check: not all cases were run, of {len(names)} these were not: {sorted(undone)[:5]}")
            self.leave_out(f"check ({len(undone) or 'some'} cases)")
        write_whole(self.out / CHECKED, {"mock": False, "exit": code, "error": error if undone else None})

    def check_mock(self, names):
        journal = self.journal("check.jsonl")
        missing = set(names) - self.cases_checked()
        empty = {"ok": None, "usable": None, "compared": 0, "wrong": 0, "worst": None, "repeats": 0, "note": "not run"}
        if missing:
            self.say(f"check: {len(missing)} of {len(names)} cases to do")
            journal.append([{"case": name, "kernel": None, **empty} for name in names if name in missing])

    def run_check(self, path, until):
        """Starts it until it ends by itself: a kernel that hangs or crashes costs its own case, which the program
        writes down when it starts again, also where no time is left for more."""
        command = ["./gpu", "check", "--images", "images", "--out", path, "--seconds"]
        another_try(path.with_suffix(".begun"))
        fruitless = 0
        while True:
            size, now = size_of(path), self.device.now()
            # Long enough that a case that hangs from the last moment on is still seen to.
            last = max(until, now) + STALL + SLACK
            code, words = self.tool([*command, str(max(0, int(until - now)))], last, path)
            hung = code is None and words == STALLED
            if code in (RIGHT, WRONG, UNFINISHED, ERROR) or code is None and not hung:
                return code, words
            end = f"was ended after {STALL} s without a line" if hung else f"ended with {code}: {words[-300:]}"
            # The first start after an end has at least one line to write.
            fruitless = 0 if size_of(path) > size else fruitless + 1
            if fruitless == 2:
                return code, words
            self.say(f"check: it {end}; going on with the next case")

    def cases_checked(self):
        return {row["case"] for row in self.journal("check.jsonl").rows}

    def report_check(self):
        rows = self.journal("check.jsonl").rows
        bad = [row["case"] for row in rows if usable(row) is False]
        self.say(f"check: {len(rows)} cases done, {len(bad)} unusable {bad[:5]}")
        other = [row["case"] for row in rows if row["ok"] is False and usable(row)]
        if other:
            self.say(f"check: {len(other)} cases {other[:5]} differ from the model of the tensor core by bits; "
                     "their kernels are timed")

    def checked(self):
        """How the check ended the last time."""
        path = self.out / CHECKED
        return json.loads(path.read_text()) if path.exists() else {}

    def wrong_kernels(self):
        return {row["kernel"] for row in self.journal("check.jsonl").rows if usable(row) is False}

    # sanitize

    def sanitize(self):
        journal = self.journal("sanitize.jsonl")
        program = shutil.which("compute-sanitizer") or shutil.which("/usr/local/cuda/bin/compute-sanitizer")
        until = self.until("sanitize")
        for index, tool in enumerate(TOOLS):
            if any(row["tool"] == tool for row in journal.rows):
                continue
            row = {"tool": tool, "ok": None, "exit": None, "seconds": None, "summary": None, "error": None}
            if self.mock or not program:
                journal.append([row | {"error": "not run" if self.mock else "compute-sanitizer is not there"}])
                continue
            begun = self.device.now()
            if begun >= until:
                self.leave_out(f"sanitize {tool}")
                continue
            self.say(f"sanitize: {tool}")
            part = self.out / "sanitize.part"
            part.unlink(missing_ok=True)
            command = [program, "--tool", tool, "--error-exitcode", "9"]
            command += ["./gpu", "check", "--images", "images", "--out", part, "--small"]
            # What one tool leaves of the time the others may have.
            code, words = self.tool(command, begun + (until - begun) / (len(TOOLS) - index))
            part.unlink(missing_ok=True)
            summary = [line for line in words.splitlines() if "SUMMARY" in line]
            row |= {"exit": code, "seconds": round(self.device.now() - begun, 1)}
            row |= {"summary": summary[-1].strip("= ") if summary else None}
            if code is None:
                row |= {"error": words[-300:], "again": True}
            else:
                row["ok"] = code == 0
                row["error"] = None if code == 0 else words[-300:]
            journal.append([row])
