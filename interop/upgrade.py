"""A data directory that an older binary wrote, under a newer one: what was written is there, at its revisions, and goes on.

    upgrade.py --old OLDER-BINARY --quorate target/release/quorate

A cluster of the older binary gets keys, a lease, a user with a password, znodes, and enough writes for a snapshot of each; it is stopped, and the newer
binary starts over the same directory. Ends with `N passed, M failed`.
"""

import argparse
import http.client
import json
import shutil
import sys
import tempfile

import zkwire as zk
from cluster import QuorateCluster, Record, wait_until
from etcd_kill import Gateway, b64

ACL = [(31, "world", "anyone")]
ALL = {"key": b64("\0"), "range_end": b64("\0")}


def endpoint(cluster):
    """Of a node's etcd API; the oldest binaries have none."""
    return sorted(cluster.members().items())[0][1].get("etcd")


def answers(cluster):
    """Whether the key/value group serves."""
    try:
        Gateway(endpoint(cluster)).call("/v3/kv/range", ALL)
        return True
    except (OSError, http.client.HTTPException):
        return False


def write(cluster):
    if endpoint(cluster):
        write_keys(cluster)
    znodes = zk.Connection(cluster.host(cluster.leader()))
    for n in range(200):
        told, _ = znodes.ask(zk.CREATE, zk.text("/z%03d" % n) + zk.buffer(b"data") + zk.acl(ACL) + zk.integer(0))
        assert told == "ok", told
    znodes.close()
    return None if endpoint(cluster) else "no keys: it has no etcd API"


def write_keys(cluster):
    wait_until("the key/value group serves", lambda: answers(cluster))
    gateway = Gateway(endpoint(cluster), timeout=30)
    for n in range(2000):
        gateway.call("/v3/kv/put", {"key": b64("k/%03d" % (n % 700)), "value": b64("value %d " % n * 20)})
    gateway.call("/v3/kv/deleterange", {"key": b64("k/1"), "range_end": b64("k/2")})
    gateway.call("/v3/lease/grant", {"ID": "77", "TTL": "5000"})
    gateway.call("/v3/kv/put", {"key": b64("leased"), "lease": "77"})
    gateway.call("/v3/kv/compaction", {"revision": "300"})
    for path, body in (("user/add", {"name": "root", "password": "pw"}), ("role/add", {"name": "root"}),
                       ("user/grant", {"user": "root", "role": "root"})):
        gateway.call("/v3/auth/" + path, body)


def seen(cluster, with_keys):
    znodes = {"znodes": {node["znodes"] for node in cluster.status().values()}}
    return dict(znodes, **keys(cluster)) if with_keys else znodes


def keys(cluster):
    wait_until("the key/value group serves", lambda: answers(cluster))
    gateway = Gateway(endpoint(cluster), timeout=30)
    reads = {name: gateway.call("/v3/kv/range", dict(ALL, **more)) for name, more in (("now", {}), ("then", {"revision": "1000"}))}
    reads["lease"] = gateway.call("/v3/lease/timetolive", {"ID": "77", "keys": True})
    for reply in reads.values():
        reply.pop("header")
        reply.pop("TTL", None)
    reads["users"] = gateway.call("/v3/auth/user/list", {}).get("users")
    return reads


def is_known(cluster):
    """The password from before counts."""
    gateway = Gateway(endpoint(cluster), timeout=30)
    gateway.call("/v3/auth/enable", {})
    for password, right in (("wrong", False), ("pw", True)):
        try:
            token = gateway.call("/v3/auth/authenticate", {"name": "root", "password": password})["token"]
        except OSError:
            token = None
        assert bool(token) == right, "the password %s gives %s" % (password, token)


def start(binary, directory, record, run):
    with QuorateCluster(binary, directory=directory) as cluster:
        return run(cluster, record)


def before(cluster, record):
    record.case("upgrade: the older binary writes", write, cluster)
    return seen(cluster, endpoint(cluster) is not None)


def after(wanted):
    def run(cluster, record):
        def same():
            found = seen(cluster, "now" in wanted)
            differ = [name for name in wanted if wanted[name] != found[name]]
            assert not differ, json.dumps({name: [str(wanted[name])[:300], str(found[name])[:300]] for name in differ})
        record.case("upgrade: the newer binary shows the same", same)
        if "users" in wanted:
            record.case("upgrade: passwords are known", is_known, cluster)
    return run


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--old", metavar="BINARY", required=True)
    parser.add_argument("--quorate", metavar="BINARY", required=True)
    args = parser.parse_args()
    record = Record()
    directory = tempfile.mkdtemp(prefix="quorate-upgrade-")
    try:
        wanted = start(args.old, directory, record, before)
        start(args.quorate, directory, record, after(wanted))
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    return record.close()


if __name__ == "__main__":
    sys.exit(main())
