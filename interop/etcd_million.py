"""A million keys with values of 100 bytes: resident memory for each on each node, above idle, and how soon a node that restarts serves them.

    etcd_million.py --quorate target/release/quorate [--keys 1000000] [--bytes-max 280] [--restart-max-s 5]

Keys have 20 bytes and are written by transactions through the JSON gateway. A node that restarted serves once it answers a linearizable read.
"""

import argparse
import http.client
import sys
import threading
import time

from cluster import QuorateCluster, Record, wait_until
from etcd_kill import Gateway, b64, kv_leader
from million import restart, weigh

BATCH, WRITERS = 125, 4


def key(number):
    return "key/%016d" % number


def fill(endpoint, first, last):
    gateway, value = Gateway(endpoint, timeout=60), b64("v" * 100)
    for begin in range(first, last, BATCH):
        puts = [{"request_put": {"key": b64(key(n)), "value": value}} for n in range(begin, min(begin + BATCH, last))]
        gateway.call("/v3/kv/txn", {"success": puts})


def count(endpoint):
    """How many there are, by a linearizable read; none if nobody answers."""
    try:
        reply = Gateway(endpoint).call("/v3/kv/range", {"key": b64("key/"), "range_end": b64("key0"), "count_only": True})
        return int(reply.get("count", 0))
    except (OSError, http.client.HTTPException, ValueError):
        return None


def endpoint(cluster, i):
    return cluster.members()[i]["etcd"]


def measure(cluster, args, idle):
    began = time.monotonic()
    leader = endpoint(cluster, kv_leader(cluster))
    part = -(-args.keys // WRITERS)
    threads = [threading.Thread(target=fill, args=(leader, n * part, min((n + 1) * part, args.keys))) for n in range(WRITERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.monotonic() - began
    for i in cluster.ids:
        assert count(endpoint(cluster, i)) == args.keys
    return weigh(cluster, args, idle, args.keys, took)


def serves(cluster, args, i):
    wait_until("node %d serves all keys" % i, lambda: count(endpoint(cluster, i)) == args.keys, 60, 0.02)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quorate", metavar="BINARY", required=True)
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--bytes-max", type=float, default=280)
    parser.add_argument("--restart-max-s", type=float, default=5)
    args = parser.parse_args()
    record = Record()
    with QuorateCluster(args.quorate) as cluster:
        idle = {i: node["resident_bytes"] for i, node in cluster.status().items()}
        record.case("a million keys: memory", measure, cluster, args, idle)
        record.case("a million keys: restart", restart, cluster, args, lambda i: serves(cluster, args, i))
    return record.close()


if __name__ == "__main__":
    sys.exit(main())
