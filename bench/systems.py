"""The systems that are compared: how each is started, looked at and stopped. Only processes started here are ended.

A system is compared as one of two services: `zk` (ZooKeeper's protocol) or `kv` (etcd's API). The rivals are started by the scripts in
--rivals; ETCD_BIN and ZK_CLASSPATH in the environment choose other versions of them than Debian's, as those scripts say.
"""

import contextlib
import json
import os
import re
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

    def __init__(self, system, hosts, start_seconds):
        self.system, self.hosts, self.start_seconds = system, hosts, start_seconds
        self.quorate, self.service, self.pids = system.binary, system.service, system.pids
        self.stopped = None

    def kill_leader(self):
        """`kill -9`."""
        self.system.kill_leader()

    def revive(self):
        self.system.revive()

    def stop_leader(self):
        """SIGSTOP."""
        self.stopped = self.system.leader_pid()
        os.kill(self.stopped, signal.SIGSTOP)

    def go_on(self):
        os.kill(self.stopped, signal.SIGCONT)

    def restart(self):
        """All of them, one after the other stopped in order, then started at once; seconds until the first write."""
        self.system.halt()
        began = time.monotonic()
        self.system.start()
        first_write(self.system, self.hosts)
        return time.monotonic() - began

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


def first_write(system, hosts):
    """Waits for the first acknowledged write."""
    end = time.monotonic() + 90
    while time.monotonic() < end:
        if system.service == "zk":
            command = [system.binary, "zk", "--servers", hosts, "create", "/started-%d" % time.monotonic_ns(), "x"]
        else:
            # Not `quorate kv put`: that numbers its calls, which only we understand.
            command = [system.binary, "bench", "create", "kv", "--servers", hosts, "--count", "1"]
        if subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=60).returncode == 0:
            return
        time.sleep(0.01)
    raise RuntimeError("no write was acknowledged by %s within 90 s" % hosts)


class System:
    """Started in a folder of its own, which is removed afterwards."""

    @contextlib.contextmanager
    def running(self):
        shutil.rmtree(self.folder, ignore_errors=True)
        self.choose_ports()
        began = time.monotonic()
        try:
            self.start()
            hosts = self.hosts()
            first_write(self, hosts)
            yield Running(self, hosts, time.monotonic() - began)
        finally:
            self.halt()
            shutil.rmtree(self.folder, ignore_errors=True)

    def warm_up(self, running):
        pass


