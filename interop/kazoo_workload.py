"""Clients that keep working while servers are killed, and what must be true of them afterwards.

Each class runs threads of unmodified kazoo clients against the whole cluster, notes what was acknowledged, and has a
`verify` that is called once everything is quiet again. An answer that never came (connection lost) may or may not have
happened; an answer that came must be true for ever.
"""

import threading
import time

from kazoo import exceptions as zke
from kazoo.client import KazooClient, KazooState
from kazoo.handlers.threading import KazooTimeoutError
from kazoo.retry import RetryFailedError

from kazoo_basics import close, connect, wait_until

UNKNOWN = (
    zke.ConnectionLoss, zke.ConnectionClosedError, zke.SessionExpiredError, zke.OperationTimeoutError,
    KazooTimeoutError, RetryFailedError,
)


class Load:
    """Threads with a client each, that stop when told."""

    name = "load"

    def __init__(self, cluster, root, clients=1, timeout=8.0):
        self.cluster, self.root = cluster, "%s/%s" % (root, self.name)
        self.stopping = threading.Event()
        self.errors, self.lost, self.steps = [], 0, 0
        self.clients = [connect(cluster.hosts, timeout) for _ in range(clients)]
        for client in self.clients:
            client.add_listener(self.on_state)
        self.clients[0].ensure_path(self.root)
        self.prepare()
        self.threads = [threading.Thread(target=self.loop, args=(i,), daemon=True) for i in range(clients)]
        for thread in self.threads:
            thread.start()

    def on_state(self, state):
        if state == KazooState.LOST and not self.stopping.is_set():
            self.lost += 1

    def prepare(self):
        pass

    def loop(self, i):
        try:
            while not self.stopping.is_set():
                self.work(i, self.clients[i])
                self.steps += 1
        except Exception as error:
            self.errors.append(error)

    def work(self, i, client):
        time.sleep(0.05)

    def stop(self):
        self.stopping.set()
        for thread in self.threads:
            thread.join(60)
            assert not thread.is_alive(), "%s: a client still waits 60 s after the last fault" % self.name

    def check(self, reader):
        if self.errors:
            raise self.errors[0]
        assert self.lost == 0, "%d sessions of live clients expired" % self.lost
        return self.verify(reader)

    def verify(self, reader):
        raise NotImplementedError

    def close(self):
        for client in self.clients:
            close(client)


class Creates(Load):
    """Znodes 0, 1, 2, ... of each client; none may be missing afterwards. Also what DataWatch and ChildrenWatch see."""

    name = "creates"

    def prepare(self):
        self.acknowledged = [[] for _ in self.clients]
        self.unknown = 0
        self.seen, self.children = [], []
        for i, client in enumerate(self.clients):
            client.ensure_path("%s/%d" % (self.root, i))
        self.watcher = connect(self.cluster.hosts, 8.0)
        self.watcher.add_listener(self.on_state)
        self.watcher.DataWatch(self.root + "/0", lambda data, stat: self.seen.append(int(data or b"-1")))
        self.watcher.ChildrenWatch(self.root + "/0", lambda names: self.children.append(len(names)))

    def work(self, i, client):
        n = len(self.acknowledged[i])
        path = "%s/%d/%06d" % (self.root, i, n)
        self.until_known(lambda: client.create(path, b"%d" % n), done_when=zke.NodeExistsError)
        self.acknowledged[i].append(path)
        self.until_known(lambda: client.set("%s/%d" % (self.root, i), b"%d" % n))
        read = self.until_known(lambda: int(client.get("%s/%d" % (self.root, i))[0]))
        assert read == n, "client %d wrote %d and then read %d" % (i, n, read)
        time.sleep(0.002)

    def until_known(self, run, done_when=()):
        """Repeats an idempotent request until its outcome is known."""
        unknown = False
        while True:
            try:
                return run()
            except UNKNOWN:
                unknown = True
                self.unknown += 1
                time.sleep(0.02)
            except done_when:
                assert unknown, "a znode was there before it was created"
                return None

    def verify(self, reader):
        total = 0
        for i, paths in enumerate(self.acknowledged):
            have = set(reader.get_children("%s/%d" % (self.root, i)))
            missing = [p for p in paths if p.rsplit("/", 1)[1] not in have]
            assert not missing, "%d acknowledged znodes are lost, the first is %s" % (len(missing), missing[0])
            assert int(reader.get("%s/%d" % (self.root, i))[0]) >= len(paths) - 1
            total += len(paths)
        last = int(reader.get(self.root + "/0")[0])
        wait_until("DataWatch at the last value %d" % last, lambda: self.seen and self.seen[-1] == last)
        count = len(reader.get_children(self.root + "/0"))
        wait_until("ChildrenWatch at %d children" % count, lambda: self.children and self.children[-1] == count)
        assert self.seen == sorted(self.seen), "DataWatch went back in time"
        return "%d creates acknowledged, %d answers unknown" % (total, self.unknown)

    def close(self):
        super().close()
        close(self.watcher)


