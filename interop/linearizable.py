"""Linearizable reads (ZK-8) on real servers: by the auth scheme `quorate`, credential `linearizable`, or by the server's option.

    linearizable.py --quorate target/release/quorate [--rounds 300]

A follower is made slow on purpose (SIGSTOP for a moment) while another client writes through the leader: a plain read at the
follower may be old afterwards, a linearizable one never is. Unmodified kazoo clients.
"""

import argparse
import os
import signal
import sys
import tempfile
import time
import uuid

from cluster import QuorateCluster, Record
from kazoo_basics import close, connect

WISH = [("quorate", "linearizable")]


def stale_reads(cluster, read_auth, rounds):
    """How many reads at a follower, begun after an acknowledged write at the leader, did not see it."""
    leader = cluster.leader()
    follower = next(i for i in cluster.ids if i != leader)
    writer, reader = connect(cluster.host(leader)), connect(cluster.host(follower), auth_data=read_auth)
    path, stale = "/linearizable-%s" % uuid.uuid4().hex[:8], 0
    writer.create(path, b"0")
    reader.sync(path)
    for n in range(1, rounds + 1):
        stopped = n % 10 == 0
        if stopped:
            os.kill(cluster.pid(follower), signal.SIGSTOP)
        writer.set(path, b"%d" % n)
        asked = reader.get_async(path)
        if stopped:
            time.sleep(0.01)
            os.kill(cluster.pid(follower), signal.SIGCONT)
        stale += int(asked.get(timeout=20)[0]) < n
    close(writer)
    close(reader)
    return stale


def by_session(cluster, rounds):
    plain = stale_reads(cluster, None, rounds)
    stale = stale_reads(cluster, WISH, rounds)
    assert stale == 0, "%d linearizable reads were stale" % stale
    return "%d of %d plain reads at a follower were old, no linearizable one" % (plain, rounds)


def by_server(binary, rounds):
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as config:
        config.write("linearizable_reads = true\n")
        config.flush()
        with QuorateCluster(binary, config=config.name) as cluster:
            stale = stale_reads(cluster, None, rounds)
    assert stale == 0, "%d reads were stale" % stale


def survives_the_leader(cluster):
    """Reads go on when the leader dies: the barrier is asked for again."""
    leader = cluster.leader()
    reader = connect(cluster.host(next(i for i in cluster.ids if i != leader)), auth_data=WISH)
    cluster.kill(leader)
    began = time.monotonic()
    assert "zookeeper" in reader.get_children("/")
    took = time.monotonic() - began
    close(reader)
    cluster.start(leader)
    return "the first one took %.3f s" % took


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quorate", metavar="BINARY", required=True)
    parser.add_argument("--rounds", type=int, default=300)
    args = parser.parse_args()
    record = Record()
    with QuorateCluster(args.quorate) as cluster:
        record.case("linearizable: by auth of a session", by_session, cluster, args.rounds)
        record.case("linearizable: while the leader dies", survives_the_leader, cluster)
    record.case("linearizable: by the server's option", by_server, args.quorate, args.rounds)
    return record.close()


if __name__ == "__main__":
    sys.exit(main())
