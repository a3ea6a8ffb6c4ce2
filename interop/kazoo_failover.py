"""Real clients at work while servers are killed with -9: first the leader, then a follower, then each in turn.

    kazoo_failover.py --quorate target/release/quorate [--rounds 1]
    kazoo_failover.py --hosts H1,H2,H3 --leader CMD --kill CMD --start CMD      (see cluster.py)

Asserts that no acknowledged write is lost on any server, that no session of a live client expired, that locks and
elections never had two holders, and that what clients saw of shared znodes is linearizable or as good as promised (`quorate
check` judges the history); measures how long writes stopped at servers that stayed up. Prints a line for each
case, and `N passed, M failed` at the end.
"""

import argparse
import sys
import time
import uuid

from cluster import Record, add_arguments, from_arguments, wait_until
from kazoo_basics import close, connect, run_all
from kazoo_registers import Registers
from kazoo_workload import Counts, Creates, Elections, Locks, Probe, Sessions, Transactions


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add_arguments(parser)
    parser.add_argument("--rounds", type=int, default=1, help="how often the whole list of faults is gone through")
    parser.add_argument("--gap-max-s", type=float, default=1.0, help="how long a leader's death may stop writes")
    parser.add_argument("--basics", action="store_true", help="first what works on a quiet cluster (kazoo_basics.py)")
    args = parser.parse_args()
    record = Record()
    with from_arguments(args) as cluster:
        if args.basics:
            run_all(cluster, record)
        for _ in range(args.rounds):
            failover(cluster, record, args.gap_max_s)
    return record.close()


def failover(cluster, record, gap_max_s):
    root = "/failover-%s" % uuid.uuid4().hex[:8]
    loads = [
        Creates(cluster, root, 4), Transactions(cluster, root, 1), Counts(cluster, root, 2), Locks(cluster, root, 3),
        Elections(cluster, root, 3), Sessions(cluster, root, 6), Registers(cluster, root, 4),
    ]
    wait_for_progress(loads)
    faults = [("the leader", lambda: cluster.leader()), ("a follower", lambda: a_follower(cluster))]
    faults += [("server %d" % i, lambda i=i: i) for i in cluster.ids]
    for name, pick in faults:
        record.case("kazoo: all clients go on after kill -9 of %s, and its return" % name, fault, cluster, pick, loads)
    for load in loads:
        load.stop()
    for i in cluster.ids:
        for load in loads:
            record.case("kazoo: %s after the failovers, read at server %d" % (load.name, i), verify, cluster, load, i)
    for load in loads:
        load.close()
    for attempt in range(3):
        record.case("kazoo: writes stop for less than %.1f s when the leader dies" % gap_max_s, gap, cluster, gap_max_s)


def a_follower(cluster):
    leader = cluster.leader()
    return next(i for i in cluster.ids if i != leader)


def fault(cluster, pick, loads):
    victim = pick()
    cluster.kill(victim)
    killed = time.monotonic()
    wait_for_progress(loads)
    went_on = time.monotonic() - killed
    cluster.start(victim)
    wait_for_progress(loads)
    return "server %d; every client had gone on after %.1f s" % (victim, went_on)


def wait_for_progress(loads, steps=3):
    """Until every load has done a few more steps, or failed."""
    goals = [(load, load.steps + steps) for load in loads]
    for load, goal in goals:
        wait_until("progress of %s" % load.name, lambda: load.errors or load.steps >= goal, 45)
        if load.errors:
            raise load.errors[0]


def verify(cluster, load, i):
    reader = connect(cluster.host(i), 8.0)
    try:
        reader.sync("/")
        return load.check(reader)
    finally:
        close(reader)


def gap(cluster, gap_max_s):
    """The longest time without an acknowledged write at a server that stayed up."""
    leader = cluster.leader()
    root = "/gap-%s" % uuid.uuid4().hex[:8]
    connect_first = connect(cluster.hosts)
    connect_first.ensure_path(root)
    close(connect_first)
    probes = [Probe(cluster, i, root) for i in cluster.ids if i != leader]
    time.sleep(1.5)
    killed = time.monotonic()
    cluster.kill(leader)
    time.sleep(4)
    gaps = [probe.gap_since(killed) for probe in probes]
    for probe in probes:
        probe.stop()
    cluster.start(leader)
    note = "longest gap at each survivor: %s" % ", ".join("%.3f s" % g for g in gaps)
    assert min(gaps) > 0 and max(gaps) < gap_max_s, note
    return note


if __name__ == "__main__":
    sys.exit(main())
