"""SIGSTOP of a server for longer than a session timeout, then SIGCONT: nobody reads backwards, nobody expires wrongly.

    stopped.py --quorate target/release/quorate [--rounds 2]

Unmodified kazoo clients with short session timeouts write and read, each on its own znode and on a common one, while the
leader, and then a follower, is stopped for longer than those timeouts. Afterwards: every session that found another server
in time is alive, with its ephemeral znode; and no client ever read a version lower than one it had seen.
"""

import argparse
import os
import signal
import sys
import time
import uuid

from cluster import Record, add_arguments, from_arguments
from kazoo_failover import a_follower, verify, wait_for_progress
from kazoo_workload import UNKNOWN, Counts, Creates, Load, Sessions

TIMEOUT = 4.0


class Watchful(Load):
    """Clients that write a common znode, read it, and never see it go back; each with an ephemeral of its own."""

    name = "watchful"

    def prepare(self):
        self.seen = [0] * len(self.clients)
        self.clients[0].create(self.root + "/common", b"")
        self.owned = [client.create("%s/e%d" % (self.root, i), b"", ephemeral=True) for i, client in enumerate(self.clients)]
        self.ids = [client.client_id[0] for client in self.clients]

    def work(self, i, client):
        try:
            if i % 2 == 0:
                self.note(i, client.set(self.root + "/common", b"x").version)
            self.note(i, client.get(self.root + "/common")[1].version)
        except UNKNOWN:
            time.sleep(0.02)
        time.sleep(0.005)

    def note(self, i, version):
        assert version >= self.seen[i], "client %d saw version %d, then %d" % (i, self.seen[i], version)
        self.seen[i] = version

    def verify(self, reader):
        for i, client in enumerate(self.clients):
            assert client.client_id[0] == self.ids[i], "session %d was replaced" % i
            stat = reader.exists(self.owned[i])
            assert stat is not None and stat.ephemeralOwner == self.ids[i], "the ephemeral of session %d is gone" % i
        return "%d versions" % max(self.seen)


def stop_for(cluster, pick, seconds, loads):
    i = pick()
    os.kill(cluster.pid(i), signal.SIGSTOP)
    try:
        time.sleep(seconds)
        wait_for_progress(loads)
    finally:
        os.kill(cluster.pid(i), signal.SIGCONT)
    time.sleep(1.0)
    wait_for_progress(loads)
    return "server %d, for %.1f s" % (i, seconds)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add_arguments(parser)
    parser.add_argument("--rounds", type=int, default=1)
    args = parser.parse_args()
    record = Record()
    with from_arguments(args) as cluster:
        root = "/stopped-%s" % uuid.uuid4().hex[:8]
        loads = [Watchful(cluster, root, 6, TIMEOUT), Creates(cluster, root, 2), Counts(cluster, root, 1), Sessions(cluster, root, 4)]
        wait_for_progress(loads)
        for _ in range(args.rounds):
            for name, pick in [("leader", cluster.leader), ("follower", lambda: a_follower(cluster))]:
                record.case("stopped: the %s sleeps longer than a session timeout" % name, stop_for, cluster, pick, TIMEOUT * 1.5, loads)
        for load in loads:
            load.stop()
        for i in cluster.ids:
            for load in loads:
                record.case("stopped: %s afterwards, read at server %d" % (load.name, i), verify, cluster, load, i)
        for load in loads:
            load.close()
    return record.close()

if __name__ == "__main__":
    sys.exit(main())
