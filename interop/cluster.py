"""A cluster to test against, and the record of what passed.

Two kinds of cluster answer the same calls: `QuorateCluster` starts `quorate up` on free ports under a directory of its
own; `HookCluster` drives servers that somebody else started, through shell commands, so that the same tests judge
Apache ZooKeeper too:

    kazoo_failover.py --hosts 127.0.0.1:23301,127.0.0.1:23302,127.0.0.1:23303 \
        --leader 'zk-ensemble.sh leader DIR' --kill 'zk-ensemble.sh stop-one DIR {i}' --start 'zk-ensemble.sh start-one DIR {i}'

What was started is stopped by its process id, also when a test fails.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback

# What `quorate up` binds on one machine: first port and how many (DESIGN: ports by default).
PORT_BASES = (2181, 2281, 2379, 8080, 7400)
# And with --playground: where members listen behind its relays, and its page.
PLAYGROUND_BASES = (7450, 8070)


def free_offset(nodes):
    """A port offset at which every port that `quorate up` may bind is free just now."""
    # Mostly below 32768, where the system takes ports for outgoing connections of everybody.
    start = 10000 + (os.getpid() * 97) % 12000
    for offset in range(start, start + 10000, 10):
        if all(is_free(base + offset + i) for base in PORT_BASES + PLAYGROUND_BASES for i in range(nodes)):
            return offset
    raise RuntimeError("no free range of ports found from offset %d on" % start)


def is_free(port):
    with socket.socket() as s:
        # As servers do: a connection that is long over does not keep a port.
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind(("127.0.0.1", port))
            return True
        except OSError:
            return False


def wait_until(what, condition, seconds=30.0, pause=0.05):
    """Waits for a condition; says what it waited for if it does not come."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(pause)
    raise AssertionError("%s did not happen within %.0f s" % (what, seconds))


def ruok(host, timeout=1.0):
    """Whether a server answers the four-letter word `ruok`."""
    return four_letter_word(host, b"ruok", timeout) == b"imok"


def four_letter_word(host, word, timeout=3.0):
    name, port = host.rsplit(":", 1)
    try:
        with socket.create_connection((name, int(port)), timeout=timeout) as s:
            s.sendall(word)
            answer = b""
            while chunk := s.recv(65536):
                answer += chunk
            return answer
    except OSError:
        return b""


def srvr_mode(host):
    for line in four_letter_word(host, b"srvr").decode(errors="replace").splitlines():
        if line.startswith("Mode: "):
            return line[6:].strip()
    return None


