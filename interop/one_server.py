"""Kills (-9) or starts one server of a cluster that `quorate up` made: one_server.py ID stop|start DIR [BINARY]."""

import json
import os
import signal
import subprocess
import sys

from cluster import alive, wait_until


def main(i, verb, directory, binary=None):
    if verb == "start":
        return subprocess.run([binary, "node", "start", "--dir", directory, "--id", i]).returncode
    with open(os.path.join(directory, "cluster.json")) as f:
        pid = next(node["pid"] for node in json.load(f)["nodes"] if node["id"] == int(i))
    os.kill(pid, signal.SIGKILL)
    wait_until("the end of process %d" % pid, lambda: not alive(pid), 10, 0.01)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
