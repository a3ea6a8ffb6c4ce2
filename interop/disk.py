"""Real servers on real disks that fill up, and rot. Each server has a small file system of its own, in a mount namespace of this script's own,
so that nothing of it is left behind.

    disk.py --quorate target/release/quorate

Asserts that leadership goes to where there is room; that on full disks writes are refused clearly and took no effect, while reads, new
sessions, elections and restarts go on, and who knocks where nobody is let in is sent away; that everybody is told; that with room writes go on by themselves,
with nothing lost; and that a damaged snapshot, or a lost one, comes back from the others.
Needs `unshare` with mount namespaces: as root, or where users may make namespaces.
"""

import argparse
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request

INSIDE = "QUORATE_DISK_TEST_INSIDE"
DISK_BYTES = 64 << 20
CONFIG = """segment_bytes = 2097152
log_reserve_bytes = 262144
disk_free_bytes_min = 1048576
snapshot_log_bytes = 1048576
"""


def enter_namespace():
    """Starts this script again where it may mount, and its mounts end with it."""
    flags = ["-m"] if os.geteuid() == 0 else ["-Urm"]
    if subprocess.run(["unshare", *flags, "true"]).returncode != 0:
        print("skipped: this machine lets nobody make a mount namespace\n0 passed, 0 failed")
        sys.exit(0)
    os.environ[INSIDE] = "1"
    os.execvp("unshare", ["unshare", *flags, sys.executable, os.path.abspath(__file__), *sys.argv[1:]])


class SmallDisks:
    """Servers whose data directories are file systems of a few MiB."""

    def __init__(self, cluster):
        self.cluster = cluster

    def path(self, i):
        return os.path.join(self.cluster.data, "n%d" % i)

    def mount(self, i):
        os.makedirs(self.path(i))
        mount = ["mount", "-t", "tmpfs", "-o", "size=%d" % DISK_BYTES, "tmpfs", self.path(i)]
        subprocess.run(mount, check=True)

    def fill(self, i):
        """Somebody else takes all that is free."""
        with open(os.path.join(self.path(i), "somebody-elses"), "ab", buffering=0) as f:
            for size in (1 << 20, 4096, 512):
                try:
                    while True:
                        f.write(b"x" * size)
                except OSError:
                    pass

    def empty(self, i):
        os.remove(os.path.join(self.path(i), "somebody-elses"))


class Writes:
    """Writes that are told apart: acknowledged, refused, or of unknown outcome."""

    def __init__(self, client, root):
        self.client, self.root = client, root
        self.done, self.refused, self.unknown = [], [], []

    def write(self, size=20000):
        from kazoo import exceptions as zke
        name = "%s/%06d" % (self.root, len(self.done) + len(self.refused) + len(self.unknown))
        try:
            self.client.create(name, os.urandom(size))
            self.done.append(name)
            return "done"
        except zke.ThrottledOpError:
            self.refused.append(name)
            return "refused"
        except (zke.ConnectionLoss, zke.SessionExpiredError, zke.OperationTimeoutError):
            self.unknown.append(name)
            return "unknown"


def once(hosts):
    """A client that does not try again what failed."""
    from kazoo.client import KazooClient
    from kazoo.retry import KazooRetry
    client = KazooClient(hosts, timeout=8.0, connection_retry=KazooRetry(max_tries=-1, delay=0.02, max_delay=0.2))
    client.start(timeout=20)
    return client


def is_sent_away(host):
    """Whether the connection of a client that asks for a new session is closed without an answer."""
    name, port = host.rsplit(":", 1)
    with socket.create_connection((name, int(port)), timeout=5) as connection:
        # Protocol 0, has seen nothing, 8 s, no session, a password of sixteen zeros.
        request = struct.pack(">iqiqi16s", 0, 0, 8000, 0, 16, b"")
        connection.sendall(struct.pack(">i", len(request)) + request)
        try:
            return connection.recv(1) == b""
        except TimeoutError:
            return False  # it may have come just before the group was told of the reserve


def admin(cluster, i, path):
    with urllib.request.urlopen("http://%s%s" % (cluster.members()[i]["admin"], path), timeout=5) as answer:
        return answer.read().decode()


