"""Random operations for differential.py: which request a session sends next. A function of the seed.

Sessions 0 and 1 set one-shot watches, session 2 persistent and session 3 recursive ones: on one path of one session,
ZooKeeper 3.8 keeps only the last kind set. checkWatches is left out: 3.8 answers it for any client's watches. Some
builds of 3.8 show hidden znodes to exists and to watches, so half of the seeds have nothing hidden, and the others
neither exists nor watches."""

import base64
import hashlib

import zkwire as zk

NAMES = ["a", "b", "c"]
ONE_SHOT, PERSISTENT, RECURSIVE = (0, 1), 2, 3
USERS = ["u1", "u2"]
ODD_PATHS = ["d", "{}/", "{}//a", "{}/.", "{}/../a", "{}/a\0b", "{}/\u0001", "{}/\ue000", "/zookeeper", "/zookeeper/quota", "/none/a"]
QUOTA = "/zookeeper/quota"
LIMITS = [b"count=3,bytes=20", b"count=-1,bytes=-1", b"bytes=5", b"nonsense"]
OPEN = [(31, "world", "anyone")]
READABLE = [(1, "world", "anyone")]


def digest(user):
    password = "%s:pw" % user
    return "%s:%s" % (user, base64.b64encode(hashlib.sha1(password.encode()).digest()).decode())


ACLS = [
    [(1, "world", "anyone")],
    [(31, "auth", "")],
    [(1, "world", "anyone"), (31, "auth", "")],
    [(31, "digest", digest("u1"))],
    [(31, "digest", digest("u2")), (1, "world", "anyone")],
    [(31, "ip", "127.0.0.1")],
    [(31, "ip", "10.0.0.0/8"), (29, "world", "anyone")],
    OPEN + OPEN,
    [],
    [(31, "nosuch", "x")],
    [(31, "world", "x")],
    [(31, "digest", "nocolon")],
    [(31, "digest", "a:")],
    [(31, "ip", "10.0.0.0/33")],
]


class Step:
    """One request of one session."""

    def __init__(self, session, name, opcode, record, shown, kind="ask"):
        self.session, self.name, self.opcode, self.kind = session, name, opcode, kind
        self.record = record if callable(record) else lambda _side: record
        self.shown = shown

    def __str__(self):
        return "session %d: %s %s" % (self.session, self.name, ", ".join(map(repr, self.shown)))


