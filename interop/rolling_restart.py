"""A rolling restart under load: each server in turn is told to stop (SIGTERM), ends by itself, and is started again.

    rolling_restart.py --quorate target/release/quorate [--rounds 1] [--gap-max-s 0.5]

Unmodified kazoo clients work meanwhile. Asserts that every server stops by itself with status 0, that no acknowledged
write is lost or doubled, that no session expired, that clients saw nothing but lost connections, and that no client
waited longer than the limit for an acknowledged write, whichever server it was connected to.
"""

import argparse
import os
import signal
import sys
import time
import uuid

from cluster import Record, add_arguments, alive, from_arguments, wait_until
from kazoo_basics import close, connect
from kazoo_failover import verify, wait_for_progress
from kazoo_workload import UNKNOWN, Counts, Creates, Load, Locks, Sessions, Transactions


class Writers(Load):
    """Clients that set a znode of their own as fast as answers come: how often, and with which gaps."""

    name = "writers"

    def prepare(self):
        self.ids = [client.client_id[0] for client in self.clients]
        self.acknowledged = [[] for _ in self.clients]
        self.unknown = [0] * len(self.clients)
        for i, client in enumerate(self.clients):
            client.create("%s/%d" % (self.root, i), b"")

    def work(self, i, client):
        try:
            client.set("%s/%d" % (self.root, i), b"x")
            self.acknowledged[i].append(time.monotonic())
        except UNKNOWN:
            self.unknown[i] += 1
            time.sleep(0.002)
        time.sleep(0.001)

    def gaps(self, since):
        """The longest time without an acknowledged write of each client."""
        now = time.monotonic()
        gaps = []
        for times in self.acknowledged:
            times = [t for t in list(times) if t >= since] + [now]
            gaps.append(max((b - a for a, b in zip(times, times[1:])), default=float("inf")))
        return gaps

    def verify(self, reader):
        for i, client in enumerate(self.clients):
            assert client.client_id[0] == self.ids[i], "session %d was replaced" % i
            version = reader.get("%s/%d" % (self.root, i))[1].version
            least, most = len(self.acknowledged[i]), len(self.acknowledged[i]) + self.unknown[i]
            assert least <= version <= most, "client %d: %d writes acknowledged, %d unknown, %d took effect" % (
                i, least, self.unknown[i], version)
        return "%d writes acknowledged, %d of unknown outcome" % (
            sum(map(len, self.acknowledged)), sum(self.unknown))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add_arguments(parser)
    parser.add_argument("--rounds", type=int, default=1, help="how often every server is restarted")
    parser.add_argument("--gap-max-s", type=float, default=0.5, help="how long a client may wait for a write")
    args = parser.parse_args()
    if not args.quorate:
        parser.error("servers are stopped by their process ids: say --quorate BINARY")
    record = Record()
    with from_arguments(args) as cluster:
        root = "/rolling-%s" % uuid.uuid4().hex[:8]
        writers = Writers(cluster, root, 6)
        loads = [
            writers, Creates(cluster, root, 2), Transactions(cluster, root, 1), Counts(cluster, root, 1),
            Locks(cluster, root, 2), Sessions(cluster, root, 6),
        ]
        wait_for_progress(loads)
        began = time.monotonic()
        for _ in range(args.rounds):
            # The leader last, so that it is handed over once and every other server was restarted before.
            leader = cluster.leader()
            for i in [i for i in cluster.ids if i != leader] + [leader]:
                kind = "the leader" if i == cluster.leader() else "a follower"
                record.case("rolling: server %d, %s, stops in order and comes back" % (i, kind), restart, cluster, i, loads)
        record.case("rolling: no client waited %.1f s for a write" % args.gap_max_s, gap, writers, began, args.gap_max_s)
        for load in loads:
            load.stop()
        for i in cluster.ids:
            for load in loads:
                record.case("rolling: %s afterwards, read at server %d" % (load.name, i), verify, cluster, load, i)
        for load in loads:
            load.close()
    return record.close()


def restart(cluster, i, loads):
    pid = cluster.pid(i)
    told = time.monotonic()
    os.kill(pid, signal.SIGTERM)
    wait_until("the end of process %d" % pid, lambda: not alive(pid), 10, 0.01)
    took = time.monotonic() - told
    cluster.start(i)
    wait_for_progress(loads)
    return "stopped in %.2f s" % took


def gap(writers, since, gap_max_s):
    gaps = writers.gaps(since)
    note = "longest gap of each client: %s" % ", ".join("%.3f s" % g for g in gaps)
    assert max(gaps) < gap_max_s, note
    return note


if __name__ == "__main__":
    sys.exit(main())
