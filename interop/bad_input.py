"""What no server may be hurt by: random bytes, absurd lengths, half packets, unknown opcodes, clients that never read.

    bad_input.py --quorate target/release/quorate      also the mistakes of people: ports in use, bad directories, bad config
    bad_input.py --hosts 127.0.0.1:2181,...            the wire only

A well-behaved client works during all of it. Prints a line for each case, and `N passed, M failed` at the end.
"""

import argparse
import hashlib
import os
import random
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

from kazoo_basics import close, connect
from cluster import QuorateCluster, Record, add_arguments, free_offset, from_arguments, wait_until

HELLO = struct.pack(">iiqiqi16s?", 45, 0, 0, 10000, 0, 16, b"\0" * 16, False)
RESIDENT_GROWTH_MAX_BYTES = 128 * 1024 * 1024


def dial(host):
    name, port = host.rsplit(":", 1)
    s = socket.create_connection((name, int(port)), timeout=10)
    s.settimeout(10)
    return s


def shake_hands(host):
    s = dial(host)
    s.sendall(HELLO)
    length = struct.unpack(">i", receive(s, 4))[0]
    answer = receive(s, length)
    assert struct.unpack(">ii", answer[:8])[1] > 0, "no session"
    return s


def receive(s, count):
    data = b""
    while len(data) < count:
        chunk = s.recv(count - len(data))
        if not chunk:
            raise EOFError("closed after %d of %d bytes" % (len(data), count))
        data += chunk
    return data


def assert_closed(s, what):
    """The server ends the connection, whatever it still says before that."""
    try:
        while s.recv(65536):
            pass
    except ConnectionError:
        pass
    except socket.timeout:
        raise AssertionError("%s: the connection is still open after 10 s" % what)
    finally:
        s.close()


def finish(s):
    """Says that nothing more will come; the server may have closed already."""
    try:
        s.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def frame(body):
    return struct.pack(">i", len(body)) + body


class Bystander:
    """A well-behaved client: every write of it is answered within two seconds."""

    def __init__(self, host):
        self.client = connect(host)
        self.path = "/bystander-%d-%d" % (os.getpid(), random.randrange(1 << 30))
        self.client.create(self.path)
        self.worst, self.error, self.count = 0.0, None, 0
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        try:
            while not self.stopping.is_set():
                began = time.monotonic()
                self.client.set(self.path, b"%d" % self.count)
                self.worst = max(self.worst, time.monotonic() - began)
                self.count += 1
                time.sleep(0.005)
        except Exception as error:
            self.error = error

    def check(self):
        self.stopping.set()
        self.thread.join(20)
        assert self.error is None, "a well-behaved client was disturbed: %r" % self.error
        assert self.worst < 2.0, "a well-behaved client waited %.1f s" % self.worst
        self.client.delete(self.path)
        close(self.client)
        return "a bystander wrote %d times, slowest %.0f ms" % (self.count, self.worst * 1000)


def random_bytes(host):
    """Random bytes, before and after the handshake: closed, nothing else."""
    rng = random.Random(7)
    for round in range(60):
        s = shake_hands(host) if round % 2 else dial(host)
        try:
            s.sendall(rng.randbytes(rng.randrange(1, 5000)))
        except ConnectionError:
            pass
        finish(s)
        assert_closed(s, "random bytes, round %d" % round)


def oversized_length(host):
    """Lengths of 2 GiB, below zero, and just over the limit: closed at once, before memory is taken."""
    for length in (0x7FFFFFFF, -1, -0x80000000, 64 * 1024 * 1024):
        for opened in (dial, shake_hands):
            s = opened(host)
            s.sendall(struct.pack(">i", length))
            try:
                s.sendall(b"x" * 1000)
            except ConnectionError:
                pass
            assert_closed(s, "length %d" % length)


def half_packets(host):
    """200 clients that send half a packet and wait; they cost nobody anything, and may go."""
    sockets = []
    for i in range(200):
        s = shake_hands(host) if i % 2 else dial(host)
        s.sendall(frame(struct.pack(">ii", 1, 4) + b"x" * 500)[: 3 + i])
        sockets.append(s)
    time.sleep(1.5)
    for s in sockets:
        s.close()


def byte_by_byte(host):
    """A packet that comes a byte at a time is a packet."""
    s = dial(host)
    for byte in HELLO:
        s.sendall(bytes([byte]))
        time.sleep(0.001)
    length = struct.unpack(">i", receive(s, 4))[0]
    receive(s, length)
    for byte in frame(struct.pack(">ii", -2, 11)):
        s.sendall(bytes([byte]))
    xid, _, error = struct.unpack(">iqi", receive(s, 20)[4:])
    assert (xid, error) == (-2, 0)
    s.close()


