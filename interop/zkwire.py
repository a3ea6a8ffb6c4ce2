"""ZooKeeper's client protocol as bytes, with nothing of a client library in between: one blocking connection, and
replies as plain tuples that two servers' answers can be compared by."""

import socket
import struct

CREATE, DELETE, EXISTS, GET_DATA, SET_DATA, GET_ACL, SET_ACL, GET_CHILDREN = 1, 2, 3, 4, 5, 6, 7, 8
SYNC, PING, GET_CHILDREN2, CHECK, MULTI, CREATE2 = 9, 11, 12, 13, 14, 15
RECONFIG, CHECK_WATCHES, REMOVE_WATCHES, CREATE_CONTAINER, CREATE_TTL, MULTI_READ = 16, 17, 18, 19, 21, 22
AUTH, SET_WATCHES, GET_EPHEMERALS, GET_ALL_CHILDREN_NUMBER = 100, 101, 103, 104
SET_WATCHES2, ADD_WATCH, WHO_AM_I, CLOSE_SESSION = 105, 106, 107, -11
ERROR = -1
XIDS = {AUTH: -4, SET_WATCHES: -8, SET_WATCHES2: -8, PING: -2}


class Closed(Exception):
    """The server closed the connection."""


def integer(value):
    return struct.pack(">i", value)


def long(value):
    return struct.pack(">q", value)


def flag(value):
    return b"\1" if value else b"\0"


def buffer(value):
    return integer(-1) if value is None else integer(len(value)) + value


def text(value):
    return buffer(None if value is None else value.encode())


def texts(values):
    return integer(len(values)) + b"".join(map(text, values))


def acl(entries):
    return integer(len(entries)) + b"".join(integer(p) + text(s) + text(i) for p, s, i in entries)


def multi(ops):
    """`ops` are pairs of an opcode and its record."""
    body = b"".join(integer(opcode) + flag(False) + integer(-1) + record for opcode, record in ops)
    return body + integer(-1) + flag(True) + integer(-1)


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, form):
        values = struct.unpack_from(form, self.data, self.at)
        self.at += struct.calcsize(form)
        return values[0] if len(values) == 1 else values

    def integer(self):
        return self.take(">i")

    def long(self):
        return self.take(">q")

    def flag(self):
        return self.take(">?")

    def buffer(self):
        length = self.integer()
        if length < 0:
            return None
        self.at += length
        return self.data[self.at - length:self.at]

    def text(self):
        value = self.buffer()
        return None if value is None else value.decode()

    def list(self, item):
        return [item() for _ in range(self.integer())]

    def stat(self):
        names = ("czxid", "mzxid", "ctime", "mtime", "version", "cversion", "aversion", "owner", "length", "children", "pzxid")
        return dict(zip(names, self.take(">qqqqiiiqiiq")))

    def acl(self):
        """Sorted: what `auth` stands for comes in any order."""
        return sorted(self.list(lambda: (self.integer(), self.text(), self.text())))

    def multi(self):
        results = []
        while True:
            kind, done, error = self.integer(), self.flag(), self.integer()
            if done:
                return results
            body = (self.integer(),) if kind == ERROR else self.record(kind)
            results.append((kind, error) + body)

    def record(self, opcode):
        """The record of a reply without an error, as a tuple."""
        if opcode == CREATE or opcode == SYNC:
            return (self.text(),)
        if opcode in (CREATE2, CREATE_CONTAINER, CREATE_TTL):
            return (self.text(), self.stat())
        if opcode in (EXISTS, SET_DATA, SET_ACL):
            return (self.stat(),)
        if opcode in (GET_DATA, RECONFIG):
            return (self.buffer(), self.stat())
        if opcode == GET_ACL:
            return (self.acl(), self.stat())
        if opcode in (GET_CHILDREN, GET_EPHEMERALS):
            return (sorted(self.list(self.text)),)
        if opcode == GET_CHILDREN2:
            return (sorted(self.list(self.text)), self.stat())
        if opcode == GET_ALL_CHILDREN_NUMBER:
            return (self.integer(),)
        if opcode == WHO_AM_I:
            return (sorted(self.list(lambda: (self.text(), self.text()))),)
        if opcode == ADD_WATCH:
            return (self.integer(),)
        if opcode in (MULTI, MULTI_READ):
            return (self.multi(),)
        return ()


class Connection:
    """One session on one server. `events` gathers what it was told, in order."""

    def __init__(self, host, timeout_ms=30_000, session=0, password=bytes(16), last_zxid=0):
        name, port = host.rsplit(":", 1)
        self.host, self.xid, self.events, self.last_zxid = host, 0, [], last_zxid
        self.socket = socket.create_connection((name, int(port)), timeout=30)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.send(integer(0) + long(last_zxid) + integer(timeout_ms) + long(session) + buffer(password) + flag(False))
        reply = Reader(self.packet())
        _, self.timeout_ms, self.session, self.password = reply.integer(), reply.integer(), reply.long(), reply.buffer()
        # Well below the session's timeout: who is not answered goes on with another connection.
        self.socket.settimeout(10)

    def send(self, packet):
        try:
            self.socket.sendall(integer(len(packet)) + packet)
        except OSError as error:
            raise Closed() from error

    def receive(self, length):
        data = b""
        while len(data) < length:
            try:
                piece = self.socket.recv(length - len(data))
            except OSError as error:
                raise Closed() from error
            if not piece:
                raise Closed()
            data += piece
        return data

    def packet(self):
        return self.receive(struct.unpack(">i", self.receive(4))[0])

    def ask(self, opcode, record=b""):
        """Sends one request and waits for its reply: ("ok", ...) or ("error", code). Events go to `events`."""
        self.xid += 1
        xid = XIDS.get(opcode, self.xid)
        self.send(integer(xid) + integer(opcode) + record)
        while True:
            reader = Reader(self.packet())
            got, zxid, error = reader.integer(), reader.long(), reader.integer()
            if got == -1:
                kind, _state = reader.integer(), reader.integer()
                self.events.append((kind, reader.text()))
                continue
            assert got == xid, "reply to %d came where that to %d was due" % (got, xid)
            # Requests that are not understood, and auth, are answered with none.
            if opcode != AUTH and zxid > 0:
                assert zxid >= self.last_zxid, "zxid went back from %d to %d" % (self.last_zxid, zxid)
                self.last_zxid = zxid
            return ("ok",) + reader.record(opcode) if error == 0 else ("error", error)

    def close(self):
        self.socket.close()
