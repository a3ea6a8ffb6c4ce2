"""etcdctl against Quorate and against etcd itself: the same commands to both, and what they print must be the same.

    etcdctl.py --quorate target/release/quorate [--etcd BINARY] [--etcdctl BINARY]

Starts three nodes of each on free ports. Ids of members, leases and clusters, terms and times differ by nature: they are
replaced before the comparison; revisions and counts are not. What has nothing to compare with is checked by itself: that all
members have one hash, that a snapshot is whole, that leadership moves. Ends with `N passed, M failed`.
"""

import argparse
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time

from cluster import QuorateCluster, wait_until

NODES = 3


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for s in sockets:
        s.bind(("127.0.0.1", 0))
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


class Etcd:
    """Three members of etcd on loopback."""

    def __init__(self, binary):
        self.binary = binary

    def __enter__(self):
        self.dir = tempfile.mkdtemp(prefix="etcd-e2e-")
        ports = free_ports(2 * NODES)
        self.endpoints = ["127.0.0.1:%d" % port for port in ports[:NODES]]
        peers = ["http://127.0.0.1:%d" % port for port in ports[NODES:]]
        cluster = ",".join("n%d=%s" % (i + 1, peer) for i, peer in enumerate(peers))
        self.members = []
        for i in range(NODES):
            client = "http://" + self.endpoints[i]
            with open(os.path.join(self.dir, "n%d.log" % i), "wb") as log:
                self.members.append(subprocess.Popen(
                    [self.binary, "--name", "n%d" % (i + 1), "--data-dir", os.path.join(self.dir, "n%d" % i),
                     "--listen-client-urls", client, "--advertise-client-urls", client,
                     "--listen-peer-urls", peers[i], "--initial-advertise-peer-urls", peers[i],
                     "--initial-cluster", cluster, "--initial-cluster-state", "new"],
                    stdin=subprocess.DEVNULL, stdout=log, stderr=log))
        return self

    def __exit__(self, *_):
        for member in self.members:
            member.terminate()
        for member in self.members:
            try:
                member.wait(10)
            except subprocess.TimeoutExpired:
                member.kill()
        shutil.rmtree(self.dir, ignore_errors=True)


class Quorate(QuorateCluster):
    def __enter__(self):
        super().__enter__()
        with open(os.path.join(self.data, "cluster.json")) as file:
            self.endpoints = [node["etcd"] for node in json.load(file)["nodes"]]
        return self


class Ctl:
    """etcdctl on one cluster."""

    def __init__(self, cluster, etcdctl):
        self.cluster, self.etcdctl = cluster, etcdctl
        self.user = []

    def command(self, words):
        return [self.etcdctl, "--endpoints", ",".join(self.cluster.endpoints), "--command-timeout", "15s", *self.user, *words]

    def run(self, words, stdin="", timeout=40):
        """What was printed, and the exit code; errors without the client's own log lines."""
        environment = dict(os.environ, ETCDCTL_API="3")
        ran = subprocess.run(self.command(words), input=stdin, text=True, capture_output=True, timeout=timeout, env=environment)
        errors = [line for line in ran.stderr.splitlines() if not line.startswith("{")]
        return ran.stdout, "\n".join(errors), ran.returncode

    def start(self, words, stderr=subprocess.DEVNULL):
        environment = dict(os.environ, ETCDCTL_API="3")
        return subprocess.Popen(self.command(words), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                stderr=stderr, text=True, env=environment)


REPLACED = [
    (re.compile(r"\blease [0-9a-f]+ "), "lease ID "),
    (re.compile(r"\b[0-9a-f]{15,16}\b"), "ID"),
    (re.compile(r'"(cluster_id|member_id|raft_term|lease|ID)":\d+'), r'"\1":0'),
    (re.compile(r'"(ClusterID|MemberID|RaftTerm)" : \d+'), r'"\1" : 0'),
    (re.compile(r"127\.0\.0\.1:\d+"), "HOST"),
    (re.compile(r"took = [^ ]+"), "took = TIME"),
    (re.compile(r"took [0-9.]+(ms|\u00b5s|s)"), "took TIME"),
    (re.compile(r"remaining\(\d+s\)"), "remaining(TIME)"),
]


def plain(text):
    """Without what differs by nature, and without the lines that etcdctl logs."""
    text = "".join(line for line in text.splitlines(keepends=True) if not line.startswith('{"level"'))
    for pattern, replacement in REPLACED:
        text = pattern.sub(replacement, text)
    return text