def unknown_opcode(host):
    """An unknown opcode is answered with Unimplemented (-6), and the connection closed."""
    for opcode in (99, 77777, -77):
        s = shake_hands(host)
        s.sendall(frame(struct.pack(">ii", 5, opcode)))
        xid, _, error = struct.unpack(">iqi", receive(s, 20)[4:])
        assert (xid, error) == (5, -6), "opcode %d: xid %d, error %d" % (opcode, xid, error)
        assert_closed(s, "opcode %d" % opcode)


def truncated_records(host):
    """Known opcodes with missing, cut or nonsensical bodies: an error or the end, and only for that connection."""
    path = struct.pack(">i", 5) + b"/aaaa"
    bodies = [b"", b"\0", path[:6], struct.pack(">i", 0x7FFFFFFF), struct.pack(">i", -5), path + b"\xff" * 3,
              path + struct.pack(">i", 0x7FFFFFF0), struct.pack(">i", 4) + b"\xff\xfe\xfd\xfc" + b"\1" * 9]
    for opcode in (1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 14, 15, 100, 101):
        for body in bodies:
            s = shake_hands(host)
            s.sendall(frame(struct.pack(">ii", 3, opcode) + body))
            finish(s)
            assert_closed(s, "opcode %d with body %r" % (opcode, body))


def nested_and_endless_multis(host):
    """A multi of 45,000 checks and a multi inside a multi: answered or closed, memory bounded."""
    check = struct.pack(">i?i", 13, False, -1) + struct.pack(">i", 1) + b"/" + struct.pack(">i", -1)
    end = struct.pack(">i?i", -1, True, -1)
    nested = struct.pack(">i?i", 14, False, -1) * 1000
    for body in (check * 45_000 + end, nested + end, check * 3):
        s = shake_hands(host)
        s.sendall(frame(struct.pack(">ii", 3, 14) + body))
        finish(s)
        assert_closed(s, "a multi of %d bytes" % len(body))


def never_reads(host):
    """A client that asks for 1 MB a thousand times and never reads: held back or closed, memory bounded."""
    helper = connect(host)
    path = "/large-%d" % random.randrange(1 << 30)
    helper.create(path, os.urandom(1_000_000))
    name = path.encode()
    request = frame(struct.pack(">iii", 1, 4, len(name)) + name + b"\0")
    sockets = [shake_hands(host) for _ in range(4)]
    for s in sockets:
        s.setblocking(False)
        try:
            for _ in range(1000):
                s.send(request)
        except (BlockingIOError, ConnectionError):
            pass
    time.sleep(2)
    for s in sockets:
        s.close()
    helper.delete(path)
    close(helper)


def http(host):
    """A browser at the wrong port is shown the door."""
    s = dial(host)
    s.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert_closed(s, "HTTP")


def many_connections(host):
    """500 connections that never say a word."""
    sockets = [dial(host) for _ in range(500)]
    time.sleep(1)
    for s in sockets:
        s.close()


WIRE = [
    random_bytes, oversized_length, half_packets, byte_by_byte, unknown_opcode, truncated_records,
    nested_and_endless_multis, never_reads, http, many_connections,
]


def resident_bytes(cluster):
    if not isinstance(cluster, QuorateCluster):
        return {}
    out = {}
    for i in cluster.ids:
        with open("/proc/%d/statm" % cluster.pid(i)) as f:
            out[i] = int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return out


def on_the_wire(cluster, attack):
    pids = {i: cluster.pid(i) for i in cluster.ids} if isinstance(cluster, QuorateCluster) else {}
    before = resident_bytes(cluster)
    bystander = Bystander(cluster.hosts[0])
    attack(cluster.hosts[0])
    note = bystander.check()
    after = resident_bytes(cluster)
    for i, size in after.items():
        assert size - before[i] < RESIDENT_GROWTH_MAX_BYTES, "server %d grew from %d to %d bytes" % (i, before[i], size)
    for i, pid in pids.items():
        assert cluster.pid(i) == pid and os.path.exists("/proc/%d" % pid), "server %d died" % i
    return note


# ---- mistakes of people: one clear message, an exit code that is not 0, data untouched ----


