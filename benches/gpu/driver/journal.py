"""Files of JSON lines that survive being killed at any time."""

import json
import os


class Journal:
    """Lines that are only added. Those of one `append` count together or not at all."""

    def __init__(self, path, mock):
        self.path, self.mock = path, mock
        self.rows = []
        if os.path.exists(path):
            self._read()

    def _read(self):
        with open(self.path, "rb") as file:
            data = file.read()
        ends, at = [], 0
        for line in data.split(b"\n")[:-1]:
            try:
                self.rows.append(json.loads(line))
            except ValueError:
                break
            at += len(line) + 1
            ends.append(at)
        # The last lines of an `append` may be missing: what is there of it goes too.
        index, size = self.rows[-1].get("of", [0, 1]) if self.rows else (0, 1)
        if index + 1 < size:
            del self.rows[-index - 1:], ends[-index - 1:]
        keep = ends[-1] if ends else 0
        if keep < len(data):
            os.truncate(self.path, keep)

    def append(self, rows):
        size = len(rows)
        for index, row in enumerate(rows):
            row["mock"] = self.mock
            if size > 1:
                row["of"] = [index, size]
        data = "".join(json.dumps(row) + "\n" for row in rows).encode()
        file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            while data:
                data = data[os.write(file, data):]
            os.fsync(file)
        finally:
            os.close(file)
        self.rows += rows


def write_whole(path, value):
    """A JSON file that is there whole or as it was."""
    part = f"{path}.part"
    with open(part, "w") as file:
        file.write(json.dumps(value, indent=1) + "\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)
