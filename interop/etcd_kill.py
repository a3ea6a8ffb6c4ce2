"""etcd clients while nodes are killed with -9: nothing acknowledged is lost, nothing a watcher is told is missing or twice.

    etcd_kill.py --quorate target/release/quorate [--rounds 3] [--writers 8]

Writers put keys of their own through the JSON gateway, at whichever node answers. Watchers follow one node each and go on
where they stopped when it dies. In each round the leader of the key/value group is killed under that load and started again.
Afterwards every write that was acknowledged must be there at every node, and every watcher must have been told each key once, in
the order of revisions. Ends with `N passed, M failed`.
"""

import argparse
import base64
import http.client
import json
import sys
import threading
import time

from cluster import QuorateCluster, wait_until


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


def kill_leaders(cluster, rounds):
    for _ in range(rounds):
        time.sleep(1.0)
        leader = kv_leader(cluster)
        cluster.kill(leader)
        time.sleep(1.0)
        cluster.start(leader)
        wait_until("node %d is back" % leader, lambda: cluster.status()[leader].get("kv", {}).get("serving"))


def present(endpoint):
    """Every key of the load at one node, by a linearizable read."""
    reply = Gateway(endpoint, timeout=60).call("/v3/kv/range", {"key": b64("load/"), "range_end": b64("load0"), "keys_only": True})
    return {unb64(kv["key"]): int(kv["mod_revision"]) for kv in reply.get("kvs", [])}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quorate", metavar="BINARY", required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--writers", type=int, default=8)
    args = parser.parse_args()
    passed = failed = 0

    def judge(what, ok, detail=""):
        nonlocal passed, failed
        passed, failed = passed + bool(ok), failed + (not ok)
        print("%s  etcd_kill: %s%s" % ("ok  " if ok else "FAIL", what, "" if ok else ": %s" % (detail,)), flush=True)

    with QuorateCluster(args.quorate) as cluster:
        endpoints = [node["etcd"] for _, node in sorted(cluster.members().items())]
        writers = [Writer(i, endpoints) for i in range(args.writers)]
        watchers = [Watcher(i, endpoints) for i in range(len(endpoints))]
        for thread in watchers + writers:
            thread.start()
        kill_leaders(cluster, args.rounds)
        time.sleep(1.0)
        for writer in writers:
            writer.stopped = True
        for writer in writers:
            writer.join(30)
        acknowledged = dict(pair for writer in writers for pair in writer.acknowledged)
        doubtful = {key for writer in writers for key in writer.doubtful}
        judge("%d writes acknowledged over %d kills, %d of unknown outcome, longest gap %.2f s" % (
            len(acknowledged), args.rounds, len(doubtful), max(w.gap for w in writers)), len(acknowledged) > 100)
        for endpoint in endpoints:
            found = present(endpoint)
            lost = [key for key, revision in acknowledged.items() if found.get(key) != revision]
            judge("every acknowledged write is there, as seen by %s" % endpoint, not lost, lost[:5])
            strange = [key for key in found if key not in acknowledged and key not in doubtful]
            judge("nothing else is there", not strange, strange[:5])
        everything = sorted((revision, key) for key, revision in found.items())
        for watcher in watchers:
            try:
                wait_until("a watcher is told everything", lambda: len(watcher.told) >= len(everything), 30)
            except AssertionError:
                pass
            watcher.stopped = True
            judge("watcher %d was told each write once, in order" % watcher.at, watcher.told == everything,
                  "%d told of %d" % (len(watcher.told), len(everything)))
    print("%d passed, %d failed" % (passed, failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
