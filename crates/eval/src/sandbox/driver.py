"""The interpreter of one question: runs programs one after the other and keeps what they leave behind.

Frames of four bytes (length, big end first) and JSON come on standard input and go to standard output.
"""
import codecs
import io
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import threading

CONFIG = json.loads(sys.argv[1])
KEEP = CONFIG["keep_chars"]
FAITHFUL = CONFIG["compat"]


def escape(fault):
    """Half a character, as a file's name may hold one, in JSON that holds a backslash in its place."""
    return "".join(f"\\\\u{ord(half):04x}" for half in fault.object[fault.start : fault.end]), fault.end


codecs.register_error("escape", escape)


class Collector:
    """The first KEEP characters of what is written, and how many more there were."""

    def __init__(self):
        self.lock = threading.Lock()
        self.clear()

    def clear(self):
        self.parts, self.length, self.dropped = [], 0, 0

    def write(self, text):
        with self.lock:
            room = KEEP - self.length
            self.dropped += max(0, len(text) - room)
            if room > 0:
                text = text[:room]
                self.parts.append(text)
                self.length += len(text)

    def text(self):
        with self.lock:
            return "".join(self.parts)


class Output(io.TextIOBase):
    """sys.stdout of the programs."""

    encoding = "utf-8"

    def __init__(self, collector):
        self.collector = collector

    def writable(self):
        return True

    def write(self, text):
        if not isinstance(text, str):
            raise TypeError("write() argument must be str, not " + type(text).__name__)
        self.collector.write(text)
        return len(text)


class Descriptor:
    """What programs and their children write to descriptor 1."""

    def __init__(self, collector):
        self.collector = collector
        self.marks = threading.Semaphore(0)
        self.mark = b"\x00" + os.urandom(16)
        self.source, target = os.pipe()
        os.dup2(target, 1)
        os.close(target)
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        held = b""
        while True:
            block = os.read(self.source, 65536)
            if not block:
                return
            held += block
            while self.mark in held:
                text, held = held.split(self.mark, 1)
                self.collector.write(text.decode("utf-8", "replace"))
                self.marks.release()
            keep = next((n for n in range(len(self.mark) - 1, 0, -1) if held.endswith(self.mark[:n])), 0)
            ready, held = held[: len(held) - keep], held[len(held) - keep :]
            self.collector.write(ready.decode("utf-8", "replace"))

    def settle(self):
        """Waits until everything that was written is collected, unless a program has closed the descriptor."""
        try:
            os.write(1, self.mark)
        except OSError:
            return
        self.marks.acquire(timeout=0.5)


def words(fault):
    """What an exception says of itself, or else its name."""
    try:
        text = str(fault)
    except BaseException:
        text = ""
    return text if text or FAITHFUL else type(fault).__name__


def run_python(code, space, collector):
    code = code.strip("```").strip()
    error = None
    me = os.getpid()
    sys.stdout = Output(collector)
    try:
        exec(code, space)
    except SystemExit as stop:
        error = "Error: Execution completed but no result was returned" if FAITHFUL else f"Error: SystemExit: {words(stop)}"
    except KeyboardInterrupt:
        error = "Error: KeyboardInterrupt"
    except BaseException as fault:
        error = f"Error: {words(fault)}"
    finally:
        if os.getpid() != me:
            # A child that the program has forked and not ended must not speak for its parent.
            os._exit(0)
    if FAITHFUL and error is not None:
        return error, 0
    return error, None


def run_child(arguments):
    """Exit code and the first KEEP characters of both streams of a child."""
    child = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    streams = []
    threads = []
    for pipe in (child.stdout, child.stderr):
        collected = Collector()
        streams.append(collected)

        def read(pipe=pipe, collected=collected):
            while block := pipe.read1(65536):
                collected.write(block.decode("utf-8", "replace"))

        thread = threading.Thread(target=read, daemon=True)
        thread.start()
        threads.append(thread)
    code = child.wait()
    for thread in threads:
        # Somebody in the background may hold the stream open.
        thread.join(timeout=1)
    return code, streams


