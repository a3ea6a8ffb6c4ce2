"""The rows of the comparison: what load, and what is read off it."""

import json
import os
import subprocess
import time
from dataclasses import dataclass


@dataclass
class Load:
    """A closed loop of `quorate bench zk` or `kv`."""

    name: str
    title: str
    clients: int
    in_flight: int
    size: int
    reads: int
    more: tuple = ()

    def measure(self, running, seconds):
        return figures(running, [
            running.service, "--clients", str(self.clients), "--in-flight", str(self.in_flight), "--size", str(self.size),
            "--reads", str(self.reads), "--seconds", str(seconds), "--warmup", "2", *self.more,
        ])


@dataclass
class Watchers:
    """`quorate bench watch`: how old the news is when watchers hear of it."""

    name: str
    title: str
    watchers: int

    def measure(self, running, seconds):
        seen = figures(running, ["watch", "--watchers", str(self.watchers), "--writes", "20", "--seconds", str(seconds)])
        # How many there are is set, not measured.
        del seen["ops"]
        return seen


def figures(running, words):
    pids = ",".join(map(str, running.pids()))
    command = [running.quorate, "bench", *words, "--servers", running.hosts, "--pids", pids, "--json"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if not ended.stdout:
        raise RuntimeError("no figures for %s: %s" % (" ".join(words), ended.stderr.strip()))
    seen = json.loads(ended.stdout)
    return {
        "ops": seen["operations_per_second"],
        "p50_ms": seen["p50_ms"],
        "p99_ms": seen["p99_ms"],
        "errors": seen["errors"],
        "server_cpu_us_per_op": 1e6 * seen["servers_cpu_seconds"] / max(1, seen["operations"]),
        "generator_cpu_s": seen["generator_cpu_seconds"],
    }


@dataclass
class Failover:
    """One writer while the leader is killed with -9, or stopped for a while."""

    name: str
    title: str
    stopped: bool = False

    def measure(self, running, seconds):
        command = [running.quorate, "bench", "failover", "--servers", running.hosts, "--seconds", "10" if self.stopped else "7", "--json"]
        writer = subprocess.Popen(command + (["--kv"] if running.service == "kv" else []), stdout=subprocess.PIPE, text=True)
        time.sleep(2.5)
        running.stop_leader() if self.stopped else running.kill_leader()
        if self.stopped:
            time.sleep(5)
            running.go_on()
        out, _ = writer.communicate(timeout=seconds + 120)
        seen = json.loads(out)
        if not self.stopped:
            running.revive()
        return {"gap_ms": seen["longest_gap_ms"], "lost": len(seen["lost"])}


@dataclass
class Entries:
    """Many small entries: how fast they are made, what each takes in memory, and how long a restart with them takes."""

    name: str
    title: str
    count: int

    def measure(self, running, _):
        pids = ",".join(map(str, running.pids()))
        command = [running.quorate, "bench", "create", running.service, "--servers", running.hosts, "--count", str(self.count), "--pids", pids, "--json"]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=900)
        if not ended.stdout:
            raise RuntimeError("no figures for %s: %s" % (self.name, ended.stderr.strip()))
        seen = json.loads(ended.stdout)
        return {
            "ops": seen["per_second"],
            "resident_mib": seen["resident_after"] / 2**20,
            "seconds": running.restart(),
        }


def rows(service, entries):
    """The rows of a service; the last one leaves much behind."""
    return (ZK if service == "zk" else KV) + [Entries("entries", "{:,} entries of 100 B".format(entries), entries)]


SERIALIZABLE = ("--serializable",)
ZK = [
    Load("write-1", "setData 100 B, 1 client", 1, 1, 100, 0),
    Load("write-100", "setData 100 B, 24 clients x 32", 24, 32, 100, 0),
    Load("write-1k", "setData 1 KiB, 24 clients x 32", 24, 32, 1024, 0),
    Load("read-100", "getData 100 B, 24 clients x 32", 24, 32, 100, 100),
    Load("mixed-50", "half reads, 24 clients x 32", 24, 32, 100, 50),
    Load("mixed-90", "90 % reads, 24 clients x 32", 24, 32, 100, 90),
    Failover("failover", "leader killed with -9"),
    Failover("failover-stop", "leader stopped for 5 s", stopped=True),
]
KV = [
    Load("put-1", "put 256 B, 1 client", 1, 1, 256, 0),
    Load("put-100", "put 256 B, 100 clients", 100, 1, 256, 0),
    Load("put-1000", "put 256 B, 1,000 clients", 1000, 1, 256, 0),
    Load("get-100", "linearizable get, 100 clients", 100, 1, 256, 100),
    Load("get-1000", "linearizable get, 1,000 clients", 1000, 1, 256, 100),
    Load("serializable-100", "serializable get, 100 clients", 100, 1, 256, 100, SERIALIZABLE),
    Load("serializable-1000", "serializable get, 1,000 clients", 1000, 1, 256, 100, SERIALIZABLE),
    Load("mixed-90", "90 % reads, 100 clients", 100, 1, 256, 90),
    Watchers("watch", "news to 1,000 watchers, 20 a second", 1000),
    Failover("failover", "leader killed with -9"),
    Failover("failover-stop", "leader stopped for 5 s", stopped=True),
]
