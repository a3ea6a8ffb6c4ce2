"""Imports what a real ZooKeeper wrote, and compares (ZK-19).

    import_zookeeper.py --quorate target/release/quorate [--znodes 3000]

A ZooKeeper of Debian's is filled with every kind of znode while it takes snapshots, so that these are fuzzy; it is killed with -9;
its files are imported; a cluster of ours starts on them; and both trees are compared over the client protocol, Stats and lists
included. Then the same by copying the running tree, and by backup and restore of our own.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading

from kazoo.client import KazooClient
from kazoo.exceptions import NoNodeError
from kazoo.security import make_acl, make_digest_acl

from apache import ApacheZooKeeper, files
from cluster import QuorateCluster, Record
from kazoo_basics import close, connect

NODES = 3
AUTH = "digest:bob:secret"


def quorate(binary, *words, expect=0):
    done = subprocess.run([binary, *words], capture_output=True, text=True, timeout=300)
    assert done.returncode == expect, "quorate %s: %d\n%s%s" % (" ".join(words), done.returncode, done.stdout, done.stderr)
    return done.stdout


def cli(host, *lines):
    """Types into Debian's zkCli.sh what kazoo has no call for."""
    subprocess.run(
        ["/usr/share/zookeeper/bin/zkCli.sh", "-server", host], input="\n".join(lines + ("quit",)), text=True,
        capture_output=True, timeout=60, check=True,
    )


