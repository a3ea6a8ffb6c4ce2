"""Snapshots in etcd's own file format: what `etcdctl snapshot save` fetches from us, etcd itself goes on with; and the other way round.

    etcd_snapshot.py --quorate target/release/quorate [--etcd etcd] [--etcdctl etcdctl] [--etcdutl etcdutl]

A history of puts, deletions, transactions, leases, compactions, users and roles is made on three nodes of ours. Each node's snapshot is
asked what it holds (`snapshot status`) and restored (`snapshot restore`); etcd is started over it and must show the same keys at the same
revisions, past ones too, the same leases, users and roles. Then etcd's own snapshot is imported (`quorate import etcd`), and a cluster of
ours must show the same as etcd does. A snapshot cut short is refused. --etcdutl is for etcd from 3.6 on, where it has these verbs.
Ends with `N passed, M failed`.
"""

import argparse
import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile

from cluster import wait_until
from etcd_kill import Gateway, b64
from etcdctl import Ctl, Judge, Quorate, free_ports

BULK_KEYS, BULK_BYTES, BATCH = 12_000, 2_000, 100
PAST = 40


class OneEtcd:
    """One member of etcd over a directory that was restored, or a new one."""

    def __init__(self, binary, directory):
        self.binary, self.directory = binary, directory
        client, peer = free_ports(2)
        self.endpoints = ["127.0.0.1:%d" % client]
        self.peer = "http://127.0.0.1:%d" % peer

    def __enter__(self):
        client = "http://" + self.endpoints[0]
        self.log = open(self.directory + ".log", "wb")
        self.member = subprocess.Popen(
            [self.binary, "--name", "n1", "--data-dir", self.directory, "--listen-client-urls", client,
             "--advertise-client-urls", client, "--listen-peer-urls", self.peer, "--initial-advertise-peer-urls", self.peer,
             "--initial-cluster", "n1=" + self.peer, "--initial-cluster-state", "new"],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        return self

    def __exit__(self, *_):
        self.member.terminate()
        try:
            self.member.wait(10)
        except subprocess.TimeoutExpired:
            self.member.kill()
            self.member.wait()
        self.log.close()


def history(ctl):
    """Something of everything; gives the revision from which on it can be read."""
    for i in range(60):
        ctl.run(["put", "k/%02d" % (i % 20), "value %d" % i])
    ctl.run(["del", "--prefix", "k/1"])
    ctl.run(["txn"], '\n\nput t/1 one\nput t/2 two\ndel k/00\n\n\n')
    ctl.run(["put", "k/10", "again"])
    for ttl in ("1000", "2000"):
        lease = ctl.run(["lease", "grant", ttl])[0].split()[1]
        ctl.run(["put", "leased/" + ttl, "x", "--lease", lease])
    ctl.run(["put", "large", "y" * 100_000])
    for words in (["role", "add", "reader"], ["role", "grant-permission", "reader", "read", "--prefix", "k/"],
                  ["user", "add", "ann:pw"], ["user", "grant-role", "ann", "reader"], ["user", "add", "root:secret"],
                  ["user", "grant-role", "root", "root"]):
        done = ctl.run(words)
        assert done[2] == 0, done
    ctl.run(["compaction", str(PAST - 5)])
    for i in range(5):
        ctl.run(["put", "late", str(i)])
    ctl.run(["del", "late"])


def bulk(endpoint):
    """More than is sorted in memory at once."""
    gateway = Gateway(endpoint, timeout=60)
    value = base64.b64encode(os.urandom(BULK_BYTES)).decode()
    for first in range(0, BULK_KEYS, BATCH):
        puts = [{"request_put": {"key": b64("bulk/%06d" % n), "value": value}} for n in range(first, first + BATCH)]
        gateway.call("/v3/kv/txn", {"success": puts})


def without_header(text):
    """A reply, without what differs by nature; etcdctl flattens the header of some."""
    reply = json.loads(text)
    return {name: value for name, value in reply.items() if name not in ("header", "cluster_id", "member_id", "revision", "raft_term", "ttl")}


def seen(ctl):
    """What a client sees, now and in the past, that must not differ."""
    now = ctl.run(["get", "--prefix", "", "-w", "json"])[0]
    seen = {"revision": json.loads(now)["header"]["revision"], "now": without_header(now)}
    for revision in (PAST, PAST + 20, seen["revision"] - 3):
        seen["at %d" % revision] = without_header(ctl.run(["get", "--prefix", "", "--rev", str(revision), "-w", "json"])[0])
    seen["compacted"] = ctl.run(["get", "k/00", "--rev", str(PAST - 10)])[1].splitlines()[-1:]
    leases = ctl.run(["lease", "list"])[0].split()
    seen["leases"] = sorted(leases)
    for lease in (word for word in leases if len(word) >= 15):
        seen["lease " + lease] = without_header(ctl.run(["lease", "timetolive", lease, "--keys", "-w", "json"])[0])
    for words in (["user", "list"], ["role", "list"], ["user", "get", "ann"], ["role", "get", "reader"]):
        seen[" ".join(words)] = ctl.run(words)[0]
    return seen


def differences(ours, theirs):
    return [key for key in sorted(set(ours) | set(theirs)) if ours.get(key) != theirs.get(key)]


def passwords(ctl):
    """Whether users are who they were: with access control on, one reads with a password."""
    ctl.run(["auth", "enable"])
    ctl.user = ["--user", "ann:pw"]
    right = ctl.run(["get", "k/10"])
    ctl.user = ["--user", "ann:wrong"]
    wrong = ctl.run(["get", "k/10"])
    ctl.user = ["--user", "root:secret"]
    off = ctl.run(["auth", "disable"])
    ctl.user = []
    return right[2] == 0 and wrong[2] != 0 and off[2] == 0, (right, wrong, off)


class Tools:
    """etcdctl, and who has its verbs for files."""

    def __init__(self, args):
        self.etcd, self.etcdctl, self.files = args.etcd, args.etcdctl, args.etcdutl or args.etcdctl

    def file(self, *words):
        environment = dict(os.environ, ETCDCTL_API="3")
        ran = subprocess.run([self.files, "snapshot", *words], capture_output=True, text=True, env=environment, timeout=120)
        return ran.stdout, ran.stderr, ran.returncode

    def save(self, endpoint, path):
        return Ctl(type("One", (), {"endpoints": [endpoint]}), self.etcdctl).run(["snapshot", "save", path], timeout=120)


def exported(judge, tools, ours, place):
    ctl = Ctl(ours, tools.etcdctl)
    wanted = seen(ctl)
    hashes = set()
    for number, endpoint in enumerate(ours.endpoints, start=1):
        path = os.path.join(place, "n%d.db" % number)
        saved = tools.save(endpoint, path)
        judge.tell("node %d: snapshot save" % number, saved[2] == 0 and os.path.getsize(path) % 512 == 32, str(saved))
        told, errors, _ = tools.file("status", path, "-w", "json")
        status = json.loads(told) if told else {}
        hashes.add(status.get("hash"))
        judge.tell("node %d: snapshot status: %s" % (number, told.strip()),
                   status.get("revision") == wanted["revision"] and status.get("totalKey", 0) > BULK_KEYS, errors)
    judge.tell("all nodes' snapshots have one hash", len(hashes) == 1, str(hashes))
    path = os.path.join(place, "n1.db")
    with open(path, "rb") as whole, open(path + ".cut", "wb") as cut:
        cut.write(whole.read()[:-5000])
    refused = tools.file("restore", path + ".cut", "--data-dir", os.path.join(place, "none"))
    judge.tell("a snapshot cut short is refused", refused[2] != 0, str(refused))
    directory = os.path.join(place, "restored")
    etcd = OneEtcd(tools.etcd, directory)
    restored = tools.file("restore", path, "--data-dir", directory, "--name", "n1", "--initial-cluster", "n1=" + etcd.peer,
                          "--initial-advertise-peer-urls", etcd.peer)
    judge.tell("snapshot restore", restored[2] == 0, str(restored))
    with etcd:
        theirs = Ctl(etcd, tools.etcdctl)
        wait_until("etcd over our snapshot", lambda: theirs.run(["endpoint", "health"])[2] == 0, 60, 0.3)
        found = seen(theirs)
        differ = differences(wanted, found)
        judge.tell("etcd shows what we show, at %d revisions" % 4, not differ,
                   "\n".join("  %s\n    ours   %.300s\n    etcd's %.300s" % (k, wanted.get(k), found.get(k)) for k in differ))
        judge.tell("etcd knows our users' passwords", *passwords(theirs))
        theirs.run(["put", "goes", "on"])
        after = json.loads(theirs.run(["get", "goes", "-w", "json"])[0])["header"]["revision"]
        judge.tell("etcd goes on at the next revision", after == wanted["revision"] + 1, str(after))
        theirs.run(["lease", "revoke", theirs.run(["lease", "list"])[0].split()[3]])
        judge.tell("a lease of ours takes its key along on etcd",
                   len(without_header(theirs.run(["get", "--prefix", "leased/", "-w", "json"])[0])["kvs"]) == 1)
        wanted = seen(theirs)
        saved = tools.save(etcd.endpoints[0], os.path.join(place, "etcd.db"))
        judge.tell("etcd's own snapshot", saved[2] == 0, str(saved))
    return wanted


def imported(judge, args, tools, wanted, place):
    data = os.path.join(place, "imported", "data")
    nodes = [os.path.join(data, "n%d" % i) for i in (1, 2, 3)]
    ran = subprocess.run([args.quorate, "import", "etcd", "--from", os.path.join(place, "etcd.db"), "--to", *nodes],
                         capture_output=True, text=True, timeout=120)
    judge.tell("quorate import etcd: %s" % " ".join(ran.stdout.split()), ran.returncode == 0, ran.stderr)
    cut = subprocess.run([args.quorate, "import", "etcd", "--from", os.path.join(place, "n1.db.cut")], capture_output=True, text=True, timeout=120)
    judge.tell("a snapshot cut short is not imported", cut.returncode != 0, cut.stdout)
    with Quorate(args.quorate, 3, directory=os.path.join(place, "imported")) as ours:
        ctl = Ctl(ours, tools.etcdctl)
        wait_until("a cluster that answers", lambda: ctl.run(["endpoint", "health"])[2] == 0, 60, 0.5)
        found = seen(ctl)
        differ = differences(wanted, found)
        judge.tell("we show what etcd shows", not differ,
                   "\n".join("  %s\n    etcd's %.300s\n    ours   %.300s" % (k, wanted.get(k), found.get(k)) for k in differ))
        judge.tell("we know etcd's users' passwords", *passwords(ctl))
        done = ctl.run(["compaction", str(found["revision"] - 1)])
        judge.tell("what was imported is compacted", done[2] == 0, str(done))
        hashes = {line.split()[-1] for line in ctl.run(["endpoint", "hashkv"])[0].splitlines()}
        judge.tell("all nodes have one hash", len(hashes) == 1, str(hashes))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quorate", metavar="BINARY", required=True)
    parser.add_argument("--etcdctl", default=shutil.which("etcdctl"))
    parser.add_argument("--etcdutl", help="from etcd 3.6 on")
    parser.add_argument("--etcd", metavar="BINARY", default=shutil.which("etcd"))
    args = parser.parse_args()
    args.quorate = os.path.abspath(args.quorate)
    if not args.etcdctl or not args.etcd:
        sys.exit("etcd_snapshot.py: install etcd-client and etcd-server, or name them with --etcdctl and --etcd")
    judge, tools = Judge("etcd_snapshot"), Tools(args)
    with tempfile.TemporaryDirectory(prefix="quorate-snapshot-") as place:
        with Quorate(args.quorate, 3) as ours:
            ctl = Ctl(ours, args.etcdctl)
            wait_until("a cluster that answers", lambda: ctl.run(["endpoint", "health"])[2] == 0, 60, 0.5)
            history(ctl)
            bulk(ours.endpoints[0])
            history_end = ctl.run(["put", "k/19", "last"])
            assert history_end[2] == 0, history_end
            wanted = exported(judge, tools, ours, place)
        imported(judge, args, tools, wanted, place)
    print("%d passed, %d failed" % (judge.passed, judge.failed))
    return 1 if judge.failed else 0


if __name__ == "__main__":
    sys.exit(main())
