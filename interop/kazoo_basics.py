"""What an unmodified kazoo does on a quiet cluster: operations, watches, ephemerals, transactions, recipes.

    kazoo_basics.py --quorate target/release/quorate
    kazoo_basics.py --hosts 127.0.0.1:2181,127.0.0.1:2182,127.0.0.1:2183

Prints a line for each case, and `N passed, M failed` at the end.
"""

import argparse
import multiprocessing
import os
import sys
import threading
import time
import uuid

from kazoo import exceptions as zke
from kazoo.client import KazooClient, KazooState
from kazoo.protocol.states import EventType
from kazoo.retry import KazooRetry
from kazoo.security import make_digest_acl

from cluster import Record, add_arguments, from_arguments, wait_until

EAGER = dict(max_tries=-1, delay=0.02, max_delay=0.2)


def connect(hosts, timeout=6.0, **kw):
    """A client that reconnects eagerly and never gives up."""
    hosts = hosts if isinstance(hosts, str) else ",".join(hosts)
    client = KazooClient(
        hosts, timeout=timeout, connection_retry=KazooRetry(**EAGER), command_retry=KazooRetry(**EAGER), **kw
    )
    client.start(timeout=20)
    return client


def close(client):
    client.stop()
    client.close()


class Case:
    """Two clients on different servers and a root of their own."""

    def __init__(self, cluster):
        self.cluster = cluster
        self.a = connect(cluster.hosts[0])
        self.b = connect(cluster.hosts[-1])
        self.root = "/basics-%s" % uuid.uuid4().hex[:8]
        self.a.create(self.root)
        self.b.sync("/")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.a.delete(self.root, recursive=True)
        close(self.a)
        close(self.b)


def raises(error, run, *args, **kw):
    try:
        run(*args, **kw)
    except error:
        return
    raise AssertionError("%s was not raised" % (error,))


def operations(cluster):
    """create, get, set, delete, exists; what one server acknowledged, another reads after a sync."""
    with Case(cluster) as c:
        path = c.root + "/x"
        assert c.a.create(path, b"one") == path
        data, stat = c.a.get(path)
        assert (data, stat.version, stat.data_length, stat.numChildren) == (b"one", 0, 3, 0)
        assert c.a.set(path, b"two").version == 1
        c.b.sync(path)
        assert c.b.get(path)[0] == b"two"
        raises(zke.BadVersionError, c.a.set, path, b"three", version=0)
        raises(zke.NodeExistsError, c.a.create, path)
        raises(zke.NoNodeError, c.a.get, c.root + "/none")
        raises(zke.NotEmptyError, c.a.delete, c.root)
        raises(zke.BadVersionError, c.a.delete, path, version=7)
        raises(zke.BadArgumentsError, c.a.create, c.root + "/control\x01", b"")
        name, stat = c.a.create(path + "/y", b"", include_data=True)
        assert name == path + "/y" and stat.version == 0
        c.a.delete(path, recursive=True)
        assert c.a.exists(path) is None
        assert "zookeeper" in c.a.get_children("/")


def large_data(cluster):
    """Just under the limit of 1 MiB is stored and read back by another server."""
    with Case(cluster) as c:
        data = os.urandom(1_000_000)
        c.a.create(c.root + "/large", data)
        c.b.sync(c.root)
        assert c.b.get(c.root + "/large")[0] == data


def one_shot_watches(cluster):
    """ZK-12: data, children and existence watches fire once each, set on another server than the change."""
    with Case(cluster) as c:
        seen = []
        assert c.b.exists(c.root + "/x", watch=seen.append) is None
        c.b.get_children(c.root, watch=seen.append)
        c.a.create(c.root + "/x")
        wait_until("two events", lambda: len(seen) == 2)
        assert {e.type for e in seen} == {EventType.CREATED, EventType.CHILD}
        seen.clear()
        c.b.get(c.root + "/x", watch=seen.append)
        c.a.set(c.root + "/x", b"1")
        c.a.set(c.root + "/x", b"2")
        wait_until("the event of the change", lambda: seen)
        c.b.exists(c.root + "/x", watch=seen.append)
        c.a.delete(c.root + "/x")
        wait_until("the event of the deletion", lambda: len(seen) == 2)
        assert [e.type for e in seen] == [EventType.CHANGED, EventType.DELETED]


