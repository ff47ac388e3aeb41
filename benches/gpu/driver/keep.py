"""Runs a program and leaves nothing of it behind, neither when it ends nor when who asked for it does.

    python3 keep.py PROGRAM [ARGUMENT...]

Standard input is held open by who asks: when it closes, all that the program started is killed. Ends as the program.
"""

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time

PR_SET_CHILD_SUBREAPER = 36
DYING = 5.0  # one that is in a call of the GPU's driver may never die


def children():
    mine = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat") as file:
                state, parent = file.read().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if int(parent) == os.getpid() and state != "Z":
            mine.append(int(pid))
    return mine


def end_all():
    """Children of who is killed become ours, in whatever group they are, until there are none."""
    until = time.monotonic() + DYING
    while time.monotonic() < until:
        mine = children()
        if not mine:
            return
        for pid in mine:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        time.sleep(0.01)


def watch():
    os.read(0, 1)
    end_all()
    os.killpg(0, signal.SIGKILL)


def main(command):
    os.setsid()
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    except OSError as error:
        print(error, flush=True)
        return 127
    threading.Thread(target=watch, daemon=True).start()
    code = child.wait()
    end_all()
    if code < 0:
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