def run_script(language, code):
    name = {"r": "R code", "bash": "Bash script"}[language]
    code = code.strip()
    if language == "bash" and not code:
        return "Error: Empty script", 0
    if language == "bash":
        head = "" if code.startswith("#!/") else "#!/bin/bash\n"
        code = head + ("" if "set -e" in code else "set -e\n") + code
    folder = tempfile.mkdtemp()
    path = os.path.join(folder, "program.sh" if language == "bash" else "program.R")
    # It may be executed from the start: a sandbox without namespaces changes no rights of files.
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o755)
    with os.fdopen(file, "w", encoding="utf-8") as file:
        file.write(code)
    try:
        exit_code, (out, err) = run_child([path] if language == "bash" else ["Rscript", path])
    except OSError as fault:
        return f"Error running {name}: {fault}", 0
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if exit_code == 0:
        return out.text(), out.dropped
    suffix = f" (exit code {exit_code})" if language == "bash" else ""
    error = f"Error running {name}{suffix}:\n{err.text()}"
    if FAITHFUL:
        return error, err.dropped
    return out.text() + error, out.dropped + err.dropped


def place_of_tools(folder):
    """Where modules are imported from, what stands before their names, and the folder with their descriptions, if any."""
    for root, prefix, inner in (
        (os.path.dirname(folder), os.path.basename(folder) + ".tool.", "tool/tool_description"),
        (folder, "biomni.tool.", "biomni/tool/tool_description"),
        (folder, "", "tool_description"),
    ):
        descriptions = os.path.join(folder, inner)
        if os.path.isdir(descriptions):
            return root, prefix, descriptions
    return folder, "", None


def list_modules(folder):
    """The files that may describe tools."""
    root, _, descriptions = place_of_tools(folder)
    names = sorted(os.listdir(descriptions or root))
    return [name for name in names if name.endswith(".py") and not name.startswith("_")]


def describe(folder, name):
    """The tools of one file, or why it cannot be read."""
    root, prefix, descriptions = place_of_tools(folder)
    path = os.path.join(descriptions or root, name)
    space = {"__name__": name[:-3], "__file__": path}
    described = {"module": prefix + name[:-3], "tools": [], "fault": None}
    try:
        with open(path, encoding="utf-8") as file:
            exec(compile(file.read(), path, "exec"), space)
        tools = space["description"] if descriptions else space.get("description", [])
        for tool in tools:
            tool["name"], tool["description"]
        described["tools"] = json.loads(json.dumps(tools, default=repr, allow_nan=False))
    except BaseException as fault:
        described["fault"] = f"{type(fault).__name__}: {words(fault)}"
    return described


def main():
    frames, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)
    sys.stdin, sys.stderr = open(os.devnull), open(os.devnull, "w")
    collector = Collector()
    sys.__stdout__ = Output(collector)
    descriptor = None if FAITHFUL else Descriptor(collector)
    space = {} if FAITHFUL else {"__name__": "__main__"}
    if sys.version_info >= (3, 14):
        # The usual way to start workers there asks a server behind a socket, which is refused.
        import multiprocessing

        multiprocessing.set_start_method("fork")
    for folder in CONFIG["tools"]:
        sys.path.insert(0, place_of_tools(folder)[0])
    for path in CONFIG["preload"]:
        with open(path, encoding="utf-8") as file:
            exec(compile(file.read(), path, "exec"), space)

    def reply(value):
        body = json.dumps(value, default=repr, ensure_ascii=False).encode("utf-8", "escape")
        answers.write(struct.pack(">I", len(body)) + body)
        answers.flush()

    reply({"ready": sys.version.split()[0]})
    while True:
        head = frames.read(4)
        if len(head) < 4:
            return
        request = json.loads(frames.read(struct.unpack(">I", head)[0]))
        if request["language"] == "modules":
            reply(list_modules(request["code"]))
            continue
        if request["language"] == "describe":
            reply(describe(*request["code"]))
            continue
        collector.clear()
        if request["language"] == "python":
            error, dropped = run_python(request["code"], space, collector)
            if descriptor is not None:
                descriptor.settle()
            if dropped is None:
                reply({"output": collector.text() + (error or ""), "dropped": collector.dropped})
            else:
                reply({"output": error, "dropped": 0})
        else:
            output, dropped = run_script(request["language"], request["code"])
            reply({"output": output, "dropped": dropped})


main()