def ephemerals_on_close(cluster):
    """ZK-2: an ephemeral znode has its owner's id, no children, and goes with a closed session."""
    with Case(cluster) as c:
        owner = connect(cluster.hosts)
        path = owner.create(c.root + "/e", b"", ephemeral=True)
        assert owner.get(path)[1].ephemeralOwner == owner.client_id[0]
        raises(zke.NoChildrenForEphemeralsError, owner.create, path + "/child")
        close(owner)
        c.b.sync(c.root)
        assert c.b.exists(path) is None


def abandon(hosts, path, timeout, created):
    connect(hosts, timeout=timeout).create(path, b"", ephemeral=True)
    created.set()
    time.sleep(3600)


def ephemerals_on_expiry(cluster):
    """ZK-11: a client that dies without a word keeps its ephemeral for its timeout, and loses it soon after."""
    with Case(cluster) as c:
        context = multiprocessing.get_context("spawn")
        created = context.Event()
        child = context.Process(target=abandon, args=(",".join(cluster.hosts), c.root + "/e", 4.0, created))
        child.start()
        assert created.wait(20)
        child.kill()
        child.join()
        died = time.monotonic()
        c.b.sync(c.root)
        assert c.b.exists(c.root + "/e"), "the ephemeral went before its session's timeout"
        gone = threading.Event()
        assert c.b.exists(c.root + "/e", watch=lambda _: gone.set())
        assert gone.wait(15), "the ephemeral of a dead client is still there after 15 s"
        took = time.monotonic() - died
        assert took > 2.0, "expired after %.1f s, with a timeout of 4 s" % took
        return "gone after %.1f s, timeout 4 s" % took


def sequentials(cluster):
    """ZK-2: suffixes are unique, padded, ever growing, not reused after a deletion."""
    with Case(cluster) as c:
        names = [c.a.create(c.root + "/s-", sequence=True) for _ in range(5)]
        c.a.delete(names[-1])
        names.append(c.b.create(c.root + "/s-", sequence=True))
        assert [n[-10:] for n in names] == ["%010d" % i for i in range(6)], names


def transactions(cluster):
    """ZK-3: all or nothing, and which operation failed."""
    with Case(cluster) as c:
        t = c.a.transaction()
        t.create(c.root + "/a", b"1")
        t.set_data(c.root + "/a", b"2")
        t.check(c.root + "/a", 1)
        t.create(c.root + "/b", b"")
        t.delete(c.root + "/b")
        results = t.commit()
        assert results[0] == c.root + "/a" and results[1].version == 1 and results[2:] == [True, c.root + "/b", True]
        t = c.a.transaction()
        t.create(c.root + "/c", b"")
        t.check(c.root + "/a", 99)
        t.delete(c.root + "/a")
        kinds = [type(r) for r in t.commit()]
        assert kinds == [zke.RolledBackError, zke.BadVersionError, zke.RuntimeInconsistency], kinds
        assert c.a.exists(c.root + "/c") is None and c.a.exists(c.root + "/a")


def acls(cluster):
    """digest ACLs are enforced, and open to who has proven the identity."""
    with Case(cluster) as c:
        path = c.root + "/secret"
        c.a.add_auth("digest", "bob:pw")
        c.a.create(path, b"s", acl=[make_digest_acl("bob", "pw", all=True)])
        c.b.sync(path)
        raises(zke.NoAuthError, c.b.get, path)
        c.b.add_auth("digest", "bob:pw")
        assert c.b.get(path)[0] == b"s"
        assert c.b.get_acls(path)[0][0].id.id.startswith("bob:")


def pipelining(cluster):
    """ZK-6: 500 requests in flight take effect and are answered in the order sent."""
    with Case(cluster) as c:
        done = []
        pending = [c.a.create_async(c.root + "/p-", sequence=True) for _ in range(500)]
        for i, p in enumerate(pending):
            p.rawlink(lambda _, i=i: done.append(i))
        names = [p.get(timeout=20) for p in pending]
        assert names == sorted(names)
        wait_until("every callback", lambda: len(done) == 500)
        assert done == list(range(500))


def locks(cluster):
    """ZK-15: with five contenders on three servers, never two hold the lock."""
    with Case(cluster) as c:
        clients = [connect(cluster.hosts) for _ in range(5)]
        inside, worst, rounds = [0], [0], [0]

        def contend(client):
            lock = client.Lock(c.root + "/lock", "x")
            for _ in range(6):
                with lock:
                    inside[0] += 1
                    worst[0] = max(worst[0], inside[0])
                    time.sleep(0.003)
                    rounds[0] += 1
                    inside[0] -= 1

        run_together([(contend, client) for client in clients])
        for client in clients:
            close(client)
        assert worst[0] == 1, "%d held the lock at once" % worst[0]
        assert rounds[0] == 30