class Judge:
    def __init__(self, suite="etcdctl"):
        self.suite, self.passed, self.failed = suite, 0, 0

    def tell(self, name, ok, detail=""):
        if ok:
            self.passed += 1
            print("ok    %s: %s" % (self.suite, name), flush=True)
        else:
            self.failed += 1
            print("FAIL  %s: %s\n%s" % (self.suite, name, detail), flush=True)


# Name of the story, then its commands in order; a pair is a command and what it reads from stdin.
STORIES = [
    ("put and get", [
        ["get", "nothing"], ["put", "a", "1"], ["get", "a"], ["get", "a", "-w", "json"], ["put", "a", "2", "--prev-kv"],
        ["get", "a", "-w", "fields"], ["get", "a", "--print-value-only"], ["get", "a", "--rev", "2"],
        ["get", "a", "--rev", "99"], ["get", ""], ["put", "a", "", "--ignore-value"],
        ["put", "a", "--ignore-value", "--ignore-lease"], ["put", "none", "--ignore-value"], ["get", "a", "-w", "json"],
        (["put", "long"], "from\nstdin"), ["get", "long"], ["put", "e", ""], ["get", "e", "-w", "json"],
    ]),
    ("ranges", [
        *[["put", "r/%02d" % i, "v%d" % (9 - i)] for i in range(8)], ["put", "r/03", "again"],
        ["get", "--prefix", "r/"], ["get", "--prefix", "r/", "--limit", "3"], ["get", "--prefix", "r/", "--limit", "3", "-w", "json"],
        ["get", "--prefix", "r/", "--keys-only"], ["get", "r/02", "r/05"], ["get", "--from-key", "r/06"],
        ["get", "--prefix", "r/", "--order", "DESCEND", "--sort-by", "VALUE"], ["get", "--prefix", "r/", "--sort-by", "MODIFY"],
        ["get", "--prefix", "r/", "--order", "DESCEND", "--limit", "2"], ["get", "--prefix", "r/", "--sort-by", "VERSION", "-w", "json"],
        ["get", "--prefix", "r/", "--consistency", "s"], ["get", "r/05", "r/02"], ["get", "--prefix", "none"],
    ]),
    ("delete", [
        ["del", "a"], ["del", "a"], ["del", "--prefix", "r/0", "--prev-kv"], ["del", "--prefix", "none", "-w", "json"],
        ["put", "a", "back"], ["get", "a", "-w", "json"], ["del", "--from-key", "e"], ["get", "--prefix", ""],
    ]),
    ("txn", [
        (["txn"], 'value("a") = "back"\n\nput a 3\nget a\n\nget a\n\n'),
        (["txn"], 'mod("a") > "9999"\n\nput a 4\n\nput b 1\nget --prefix ""\n\n'),
        (["txn"], '\n\nput t 1\nput t 2\n\n\n'), (["txn"], 'create("new") = "0"\n\nput new 1\ndel b\n\n\n'),
        (["txn", "-w", "json"], 'version("new") = "1"\n\ndel new --prev-kv\n\n\n'),
        (["txn"], 'value("none") != "x"\n\nput wrong 1\n\nput right 1\n\n'), ["get", "--prefix", "", "--keys-only"],
    ]),
    ("leases", [
        ["lease", "revoke", "1234"], ["lease", "timetolive", "1234"], ["lease", "keep-alive", "--once", "1234"],
        ["put", "x", "1", "--lease", "1234"], ["lease", "grant", "0"], ["lease", "grant", "99999999999"],
        ["lease", "grant", "100"], ["lease", "list"],
    ]),
    ("compaction", [
        ["put", "c", "1"], ["put", "c", "2"], ["compaction", "5"], ["compaction", "5"], ["compaction", "9999"],
        ["get", "c", "--rev", "3"], ["get", "c", "--rev", "5"], ["compaction", "12", "--physical"], ["defrag"],
    ]),
    ("members and endpoints", [
        ["endpoint", "health", "--cluster"], ["alarm", "list"], ["alarm", "disarm"], ["member", "remove", "abcd"],
        ["member", "promote", "abcd"], ["move-leader", "abcd"],
    ]),
    ("users and roles", [
        ["user", "list"], ["role", "list"], ["auth", "enable"], ["user", "add", "root:pw"], ["user", "add", "root:pw"],
        ["user", "get", "nobody"], ["role", "get", "nothing"], ["role", "add", "root"], ["role", "add", "root"],
        ["user", "grant-role", "root", "root"], ["user", "grant-role", "root", "nothing"], ["user", "get", "root"],
        ["user", "add", "ann:pw"], ["role", "add", "reader"], ["role", "grant-permission", "reader", "read", "--prefix", "pub/"],
        ["role", "grant-permission", "reader", "readwrite", "own"], ["role", "get", "reader"], ["user", "grant-role", "ann", "reader"],
        ["user", "get", "ann", "--detail"], ["role", "list"], ["user", "list"],
    ]),
]