class Operations:
    def __init__(self, rng, root, sessions, comparison, hidden, ensemble):
        """`root` is two levels deep; the upper one is made first. `hidden`: some znodes may not be read by all. `ensemble`: there are
        several servers; one alone does not know reconfig."""
        self.rng, self.root, self.sessions, self.comparison, self.hidden = rng, root, sessions, comparison, hidden
        self.to_make = [root.rsplit("/", 1)[0], root]
        self.to_make += [QUOTA + path for path in self.to_make + [root + "/a"]]
        watching = ("exists", "add_watch", "remove_watches", "set_watches") if hidden else ()
        self.choices = [(getattr(self, name), 0 if name in watching else weight) for name, weight in (
            ("create", 30), ("delete", 14), ("set", 12), ("exists", 8), ("get", 8), ("children", 8), ("set_acl", 4),
            ("get_acl", 4), ("multi", 14), ("add_watch", 3), ("remove_watches", 3), ("set_watches", 3), ("auth", 1),
            ("sync", 2), ("ephemerals", 2), ("count", 3), ("who", 1), ("reattach", 2), ("close", 1), ("multi_read", 4),
            ("quota", 4), ("become_super", 0.3), ("reconfig", 1 if ensemble else 0), ("refused", 0.5))]

    def next(self):
        if self.to_make:
            path = self.to_make.pop(0)
            record = zk.text(path) + zk.buffer(b"") + zk.acl(OPEN) + zk.integer(0)
            return Step(0, "create", zk.CREATE2, record, (path,))
        make = self.rng.choices([c for c, _ in self.choices], [w for _, w in self.choices])[0]
        return make(self.rng.randrange(self.sessions))

    # What requests are made of.

    def path(self):
        if self.rng.random() < 0.03:
            return self.rng.choice(ODD_PATHS).format(self.root)
        depth = self.rng.choice([0, 1, 1, 1, 1, 2, 2, 3])
        return "/".join([self.root] + [self.rng.choice(NAMES) for _ in range(depth)])

    def data(self):
        return self.rng.choice([None, b"", b"x", b"y" * 10])

    def version(self):
        return self.rng.choice([-1, -1, -1, -1, 0, 0, 1, 2])

    def acl(self, open_share=0.8):
        if self.rng.random() < open_share:
            return OPEN
        acl = self.rng.choice(ACLS)
        return acl if self.hidden or not acl else acl + READABLE

    def created(self, flags=None):
        """opcode, record and what to show of a create."""
        path, data, acl = self.path(), self.data(), self.acl()
        if flags is None:
            flags = self.rng.choice([0, 0, 0, 0, 1, 1, 2, 3, 4, 5, 6, 9] if self.rng.random() < 0.5 else [0, 1])
        if flags == 4:
            # It never has children: when empty ones go depends on each side's own clock.
            path += "/k"
        opcode = {4: zk.CREATE_CONTAINER, 5: zk.CREATE_TTL, 6: zk.CREATE_TTL}.get(flags)
        if opcode is None:
            opcode = self.rng.choice([zk.CREATE, zk.CREATE2])
        if flags in (2, 3, 6) and self.rng.random() < 0.5:
            path += "/s-" if self.rng.random() < 0.5 else "-"
        record = zk.text(path) + zk.buffer(data) + zk.acl(acl) + zk.integer(flags)
        if opcode == zk.CREATE_TTL:
            ttl = self.rng.choice([3_600_000, 3_600_000, 0, -5, 1 << 40, (1 << 40) - 1])
            return opcode, record + zk.long(ttl), (path, data, acl, flags, ttl)
        return opcode, record, (path, data, acl, flags)

    def deleted(self):
        path, version = self.path(), self.version()
        return zk.DELETE, zk.text(path) + zk.integer(version), (path, version)

    def written(self):
        path, data, version = self.path(), self.data(), self.version()
        return zk.SET_DATA, zk.text(path) + zk.buffer(data) + zk.integer(version), (path, data, version)

    def checked(self):
        path, version = self.path(), self.version()
        return zk.CHECK, zk.text(path) + zk.integer(version), (path, version)

    def acl_set(self):
        path, acl, version = self.path(), self.acl(0.5), self.version()
        return zk.SET_ACL, zk.text(path) + zk.acl(acl) + zk.integer(version), (path, acl, version)

    # Requests.

    def create(self, session):
        return Step(session, "create", *self.created())

    def delete(self, session):
        return Step(session, "delete", *self.deleted())

    def set(self, session):
        return Step(session, "set", *self.written())

    def set_acl(self, session):
        return Step(session, "setACL", *self.acl_set())

    def read(self, session, name, opcode):
        path, watch = self.path(), session in ONE_SHOT and not self.hidden and self.rng.random() < 0.5
        return Step(session, name, opcode, zk.text(path) + zk.flag(watch), (path, watch))

    def exists(self, session):
        return self.read(session, "exists", zk.EXISTS)

    def get(self, session):
        return self.read(session, "get", zk.GET_DATA)

    def children(self, session):
        return self.read(session, "children", self.rng.choice([zk.GET_CHILDREN, zk.GET_CHILDREN2]))

    def of_path(self, session, name, opcode, tail=b"", shown=()):
        path = self.path()
        return Step(session, name, opcode, zk.text(path) + tail, (path,) + shown)

    def get_acl(self, session):
        return self.of_path(session, "getACL", zk.GET_ACL)

    def sync(self, session):
        return self.of_path(session, "sync", zk.SYNC)

    def ephemerals(self, session):
        return self.of_path(session, "getEphemerals", zk.GET_EPHEMERALS)

    def count(self, session):
        return self.of_path(session, "count", zk.GET_ALL_CHILDREN_NUMBER)

    def add_watch(self, session):
        session, mode = self.rng.choice([(PERSISTENT, 0), (RECURSIVE, 1)])
        return self.of_path(session, "addWatch", zk.ADD_WATCH, zk.integer(mode), (mode,))

    def remove_watches(self, session):
        kind = self.rng.choice([1, 2, 3]) if session in ONE_SHOT else 3
        return self.of_path(session, "removeWatches", zk.REMOVE_WATCHES, zk.integer(kind), (kind,))

    def who(self, session):
        return Step(session, "whoAmI", zk.WHO_AM_I, b"", ())

    def auth(self, session):
        user = self.rng.choice(USERS)
        record = zk.integer(0) + zk.text("digest") + zk.buffer(("%s:pw" % user).encode())
        return Step(session, "auth", zk.AUTH, record, (user,))

    def become_super(self, session):
        """Until its connection ends."""
        return Step(session, "auth", zk.AUTH, zk.integer(0) + zk.text("digest") + zk.buffer(b"super:test"), ("super",))

    def reconfig(self, session):
        """None that changes anything: what is refused, and why."""
        joining, leaving, servers, version = self.rng.choice([
            ("nonsense", None, None, -1), ("server.9=nonsense", None, None, -1),
            (None, "1", None, 1 << 40), ("server.9=127.0.0.1:1:2:observer;127.0.0.1:3", None, None, 1 << 40),
            (None, None, "nonsense", -1), (None, "1", "server.9=127.0.0.1:1:2:participant;127.0.0.1:3", 1 << 40)])
        record = zk.text(joining) + zk.text(leaving) + zk.text(servers) + zk.long(version)
        return Step(session, "reconfig", zk.RECONFIG, record, (joining, leaving, servers, version))

    def refused(self, session):
        """What ends the connection."""
        name, opcode, record = self.rng.choice([
            ("auth of an unknown scheme", zk.AUTH, zk.integer(0) + zk.text("nosuch") + zk.buffer(b"x")),
            ("an unknown operation", 99, b""), ("a record that breaks off", zk.CREATE, zk.integer(10) + b"/a")])
        return Step(session, name, opcode, record, ())

    def multi(self, session):
        ops = []
        for _ in range(self.rng.choice([0, 1, 2, 2, 3, 3, 4, 6])):
            ops.append(self.rng.choices([self.created, self.deleted, self.written, self.checked, self.acl_set], [10, 4, 4, 4, 0.2])[0]())
        record = zk.multi([(opcode, record) for opcode, record, _ in ops])
        return Step(session, "multi", zk.MULTI, record, [(opcode,) + shown for opcode, _, shown in ops])

    def multi_read(self, session):
        paths = [(self.rng.choice([zk.GET_DATA, zk.GET_CHILDREN]), self.path()) for _ in range(self.rng.randrange(4))]
        record = zk.multi([(opcode, zk.text(path) + zk.flag(False)) for opcode, path in paths])
        return Step(session, "multiRead", zk.MULTI_READ, record, paths)

    def set_watches(self, session):
        own = {0: (0, 1, 2), 1: (0, 1, 2), PERSISTENT: (3,), RECURSIVE: (4,)}[session]
        lists = [[self.path() for _ in range(self.rng.randrange(3))] if i in own else [] for i in range(5)]
        pair = self.rng.choice(self.comparison.zxid_pairs())
        two = session not in ONE_SHOT or self.rng.random() < 0.5
        tail = b"".join(zk.texts(paths) for paths in (lists if two else lists[:3]))
        opcode = zk.SET_WATCHES2 if two else zk.SET_WATCHES

        def record(side):
            return zk.long(pair[0] if side is self.comparison.sides[0] else pair[1]) + tail
        return Step(session, "setWatches", opcode, record, [pair] + lists)

    def quota(self, session):
        """Soft limits and what is counted beside them. Hard ones differ (docs/zookeeper.md)."""
        at = QUOTA + self.rng.choice([self.root, self.root, self.root + "/a"])
        limits, stats = at + "/zookeeper_limits", at + "/zookeeper_stats"
        kind = self.rng.choice(["limit", "count", "change", "read", "read", "read", "end"])
        if kind in ("limit", "count"):
            path, data = (limits, self.rng.choice(LIMITS)) if kind == "limit" else (stats, b"count=0,bytes=0")
            record = zk.text(path) + zk.buffer(data) + zk.acl(OPEN) + zk.integer(0)
            return Step(session, "quota: create", zk.CREATE2, record, (path, data))
        if kind == "change":
            data = self.rng.choice(LIMITS)
            return Step(session, "quota: set", zk.SET_DATA, zk.text(limits) + zk.buffer(data) + zk.integer(-1), (limits, data))
        if kind == "end":
            return Step(session, "quota: delete", zk.DELETE, zk.text(limits) + zk.integer(-1), (limits,))
        return Step(session, "quota: get", zk.GET_DATA, zk.text(stats) + zk.flag(False), (stats,))

    def reattach(self, session):
        return Step(session, "reattach", None, b"", (), kind="reattach")

    def close(self, session):
        return Step(session, "close", None, b"", (), kind="close")