def refused(command, words, seconds=30):
    """The command ends by itself, not with 0, and says each of the words on standard error."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, stdin=subprocess.DEVNULL)
    said = done.stderr
    assert done.returncode != 0, "%s ended with 0" % command
    assert done.returncode != 101 and "panicked" not in said, "a bug, not a message:\n%s" % said
    for word in words:
        assert word.lower() in said.lower(), "the message does not name %r:\n%s" % (word, said)
    assert "help" in said.lower(), "the message names no next step:\n%s" % said
    return "exit %d: %s" % (done.returncode, said.strip().splitlines()[0])


def fingerprint(directory):
    """What is in a data directory, lock and log output aside."""
    digest = hashlib.sha256()
    for folder, folders, files in sorted(os.walk(directory)):
        for name in sorted(files):
            if not name.endswith((".lock", ".log.txt")) and name != "lock":
                path = os.path.join(folder, name)
                digest.update(path.encode() + open(path, "rb").read())
    return digest.hexdigest()


def port_in_use(binary, scratch):
    """A port in use is named."""
    with socket.socket() as s:
        # All of the node's ports are free but this one, or the message might name another.
        offset = free_offset(1)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind(("127.0.0.1", 2181 + offset))
        s.listen()
        command = [binary, "up", "--nodes", "1", "--dir", os.path.join(scratch, "port"), "--port-offset", str(offset)]
        return refused(command, [str(s.getsockname()[1])])


def unwritable_directory(binary, scratch):
    """A directory that cannot be made is named (a place where even root may not write)."""
    refused([binary, "up", "--nodes", "1", "--dir", "/proc/quorate-data", "--port-offset", "31000"], ["/proc/quorate-data"])
    file = os.path.join(scratch, "a-file")
    open(file, "w").close()
    return refused([binary, "up", "--nodes", "1", "--dir", file + "/data", "--port-offset", "31000"], [file])


def config_error(binary, scratch):
    """A wrong key and a broken file are named, with the line."""
    for text, words in (("tick = \n", ["bad.toml"]), ("no_such_key = 7\n", ["bad.toml", "no_such_key"])):
        path = os.path.join(scratch, "bad.toml")
        with open(path, "w") as f:
            f.write(text)
        note = refused([binary, "serve", "--config", path], words)
    refused([binary, "serve", "--config", os.path.join(scratch, "absent.toml")], ["absent.toml"])
    return note


def second_up(cluster):
    """A second `up` on a directory in use is refused, and the first goes on."""
    before = {i: cluster.pid(i) for i in cluster.ids}
    command = [cluster.binary, "up", "--dir", cluster.data, "--nodes", str(cluster.nodes), "--port-offset", "31000"]
    note = refused(command, [cluster.data])
    assert before == {i: cluster.pid(i) for i in cluster.ids} and cluster.serving()
    return note


def damaged_log(binary):
    """A damaged log of a cluster of one: refused by name, not one byte changed."""
    with QuorateCluster(binary, nodes=1) as cluster:
        client = connect(cluster.hosts)
        client.create("/damage", b"")
        for i in range(300):
            client.set("/damage", b"%03d" % i * 300)
        close(client)
        cluster.stop_all()
        segment = largest_log_file(cluster.data)
        size = used_bytes(segment)
        with open(segment, "r+b") as f:
            f.seek(size // 2)
            byte = f.read(1)
            f.seek(size // 2)
            f.write(bytes([byte[0] ^ 0x10]))
        before = fingerprint(os.path.dirname(segment))
        command = [cluster.binary, "up", "--dir", cluster.data, "--nodes", "1", "--port-offset", str(cluster.offset)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=40, stdin=subprocess.DEVNULL)
        said = done.stderr + done.stdout
        assert done.returncode not in (0, 101), "ended with %d:\n%s" % (done.returncode, said)
        assert os.path.basename(segment) in said, "the message does not name %s:\n%s" % (segment, said)
        assert fingerprint(os.path.dirname(segment)) == before, "the damaged log was changed"
        return "exit %d" % done.returncode


def largest_log_file(directory):
    paths = [os.path.join(d, f) for d, _, files in os.walk(directory) for f in files if f.endswith((".wal", ".log"))]
    return max(paths, key=used_bytes)


def used_bytes(path):
    """Size without the zeros that a preallocated file ends with."""
    with open(path, "rb") as f:
        return len(f.read().rstrip(b"\0"))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add_arguments(parser)
    args = parser.parse_args()
    record = Record()
    with from_arguments(args) as cluster:
        for attack in WIRE:
            record.case("bad input: " + attack.__doc__.rstrip("."), on_the_wire, cluster, attack)
        if args.quorate:
            record.case("bad input: " + second_up.__doc__.rstrip("."), second_up, cluster)
    if args.quorate:
        binary = os.path.abspath(args.quorate)
        with tempfile.TemporaryDirectory(prefix="quorate-bad-") as scratch:
            for mistake in (port_in_use, unwritable_directory, config_error):
                record.case("mistakes: " + mistake.__doc__.rstrip("."), mistake, binary, scratch)
        record.case("mistakes: " + damaged_log.__doc__.rstrip("."), damaged_log, binary)
    return record.close()


if __name__ == "__main__":
    sys.exit(main())
