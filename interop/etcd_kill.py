"""etcd clients while nodes are killed with -9: nothing acknowledged is lost, nothing a watcher is told is missing or twice.

    etcd_kill.py --quorate target/release/quorate [--rounds 3] [--writers 8] [--appenders 2] [--pause-s 0.5]

Writers put keys of their own through the JSON gateway, at whichever node answers. Appenders call `quorate kv put`, whose Clerk sends a write
again until it knows what came of it: each done call must count as one version of the appender's key, never two. Watchers follow one
node each and go on where they stopped when it dies. In each round a node is killed under that load, most often the leader of the
key/value group, and started again. Afterwards every write that was acknowledged must be there at every node, and every watcher must
have been told each change once, in the order of revisions. Ends with `N passed, M failed`.
"""

import argparse
import base64
import http.client
import json
import random
import subprocess
import sys
import threading
import time

from cluster import QuorateCluster, wait_until

# What `quorate kv` exits with when a write may have happened.
UNKNOWN = 2


def b64(text):
    return base64.b64encode(text.encode()).decode()


def unb64(text):
    return base64.b64decode(text).decode()


class Gateway:
    """One connection to one node."""

    def __init__(self, endpoint, timeout=10):
        self.endpoint = endpoint
        self.connection = http.client.HTTPConnection(*endpoint.rsplit(":", 1), timeout=timeout)

    def call(self, path, body):
        self.connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        answer = self.connection.getresponse()
        text = answer.read()
        if answer.status != 200:
            raise OSError("%d %s" % (answer.status, text.decode()))
        return json.loads(text)


class Writer(threading.Thread):
    """Puts keys one after the other and notes which were acknowledged."""

    def __init__(self, number, endpoints):
        super().__init__(daemon=True)
        self.number, self.endpoints = number, endpoints
        self.acknowledged, self.doubtful, self.gap = [], [], 0.0
        self.stopped = False

    def run(self):
        at, gateway, serial, last = self.number, None, 0, time.monotonic()
        while not self.stopped:
            serial += 1
            key = "load/%d/%06d" % (self.number, serial)
            try:
                gateway = gateway or Gateway(self.endpoints[at % len(self.endpoints)])
                reply = gateway.call("/v3/kv/put", {"key": b64(key), "value": b64(str(serial))})
                self.acknowledged.append((key, int(reply["header"]["revision"])))
                self.gap, last = max(self.gap, time.monotonic() - last), time.monotonic()
            except (OSError, http.client.HTTPException, ValueError):
                self.doubtful.append(key)
                at, gateway = at + 1, None
                time.sleep(0.01)


