"""SIGSTOP of the leader of the key/value group, then SIGCONT: a read that it is asked for never shows what was overwritten before (KV-5).

    etcd_stopped.py --quorate target/release/quorate [--rounds 3] [--readers 8]

A writer counts a key up, at whichever node answers. The leader is stopped; the others elect another, and the writer goes on. Then readers who
are connected to the stopped leader ask it: what they sent waits in its sockets. It is let go, and readers go on asking it, as
fast as it answers. Each answer must show at least what was acknowledged before its question left. Ends with `N passed, M failed`.
"""

import argparse
import http.client
import json
import os
import signal
import sys
import threading
import time

from cluster import QuorateCluster, Record, wait_until
from etcd_kill import Gateway, b64, kv_leader, unb64

KEY = b64("count")
# Longer than an election takes.
STOPPED_S = 2.0
WATCHED_S = 2.0


class Counter(threading.Thread):
    """Counts up; `acknowledged` is what every later read must show."""

    def __init__(self, endpoints):
        super().__init__(daemon=True)
        self.endpoints, self.acknowledged, self.stopped = endpoints, 0, False

    def run(self):
        at, gateway, value = 0, None, 0
        while not self.stopped:
            value += 1
            try:
                gateway = gateway or Gateway(self.endpoints[at % len(self.endpoints)], timeout=1)
                gateway.call("/v3/kv/put", {"key": KEY, "value": b64("%d" % value)})
                self.acknowledged = value
            except (OSError, http.client.HTTPException, ValueError):
                at, gateway = at + 1, None


class Reader:
    """A question that is on its way, and what its answer must show."""

    def __init__(self, endpoint):
        self.gateway = Gateway(endpoint, timeout=20)
        self.gateway.connection.connect()

    def ask(self, counter):
        self.least = counter.acknowledged
        body = json.dumps({"key": KEY})
        self.gateway.connection.request("POST", "/v3/kv/range", body, {"Content-Type": "application/json"})

    def answer(self):
        """What is wrong with the answer; a refusal is no wrong answer."""
        answer = self.gateway.connection.getresponse()
        text = answer.read()
        if answer.status != 200:
            return None, False
        kvs = json.loads(text).get("kvs", [])
        shown = int(unb64(kvs[0]["value"])) if kvs else 0
        return ("shows %d, %d was acknowledged before" % (shown, self.least) if shown < self.least else None), True


def stop_and_look(cluster, counter, readers_count):
    endpoints = {i: node["etcd"] for i, node in cluster.members().items()}
    leader = kv_leader(cluster)
    readers = [Reader(endpoints[leader]) for _ in range(readers_count)]
    pid, before = cluster.pid(leader), counter.acknowledged
    os.kill(pid, signal.SIGSTOP)
    try:
        time.sleep(STOPPED_S)
        wait_until("the writer goes on without node %d" % leader, lambda: counter.acknowledged > before + 100, 30)
        for reader in readers:
            reader.ask(counter)
        meanwhile = counter.acknowledged - before
    finally:
        os.kill(pid, signal.SIGCONT)
    answered, end = 0, time.monotonic() + WATCHED_S
    while True:
        for reader in readers:
            wrong, shown = reader.answer()
            assert wrong is None, "node %d, which was stopped, %s" % (leader, wrong)
            answered += shown
        if time.monotonic() > end:
            break
        for reader in readers:
            reader.ask(counter)
    assert answered > 0, "node %d answered no read" % leader
    return "%d writes while node %d was stopped, %d reads of it, none stale" % (meanwhile, leader, answered)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quorate", metavar="BINARY", required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--readers", type=int, default=8)
    args = parser.parse_args()
    record = Record()
    with QuorateCluster(args.quorate) as cluster:
        counter = Counter([node["etcd"] for _, node in sorted(cluster.members().items())])
        counter.start()
        wait_until("the first writes", lambda: counter.acknowledged > 10)
        for number in range(1, args.rounds + 1):
            record.case("etcd: a stopped leader, round %d" % number, stop_and_look, cluster, counter, args.readers)
        counter.stopped = True
    return record.close()


if __name__ == "__main__":
    sys.exit(main())