WITH_USERS = [
    ([], ["get", "own"]), (["--user", "ann:wrong"], ["get", "own"]), (["--user", "nobody:pw"], ["get", "own"]),
    (["--user", "ann:pw"], ["put", "own", "1"]), (["--user", "ann:pw"], ["get", "own"]), (["--user", "ann:pw"], ["put", "pub/x", "1"]),
    (["--user", "ann:pw"], ["get", "--prefix", "pub/"]), (["--user", "ann:pw"], ["get", "--prefix", "p"]),
    (["--user", "ann:pw"], ["user", "list"]), (["--user", "ann:pw"], ["user", "get", "ann"]), (["--user", "root:pw"], ["put", "pub/x", "2"]),
    (["--user", "ann:pw"], ["get", "pub/x"]), (["--user", "root:pw"], ["user", "revoke-role", "ann", "reader"]),
    (["--user", "ann:pw"], ["get", "pub/x"]), (["--user", "root:pw"], ["role", "revoke-permission", "reader", "own"]),
    (["--user", "root:pw"], ["role", "delete", "reader"]), (["--user", "root:pw"], ["user", "delete", "root"]),
    (["--user", "root:pw"], ["auth", "disable"]), ([], ["user", "delete", "ann"]), ([], ["user", "delete", "root"]),
    ([], ["role", "delete", "root"]), ([], ["user", "list"]),
]


def compare(judge, ctls, name, words, stdin=""):
    ours, theirs = [tuple(plain(str(part)) for part in ctl.run(words, stdin)) for ctl in ctls]
    judge.tell("%s: %s" % (name, " ".join(words)), ours == theirs, "  ours   %r\n  etcd's %r" % (ours, theirs))


def available(process):
    """What a process has printed that nobody has read; its output must not block."""
    try:
        return os.read(process.stdout.fileno(), 1 << 16).decode()
    except BlockingIOError:
        return ""


def watched(ctl, words, changes, lines):
    """What a watcher prints while changes are made, errors included."""
    watcher = ctl.start(["watch", *words], stderr=subprocess.STDOUT)
    time.sleep(1)
    for change in changes:
        ctl.run(change)
    end = time.monotonic() + 10
    os.set_blocking(watcher.stdout.fileno(), False)
    text = ""
    while text.count("\n") < lines and time.monotonic() < end:
        text += available(watcher)
        time.sleep(0.05)
    watcher.terminate()
    watcher.wait()
    return plain(text)


def watches(judge, ctls):
    changes = [["put", "w/1", "one"], ["put", "w/2", "two"], ["del", "w/1"], ["put", "other", "x"], ["put", "w/3", "three"]]
    for words, lines in [(["--prefix", "w/"], 11), (["--prefix", "w/", "--prev-kv"], 13), (["w/2"], 3), (["w/1", "w/3"], 8)]:
        ours, theirs = [watched(ctl, words, changes, lines) for ctl in ctls]
        judge.tell("watch %s" % " ".join(words), ours == theirs and ours, "  ours   %r\n  etcd's %r" % (ours, theirs))
    revisions = [json.loads(ctl.run(["get", "w/3", "-w", "json"])[0])["header"]["revision"] for ctl in ctls]
    judge.tell("the same revision after all that", revisions[0] == revisions[1], str(revisions))
    for words, lines in [(["--prefix", "w/", "--rev", str(revisions[0] - 6)], 15), (["w/1", "--rev", "2"], 1)]:
        ours, theirs = [watched(ctl, words, [], lines) for ctl in ctls]
        judge.tell("watch %s" % " ".join(words), ours == theirs and ours, "  ours   %r\n  etcd's %r" % (ours, theirs))


def leases(judge, ctl):
    """A lease's keys are listed, live while it is kept alive, and go with it."""
    granted = ctl.run(["lease", "grant", "2"])[0]
    lease = granted.split()[1]
    ctl.run(["put", "leased", "1", "--lease", lease])
    shown = ctl.run(["lease", "timetolive", lease, "--keys"])[0]
    judge.tell("a lease lists its keys", "attached keys([leased])" in shown, shown)
    keeper = ctl.start(["lease", "keep-alive", lease])
    time.sleep(5)
    judge.tell("a lease that is kept alive keeps its keys", ctl.run(["get", "leased"])[0] == "leased\n1\n")
    keeper.terminate()
    keeper.wait()
    wait_until("the lease's key goes", lambda: ctl.run(["get", "leased"])[0] == "", 15, 0.2)
    judge.tell("a lease that nobody keeps alive goes with its keys", True)