class Story:
    def __init__(self, cluster, disks):
        self.cluster, self.disks = cluster, disks
        # The one to be filled first falls behind, as the documents say, and whose session it holds waits with it.
        first = cluster.leader()
        self.client = once(",".join(cluster.host(i) for i in cluster.ids if i != first))
        self.client.create("/disk")
        self.client.create("/read-me", b"still here")
        self.writes = Writes(self.client, "/disk")

    def leader_hands_over(self):
        full = self.cluster.leader()
        self.disks.fill(full)
        wait_until("leadership to go elsewhere", lambda: self.writes.write() and self.cluster.leader() != full, 60, 0)
        for _ in range(50):
            self.writes.write()
        assert not self.writes.refused, "others have room, and writes were refused: %r" % self.writes.refused[:3]
        room = wait_until("the full follower to take nothing more", lambda: self.grown_full(full), 60, 0)
        return "n%d is %s, %d writes done" % (full, room, len(self.writes.done))

    def grown_full(self, i):
        self.writes.write()
        return self.room(i) if self.room(i) == "reserve" else None

    def writes_are_refused(self):
        for i in self.cluster.ids:
            try:
                self.disks.fill(i)
            except OSError:
                pass
        wait_until("a refusal", lambda: self.writes.write() == "refused", 60, 0)
        began = time.monotonic()
        for _ in range(100):
            assert self.writes.write(100) == "refused"
        return "100 refusals in %.3f s; %d of unknown outcome" % (time.monotonic() - began, len(self.writes.unknown))

    def room(self, i):
        return json.loads(admin(self.cluster, i, "/status"))["room"]

    def reads_go_on(self):
        """A server on its reserve falls behind: new sessions are made at the others."""
        for host in [self.cluster.host(i) for i in self.cluster.ids if self.room(i) != "reserve"]:
            reader = once(host)
            assert reader.get("/read-me")[0] == b"still here"
            assert len(reader.get_children("/disk")) >= len(self.writes.done)
            assert Writes(reader, "/disk/x").write(10) == "refused", "not refused at %s" % host
            reader.stop()
            reader.close()
        return self.new_sessions_are_sent_away()

    def new_sessions_are_sent_away(self):
        """Where nothing would let them in, they are not kept waiting: a client that knows all servers finds one soon."""
        on_reserve = [i for i in self.cluster.ids if self.room(i) == "reserve"]
        for i in on_reserve:
            wait_until("n%d to send a client away" % i, lambda: is_sent_away(self.cluster.host(i)), 30)
        return "n%s sent away who came" % ", n".join(map(str, on_reserve)) if on_reserve else "nobody was on the reserve"

    def everybody_is_told(self):
        full = [i for i in self.cluster.ids if self.room(i) != "enough"]
        assert len(full) > 1, "a majority is full"
        for i in full:
            assert "\nquorate_disk_full 1\n" in admin(self.cluster, i, "/metrics")
        wait_until("mntr to say so", lambda: all(
            b"zk_disk_full\t1" in four_letter_word(self.cluster.host(i), b"mntr") for i in full), 10)
        text = subprocess.run([self.cluster.binary, "status", "--dir", self.cluster.data], capture_output=True, text=True)
        assert all("n%d: the disk is full" % i in text.stdout for i in full), text.stdout
        return "/status, /metrics, mntr, quorate status of n%s" % ", n".join(map(str, full))

    def elections_and_restarts_go_on(self):
        dead = self.cluster.leader()
        self.cluster.kill(dead)
        wait_until("another leader", lambda: self.cluster.leader() != dead, 30)
        self.cluster.start(dead)
        wait_until("the killed server to serve again", lambda: ruok(self.cluster.host(dead)), 30)
        told = self.reads_go_on()
        return "n%d was killed, n%d leads; %s" % (dead, self.cluster.leader(), told)

    def room_lets_writes_go_on(self):
        for i in self.cluster.ids:
            self.disks.empty(i)
        began = time.monotonic()
        wait_until("an acknowledged write", lambda: self.writes.write() == "done", 60, 0.1)
        waited = time.monotonic() - began
        wait_until("room everywhere", lambda: {self.room(i) for i in self.cluster.ids} == {"enough"}, 30)
        for _ in range(100):
            assert self.writes.write() == "done"
        return "after %.1f s" % waited

    def nothing_is_lost_or_made_up(self):
        self.client.sync("/")
        found = {"/disk/" + name for name in self.client.get_children("/disk")}
        lost = set(self.writes.done) - found
        made_up = found & set(self.writes.refused)
        assert not lost and not made_up, "lost %r, refused and done %r" % (sorted(lost)[:3], sorted(made_up)[:3])
        agree(self.cluster)
        return "%d done, %d refused, %d unknown" % tuple(
            map(len, (self.writes.done, self.writes.refused, self.writes.unknown)))


