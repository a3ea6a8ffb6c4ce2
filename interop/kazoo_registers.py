"""Clients that write unique values to a few shared znodes and read them, plainly and after `sync`, while servers are killed. What they saw
is kept as a history, and `quorate check` must be able to explain it.
"""

import itertools
import os
import random
import time

from kazoo import exceptions as zke
from kazoo.client import KazooState

from history import History, judge
from kazoo_workload import UNKNOWN, Load

PROMISES = "linearizable-writes,fifo,read-your-writes,monotonic-reads,session-order"


class Registers(Load):
    """Writes, conditional writes, plain reads and synced reads of three znodes."""

    name = "registers"
    KEYS = ("x", "y", "z")

    def prepare(self):
        self.history, self.values = History(), itertools.count(1)
        self.plain = set()
        self.breaks = [0] * len(self.clients)
        self.known = [{} for _ in self.clients]
        for i, client in enumerate(self.clients):
            client.add_listener(lambda state, i=i: self.broke(i, state))
        for key in self.KEYS:
            self.clients[0].create("%s/%s" % (self.root, key), b"")

    def broke(self, i, state):
        self.breaks[i] += state != KazooState.CONNECTED

    def work(self, i, client):
        key = random.choice(self.KEYS)
        random.choice((self.write, self.swap, self.read, self.read, self.synced_read))(i, client, key)
        time.sleep(random.random() * 0.01)

    def write(self, i, client, key):
        value = next(self.values)
        operation = self.history.invoke(i, "write", key, value)
        try:
            stat = client.set("%s/%s" % (self.root, key), b"%d" % value)
        except UNKNOWN:
            return self.history.unknown(operation)
        self.known[i][key] = (value, stat.version)
        self.history.returned(operation, server=server_of(client))

    def swap(self, i, client, key):
        """No value is written twice, so that the same version is the same value."""
        if key not in self.known[i]:
            return self.read(i, client, key)
        (found, version), value = self.known[i].pop(key), next(self.values)
        operation = self.history.invoke(i, "cas", key, [found, value])
        try:
            stat = client.set("%s/%s" % (self.root, key), b"%d" % value, version)
        except zke.BadVersionError:
            return self.history.returned(operation, False, server_of(client))
        except UNKNOWN:
            return self.history.unknown(operation)
        self.known[i][key] = (value, stat.version)
        self.history.returned(operation, True, server_of(client))

    def read(self, i, client, key):
        """Whatever the server has; so it counts for the weaker promises only."""
        self.look(i, client, key, "plain", lambda path: client.get(path))

    def synced_read(self, i, client, key):
        """Both on one connection, one on the heels of the other; if it broke in between, nothing was promised."""
        def both(path):
            before = self.breaks[i]
            synced, reading = client.sync_async(path), client.get_async(path)
            synced.get(30)
            found = reading.get(30)
            if self.breaks[i] != before:
                raise zke.ConnectionLoss()
            return found
        self.look(i, client, key, "synced", both)

    def look(self, i, client, key, kind, get):
        operation = self.history.invoke(i, "read", key)
        if kind == "plain":
            self.plain.add(operation["id"])
        try:
            data, stat = get("%s/%s" % (self.root, key))
        except UNKNOWN:
            return self.history.refused(operation)
        value = int(data) if data else None
        self.known[i][key] = (value, stat.version)
        self.history.returned(operation, value, server_of(client))

    def verify(self, _):
        assert self.cluster.checker, "say --check BINARY: somebody must judge the history"
        strict, everything = (os.path.join(self.cluster.place, name) for name in ("strict.jsonl", "all.jsonl"))
        self.history.write(strict, lambda line: line.get("id") not in self.plain)
        self.history.write(everything)
        said = judge(self.cluster.checker, strict, "--model", "kv")
        judge(self.cluster.checker, everything, "--model", "kv", "--promise", PROMISES)
        return "%d answers, %d unknown: %s" % (self.history.count("ok"), self.history.count("info"), said.rsplit(": ")[-1])


def server_of(client):
    """The port of the server that the client is connected to, if it is."""
    try:
        return "port %d" % client._connection._socket.getpeername()[1]
    except (AttributeError, OSError):
        return None
