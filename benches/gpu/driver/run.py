#!/usr/bin/env python3
"""Checks, tunes and times xgraft's kernels on a GPU beside their rivals.

    python3 run.py --out DIR [--minutes 25] [--steps machine,load,check,sanitize,tune,time]
                   [--layers gate_up,down] [--tokens 1,16] [--mock SEED]

Lies in the bundle's folder. Ends within --minutes; started again with the same DIR it goes on where it was.
Exit 0: all is done; 3: time ran out; 1: an error, said in one line; 130: interrupted.
"""

import argparse
import fcntl
import hashlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import worker
from cases import LAYERS, TOKENS
from journal import Journal, write_whole

STEPS = ("machine", "load", "check", "sanitize", "tune", "time")
STOP_SECONDS = 30
BUNDLE = Path(__file__).resolve().parent


def fail(words):
    print(f"error: {words}", file=sys.stderr, flush=True)
    sys.exit(worker.FATAL)


def subset(all_of, kind=str):
    def parse(text):
        given = [kind(part) for part in text.split(",")]
        unknown = [part for part in given if part not in all_of]
        if unknown:
            raise argparse.ArgumentTypeError(f"{unknown[0]} is none of {', '.join(map(str, all_of))}")
        return [part for part in all_of if part in given]
    return parse


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=25)
    parser.add_argument("--mock", type=int, metavar="SEED", help="no GPU: pretend, and say so in every file")
    parser.add_argument("--steps", type=subset(STEPS), default=STEPS)
    parser.add_argument("--layers", type=subset(LAYERS), default=list(LAYERS))
    parser.add_argument("--tokens", type=subset(TOKENS, int), default=TOKENS)
    parser.add_argument("--bundle", type=Path, default=BUNDLE, help="the folder of bundle.json")
    parser.add_argument("--faults", default="", help="what the mock shall do wrong; see mock.py")
    parser.add_argument("--stall", type=float, help="seconds without a sign of life that end a worker")
    return parser.parse_args()


def verify(bundle):
    """The files are those that the bundle was made of."""
    try:
        described = json.loads((bundle / "bundle.json").read_text())
    except (OSError, ValueError) as error:
        fail(f"{bundle}/bundle.json cannot be read: {error}")
    missing = {"revision", "compiler", "images", "files"} - described.keys()
    if missing:
        fail(f"{bundle}/bundle.json says nothing of {', '.join(sorted(missing))}")
    for name, expected in described["files"].items():
        try:
            found = hashlib.sha256((bundle / name).read_bytes()).hexdigest()
        except OSError as error:
            fail(f"{name} of the bundle cannot be read: {error.strerror}")
        if found != expected:
            fail(f"{name} is not the file that the bundle was made with (sha256 {found[:12]}, not {expected[:12]})")


def lock(out):
    """One run a folder; a killed one's worker may need a moment to die."""
    held = open(out / ".lock", "w")
    for attempt in range(100):
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return held
        except OSError:
            time.sleep(0.1)
    fail(f"another run is using {out}")


class Supervisor:
    """Starts workers one after the other, and ends one that hangs or is late."""

    def __init__(self, args, held):
        self.args, self.held = args, held
        self.child, self.stopped = None, None
        self.started = time.monotonic()
        self.at = {"now": 0.0, "limit": 120.0, "step": args.steps[0], "row": None, "file": None}
        self.left_out, self.deadlines, self.workers = [], {}, 0
        self.heard = self.started

    def stop(self, *_):
        self.stopped = time.monotonic()
        if self.child and self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)

    def options(self):
        """For the next worker, which begins with the step that the last one was at."""
        args = self.args
        self.workers += 1
        steps = list(args.steps)[list(args.steps).index(self.at["step"]):]
        return {
            "out": str(args.out.resolve()), "bundle": str(args.bundle.resolve()), "minutes": args.minutes,
            "mock": args.mock, "steps": steps, "layers": list(args.layers), "tokens": list(args.tokens),
            "faults": args.faults, "elapsed": self.at["now"], "started": self.started, "parent": os.getpid(),
            "left_out": self.left_out, "deadlines": self.deadlines,
            "first": self.workers == 1,
        }

    def hear(self, lines):
        for line in lines:
            self.at = json.loads(line)
            self.left_out = self.at.get("left_out", self.left_out)
            self.deadlines = self.at.get("deadlines", self.deadlines)

    def late(self):
        """Why the worker must end now, if it must."""
        now = time.monotonic()
        if self.args.mock is None and now - self.started > self.args.minutes * 60 - 2:
            return "time"
        if now - self.heard > (self.args.stall or self.at["limit"]):
            return "stall"
        if self.stopped and now - self.stopped > STOP_SECONDS:
            return "stall"
        return None

    def one(self):
        """Runs a worker to its end: its exit code, or "time" or "stall" where it was ended."""
        self.at |= {"row": None, "file": None, "limit": 120.0}
        self.heard = time.monotonic()
        reader, writer = os.pipe()
        command = [sys.executable, str(Path(__file__).resolve()), "--worker", json.dumps(self.options()), str(writer)]
        self.child = subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=(writer, self.held.fileno()),
                                      start_new_session=True)
        os.close(writer)
        if self.stopped:
            self.stop()
        rest, why = b"", None
        with open(reader, "rb", buffering=0) as channel:
            while True:
                ready, _, _ = select.select([channel], [], [], 0.5)
                data = channel.read(65536) if ready else None
                if data:
                    *lines, rest = (rest + data).split(b"\n")
                    self.hear(lines)
                    self.heard = time.monotonic()
                elif data == b"":
                    break
                why = why or self.late()
                if why:
                    os.killpg(self.child.pid, signal.SIGKILL)
                    break
        code = self.child.wait()
        self.child.stdin.close()
        return why or code

    def record(self, words):
        """The worker died of what it was doing: this run does not try that again. False if it did nothing."""
        row, file = self.at["row"], self.at["file"]
        if not row:
            return False
        print(f"{row['layer']} m={row['m']} {row.get('impl') or row['kernel']}: {words}", flush=True)
        Journal(self.args.out / file, self.args.mock is not None).append([row | {"error": words, "again": True}])
        return True

    def run(self):
        while True:
            end = self.one()
            if self.stopped:
                return worker.STOPPED
            if end == "time":
                self.left_out.append(f"{self.at['step']}: what was at hand, and all after it")
                return worker.OUT_OF_TIME
            if end == "stall":
                words = f"no sign of life for {time.monotonic() - self.heard:.0f} s"
                if not self.record(words):
                    fail(words)
            elif end == worker.AGAIN:
                pass
            elif end < 0 or end not in (worker.DONE, worker.FATAL, worker.OUT_OF_TIME):
                words = f"the process died of signal {-end}" if end < 0 else f"the process ended with {end}"
                if not self.record(words):
                    fail(words)
            else:
                return end


def main():
    if len(sys.argv) == 4 and sys.argv[1] == "--worker":
        worker.main(json.loads(sys.argv[2]), int(sys.argv[3]))
    args = arguments()
    verify(args.bundle)
    args.out.mkdir(parents=True, exist_ok=True)
    supervisor = Supervisor(args, lock(args.out))
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, supervisor.stop)
    code = supervisor.run()
    if code == worker.FATAL:
        return code
    write_whole(args.out / "left_out.json", {"mock": args.mock is not None, "left_out": supervisor.left_out})
    seconds = supervisor.at["now"]
    clock = "" if args.mock is None else " of the mock clock"
    print(f"ended after {seconds:.0f} s{clock}, exit {code}", flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
