"""What clients saw, as a history that `quorate check` reads (docs/histories.md: JSON lines, one line an operation)."""

import itertools
import json
import subprocess
import threading
import time


class History:
    """Operations of many threads. One that never ended may have happened."""

    def __init__(self):
        self.lines, self.guard, self.ids = [], threading.Lock(), itertools.count()

    def invoke(self, client, f, key, value=None):
        return {"client": client, "id": next(self.ids), "f": f, "key": key, "value": value, "call": time.monotonic_ns()}

    def returned(self, operation, result=None, server=None):
        self.keep(operation, "ok", result=result, server=server)

    def refused(self, operation):
        """It did not happen, or was a read that tells nothing."""
        self.keep(operation, "fail")

    def unknown(self, operation):
        self.keep(operation, "info")

    def note(self, text):
        self.keep({"note": text, "time": time.monotonic_ns()})

    def keep(self, line, kind=None, **fields):
        if kind:
            line = dict(line, type=kind, **fields)
            if kind == "ok":
                line["return"] = time.monotonic_ns()
        with self.guard:
            self.lines.append({name: value for name, value in line.items() if value is not None or name == "result"})

    def write(self, path, of=lambda line: True):
        with self.guard, open(path, "w") as file:
            file.writelines(json.dumps(line) + "\n" for line in self.lines if of(line))

    def count(self, kind):
        with self.guard:
            return sum(line.get("type") == kind for line in self.lines)


def judge(binary, path, *arguments):
    """Fails unless `quorate check` says yes; what it says otherwise is the message."""
    done = subprocess.run([binary, "check", path, *arguments], capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, "exit code %d of quorate check %s:\n%s%s" % (
        done.returncode, " ".join([path, *arguments]), done.stdout, done.stderr)
    return done.stdout.splitlines()[0]
