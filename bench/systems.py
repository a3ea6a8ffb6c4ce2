"""The systems that are compared: how each is started, looked at and stopped. Only processes started here are ended."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import time

PORT_BASES = (2181, 2379, 8080, 7400)


def is_free(port):
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
            return True
        except OSError:
            return False


def free(spans, start):
    """The first number from `start` on to which every span of ports is free."""
    for base in range(start, start + 8000, 50):
        if all(is_free(base + port) for span in spans for port in span):
            return base
    raise RuntimeError("no free range of ports from %d on" % start)


class Running:
    """Servers that run."""

    def __init__(self, quorate, hosts, pids, start_seconds):
        self.quorate, self.hosts, self.pids, self.start_seconds = quorate, hosts, pids, start_seconds
        self.kill_leader = self.revive = None

    def cpu_seconds(self):
        ticks = 0
        for pid in self.pids():
            with open("/proc/%d/stat" % pid) as stat:
                fields = stat.read().rsplit(") ", 1)[1].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def resident_mib(self):
        """The largest of them."""
        pages = []
        for pid in self.pids():
            with open("/proc/%d/statm" % pid) as statm:
                pages.append(int(statm.read().split()[1]))
        return max(pages) * os.sysconf("SC_PAGE_SIZE") / 2**20


def first_write(quorate, hosts):
    """Waits for the first acknowledged write."""
    end = time.monotonic() + 90
    while time.monotonic() < end:
        command = [quorate, "zk", "--servers", hosts, "create", "/started-%d" % time.monotonic_ns(), "x"]
        if subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=60).returncode == 0:
            return
        time.sleep(0.01)
    raise RuntimeError("no write was acknowledged by %s within 90 s" % hosts)


class Quorate:
    name = "quorate"

    def __init__(self, binary, folder):
        self.binary, self.folder = binary, os.path.join(folder, "quorate")

    def version(self):
        return subprocess.run([self.binary, "--version"], capture_output=True, text=True).stdout.strip()

    def warm_up(self, running):
        pass

    @contextlib.contextmanager
    def running(self):
        shutil.rmtree(self.folder, ignore_errors=True)
        offset = free([range(base, base + 3) for base in PORT_BASES], 15000)
        began = time.monotonic()
        command = [self.binary, "up", "--dir", self.folder, "--port-offset", str(offset)]
        up = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            hosts = ",".join("127.0.0.1:%d" % (2181 + i + offset) for i in range(3))
            first_write(self.binary, hosts)
            running = Running(self.binary, hosts, lambda: [node["pid"] for node in self.nodes()], time.monotonic() - began)
            running.kill_leader, running.revive = self.kill_leader, self.revive
            yield running
        finally:
            up.send_signal(signal.SIGINT)
            up.wait(timeout=30)
            shutil.rmtree(self.folder, ignore_errors=True)

    def nodes(self):
        with open(os.path.join(self.folder, "cluster.json")) as file:
            return json.load(file)["nodes"]

    def kill_leader(self):
        status = subprocess.run([self.binary, "status", "--dir", self.folder, "--json"], capture_output=True, text=True)
        leader = next(node for node in json.loads(status.stdout)["nodes"] if node.get("role") == "leader")
        self.killed = leader["id"]
        os.kill(leader["pid"], signal.SIGKILL)

    def revive(self):
        command = [self.binary, "node", "start", "--dir", self.folder, "--id", str(self.killed)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


class ZooKeeper:
    name = "zookeeper"
    # A fresh JVM needs 8 to 12 s of load until it is compiled.
    WARM_UP_SECONDS = 12

    def __init__(self, binary, rivals, folder):
        self.binary, self.folder = binary, os.path.join(folder, "zookeeper")
        self.script = os.path.realpath(os.path.join(rivals, "zk-ensemble.sh"))
        if not os.path.exists(self.script):
            raise SystemExit("compare: no %s; --rivals names its folder" % self.script)

    def ensemble(self, *words):
        return subprocess.run([self.script, words[0], self.folder, *words[1:]], capture_output=True, text=True, timeout=120).stdout

    def version(self):
        words = subprocess.run(["dpkg-query", "-W", "-f", "${Version}", "zookeeper"], capture_output=True, text=True).stdout
        return "Apache ZooKeeper %s (Debian)" % words

    def warm_up(self, running):
        for reads in ("0", "100"):
            subprocess.run(
                [self.binary, "bench", "zk", "--servers", running.hosts, "--clients", "24", "--in-flight", "32",
                 "--reads", reads, "--seconds", str(self.WARM_UP_SECONDS), "--warmup", "0"],
                stdout=subprocess.DEVNULL, timeout=120,
            )

    @contextlib.contextmanager
    def running(self):
        shutil.rmtree(self.folder, ignore_errors=True)
        base = free([range(0, 40)], 25000)
        began = time.monotonic()
        try:
            self.ensemble("start", str(base))
            hosts = self.ensemble("hosts").strip()
            first_write(self.binary, hosts)
            running = Running(self.binary, hosts, self.pids, time.monotonic() - began)
            running.kill_leader, running.revive = self.kill_leader, self.revive
            yield running
        finally:
            self.ensemble("stop")
            shutil.rmtree(self.folder, ignore_errors=True)

    def pids(self):
        """Of those that run."""
        pids = []
        for server in sorted(os.listdir(self.folder)):
            path = os.path.join(self.folder, server, "pid")
            if os.path.exists(path):
                with open(path) as file:
                    pid = int(file.read().strip() or 0)
                if os.path.exists("/proc/%d/stat" % pid):
                    pids.append(pid)
        return pids

    def kill_leader(self):
        self.killed = self.ensemble("kill-leader").split()[0]

    def revive(self):
        self.ensemble("start-one", self.killed)
        self.ensemble("wait")
