"""A lost majority: two of three members die under writes and their disks are gone; the third goes on, and becomes three again.

    recover.py --quorate target/release/quorate [--attempts 6]

Clients write znodes and keys at the third node, whose acknowledgement means that it holds what they wrote. `quorate recover` is also killed at
random moments: the directory must be the old one or the new one each time. Afterwards every acknowledged write is there, at the survivor and
at two fresh members; sessions and their ephemerals go on; a lost member that comes back all the same is refused. Ends with `N passed, M failed`.
"""

import argparse
import json
import logging
import os
import random
import shutil
import subprocess
import sys
import threading
import time

from kazoo.exceptions import KazooException

from cluster import Record, ruok, srvr_mode, wait_until
from etcd_kill import Writer, b64, Gateway
from kazoo_basics import close, connect
from nodes import MEMBER, Nodes

SURVIVOR, LOST = 3, [1, 2]


class Znodes(threading.Thread):
    """Creates znodes one after the other at one server, and notes which were acknowledged, with the highest zxid seen."""

    def __init__(self, host):
        super().__init__(daemon=True)
        self.client = connect(host, timeout=40.0)
        self.client.create("/alive", b"", ephemeral=True)
        self.session = self.client.client_id[0]
        self.acknowledged, self.zxid, self.stopped = [], 0, False

    def run(self):
        serial = 0
        while not self.stopped:
            serial += 1
            try:
                path = "/z%07d" % serial
                self.client.create(path, str(serial).encode())
                self.acknowledged.append(path)
                self.zxid = max(self.zxid, self.client.last_zxid)
            except KazooException:
                time.sleep(0.05)


def lose_the_majority(nodes, clients, copy):
    time.sleep(4)
    for i in LOST:
        nodes.kill(i)
    shutil.copytree(nodes.directory(1), copy)
    for i in LOST:
        shutil.rmtree(nodes.directory(i))
    time.sleep(1.5)
    for client in clients:
        client.stopped = True
    assert all(len(client.acknowledged) > 50 for client in clients), [len(client.acknowledged) for client in clients]
    wait_until("the survivor not serving", lambda: srvr_mode(nodes.host(SURVIVOR)) is None or not serves(nodes), 20)
    return "%s writes acknowledged" % " and ".join(str(len(client.acknowledged)) for client in clients)


def serves(nodes):
    """Whether a write gets through."""
    try:
        Gateway(nodes.etcd(SURVIVOR), timeout=2).call("/v3/kv/put", {"key": b64("probe"), "value": ""})
        return True
    except (OSError, ValueError):
        return False


def refuse(nodes):
    config = nodes.config(SURVIVOR)
    told = nodes.quorate("recover", "--config", config, "--give-up", "1,2", expect=(74,))
    assert "in use by process" in told, told
    nodes.kill(SURVIVOR)
    told = nodes.quorate("recover", "--config", config, "--give-up", "1", expect=(64,))
    assert "the other members are 1,2, not 1" in told, told
    plan = json.loads(nodes.quorate("recover", "--config", config, "--json", expect=(1,)))
    assert not plan["done"] and [other["id"] for other in plan["others"]] == LOST, plan
    told = nodes.quorate("recover", "--config", config, expect=(1,))
    assert "IS LOST" in told and "--give-up 1,2" in told and "Nothing was changed" in told, told


def identity(nodes):
    with open(os.path.join(nodes.directory(SURVIVOR), "identity.json")) as f:
        return json.load(f)["cluster"]