def elections(cluster):
    """ZK-14: one leads; when its session ends, another does."""
    with Case(cluster) as c:
        clients = [connect(cluster.hosts) for _ in range(3)]
        led, release = [], {i: threading.Event() for i in range(3)}

        def lead(i):
            led.append(i)
            release[i].wait(20)

        for i, client in enumerate(clients):
            threading.Thread(target=client.Election(c.root + "/e", str(i)).run, args=(lead, i), daemon=True).start()
        for turn in range(3):
            wait_until("leader number %d" % (turn + 1), lambda: len(led) == turn + 1)
            time.sleep(0.1)
            assert len(led) == turn + 1, "two lead at once: %s" % led
            release[led[-1]].set()
        assert sorted(led) == [0, 1, 2]
        for client in clients:
            close(client)


def counters(cluster):
    """ZK-3: a counter raised by many clients with conditional writes loses nothing."""
    with Case(cluster) as c:
        clients = [connect(cluster.hosts) for _ in range(4)]

        def count(client):
            counter = client.Counter(c.root + "/n")
            for _ in range(25):
                counter += 1

        run_together([(count, client) for client in clients])
        c.a.sync(c.root)
        assert c.a.Counter(c.root + "/n").value == 100
        for client in clients:
            close(client)


def data_and_children_watches(cluster):
    """The recipes that watch again and again end at the newest state."""
    with Case(cluster) as c:
        values, children = [], []
        c.a.create(c.root + "/d", b"0")
        c.b.sync(c.root)
        c.b.DataWatch(c.root + "/d", lambda data, stat: values.append(data))
        c.b.ChildrenWatch(c.root, lambda names: children.append(sorted(names)))
        for i in range(1, 51):
            c.a.set(c.root + "/d", b"%d" % i)
        for name in ("x", "y", "z"):
            c.a.create(c.root + "/" + name)
        wait_until("the last value", lambda: values and values[-1] == b"50")
        wait_until("all children", lambda: children and children[-1] == ["d", "x", "y", "z"])
        numbers = [int(v) for v in values]
        assert numbers == sorted(numbers), "a reader went back: %s" % numbers


def session_moves(cluster):
    """ZK-7, ZK-11: a session attached on another server keeps its ephemerals and never reads backwards."""
    with Case(cluster) as c:
        # Gives up as soon as its connection is closed, so that the two do not fight for the session.
        first = KazooClient(cluster.hosts[0], timeout=6.0, connection_retry=KazooRetry(max_tries=0))
        first.start(timeout=10)
        first.create(c.root + "/e", b"mine", ephemeral=True)
        second = KazooClient(cluster.hosts[-1], client_id=first.client_id, timeout=6.0)
        second.last_zxid = first.last_zxid
        second.start(timeout=10)
        assert second.client_id[0] == first.client_id[0]
        assert second.get(c.root + "/e")[0] == b"mine"
        raises((zke.ConnectionLoss, zke.SessionExpiredError, zke.SessionMovedError), first.set, c.root + "/e", b"stale")
        assert second.get(c.root + "/e")[0] == b"mine"
        close(second)


def wrong_password(cluster):
    """A session is not to be had with a wrong password."""
    with Case(cluster) as c:
        lost = threading.Event()
        thief = KazooClient(cluster.hosts[-1], client_id=(c.a.client_id[0], b"\1" * 16), timeout=6.0)
        thief.add_listener(lambda state: lost.set() if state == KazooState.LOST else None)
        thief.start(timeout=10)
        assert thief.client_id[0] != c.a.client_id[0]
        assert c.a.exists(c.root)
        close(thief)


def run_together(calls):
    """Runs each call in a thread of its own; the first exception is the caller's."""
    errors = []

    def guarded(run, arg):
        try:
            run(arg)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=call, daemon=True) for call in calls]
    for t in threads:
        t.start()
    for t in threads:
        t.join(60)
        assert not t.is_alive(), "a contender is still busy after 60 s"
    if errors:
        raise errors[0]


CASES = [
    operations, large_data, one_shot_watches, ephemerals_on_close, ephemerals_on_expiry, sequentials, transactions,
    acls, pipelining, locks, elections, counters, data_and_children_watches, session_moves, wrong_password,
]


def run_all(cluster, record):
    for case in CASES:
        record.case("kazoo: " + case.__doc__.split(";")[0].split("\n")[0].rstrip("."), case, cluster)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add_arguments(parser)
    record = Record()
    with from_arguments(parser.parse_args()) as cluster:
        run_all(cluster, record)
    return record.close()


if __name__ == "__main__":
    sys.exit(main())
