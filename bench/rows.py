"""The rows of the comparison: what load, and what is read off it."""

import json
import os
import subprocess
import time
from dataclasses import dataclass


@dataclass
class Load:
    """A closed loop of `quorate bench zk`."""

    name: str
    title: str
    clients: int
    in_flight: int
    size: int
    reads: int

    def measure(self, running, seconds):
        before, began = running.cpu_seconds(), os.times()
        command = [
            running.quorate, "bench", "zk", "--servers", running.hosts, "--json",
            "--clients", str(self.clients), "--in-flight", str(self.in_flight), "--size", str(self.size),
            "--reads", str(self.reads), "--seconds", str(seconds), "--warmup", "2",
        ]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 120)
        if not ended.stdout:
            raise RuntimeError("no figures for %s: %s" % (self.name, ended.stderr.strip()))
        seen, after = json.loads(ended.stdout), os.times()
        # The warm-up costs processor time as well: figures per operation take the whole run, at the measured rate.
        operations = seen["operations_per_second"] * (seconds + 2)
        return {
            "ops": seen["operations_per_second"],
            "p50_ms": seen["p50_ms"],
            "p99_ms": seen["p99_ms"],
            "errors": seen["errors"],
            "server_cpu_us_per_op": 1e6 * (running.cpu_seconds() - before) / max(1, operations),
            "generator_cpu_s": after.children_user + after.children_system - began.children_user - began.children_system,
        }


@dataclass
class Failover:
    """One writer while the leader is killed with -9."""

    name: str
    title: str

    def measure(self, running, seconds):
        command = [running.quorate, "bench", "failover", "--servers", running.hosts, "--seconds", str(max(6, seconds // 2)), "--json"]
        writer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        time.sleep(2.5)
        running.kill_leader()
        out, _ = writer.communicate(timeout=seconds + 120)
        seen = json.loads(out)
        running.revive()
        return {"gap_ms": seen["longest_gap_ms"], "lost": len(seen["lost"])}


ALL = [
    Load("write-1", "setData 100 B, 1 client", 1, 1, 100, 0),
    Load("write-100", "setData 100 B, 24 clients x 32", 24, 32, 100, 0),
    Load("write-1k", "setData 1 KiB, 24 clients x 32", 24, 32, 1024, 0),
    Load("read-100", "getData 100 B, 24 clients x 32", 24, 32, 100, 100),
    Load("mixed-50", "half reads, 24 clients x 32", 24, 32, 100, 50),
    Load("mixed-90", "90 % reads, 24 clients x 32", 24, 32, 100, 90),
    Failover("failover", "leader killed with -9"),
]