def locks(judge, ctls):
    """etcdctl's locks and elections are made of transactions and watches."""
    for ctl, whose in zip(ctls, ("ours", "etcd's")):
        first = ctl.start(["lock", "l"])
        key = first.stdout.readline()
        second = ctl.start(["lock", "l"])
        time.sleep(1)
        os.set_blocking(second.stdout.fileno(), False)
        waits = not available(second)
        first.terminate()
        first.wait()
        os.set_blocking(second.stdout.fileno(), True)
        taken = second.stdout.readline()
        second.terminate()
        second.wait()
        judge.tell("lock on %s" % whose, key.startswith("l/") and waits and taken.startswith("l/"), repr((key, waits, taken)))
        candidate = ctl.start(["elect", "e", "me"])
        elected = candidate.stdout.readline() + candidate.stdout.readline()
        listener = ctl.start(["elect", "-l", "e"])
        heard = listener.stdout.readline() + listener.stdout.readline()
        for process in (candidate, listener):
            process.terminate()
            process.wait()
        judge.tell("elect on %s" % whose, "me" in elected and "me" in heard, repr((elected, heard)))


def alone(judge, ctl):
    """What only makes sense by itself."""
    hashes = {line.split()[-1] for line in ctl.run(["endpoint", "hashkv"])[0].splitlines()}
    judge.tell("all members have one hash", len(hashes) == 1, str(hashes))
    status = json.loads(ctl.run(["endpoint", "status", "-w", "json"])[0])
    leaders = {s["Status"]["leader"] for s in status}
    judge.tell("endpoint status names one leader", len(leaders) == 1 and len(status) == NODES, str(leaders))
    leader = leaders.pop()
    ids = [s["Status"]["header"]["member_id"] for s in status]
    target = next(i for i in ids if i != leader)
    moved = ctl.run(["move-leader", "%x" % target])
    judge.tell("move-leader", "Leadership transferred" in moved[0], str(moved))
    members = json.loads(ctl.run(["member", "list", "-w", "json"])[0])["members"]
    judge.tell("member list", [m["name"] for m in members] == ["n1", "n2", "n3"], str(members))
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "snapshot")
        one = Ctl(type("One", (), {"endpoints": ctl.cluster.endpoints[:1]}), ctl.etcdctl)
        saved = one.run(["snapshot", "save", path])
        size = os.path.getsize(path) if os.path.exists(path) else 0
        judge.tell("snapshot save", saved[2] == 0 and size % 512 == 32, "%s, %d bytes" % (saved, size))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quorate", metavar="BINARY", required=True)
    parser.add_argument("--etcdctl", default=shutil.which("etcdctl"))
    parser.add_argument("--etcd", metavar="BINARY", default=shutil.which("etcd"))
    args = parser.parse_args()
    if not args.etcdctl or not args.etcd:
        sys.exit("etcdctl.py: install etcd-client and etcd-server, or name them with --etcdctl and --etcd")
    judge = Judge()
    with Quorate(args.quorate, NODES) as ours, Etcd(args.etcd) as theirs:
        ctls = [Ctl(ours, args.etcdctl), Ctl(theirs, args.etcdctl)]
        for ctl in ctls:
            wait_until("a cluster that answers", lambda: ctl.run(["endpoint", "health"])[2] == 0, 60, 0.5)
        for name, commands in STORIES:
            for command in commands:
                words, stdin = command if isinstance(command, tuple) else (command, "")
                compare(judge, ctls, name, words, stdin)
        for ctl in ctls:
            ctl.user = []
        compare(judge, ctls, "users", ["auth", "enable"])
        for user, words in WITH_USERS:
            for ctl in ctls:
                ctl.user = user
            compare(judge, ctls, "as %s" % (user[1] if user else "nobody"), words)
        for ctl in ctls:
            ctl.user = []
        watches(judge, ctls)
        locks(judge, ctls)
        leases(judge, ctls[0])
        alone(judge, ctls[0])
    print("%d passed, %d failed" % (judge.passed, judge.failed))
    return 1 if judge.failed else 0


if __name__ == "__main__":
    sys.exit(main())