class Quorate(System):
    name = "quorate"
    FIRST_PORTS = {"zk": 2181, "kv": 2379}

    def __init__(self, binary, folder, service):
        self.binary, self.folder, self.service, self.up = binary, os.path.join(folder, "quorate"), service, None

    def version(self):
        return subprocess.run([self.binary, "--version"], capture_output=True, text=True).stdout.strip()

    def choose_ports(self):
        self.offset = free([range(base, base + 3) for base in PORT_BASES], 15000)

    def hosts(self):
        return ",".join("127.0.0.1:%d" % (self.FIRST_PORTS[self.service] + i + self.offset) for i in range(3))

    def start(self):
        command = [self.binary, "up", "--dir", self.folder, "--port-offset", str(self.offset)]
        self.up = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def halt(self):
        if self.up:
            self.up.send_signal(signal.SIGINT)
            self.up.wait(timeout=60)
            self.up = None

    def nodes(self):
        with open(os.path.join(self.folder, "cluster.json")) as file:
            return json.load(file)["nodes"]

    def pids(self):
        return [node["pid"] for node in self.nodes()]

    def leader(self):
        """The leader of the service's own group."""
        status = subprocess.run([self.binary, "status", "--dir", self.folder, "--json"], capture_output=True, text=True)
        group = {"zk": "coordination", "kv": "kv"}[self.service]
        for node in json.loads(status.stdout)["nodes"]:
            if any(g["name"] == group and g["role"] == "leader" for g in node.get("groups", [])):
                return node
        raise RuntimeError("no leader of the group %s: %s" % (group, status.stdout))

    def leader_pid(self):
        return self.leader()["pid"]

    def kill_leader(self):
        leader = self.leader()
        self.killed = leader["id"]
        os.kill(leader["pid"], signal.SIGKILL)

    def revive(self):
        command = [self.binary, "node", "start", "--dir", self.folder, "--id", str(self.killed)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


class Scripted(System):
    """Started by a script of --rivals."""

    def __init__(self, binary, rivals, folder):
        self.binary, self.folder = binary, os.path.join(folder, self.name)
        self.script = os.path.realpath(os.path.join(rivals, self.SCRIPT))
        if not os.path.exists(self.script):
            raise SystemExit("compare: no %s; --rivals names its folder" % self.script)

    def choose_ports(self):
        self.base = free([range(0, 40)], 25000)

    def ask(self, verb, *words):
        return subprocess.run([self.script, verb, self.folder, *words], capture_output=True, text=True, timeout=120).stdout.strip()

    def halt(self):
        self.ask("stop")


def debian(package):
    return subprocess.run(["dpkg-query", "-W", "-f", "${Version}", package], capture_output=True, text=True).stdout


class ZooKeeper(Scripted):
    name, service, SCRIPT = "zookeeper", "zk", "zk-ensemble.sh"
    # A fresh JVM needs 8 to 12 s of load until it is compiled.
    WARM_UP_SECONDS = 12

    def version(self):
        jars = re.search(r"^(.*)/\*$", os.environ.get("ZK_CLASSPATH", ""))
        found = [re.match(r"zookeeper-([0-9.]+)\.jar", name) for name in os.listdir(jars.group(1))] if jars else []
        versions = [name.group(1) for name in found if name]
        return "Apache ZooKeeper " + (versions[0] if versions else "%s (Debian)" % debian("zookeeper"))

    def warm_up(self, running):
        for reads in ("0", "100"):
            subprocess.run(
                [self.binary, "bench", "zk", "--servers", running.hosts, "--clients", "24", "--in-flight", "32",
                 "--reads", reads, "--seconds", str(self.WARM_UP_SECONDS), "--warmup", "0"],
                stdout=subprocess.DEVNULL, timeout=120,
            )

    def start(self):
        if os.path.isdir(self.folder):
            for server in self.servers():
                self.ask("start-one", server)
        else:
            self.ask("start", str(self.base))

    def hosts(self):
        return self.ask("hosts")

    def servers(self):
        return sorted(name for name in os.listdir(self.folder) if name.isdigit())

    def pid(self, server):
        with open(os.path.join(self.folder, server, "pid")) as file:
            return int(file.read().strip() or 0)

    def pids(self):
        """Of those that run."""
        return [pid for pid in map(self.pid, self.servers()) if os.path.exists("/proc/%d/stat" % pid)]

    def leader_pid(self):
        return self.pid(self.ask("leader"))

    def kill_leader(self):
        self.killed = self.ask("kill-leader").split()[0]

    def revive(self):
        self.ask("start-one", self.killed)
        self.ask("wait")


class Etcd(Scripted):
    name, service, SCRIPT = "etcd", "kv", "etcd-cluster.sh"

    def version(self):
        binary = os.environ.get("ETCD_BIN", "etcd")
        said = subprocess.run([binary, "--version"], capture_output=True, text=True).stdout
        version = re.search(r"etcd Version: (\S+)", said)
        return "etcd %s%s" % (version.group(1) if version else "?", "" if "ETCD_BIN" in os.environ else " (Debian)")

    def start(self):
        if os.path.isdir(self.folder):
            self.ask("restart-dead")
        else:
            # Without START_WAIT=0 it would wait for a leader, and tenths of a second too long.
            environment = dict(os.environ, START_WAIT="0")
            subprocess.run([self.script, "start", self.folder, str(self.base)], env=environment,
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=120, check=True)

    def hosts(self):
        return self.ask("endpoints").replace("http://", "")

    def pids(self):
        return [int(pid) for pid in self.ask("pids").split()]

    def leader_pid(self):
        port = int(self.ask("leader").rsplit(":", 1)[1])
        with open(os.path.join(self.folder, "n%d" % ((port - self.base) // 2 + 1), "pid")) as file:
            return int(file.read())

    def kill_leader(self):
        self.ask("kill-leader")

    def revive(self):
        self.ask("restart-dead")


RIVALS = {system.name: system for system in (ZooKeeper, Etcd)}