class Appender(threading.Thread):
    """Puts one key again and again with the Clerk, which says done, refused or unknown."""

    def __init__(self, number, binary, endpoints):
        super().__init__(daemon=True)
        self.key = "load/append-%d" % number
        # Each begins with another server.
        servers = ",".join(endpoints[number % len(endpoints):] + endpoints[:number % len(endpoints)])
        self.command = [binary, "kv", "put", "--servers", servers, self.key]
        self.done, self.unknown, self.refused = 0, 0, []
        self.stopped = False

    def run(self):
        while not self.stopped:
            ran = subprocess.run([*self.command, str(self.done)], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
            if ran.returncode == 0:
                self.done += 1
            elif ran.returncode == UNKNOWN:
                self.unknown += 1
            else:
                self.refused.append(ran.stderr)


class Watcher(threading.Thread):
    """Follows a node; after a lost connection goes on where it stopped, at the next one."""

    def __init__(self, at, endpoints):
        super().__init__(daemon=True)
        self.at, self.endpoints = at, endpoints
        self.told, self.next = [], 2
        self.stopped = False

    def run(self):
        while not self.stopped:
            try:
                self.follow(self.endpoints[self.at % len(self.endpoints)])
            except (OSError, http.client.HTTPException, ValueError):
                self.at += 1
                time.sleep(0.05)

    def follow(self, endpoint):
        gateway = Gateway(endpoint, timeout=3)
        create = {"key": b64("load/"), "range_end": b64("load0"), "start_revision": str(self.next)}
        gateway.connection.request("POST", "/v3/watch", json.dumps({"create_request": create}))
        answer = gateway.connection.getresponse()
        while not self.stopped and (line := answer.readline()):
            result = json.loads(line)["result"]
            for event in result.get("events", []):
                self.told.append((int(event["kv"]["mod_revision"]), unb64(event["kv"]["key"])))
            if result.get("events"):
                self.next = int(result["header"]["revision"]) + 1


def kv_leader(cluster):
    def known():
        for i, node in cluster.status().items():
            for group in node.get("groups", []):
                if group["name"] == "kv" and group["role"] == "leader":
                    return i
        return None
    return wait_until("a leader of the key/value group", known)


def kill(cluster, rounds, pause):
    """The leader most often, another one now and then; how many of the kills met the leader."""
    leaders = 0
    for _ in range(rounds):
        time.sleep(pause)
        leader = kv_leader(cluster)
        victim = random.choice([leader, leader, *cluster.ids])
        leaders += victim == leader
        cluster.kill(victim)
        time.sleep(pause)
        cluster.start(victim)
        wait_until("node %d is back" % victim, lambda: cluster.status()[victim].get("kv", {}).get("serving"))
    return leaders


def present(endpoint):
    """Every key of the load at one node, by a linearizable read: its revision and its version."""
    reply = Gateway(endpoint, timeout=60).call("/v3/kv/range", {"key": b64("load/"), "range_end": b64("load0"), "keys_only": True})
    return {unb64(kv["key"]): (int(kv["mod_revision"]), int(kv["version"])) for kv in reply.get("kvs", [])}


def whole(told, found):
    """What is wrong with what a watcher was told: each change of each key once, in order, and in the end what is there."""
    revisions = [revision for revision, _ in told]
    if revisions != sorted(set(revisions)):
        return "revisions do not ascend"
    counts = {}
    for revision, key in told:
        counts[key] = counts.get(key, 0) + 1
    missing = [key for key, (_, version) in found.items() if counts.get(key) != version]
    return "told of %s as often as %s" % (missing[:3], [(counts.get(key), found[key]) for key in missing[:3]]) if missing else None


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quorate", metavar="BINARY", required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--writers", type=int, default=8)
    parser.add_argument("--appenders", type=int, default=2)
    parser.add_argument("--pause-s", type=float, default=0.5)
    args = parser.parse_args()
    passed = failed = 0

    def judge(what, ok, detail=""):
        nonlocal passed, failed
        passed, failed = passed + bool(ok), failed + (not ok)
        print("%s  etcd_kill: %s%s" % ("ok  " if ok else "FAIL", what, "" if ok else ": %s" % (detail,)), flush=True)

    with QuorateCluster(args.quorate) as cluster:
        endpoints = [node["etcd"] for _, node in sorted(cluster.members().items())]
        writers = [Writer(i, endpoints) for i in range(args.writers)]
        appenders = [Appender(i, cluster.binary, endpoints) for i in range(args.appenders)]
        watchers = [Watcher(i, endpoints) for i in range(len(endpoints))]
        for thread in watchers + writers + appenders:
            thread.start()
        began = time.monotonic()
        leaders = kill(cluster, args.rounds, args.pause_s)
        took = time.monotonic() - began
        time.sleep(1.0)
        for thread in writers + appenders:
            thread.stopped = True
        for thread in writers + appenders:
            thread.join(60)
        acknowledged = dict(pair for writer in writers for pair in writer.acknowledged)
        doubtful = {key for writer in writers for key in writer.doubtful}
        judge("%d kills in %.0f s, %d of them of the leader" % (args.rounds, took, leaders), leaders > 0 or args.rounds == 0)
        judge("%d writes acknowledged, %d of unknown outcome, longest gap %.2f s" % (
            len(acknowledged), len(doubtful), max(w.gap for w in writers)), len(acknowledged) > 100)
        for endpoint in endpoints:
            found = present(endpoint)
            lost = [key for key, revision in acknowledged.items() if found.get(key, (0, 0))[0] != revision]
            judge("every acknowledged write is there, as seen by %s" % endpoint, not lost, lost[:5])
            own = {appender.key for appender in appenders}
            strange = [key for key in found if key not in acknowledged and key not in doubtful and key not in own]
            judge("nothing else is there", not strange, strange[:5])
            twice = [key for key, (_, version) in found.items() if version != 1 and key not in own]
            judge("no write is there twice", not twice, twice[:5])
        for appender in appenders:
            version = found.get(appender.key, (0, 0))[1]
            judge("the Clerk's %d calls that were done, and %d of unknown outcome, are %d versions" % (
                appender.done, appender.unknown, version),
                appender.done > 0 and not appender.refused and 0 <= version - appender.done <= appender.unknown, appender.refused[:2])
        last = max(revision for revision, _ in found.values())
        for watcher in watchers:
            try:
                wait_until("a watcher is told everything", lambda: watcher.told and watcher.told[-1][0] >= last, 30)
            except AssertionError:
                pass
            watcher.stopped = True
            flaw = whole(watcher.told, found)
            judge("a watcher was told each of %d changes once, in order" % len(watcher.told), flaw is None, flaw)
    print("%d passed, %d failed" % (passed, failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
