"""A million znodes, and a snapshot of them on every node under an open-loop load of half the maximum rate: what it does to p99.

    snapshot_load.py --quorate target/release/quorate [--znodes 1000000] [--rounds 3] [--ratio-max 2]

Runs without and with a snapshot alternate, and their medians are compared. A run is as long as a snapshot takes under that load,
so that its p99 is not that of a quiet time before and after.
"""

import argparse
import json
import statistics
import subprocess
import sys
import threading
import time
import urllib.request

from cluster import QuorateCluster, Record, wait_until
from million import fill

CLIENTS = 100
WARMUP_S = 2


def bench(cluster, seconds, *more):
    """One run of `quorate bench zk`, as it reports it."""
    command = [cluster.binary, "bench", "zk", "--servers", ",".join(cluster.hosts), "--clients", str(CLIENTS)]
    command += ["--seconds", str(seconds), "--warmup", str(WARMUP_S), "--json", *more]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60)
    assert done.returncode == 0, "bench failed: %s%s" % (done.stdout, done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


class Snapshots:
    """One on every node, at the same time."""

    def __init__(self, cluster, after_s=0.0):
        self.took, self.bytes, self.failed = [], 0, []
        addresses = [node["admin"] for node in cluster.members().values()]
        self.threads = [threading.Thread(target=self.take, args=(address, after_s)) for address in addresses]
        for thread in self.threads:
            thread.start()

    def take(self, address, after_s):
        time.sleep(after_s)
        began = time.monotonic()
        request = urllib.request.Request("http://%s/commands/snapshot" % address, method="POST")
        try:
            with urllib.request.urlopen(request, timeout=300) as answer:
                self.bytes = max(self.bytes, json.load(answer)["snapshot_size"])
            self.took.append(time.monotonic() - began)
        except OSError as error:
            self.failed.append("%s: %s" % (address, error))

    def join(self):
        for thread in self.threads:
            thread.join()
        assert not self.failed, self.failed
        return max(self.took)


def measure(cluster, args):
    fill(cluster, args.znodes)
    wait_until("all nodes having all of it", lambda: len({n["znodes"] for n in cluster.status().values()}) == 1)
    quiet = Snapshots(cluster)
    quiet_s = quiet.join()
    most = bench(cluster, 10)["operations_per_second"]
    rate = ["--rate", str(int(most / 2))]
    loaded = Snapshots(cluster, WARMUP_S)
    bench(cluster, 10, *rate)
    seconds = max(3, round(loaded.join()))
    runs = {False: [], True: []}
    for _ in range(args.rounds):
        for with_snapshot in (False, True):
            snapshots = Snapshots(cluster, WARMUP_S) if with_snapshot else None
            result = bench(cluster, seconds, *rate)
            took = snapshots.join() if snapshots else 0.0
            runs[with_snapshot].append(result["p99_ms"])
            print("      %s snapshot: %.0f writes/s, p50 %.2f ms, p99 %.2f ms, longest %.0f ms%s" % (
                "with" if with_snapshot else "no  ", result["operations_per_second"], result["p50_ms"], result["p99_ms"],
                result["max_ms"], ", %.1f s" % took if took else ""), flush=True)
    without, with_one = statistics.median(runs[False]), statistics.median(runs[True])
    note = "%d MB in %.1f s, %.1f s idle; at %d of %d writes/s p99 %.2f ms without, %.2f ms with: %.2f times" % (
        quiet.bytes / 1e6, seconds, quiet_s, most / 2, most, without, with_one, with_one / without)
    assert with_one <= args.ratio_max * without, note
    return note


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quorate", metavar="BINARY", required=True)
    parser.add_argument("--znodes", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ratio-max", type=float, default=2.0)
    args = parser.parse_args()
    record = Record()
    with QuorateCluster(args.quorate) as cluster:
        record.case("a snapshot under load", measure, cluster, args)
    return record.close()


if __name__ == "__main__":
    sys.exit(main())