def recover_killed(nodes, attempts):
    """At whatever moment it dies, the directory is the old one or the new one, and whole."""
    before, killed, whole = identity(nodes), 0, 0
    config, directory = nodes.config(SURVIVOR), nodes.directory(SURVIVOR)
    took = 0.5
    for _ in range(attempts):
        copy = directory + ".copy"
        shutil.copytree(directory, copy)
        began = time.monotonic()
        process = subprocess.Popen([nodes.binary, "recover", "--config", config, "--give-up", "1,2"],
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            process.wait(random.uniform(0, took))
            took = time.monotonic() - began
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            killed += 1
        nodes.quorate("log", "verify", directory)
        whole += identity(nodes) != before
        shutil.rmtree(directory)
        os.rename(copy, directory)
    assert identity(nodes) == before
    return "%d attempts killed, %d came to their end" % (killed, whole)


def recover(nodes):
    before = identity(nodes)
    done = json.loads(nodes.quorate("recover", "--config", nodes.config(SURVIVOR), "--give-up", "1,2", "--json"))
    assert done["done"] and done["new_cluster"] == "%x" % identity(nodes) != "%x" % before, done
    nodes.quorate("log", "verify", nodes.directory(SURVIVOR))
    nodes.start(SURVIVOR)
    nodes.wait_serving([SURVIVOR])
    assert [member["id"] for member in members(nodes)] == [SURVIVOR], members(nodes)
    return done["new_cluster"]


def members(nodes):
    listed = nodes.quorate("member", "--servers", nodes.etcd(SURVIVOR), "list", "--json")
    return [json.loads(line) for line in listed.splitlines()]


def all_there(nodes, i, znodes, keys):
    client = connect(nodes.host(i))
    client.sync("/")
    there = set(client.get_children("/"))
    missing = [path for path in znodes.acknowledged if path[1:] not in there]
    close(client)
    gateway = Gateway(nodes.etcd(i), timeout=30)
    reply = gateway.call("/v3/kv/range", {"key": b64("load/"), "range_end": b64("load0"), "keys_only": True})
    held = {entry["key"] for entry in reply.get("kvs", [])}
    missing += [key for key, _ in keys.acknowledged if b64(key) not in held]
    assert not missing, "lost: %s" % missing[:5]
    return "%d znodes and %d keys" % (len(znodes.acknowledged), len(keys.acknowledged))


def sessions_go_on(nodes, znodes):
    """The same session, with its ephemeral; and what is written now has a higher zxid than anything before."""
    wait_until("the session connected again", lambda: znodes.client.connected, 30)
    assert znodes.client.client_id[0] == znodes.session, "the session was replaced"
    stat = znodes.client.exists("/alive")
    assert stat and stat.ephemeralOwner == znodes.session, stat
    znodes.client.create("/after", b"")
    assert znodes.client.exists("/after").czxid > znodes.zxid
    lines = znodes.client.get("/zookeeper/config")[0].decode().splitlines()
    assert [line.split("=")[0] for line in lines if line.startswith("server.")] == ["server.%d" % SURVIVOR], lines


def old_member_is_refused(nodes, copy):
    os.rename(copy, nodes.directory(1))
    nodes.start(1)
    time.sleep(4)
    assert srvr_mode(nodes.host(1)) not in ("leader", "follower"), "a member of the lost cluster serves"
    nodes.kill(1)
    shutil.rmtree(nodes.directory(1))
    assert len(members(nodes)) == 1 and serves(nodes), members(nodes)


def grow(nodes, cluster, fresh):
    for _ in LOST:
        i = fresh[len(fresh) - 1] + 1 if fresh else 4
        told = nodes.quorate("member", "--servers", nodes.etcd(SURVIVOR), "add", nodes.address(MEMBER, i), "--json")
        added = next(json.loads(line) for line in told.splitlines() if nodes.address(MEMBER, i) in line)
        assert added["id"] == i, added
        nodes.quorate("format", "--dir", nodes.directory(i), "--cluster", cluster, "--node", str(i))
        nodes.write_config(i, [SURVIVOR, *fresh, i], join=True)
        nodes.start(i)
        nodes.wait_serving([i])
        fresh.append(i)
        wait_until("member %d voting in every group" % i, lambda: all(
            sorted(group["voters"]) == sorted([SURVIVOR, *fresh]) for group in nodes.status(SURVIVOR)["groups"]), 30)
        wait_until("member %d listed as started" % i, lambda: all(member["started"] for member in members(nodes)), 30)


def survive_again(nodes, fresh):
    """Three members are three: the recovered one may die like any other."""
    nodes.kill(SURVIVOR)
    nodes.leader(fresh)
    wait_until("the others serving", lambda: all(ruok(nodes.host(i)) for i in fresh))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quorate", required=True)
    parser.add_argument("--attempts", type=int, default=6, help="how often `quorate recover` is killed")
    args = parser.parse_args()
    logging.getLogger("kazoo.client").setLevel(logging.CRITICAL)
    record = Record()
    with Nodes(args.quorate, most=5, keys="segment_bytes = 1048576\nsnapshot_log_bytes = 300000\ndisk_free_bytes_min = 0") as nodes:
        nodes.start_all()
        znodes, keys = Znodes(nodes.host(SURVIVOR)), Writer(0, [nodes.etcd(SURVIVOR)])
        znodes.start()
        keys.start()
        copy, fresh, cluster = os.path.join(nodes.dir, "n1.copy"), [], []
        record.case("two of three members are lost under writes", lose_the_majority, nodes, [znodes, keys], copy)
        record.case("what is not meant is refused", refuse, nodes)
        record.case("a recovery that dies changes nothing, or is done", recover_killed, nodes, args.attempts)
        record.case("the survivor is the only member", lambda: cluster.append(recover(nodes)))
        record.case("every acknowledged write is there", all_there, nodes, SURVIVOR, znodes, keys)
        record.case("sessions and their ephemerals go on", sessions_go_on, nodes, znodes)
        record.case("a lost member that comes back is refused", old_member_is_refused, nodes, copy)
        record.case("two fresh members are added", lambda: grow(nodes, cluster[0], fresh))
        for i in fresh:
            record.case("every acknowledged write is at member %d" % i, all_there, nodes, i, znodes, keys)
        record.case("the survivor may die", survive_again, nodes, fresh)
        for i in fresh:
            record.case("every acknowledged write is still at member %d" % i, all_there, nodes, i, znodes, keys)
        close(znodes.client)
    return record.close()


if __name__ == "__main__":
    sys.exit(main())
