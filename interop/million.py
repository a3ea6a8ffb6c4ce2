"""A million znodes of 100 bytes: resident memory for each on each node, above idle, and how soon a node that restarts serves.

    million.py --quorate target/release/quorate [--znodes 1000000] [--bytes-max 400] [--restart-max-s 5]
"""

import argparse
import sys
import time

import zkwire as zk
from cluster import QuorateCluster, Record, ruok, wait_until

ACL = [(31, "world", "anyone")]
# Creates in one multi.
BATCH = 500


def fill(cluster, znodes):
    """A thousand znodes below each of some parents, by multis."""
    connection = zk.Connection(cluster.host(cluster.leader()))
    made = 0
    while made < znodes:
        parent, ops = "/parent-%06d" % (made // 1000), []
        if made % 1000 == 0:
            ops.append((zk.CREATE, zk.text(parent) + zk.buffer(b"v" * 100) + zk.acl(ACL) + zk.integer(0)))
        while len(ops) < BATCH and made + len(ops) < znodes:
            path = "%s/znode-%07d" % (parent, made + len(ops))
            ops.append((zk.CREATE, zk.text(path) + zk.buffer(b"v" * 100) + zk.acl(ACL) + zk.integer(0)))
        told, results = connection.ask(zk.MULTI, zk.multi(ops))
        assert told == "ok" and all(kind == zk.CREATE for kind, *_ in results), results
        made += len(ops)
    connection.close()


def measure(cluster, args, idle):
    began = time.monotonic()
    fill(cluster, args.znodes)
    took = time.monotonic() - began
    wait_until("all nodes having all of it", lambda: len({n["znodes"] for n in cluster.status().values()}) == 1)
    return weigh(cluster, args, idle, args.znodes, took)


def weigh(cluster, args, idle, entries, took):
    """Resident memory for each entry, on each node, above idle; they were made in `took` seconds."""
    time.sleep(5)
    after = cluster.status()
    each = {i: (after[i]["resident_bytes"] - idle[i]) / entries for i in after}
    note = "made in %.0f s; resident bytes each: %s" % (took, ", ".join("%.0f" % e for e in each.values()))
    assert max(each.values()) < args.bytes_max, note
    return note


def restart(cluster, args, serves):
    """One node after the other, by `kill -9`; `serves` returns once a node does."""
    took = []
    for i in cluster.ids:
        cluster.kill(i)
        began = time.monotonic()
        cluster.start(i)
        serves(i)
        took.append(time.monotonic() - began)
    note = "restart to serving: %s" % ", ".join("%.1f s" % t for t in took)
    assert max(took) < args.restart_max_s, note
    return note


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quorate", metavar="BINARY", required=True)
    parser.add_argument("--znodes", type=int, default=1_000_000)
    parser.add_argument("--bytes-max", type=float, default=400)
    parser.add_argument("--restart-max-s", type=float, default=5)
    args = parser.parse_args()
    record = Record()
    with QuorateCluster(args.quorate) as cluster:
        idle = {i: node["resident_bytes"] for i, node in cluster.status().items()}
        record.case("a million: memory", measure, cluster, args, idle)
        record.case("a million: restart", restart, cluster, args, lambda i: wait_until("node %d serving" % i, lambda: ruok(cluster.host(i)), 60, 0.02))
    return record.close()


if __name__ == "__main__":
    sys.exit(main())
