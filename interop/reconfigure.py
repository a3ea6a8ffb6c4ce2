"""Members come and go while clients work: three servers become five and three again, without a restart.

    reconfigure.py --quorate target/release/quorate

New servers are made as people make them (`quorate format`, a configuration with `join = true`, `quorate serve`), and
added and removed by ZooKeeper's reconfig through an unmodified kazoo client, and by `quorate member`; the leader is among those removed. Asserts
that no acknowledged write is lost or doubled, that no session of a live client expired, that the new servers carry the
cluster when old ones are killed, and that those removed serve nobody.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import uuid

from kazoo.exceptions import BadVersionError, ConnectionLoss, NewConfigNoQuorumError, NoAuthError

from cluster import PORT_BASES, QuorateCluster, Record, alive, four_letter_word, ruok, srvr_mode, wait_until
from kazoo_basics import close, connect
from kazoo_failover import verify, wait_for_progress
from kazoo_workload import Counts, Creates, Locks, Sessions, Transactions

HERE = os.path.dirname(os.path.abspath(__file__))
CONFIG = "/zookeeper/config"
SUPER = [("digest", "super:test")]
ZOOKEEPER, _, ETCD, ADMIN, MEMBER = PORT_BASES


class Growing(QuorateCluster):
    """A cluster of three, and servers that are started beside it. Clients know all addresses from the beginning."""

    def __init__(self, binary, most):
        super().__init__(binary, 3, config=os.path.join(HERE, "reconfigure.toml"), ports_for=most)
        self.most, self.own = most, {}

    def __exit__(self, kind, *rest):
        for process in self.own.values():
            if process.poll() is None:
                process.kill()
                process.wait()
        super().__exit__(kind, *rest)

    def address(self, base, i):
        return "127.0.0.1:%d" % (base + self.offset + i - 1)

    def host(self, i):
        return self.address(ZOOKEEPER, i)

    @property
    def hosts(self):
        return [self.host(i) for i in range(1, self.most + 1)]

    def line(self, i, role="participant"):
        member = self.address(MEMBER, i)
        return "server.%d=%s:%d:%s;%s" % (i, member, int(member.rsplit(":")[-1]) + 1, role, self.host(i))

    def directory(self, i):
        return os.path.join(self.data, "n%d" % i)

    def join(self, i):
        """A new server, as docs/configuration.md says it is made."""
        with open(os.path.join(self.directory(1), "identity.json")) as f:
            cluster = json.load(f)["cluster"]
        made = [self.binary, "format", "--dir", self.directory(i), "--cluster", "%x" % cluster, "--node", str(i)]
        subprocess.run(made, check=True, capture_output=True, timeout=20)
        with open(os.path.join(HERE, "reconfigure.toml")) as f:
            text = "node = %d\njoin = true\ndata_dir = %s\n%s" % (i, json.dumps(self.directory(i)), f.read())
        for member in [*self.ids, i]:
            text += '\n[[members]]\nid = %d\nmember = "%s"\nzookeeper = "%s"\netcd = "%s"\nadmin = "%s"\n' % (
                member, self.address(MEMBER, member), self.host(member), self.address(ETCD, member), self.address(ADMIN, member))
        with open(os.path.join(self.directory(i), "serve.toml"), "w") as f:
            f.write(text)
        self.serve(i)

    def serve(self, i):
        with open(os.path.join(self.directory(i), "node.log"), "ab") as log:
            command = [self.binary, "serve", "--config", os.path.join(self.directory(i), "serve.toml")]
            self.own[i] = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def pid(self, i):
        return self.own[i].pid if i in self.own else super().pid(i)

    def stop(self, i, how=signal.SIGKILL):
        pid = self.pid(i)
        os.kill(pid, how)
        if i in self.own:
            self.own[i].wait(20)
        wait_until("the end of process %d" % pid, lambda: not alive(pid), 20, 0.01)

    def start(self, i):
        if i in self.own:
            self.serve(i)
            wait_until("server %d serving" % i, lambda: ruok(self.host(i)))
        else:
            super().start(i)

    def leader_among(self, ids):
        return wait_until("a leader", lambda: next((i for i in ids if srvr_mode(self.host(i)) == "leader"), None))


    def member(self, *arguments):
        """`quorate member`: the members afterwards, by id; none if it was refused."""
        command = [self.binary, "member", *arguments, "--json", "--servers", ",".join(self.address(ETCD, i) for i in (1, 2, 3))]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
        assert done.returncode in (0, 1), done.stderr
        return {member["id"]: member for member in map(json.loads, done.stdout.splitlines())}


def config(client):
    data, stat = client.get(CONFIG)
    return data.decode().splitlines(), stat


def servers(lines):
    return [int(line.split("=")[0][len("server."):]) for line in lines if line.startswith("server.")]


def grow(cluster, admin, loads):
    seen = []
    watcher = connect(cluster.host(2))
    watcher.DataWatch(CONFIG, lambda data, stat: seen.append(data.decode()))
    for i in (4, 5):
        cluster.join(i)
    wait_until("ports of the new servers", lambda: all(alive(cluster.pid(i)) for i in (4, 5)))
    assert not any(ruok(cluster.host(i)) and srvr_mode(cluster.host(i)) for i in (4, 5)), "a server that was not added serves"
    joining = ",".join(cluster.line(i) for i in (4, 5))
    data, stat = admin.reconfig(joining=joining, leaving=None, new_members=None)
    lines = data.decode().splitlines()
    assert servers(lines) == [1, 2, 3, 4, 5] and cluster.line(4) in lines, lines
    wait_until("the watch on the configuration", lambda: seen[-1] == data.decode())
    close(watcher)
    for i in (4, 5):
        wait_until("server %d serving" % i, lambda: srvr_mode(cluster.host(i)) == "follower")
        client = connect(cluster.host(i))
        client.sync("/")
        assert config(client) == (lines, stat), "server %d tells another configuration" % i
        close(client)
    wait_for_progress(loads)
    return lines[-1]


def observe(cluster, admin, loads):
    """An observer serves clients, and votes for nothing."""
    cluster.join(6)
    data, _ = admin.reconfig(joining=cluster.line(6, "observer"), leaving=None, new_members=None)
    assert cluster.line(6, "observer") in data.decode().splitlines()
    wait_until("the observer serving", lambda: srvr_mode(cluster.host(6)) == "observer")
    assert b"peerType=observer" in four_letter_word(cluster.host(6), b"conf")
    leader = cluster.leader_among([1, 2, 3, 4, 5])
    assert b"zk_synced_observers\t1" in four_letter_word(cluster.host(leader), b"mntr")
    client = connect(cluster.host(6))
    path = client.create("/observed-", b"x", sequence=True)
    assert client.get(path)[0] == b"x"
    close(client)
    admin.reconfig(joining=None, leaving="6", new_members=None)
    wait_until("the observer turning its clients away", lambda: srvr_mode(cluster.host(6)) is None)
    cluster.stop(6, signal.SIGTERM)
    wait_for_progress(loads)


def by_command(cluster, admin, loads):
    """`quorate member`: added as a learner, and listed without a name until it has started; it votes once it was promoted."""
    shutil.rmtree(cluster.directory(6))
    added = cluster.member("add", "--learner", cluster.address(MEMBER, 6))[6]
    assert (added["name"], added["learner"]) == ("", True), added
    assert not cluster.member("promote", "6"), "one that has not started was promoted"
    assert not cluster.member("add", "--learner", "127.0.0.1:1"), "a second learner was added"
    cluster.join(6)
    wait_until("the new member telling of itself", lambda: cluster.member("list")[6]["started"])
    wait_until("the observer serving", lambda: srvr_mode(cluster.host(6)) == "observer")
    wait_until("its line in the configuration", lambda: cluster.line(6, "observer") in config(admin)[0])
    promoted = wait_until("its promotion", lambda: cluster.member("promote", "6"))[6]
    assert promoted["clients"] == ["http://" + cluster.address(ETCD, 6)] and not promoted["learner"], promoted
    wait_until("the new member voting", lambda: srvr_mode(cluster.host(6)) == "follower")
    wait_until("its line in the configuration", lambda: cluster.line(6) in config(admin)[0])
    assert 6 not in cluster.member("remove", "6")
    wait_until("the member turning its clients away", lambda: srvr_mode(cluster.host(6)) is None)
    cluster.stop(6, signal.SIGTERM)
    wait_for_progress(loads)


def refusals(cluster, admin):
    """What is refused changes nothing."""
    before = config(admin)
    version = int(before[0][-1].split("=")[1], 16)
    stranger = connect(cluster.host(1))
    cases = [
        (stranger, NoAuthError, dict(joining=cluster.line(9), leaving=None, new_members=None)),
        (admin, BadVersionError, dict(joining=cluster.line(9), leaving=None, new_members=None, from_config=version + 1)),
        # Of the two voters that there would be one is nowhere: no majority of them can be had.
        (admin, NewConfigNoQuorumError, dict(joining=None, leaving=None, new_members="\n".join([cluster.line(1), cluster.line(9)]))),
    ]
    for client, error, arguments in cases:
        try:
            client.reconfig(**arguments)
        except error:
            continue
        raise AssertionError("%s was not raised" % error.__name__)
    close(stranger)
    admin.sync("/")
    assert servers(config(admin)[0]) == servers(before[0])


def carried_by_the_new(cluster, loads):
    """Two of the old servers die: there is a majority of five only because the new ones vote."""
    leader = cluster.leader_among([1, 2, 3, 4, 5])
    victims = [i for i in (1, 2, 3) if i != leader][:2]
    for i in victims:
        cluster.stop(i)
    wait_for_progress(loads)
    for i in victims:
        cluster.start(i)
    cluster.stop(4)
    cluster.start(4)
    wait_for_progress(loads)
    return "without %s and %s" % tuple(victims)


def remove(admin, leaving, left):
    """Where the administrator's own server is among those removed, its answer may be lost with it; then what comes of the
    change is read at one that stays, as clients do with every outcome that is unknown: until it is there, since
    it is published once every group is through."""
    try:
        data, _ = admin.reconfig(joining=None, leaving=",".join(map(str, leaving)), new_members=None)
        assert servers(data.decode().splitlines()) == left
    except ConnectionLoss:
        wait_until("the removal", lambda: servers(admin.retry(config, admin)[0]) == left)


def shrink(cluster, admin, loads):
    """The leader and another one leave."""
    leader = cluster.leader_among([1, 2, 3, 4, 5])
    other = next(i for i in (2, 3, 1) if i != leader)
    left = [i for i in (1, 2, 3, 4, 5) if i not in (leader, other)]
    remove(admin, (leader, other), left)
    assert cluster.leader_among(left) != leader
    for i in (leader, other):
        wait_until("server %d turning its clients away" % i, lambda: srvr_mode(cluster.host(i)) is None)
    wait_for_progress(loads)
    for i in (leader, other):
        cluster.stop(i)
    wait_for_progress(loads)
    victim = cluster.leader_among(left)
    cluster.stop(victim)
    wait_for_progress(loads)
    cluster.start(victim)
    wait_for_progress(loads)
    return left, "servers %s are left; %d led and was removed" % (left, leader)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quorate", metavar="BINARY", required=True)
    args = parser.parse_args()
    record = Record()
    with Growing(args.quorate, 6) as cluster:
        root = "/reconfigure-%s" % uuid.uuid4().hex[:8]
        loads = [
            Creates(cluster, root, 3), Transactions(cluster, root, 1), Counts(cluster, root, 2), Locks(cluster, root, 2),
            Sessions(cluster, root, 6),
        ]
        admin = connect(cluster.hosts, auth_data=SUPER)
        wait_for_progress(loads)
        left = [1, 2, 3]
        record.case("reconfig: three servers become five", grow, cluster, admin, loads)
        record.case("reconfig: an observer comes and goes", observe, cluster, admin, loads)
        record.case("reconfig: one is added by command, promoted, removed", by_command, cluster, admin, loads)
        record.case("reconfig: refusals", refusals, cluster, admin)
        record.case("reconfig: two old servers die, the new ones carry on", carried_by_the_new, cluster, loads)

        def shrunk():
            nonlocal left
            left, note = shrink(cluster, admin, loads)
            return note

        record.case("reconfig: five become three, without the leader", shrunk)
        for load in loads:
            load.stop()
        for i in left:
            for load in loads:
                record.case("reconfig: %s afterwards, read at server %d" % (load.name, i), verify, cluster, load, i)
        for load in loads:
            load.close()
        close(admin)
    return record.close()


if __name__ == "__main__":
    sys.exit(main())
