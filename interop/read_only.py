"""Read-only mode: without a quorum, clients that ask for it go on reading, and everybody writes again once there is one.

    read_only.py --quorate target/release/quorate
"""

import argparse
import sys
import tempfile

from kazoo.client import KeeperState
from kazoo.exceptions import NotReadOnlyCallError

from cluster import QuorateCluster, Record, four_letter_word, wait_until
from kazoo_basics import close, connect


def reads_without_quorum(cluster):
    # Servers that may be read from answer before there is a leader.
    wait_until("a quorum", lambda: all(four_letter_word(host, b"isro") == b"rw" for host in cluster.hosts))
    client = connect(cluster.hosts, read_only=True)
    states = []
    client.add_listener(lambda _: states.append(client.client_state))
    client.create("/read-only", b"before")
    client.sync("/")
    alive, *others = cluster.ids
    for i in others:
        cluster.kill(i)
    # kazoo waits longer after each refused connection: up to a minute.
    wait_until("a read-only connection", lambda: client.client_state == KeeperState.CONNECTED_RO, 120)
    assert client.get("/read-only")[0] == b"before"
    try:
        client.set("/read-only", b"in between")
    except NotReadOnlyCallError:
        pass
    else:
        raise AssertionError("a write was taken without a quorum")
    assert four_letter_word(cluster.host(alive), b"isro") == b"ro"
    assert b"Mode: read-only" in four_letter_word(cluster.host(alive), b"srvr")
    # A client that comes now, and one that did not ask for it.
    late = connect(cluster.host(alive), read_only=True)
    assert late.get("/read-only")[0] == b"before"
    close(late)
    cluster.start(others[0])
    wait_until("a connection that writes", lambda: client.client_state == KeeperState.CONNECTED, 40)
    client.set("/read-only", b"after")
    assert four_letter_word(cluster.host(alive), b"isro") == b"rw"
    close(client)
    cluster.start(others[1])
    return ", ".join(states)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quorate", metavar="BINARY", required=True)
    args = parser.parse_args()
    record = Record()
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as config:
        config.write("read_only_mode = true\n")
        config.flush()
        with QuorateCluster(args.quorate, config=config.name) as cluster:
            record.case("read-only: reads without a quorum", reads_without_quorum, cluster)
    return record.close()


if __name__ == "__main__":
    sys.exit(main())
