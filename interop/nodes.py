"""Nodes of one cluster, each a `quorate serve` of its own with a configuration that the test writes: for tests that need more to
differ between nodes than `quorate up` lets differ (addresses, certificates, directories, what a process is wrapped in).
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile

from cluster import PORT_BASES, alive, free_offset, ruok, srvr_mode, wait_until

ZOOKEEPER, ZOOKEEPER_TLS, ETCD, ADMIN, MEMBER = PORT_BASES


class Nodes:
    """Processes by id; whatever was started is stopped by its process id, also when a test fails."""

    def __init__(self, binary, ids=(1, 2, 3), most=None, keys="", per_member=None):
        """`keys` go into every configuration; `per_member(i)` gives further keys of member i's entry."""
        self.binary = os.path.abspath(binary)
        self.dir = tempfile.mkdtemp(prefix="quorate-e2e-")
        self.offset = free_offset(most or max(ids))
        self.keys, self.per_member = keys, per_member or (lambda i: "")
        self.ids, self.processes, self.wraps, self.environments = list(ids), {}, {}, {}

    def __enter__(self):
        self.format(self.ids)
        return self

    def __exit__(self, kind, *_):
        for i in list(self.processes):
            self.kill(i)
        if kind is None:
            shutil.rmtree(self.dir, ignore_errors=True)
        else:
            print("kept for a look: %s" % self.dir, file=sys.stderr)

    def address(self, base, i):
        return "127.0.0.1:%d" % (base + self.offset + i - 1)

    def host(self, i):
        return self.address(ZOOKEEPER, i)

    def etcd(self, i):
        return self.address(ETCD, i)

    def admin(self, i):
        return self.address(ADMIN, i)

    @property
    def hosts(self):
        return [self.host(i) for i in self.ids]

    def directory(self, i):
        return os.path.join(self.dir, "n%d" % i)

    def config(self, i):
        return os.path.join(self.dir, "n%d.toml" % i)

    def log(self, i):
        with open(os.path.join(self.dir, "n%d.log" % i), errors="replace") as f:
            return f.read()

    def quorate(self, *arguments, expect=(0,), timeout=60):
        """Runs a verb; what it wrote to stdout."""
        done = subprocess.run([self.binary, *arguments], capture_output=True, text=True, timeout=timeout)
        assert done.returncode in expect, "quorate %s ended with %s: %s%s" % (
            " ".join(arguments), done.returncode, done.stdout, done.stderr)
        return done.stdout + (done.stderr if done.returncode else "")

    def format(self, ids, cluster=None):
        for i in ids:
            cluster = cluster or "%x" % (0x5EED << 40 | os.getpid())
            self.quorate("format", "--dir", self.directory(i), "--cluster", cluster, "--node", str(i))
            self.write_config(i, ids if i in self.ids else [*self.ids, *ids])

    def write_config(self, i, members, join=False):
        text = "node = %d\ndata_dir = %s\njoin = %s\n%s\n" % (
            i, json.dumps(self.directory(i)), json.dumps(join), self.keys.replace("{i}", str(i)))
        for member in members:
            text += '\n[[members]]\nid = %d\nmember = "%s"\nzookeeper = "%s"\netcd = "%s"\nadmin = "%s"\n%s' % (
                member, self.address(MEMBER, member), self.host(member), self.etcd(member), self.admin(member),
                self.per_member(member))
        with open(self.config(i), "w") as f:
            f.write(text)

    def start(self, i):
        """Starts a node's process, in what `wraps` and `environments` say for it."""
        command = [*self.wraps.get(i, []), self.binary, "serve", "--config", self.config(i)]
        with open(os.path.join(self.dir, "n%d.log" % i), "ab") as log:
            self.processes[i] = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, **self.environments.get(i, {})})

    def start_all(self, ids=None):
        for i in ids or self.ids:
            self.start(i)
        self.wait_serving(ids or self.ids)

    def wait_serving(self, ids, seconds=60):
        def serving():
            for i in ids:
                ended = self.processes[i].poll()
                assert ended is None, "node %d ended with %s:\n%s" % (i, ended, self.log(i)[-2000:])
            return all(ruok(self.host(i)) and srvr_mode(self.host(i)) not in (None, "read-only") for i in ids)
        wait_until("nodes %s serving" % ids, serving, seconds)

    def pid(self, i):
        return self.processes[i].pid

    def signal(self, i, how):
        os.kill(self.pid(i), how)

    def kill(self, i):
        """-9, also of a process that was stopped."""
        process = self.processes.pop(i)
        if process.poll() is None:
            process.kill()
            process.wait()
        wait_until("the end of process %d" % process.pid, lambda: not alive(process.pid), 20, 0.01)

    def stop(self, i, seconds=20):
        """SIGTERM, as service managers do; the exit status."""
        process = self.processes.pop(i)
        process.send_signal(signal.SIGTERM)
        return process.wait(seconds)

    def leader(self, ids=None):
        ids = ids or self.ids
        return wait_until("a leader", lambda: next(
            (i for i in ids if srvr_mode(self.host(i)) in ("leader", "standalone")), None))

    def status(self, i):
        text = self.quorate("status", "--servers", self.admin(i), "--json", expect=(0, 1))
        return json.loads(text.splitlines()[0])["nodes"][0]