class QuorateCluster:
    """`quorate up` as a child process, on free ports, under a temporary directory. `place` is where tests keep files."""

    def __init__(self, binary, nodes=3, directory=None, config=None, ports_for=None, more=()):
        """`config` is a file for `quorate up --config`; `ports_for` keeps ports for so many nodes; `more` are other arguments."""
        self.binary = os.path.abspath(binary)
        self.nodes = nodes
        self.owned = directory is None
        self.dir = self.place = directory or tempfile.mkdtemp(prefix="quorate-e2e-")
        self.config = config
        self.more = list(more)
        self.offset = free_offset(ports_for or nodes)
        self.log = open(os.path.join(self.dir, "up.log"), "ab")
        self.up = None

    def __enter__(self):
        self.start_all()
        return self

    def __exit__(self, kind, *_):
        self.stop_all()
        self.log.close()
        if kind is None and self.owned:
            shutil.rmtree(self.dir, ignore_errors=True)
        elif kind is not None:
            print("kept for a look: %s" % self.dir, file=sys.stderr)

    def start_all(self, seconds=30):
        command = [self.binary, "up", "--dir", self.data, "--nodes", str(self.nodes), "--port-offset", str(self.offset)]
        command += (["--config", self.config] if self.config else []) + self.more
        self.up = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        wait_until("`quorate up` serving on every node", self.serving, seconds)

    def serving(self):
        if self.up.poll() is not None:
            raise AssertionError("`quorate up` ended with %s:\n%s" % (self.up.returncode, self.tail()))
        return self.members() and len(self.members()) == self.nodes and all(ruok(self.host(i)) for i in self.ids)

    def stop_all(self):
        """Ctrl-C, as a person does; -9 only if that does not help."""
        if self.up is None or self.up.poll() is not None:
            return
        self.up.send_signal(signal.SIGINT)
        try:
            self.up.wait(15)
        except subprocess.TimeoutExpired:
            self.up.kill()
            self.up.wait()

    def tail(self, lines=30):
        with open(os.path.join(self.dir, "up.log"), errors="replace") as f:
            return "".join(f.readlines()[-lines:])

    @property
    def data(self):
        return os.path.join(self.dir, "data")

    def members(self):
        try:
            with open(os.path.join(self.data, "cluster.json")) as f:
                return {node["id"]: node for node in json.load(f)["nodes"]}
        except (OSError, ValueError, KeyError):
            return {}

    @property
    def ids(self):
        return sorted(self.members())

    @property
    def hosts(self):
        return [self.host(i) for i in self.ids]

    def host(self, i):
        return self.members()[i]["zookeeper"]

    def pid(self, i):
        return self.members()[i]["pid"]

    def status(self):
        command = [self.binary, "status", "--dir", self.data, "--json"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
        return {node["id"]: node for node in json.loads(done.stdout)["nodes"]}

    def leader(self):
        def known():
            for i in self.ids:
                if srvr_mode(self.host(i)) in ("leader", "standalone"):
                    return i
            return None
        return wait_until("a leader", known)

    def kill(self, i):
        pid = self.pid(i)
        os.kill(pid, signal.SIGKILL)
        wait_until("the end of process %d" % pid, lambda: not alive(pid), 10, 0.01)

    def start(self, i):
        command = [self.binary, "node", "start", "--dir", self.data, "--id", str(i)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, "`quorate node start` failed: %s%s" % (done.stdout, done.stderr)


class HookCluster:
    """Servers that somebody else started, driven through shell commands."""

    def __init__(self, hosts, leader, kill, start):
        self.hosts = hosts.split(",")
        self.ids = list(range(1, len(self.hosts) + 1))
        self.commands = {"leader": leader, "kill": kill, "start": start}
        self.place = tempfile.mkdtemp(prefix="quorate-e2e-")

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is None:
            shutil.rmtree(self.place, ignore_errors=True)

    def host(self, i):
        return self.hosts[i - 1]

    def run(self, verb, i=""):
        command = self.commands[verb]
        if not command:
            raise AssertionError("this test needs --%s" % verb)
        done = subprocess.run(command.replace("{i}", str(i)), shell=True, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, "%s failed: %s%s" % (command, done.stdout, done.stderr)
        return done.stdout.strip()

    def leader(self):
        return int(self.run("leader").split()[-1])

    def kill(self, i):
        self.run("kill", i)

    def start(self, i):
        self.run("start", i)


def alive(pid):
    """Whether a process still runs; a zombie does not."""
    try:
        with open("/proc/%d/stat" % pid) as f:
            return f.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


class Record:
    """Runs cases and counts them; the closing line is what CI reads."""

    def __init__(self):
        self.passed = 0
        self.failed = []

    def case(self, name, run, *args):
        began = time.monotonic()
        try:
            note = run(*args)
        except Exception:
            self.failed.append(name)
            print("FAIL  %s\n%s" % (name, traceback.format_exc()), flush=True)
        else:
            self.passed += 1
            print("ok    %-58s %5.1f s  %s" % (name, time.monotonic() - began, note or ""), flush=True)

    def close(self):
        for name in self.failed:
            print("failed: %s" % name)
        print("%d passed, %d failed" % (self.passed, len(self.failed)), flush=True)
        return 1 if self.failed else 0


def add_arguments(parser):
    parser.add_argument("--quorate", metavar="BINARY", help="start a cluster of this binary on free ports")
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--check", metavar="BINARY", help="who judges histories (default: the binary of --quorate)")
    parser.add_argument("--hosts", help="or: use these servers, which already run")
    parser.add_argument("--leader", help="shell command that prints the leader's number (with --hosts)")
    parser.add_argument("--kill", help="shell command that kills server {i} with -9 (with --hosts)")
    parser.add_argument("--start", help="shell command that starts server {i} and returns once it serves (with --hosts)")


def from_arguments(args):
    if args.quorate:
        cluster = QuorateCluster(args.quorate, args.nodes)
    elif args.hosts:
        cluster = HookCluster(args.hosts, args.leader, args.kill, args.start)
    else:
        raise SystemExit("say --quorate BINARY or --hosts HOSTS")
    cluster.checker = args.check or args.quorate
    return cluster
