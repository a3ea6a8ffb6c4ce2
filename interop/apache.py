"""One server of Apache's ZooKeeper, as Debian packages it: a source to import from, and a judge of our own tests."""

import os
import signal
import subprocess
import sys

from cluster import alive, is_free, ruok, wait_until

JARS = "/usr/share/java"
# The packaged jar names most of what it needs; a log binding and the rest of Netty are not among it.
EXTRA_JARS = ("slf4j-simple", "netty-codec", "netty-resolver", "netty-transport-native-unix-common", "servlet-api")


def class_path():
    jars = [os.path.join(JARS, name + ".jar") for name in ("zookeeper",) + EXTRA_JARS]
    return ":".join(jar for jar in jars if os.path.exists(jar))


class ApacheZooKeeper:
    """A standalone server in a directory of its own. `snap_count` transactions make a snapshot due."""

    def __init__(self, directory, snap_count=100000):
        self.dir = directory
        self.data = os.path.join(directory, "data")
        self.snap_count = snap_count
        self.port = next(p for p in range(30000 + os.getpid() % 9000, 65000, 7) if is_free(p))
        self.process = None
        os.makedirs(self.data)
        with open(os.path.join(directory, "zoo.cfg"), "w") as f:
            f.write("tickTime=1000\ndataDir=%s\nclientPort=%d\nclientPortAddress=127.0.0.1\n" % (self.data, self.port))
            f.write("admin.enableServer=false\n4lw.commands.whitelist=*\nextendedTypesEnabled=true\npreAllocSize=64\n")

    @property
    def host(self):
        return "127.0.0.1:%d" % self.port

    def start(self):
        command = [
            "java", "-Xmx256m", "-Dzookeeper.snapCount=%d" % self.snap_count, "-Dzookeeper.extendedTypesEnabled=true",
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
            "-cp", class_path(), "org.apache.zookeeper.server.ZooKeeperServerMain", os.path.join(self.dir, "zoo.cfg"),
        ]
        with open(os.path.join(self.dir, "log"), "ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_until("ZooKeeper serving", self.serving, 60)

    def serving(self):
        if self.process.poll() is not None:
            raise AssertionError("ZooKeeper ended with %s; see %s/log" % (self.process.returncode, self.dir))
        return ruok(self.host)

    def kill(self):
        """kill -9: what it was writing is torn."""
        if self.process is not None and self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGKILL)
            self.process.wait()
            wait_until("its end", lambda: not alive(self.process.pid), 10, 0.01)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, kind, *_):
        self.kill()
        if kind is not None:
            print("kept for a look: %s" % self.dir, file=sys.stderr)


def files(directory):
    """Names of snapshots and logs in a data directory."""
    names = os.listdir(os.path.join(directory, "version-2"))
    return sorted(n for n in names if n.startswith(("snapshot.", "log.")))