def rot(file):
    """A bit of it rots."""
    with open(file, "r+b") as f:
        f.seek(os.path.getsize(file) // 2)
        byte = f.read(1)
        f.seek(-1, os.SEEK_CUR)
        f.write(bytes([byte[0] ^ 4]))
    return os.path.basename(file)


def lose(file):
    """It is gone, so that nobody knows which one it was."""
    os.remove(file)
    return "snapshot-1-*.snap"


def snapshot_comes_back(cluster, spoil):
    """A follower's snapshot is spoilt while it is down, after so many writes that its log begins with it."""
    client = once(",".join(cluster.hosts))
    client.create("/often", b"")
    for _ in range(13):
        for written in [client.set_async("/often", b"x" * 100) for _ in range(1000)]:
            written.get(30)
    spoilt = next(i for i in cluster.ids if i != cluster.leader())
    node = os.path.join(cluster.data, "n%d" % spoilt)
    log = os.path.join(node, "log")
    cluster.kill(spoilt)
    file = next(n for n in os.listdir(log) if n.startswith("snapshot-1-") and n.endswith(".snap"))
    name = spoil(os.path.join(log, file))
    verdict = subprocess.run([cluster.binary, "log", "verify", node], capture_output=True, text=True)
    assert verdict.returncode == 74 and name in verdict.stderr, verdict
    assert "start the node while the others serve" in verdict.stderr, verdict.stderr
    cluster.start(spoilt)
    wait_until("the server to serve again", lambda: ruok(cluster.host(spoilt)), 30)
    agree(cluster)
    said = open(os.path.join(node, "node.log"), errors="replace").read()
    assert name in said and "does not lead until another member has sent again what is lost" in said, said[-2000:]
    wait_until("a whole log", lambda: subprocess.run([cluster.binary, "log", "verify", node]).returncode == 0, 30)
    client.stop()
    client.close()
    return "%s of n%d" % (file, spoilt)


def agree(cluster):
    def known():
        nodes = cluster.status().values()
        return all(node["alive"] for node in nodes) and len({(n["applied"], n["digest"]) for n in nodes}) == 1
    wait_until("the same state everywhere", known, 60)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quorate", metavar="BINARY", required=True)
    args = parser.parse_args()
    record = Record()
    directory = tempfile.mkdtemp(prefix="quorate-disk-")
    config = os.path.join(directory, "config.toml")
    with open(config, "w") as f:
        f.write(CONFIG)
    cluster = QuorateCluster(args.quorate, 3, directory, config)
    disks = SmallDisks(cluster)
    for i in (1, 2, 3):
        disks.mount(i)
    with cluster:
        story = Story(cluster, disks)
        record.case("a leader whose disk is full hands over", story.leader_hands_over)
        record.case("with all disks full writes are refused", story.writes_are_refused)
        record.case("reads go on, for new sessions too", story.reads_go_on)
        record.case("everybody is told", story.everybody_is_told)
        record.case("elections and restarts go on", story.elections_and_restarts_go_on)
        record.case("with room writes go on by themselves", story.room_lets_writes_go_on)
        record.case("nothing is lost, nothing refused was done", story.nothing_is_lost_or_made_up)
        story.client.stop()
        story.client.close()
    for i in (1, 2, 3):
        subprocess.run(["umount", disks.path(i)], check=False)
    with open(config, "w") as f:
        f.write("snapshot_log_bytes = 65536\n")
    for what, spoil in (("damaged", rot), ("lost", lose)):
        with QuorateCluster(args.quorate, 3, None, config) as cluster:
            record.case("a %s snapshot comes back from the others" % what, snapshot_comes_back, cluster, spoil)
    shutil.rmtree(directory, ignore_errors=True)
    return record.close()


if __name__ == "__main__":
    if INSIDE not in os.environ:
        enter_namespace()
    from cluster import QuorateCluster, Record, four_letter_word, ruok, wait_until
    sys.exit(main())
