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


def try_again(path, retried, what, tries):
    """Takes the rows out for which `what` gives a name, and puts them into another file, so that they are done once
    more; not those of a name that stands there `tries` times. How many it took."""
    journal, before = Journal(path, None), Journal(retried, None)
    stay, go = [], []
    for row in journal.rows:
        name = what(row)
        past = sum(old["name"] == [path.name, name] for old in before.rows) if name is not None else tries
        (stay if past >= tries else go).append(row)
    if go:
        before.append([{"name": [path.name, what(row)], "row": row} for row in go])
        # Each by itself now: of what was added together some may be gone.
        lines = [json.dumps({key: row[key] for key in row if key != "of"}) + "\n" for row in stay]
        replace(path, "".join(lines))
    return len(go)


def write_whole(path, value):
    """A JSON file that is there whole or as it was."""
    replace(path, json.dumps(value, indent=1) + "\n")


def replace(path, text):
    part = f"{path}.part"
    with open(part, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)