class Transactions(Load):
    """Each multi creates znode n and sets `last` to n: afterwards they agree, and n has no holes."""

    name = "transactions"

    def prepare(self):
        self.n = 0
        self.clients[0].create(self.root + "/last", b"0")

    def work(self, i, client):
        transaction = client.transaction()
        transaction.create("%s/n%06d" % (self.root, self.n + 1))
        transaction.set_data(self.root + "/last", b"%d" % (self.n + 1))
        try:
            results = transaction.commit()
        except UNKNOWN:
            time.sleep(0.02)
            return
        if isinstance(results[0], zke.NodeExistsError):  # the one whose answer was lost had happened
            self.n += 1
            return
        assert results[0] == "%s/n%06d" % (self.root, self.n + 1), results
        self.n += 1
        time.sleep(0.005)

    def verify(self, reader):
        names = sorted(name for name in reader.get_children(self.root) if name.startswith("n"))
        assert names == ["n%06d" % i for i in range(1, len(names) + 1)], "the transactions have holes"
        assert int(reader.get(self.root + "/last")[0]) == len(names), "half a transaction took effect"
        assert len(names) >= self.n, "an acknowledged transaction is lost"
        return "%d transactions" % len(names)


class Counts(Load):
    """Counter: never less than what was acknowledged (kazoo itself repeats an increment of unknown outcome)."""

    name = "counter"

    def prepare(self):
        self.acknowledged = [0] * len(self.clients)

    def work(self, i, client):
        counter = client.Counter(self.root + "/n")
        try:
            counter += 1
        except UNKNOWN:
            time.sleep(0.02)
            return
        self.acknowledged[i] += 1
        time.sleep(0.01)

    def verify(self, reader):
        value = reader.Counter(self.root + "/n").value
        assert value >= sum(self.acknowledged), "%d increments acknowledged, %d there" % (sum(self.acknowledged), value)
        return "%d increments" % value


class Locks(Load):
    """Lock: never two holders, and it keeps moving from one client to the next."""

    name = "locks"

    def prepare(self):
        self.inside, self.worst, self.held = 0, 0, [0] * len(self.clients)
        self.guard = threading.Lock()

    def work(self, i, client):
        lock = client.Lock(self.root + "/lock", str(i))
        try:
            if not lock.acquire(timeout=30):
                raise AssertionError("no lock for 30 s")
        except UNKNOWN:
            self.give_back(lock)
            return
        with self.guard:
            self.inside += 1
            self.worst = max(self.worst, self.inside)
        time.sleep(0.005)
        with self.guard:
            self.inside -= 1
        self.held[i] += 1
        self.give_back(lock)

    @staticmethod
    def give_back(lock):
        while True:
            try:
                return lock.release()
            except UNKNOWN:
                time.sleep(0.02)

    def verify(self, _):
        assert self.worst == 1, "%d clients held the lock at once" % self.worst
        assert all(self.held), "a contender never got the lock: %s" % self.held
        return "%d times held" % sum(self.held)


class Elections(Load):
    """Election: never two leaders, and a new one after each resignation."""

    name = "election"

    def prepare(self):
        self.leading, self.worst, self.terms = 0, 0, 0
        self.guard = threading.Lock()

    def work(self, i, client):
        try:
            client.Election(self.root + "/e", str(i)).run(self.lead)
        except UNKNOWN:
            time.sleep(0.02)

    def lead(self):
        with self.guard:
            self.leading += 1
            self.worst = max(self.worst, self.leading)
            self.terms += 1
        self.stopping.wait(0.3)
        with self.guard:
            self.leading -= 1

    def verify(self, _):
        assert self.worst == 1, "%d leaders at once" % self.worst
        assert self.terms > 1, "nobody else was elected"
        return "%d leaderships" % self.terms


class Sessions(Load):
    """Idle sessions with an ephemeral each: none expires, no ephemeral goes, no watch fires without a reason."""

    name = "sessions"

    def prepare(self):
        self.ids = [client.client_id[0] for client in self.clients]
        self.fired = []
        for i, client in enumerate(self.clients):
            client.create("%s/%d" % (self.root, i), b"", ephemeral=True)
            other = "%s/%d" % (self.root, (i + 1) % len(self.clients))
            client.exists(other, watch=self.fired.append)

    def verify(self, reader):
        for i, client in enumerate(self.clients):
            assert client.client_id[0] == self.ids[i], "session %d was replaced" % i
            stat = reader.exists("%s/%d" % (self.root, i))
            assert stat and stat.ephemeralOwner == self.ids[i], "the ephemeral of session %d is gone" % i
        return "%d sessions" % len(self.ids)


class Probe(threading.Thread):
    """Writes to one server as fast as answers come, to see how long it cannot. Reconnects within milliseconds."""

    def __init__(self, cluster, i, root):
        super().__init__(daemon=True)
        self.host, self.path = cluster.host(i), "%s/probe-%d" % (root, i)
        self.acknowledged, self.stopping = [], threading.Event()
        self.client = connect(self.host, 8.0)
        self.client.ensure_path(self.path)
        self.start()

    def run(self):
        while not self.stopping.is_set():
            try:
                self.client.set(self.path, b"x")
                self.acknowledged.append(time.monotonic())
            except UNKNOWN:
                time.sleep(0.002)
            time.sleep(0.001)

    def gap_since(self, moment):
        times = [t for t in self.acknowledged if t >= moment - 0.2] + [time.monotonic()]
        return max((b - a for a, b in zip(times, times[1:])), default=float("inf"))

    def stop(self):
        self.stopping.set()
        self.join(30)
        close(self.client)
