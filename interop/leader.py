"""Kills the leader of a local cluster, or starts again whoever is dead: hooks for clients in other languages.

    leader.py kill  --quorate BINARY --dir DIR
    leader.py start --quorate BINARY --dir DIR
"""

import argparse
import json
import os
import signal
import subprocess
import sys

from cluster import alive, srvr_mode, wait_until


def members(directory):
    with open(os.path.join(directory, "cluster.json")) as f:
        return json.load(f)["nodes"]


def leader(directory):
    for node in members(directory):
        if srvr_mode(node["zookeeper"]) in ("leader", "standalone"):
            return node
    return None


def kill(args):
    node = wait_until("a leader", lambda: leader(args.dir))
    os.kill(node["pid"], signal.SIGKILL)
    wait_until("its end", lambda: not alive(node["pid"]), 10, 0.01)
    print(node["id"])


def start(args):
    for node in members(args.dir):
        if not alive(node["pid"]):
            subprocess.run([args.quorate, "node", "start", "--dir", args.dir, "--id", str(node["id"])], check=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("verb", choices=["kill", "start"])
    parser.add_argument("--quorate", metavar="BINARY", required=True)
    parser.add_argument("--dir", required=True)
    args = parser.parse_args()
    {"kill": kill, "start": start}[args.verb](args)


if __name__ == "__main__":
    sys.exit(main())