def fill(host, znodes):
    """A tree with everything that an import must carry over; while it grows, the server takes snapshots."""
    client = connect(host)
    client.add_auth("digest", "bob:secret")
    client.create("/plain", b"data")
    client.create("/empty", b"")
    client.create("/versions", b"0")
    for i in range(25):
        client.set("/versions", b"%d" % i)
    client.create("/secret", b"x", acl=[make_digest_acl("bob", "secret", all=True), make_acl("ip", "127.0.0.1", read=True)])
    client.set_acls("/secret", [make_digest_acl("bob", "secret", all=True)])
    client.create("/numbers")
    for _ in range(12):
        client.create("/numbers/n-", sequence=True)
    for name in client.get_children("/numbers")[:5]:
        client.delete("/numbers/" + name)
    client.create("/with-ephemerals")
    client.create("/with-ephemerals/mine-", ephemeral=True, sequence=True)
    client.create("/with-ephemerals/stays", b"s")
    client.create("/unicode-\u00e4\u6f22", "\u00e4\u6f22".encode())
    client.create("/large", bytes(range(256)) * 3000)
    deep = "/deep"
    for level in range(20):
        client.create(deep, b"%d" % level)
        deep += "/d"
    transaction = client.transaction()
    transaction.create("/multi", b"m")
    transaction.set_data("/multi", b"m2")
    transaction.commit()
    failing = client.transaction()
    failing.create("/never")
    failing.delete("/none")
    failing.commit()
    cli(host, "create -c /container", "create /container/child x", "create -t 600000 /ttl lives", "create /quota q",
        "setquota -n 500 /quota", "create /quota/a x")
    writers = [threading.Thread(target=churn, args=(host, "/churn-%d" % i, znodes // 3)) for i in range(3)]
    [w.start() for w in writers]
    [w.join() for w in writers]
    return client


def churn(host, root, count):
    """Creates, changes and deletes, many in flight, so that snapshots see every stage."""
    client = connect(host)
    client.create(root)
    pending = []
    for i in range(count):
        path = "%s/%06d" % (root, i)
        pending.append(client.create_async(path, b"x" * (i % 90)))
        if i % 3 == 0:
            pending.append(client.set_async(path, b"changed"))
        if i % 5 == 0:
            pending.append(client.delete_async(path))
            pending.append(client.create_async(path, b"again"))
            pending.append(client.create_async(path + "/below", b""))
        if i % 7 == 0:
            pending.append(client.create_async(root + "/s-", b"", ephemeral=i % 2 == 0, sequence=True))
        if len(pending) > 500:
            [p.get() for p in pending]
            pending = []
    [p.get() for p in pending]
    close(client)


class Run:
    def __init__(self, binary, directory, znodes):
        self.binary = os.path.abspath(binary)
        self.dir = directory
        self.znodes = znodes
        self.source = ApacheZooKeeper(os.path.join(directory, "zookeeper"), snap_count=max(200, znodes // 4))

    def cluster(self, name):
        """A cluster of ours that starts on data directories made before."""
        return QuorateCluster(self.binary, NODES, os.path.join(self.dir, name))

    def new(self, name):
        path = os.path.join(self.dir, name)
        os.makedirs(path)
        return [os.path.join(path, "data", "n%d" % i) for i in range(1, NODES + 1)]

    def same(self, source, target, differences=0):
        told = json.loads(quorate(
            self.binary, "import", "compare", "--source", source, "--with", target, "--auth", AUTH, "--json",
            expect=1 if differences else 0))
        assert len(told["differences"]) == differences, told["differences"][:20]
        return "%d znodes alike" % told["znodes"]

    def files(self):
        """The whole way: fill, kill -9, import, start, compare with the source, which is started again."""
        self.source.start()
        client = fill(self.source.host, self.znodes)
        self.seen = client.last_zxid
        written = files(self.source.data)
        snapshots = [n for n in written if n.startswith("snapshot.")]
        assert len(snapshots) > 2, "the server took no snapshots while it was filled: %s" % written
        self.source.kill()
        close_quietly(client)
        to = self.new("from-files")
        report = json.loads(quorate(self.binary, "import", "zookeeper", "--from", self.source.data, "--json", "--to", *to))
        assert report["ephemerals_dropped"] >= 1 and report["containers"] == 1 and report["ttl"] == 1, report
        assert report["quotas"] == 1 and report["restricted"] >= 1, report
        founded = int(report["founded"]["zxid"], 16)
        assert founded > int(report["last_zxid"], 16) >= self.seen, report
        self.source.start()
        with self.cluster("from-files") as cluster:
            note = self.same(self.source.host, cluster.hosts[0])
            self.usable(cluster, founded)
        return "%s; %s" % (note, "; ".join(line.split(":")[-1].strip() for line in report["read"]))

    def usable(self, cluster, founded):
        client = connect(cluster.hosts)
        client.add_auth("digest", "bob:secret")
        made = client.create("/numbers/n-", sequence=True)
        assert made == "/numbers/n-0000000012", made
        assert client.exists(made).czxid > founded
        assert client.get("/secret")[0] == b"x"
        try:
            client.get("/zookeeper/config")
        finally:
            close(client)
        # A client that was the old ensemble's goes on: it has seen nothing that is later.
        old = KazooClient(cluster.hosts[0])
        old.last_zxid = self.seen
        old.start(timeout=20)
        close(old)

    def check(self):
        """The files against the running source: alike; and after one write, told."""
        words = ["import", "zookeeper", "--from", self.source.data, "--check", self.source.host, "--auth", AUTH, "--json"]
        assert json.loads(quorate(self.binary, *words))["differences"] == []
        client = connect(self.source.host)
        self.source.process.send_signal(19)  # SIGSTOP: the files do not change while they are read
        copy = os.path.join(self.dir, "copy")
        shutil.copytree(self.source.data, copy)
        self.source.process.send_signal(18)
        client.set("/plain", b"changed")
        close(client)
        words[3] = copy
        told = json.loads(quorate(self.binary, *words, expect=1))["differences"]
        assert len(told) == 1 and told[0].startswith("/plain: data differ"), told

    def live(self):
        """Copies the running source."""
        to = self.new("from-live")
        quorate(self.binary, "import", "zookeeper", "--live", self.source.host, "--auth", AUTH, "--to", *to)
        with self.cluster("from-live") as cluster:
            return self.same(self.source.host, cluster.hosts[0])

    def masked(self):
        """A list that is shown masked is refused, not copied wrongly."""
        words = ["import", "zookeeper", "--live", self.source.host]
        quorate(self.binary, *words, expect=1)

    def backup(self):
        """A backup of ours while others write is one state: what was written one after the other is there up to one point."""
        with self.cluster("from-live") as cluster:
            client = connect(cluster.hosts)
            client.create("/steps")
            client.create("/steps/mine", ephemeral=True)
            client.create("/first", b"0")
            client.create("/second", b"0")
            stop = threading.Event()

            def step():
                number = 0
                while not stop.is_set():
                    number += 1
                    client.set("/first", b"%d" % number)
                    client.set("/second", b"%d" % number)

            writer = threading.Thread(target=step)
            writer.start()
            path = os.path.join(self.dir, "backup")
            admin = cluster.members()[1]["admin"]
            told = json.loads(quorate(self.binary, "backup", "--admin", admin, "--to", path, "--json"))
            stop.set()
            writer.join()
            seen = client.last_zxid
            to = self.new("restored")
            restored = json.loads(quorate(self.binary, "restore", "--from", path, "--json", "--to", *to))
            assert restored["backup_zxid"] == told["zxid"] and restored["dropped"]["ephemerals"] == 1, restored
            close(client)
            with QuorateCluster(self.binary, NODES, os.path.join(self.dir, "restored")) as other:
                again = connect(other.hosts)
                first, second = int(again.get("/first")[0]), int(again.get("/second")[0])
                assert first - second in (0, 1), "two states in one backup: %d and %d" % (first, second)
                assert not again.exists("/steps/mine")
                made = again.create("/after", include_data=True)[1]
                assert made.czxid > seen, "a client of the old cluster has seen later transactions"
                close(again)
                differing = quorate(
                    self.binary, "import", "compare", "--source", cluster.hosts[0], "--with", other.hosts[0], "--auth", AUTH, expect=1)
        paths = sorted(line.split(":")[0] for line in differing.splitlines()[:-1])
        assert set(paths) <= {"/", "/after", "/first", "/second", "/steps"}, differing
        damaged = path + "-damaged"
        with open(path, "rb") as f:
            content = bytearray(f.read())
        content[len(content) // 2] ^= 1
        with open(damaged, "wb") as f:
            f.write(content)
        done = subprocess.run([self.binary, "restore", "--from", damaged, "--to", *self.new("no")], capture_output=True, text=True)
        assert done.returncode == 65 and "checksum" in done.stderr, done
        return "%d znodes, %d bytes" % (told["znodes"], told["bytes"])

    def refusals(self):
        """Damage is refused with file and byte, and nothing is written; directories in use are not touched."""
        copy = os.path.join(self.dir, "damaged")
        shutil.copytree(self.source.data, copy)
        newest = max((n for n in files(copy) if n.startswith("log.")), key=lambda n: int(n[4:], 16))
        path = os.path.join(copy, "version-2", newest)
        with open(path, "r+b") as f:
            f.seek(60)
            byte = f.read(1)
            f.seek(60)
            f.write(bytes([byte[0] ^ 1]))
        to = self.new("from-damaged")
        done = subprocess.run([self.binary, "import", "zookeeper", "--from", copy, "--to", *to], capture_output=True, text=True)
        assert done.returncode == 65 and newest in done.stderr and "byte 16" in done.stderr, done
        assert not os.path.exists(to[0]), "a refused import left a directory"
        there = os.path.join(self.dir, "from-live", "data", "n1")
        done = subprocess.run([self.binary, "import", "zookeeper", "--from", self.source.data, "--to", there], capture_output=True, text=True)
        assert done.returncode == 74 and "is a data directory already" in done.stderr, done


def close_quietly(client):
    try:
        close(client)
    except Exception:
        pass  # its server is dead


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quorate", metavar="BINARY", required=True)
    parser.add_argument("--znodes", type=int, default=3000, help="about how many are made while snapshots are taken")
    args = parser.parse_args()
    directory = tempfile.mkdtemp(prefix="quorate-import-")
    run, record = Run(args.quorate, directory, args.znodes), Record()
    try:
        record.case("ZooKeeper's files, fuzzy snapshots and a torn log, imported", run.files)
        record.case("files compared with the running source", run.check)
        record.case("a running tree copied", run.live)
        record.case("our own cluster backed up under load, and restored", run.backup)
        record.case("masked lists are not copied", run.masked)
        record.case("damage and directories in use are refused", run.refusals)
    finally:
        run.source.kill()
    status = record.close()
    if status == 0:
        shutil.rmtree(directory, ignore_errors=True)
    else:
        print("kept for a look: %s" % directory, file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
