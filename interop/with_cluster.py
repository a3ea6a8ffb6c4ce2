"""Runs a command with a cluster that lives as long as the command.

    with_cluster.py --quorate target/release/quorate [--nodes 3] -- COMMAND ... {hosts} ... {dir} ...

`{hosts}` becomes the client addresses, comma-separated; `{dir}` the data directory of the cluster. The exit code is the command's.
"""

import argparse
import subprocess
import sys

from cluster import QuorateCluster


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quorate", metavar="BINARY", required=True)
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("command", nargs="+")
    args = parser.parse_args()
    with QuorateCluster(args.quorate, args.nodes) as cluster:
        words = {"{hosts}": ",".join(cluster.hosts), "{dir}": cluster.data}
        return subprocess.run([words.get(word, word) for word in args.command], stdin=subprocess.DEVNULL).returncode


if __name__ == "__main__":
    sys.exit(main())
