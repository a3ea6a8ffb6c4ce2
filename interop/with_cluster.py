"""Runs a command with a cluster that lives as long as the command.

    with_cluster.py --quorate target/release/quorate [--nodes 3] [--config FILE] -- COMMAND ... {hosts} ... {dir} ...

`{hosts}` becomes the client addresses, comma-separated; `{tls_hosts}` those for TLS; `{dir}` the data directory of the
cluster; `{stop}` and `{start}` shell commands that kill and start server {i}. The command finds all of them in its
environment too, as CLUSTER_HOSTS and so on. The exit code is the command's.
"""

import argparse
import os
import subprocess
import sys

from cluster import QuorateCluster

# Kills or starts one server of a cluster.
ONE = "%s %s" % (sys.executable, os.path.join(os.path.dirname(os.path.abspath(__file__)), "one_server.py"))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quorate", metavar="BINARY", required=True)
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--config", metavar="FILE", help="settings for every node")
    parser.add_argument("command", nargs="+")
    args = parser.parse_args()
    with QuorateCluster(args.quorate, args.nodes, config=args.config) as cluster:
        tls = [node.get("zookeeper_tls") for node in cluster.members().values()]
        words = {
            "hosts": ",".join(cluster.hosts),
            "tls_hosts": ",".join(host for host in tls if host),
            "dir": cluster.data,
            "stop": "%s {i} stop %s" % (ONE, cluster.data),
            "start": "%s {i} start %s %s" % (ONE, cluster.data, cluster.binary),
        }
        command = [words.get(word[1:-1], word) if word.startswith("{") else word for word in args.command]
        environment = {**os.environ, **{"CLUSTER_" + key.upper(): value for key, value in words.items()}}
        return subprocess.run(command, stdin=subprocess.DEVNULL, env=environment).returncode


if __name__ == "__main__":
    sys.exit(main())
