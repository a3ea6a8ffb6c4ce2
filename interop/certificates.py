"""TLS on every port, on real processes: who is a stranger, and certificates that are renewed while the cluster serves.

    certificates.py --quorate target/release/quorate

`quorate certs` makes the authorities and the certificates. Strangers of every kind come to the members' port, and clients without a
certificate to the others: all are refused, and the cluster goes on. Then every certificate is renewed under writes, without a restart: new
connections see the new ones, members meet with them, no session is lost. A damaged file changes nothing, and the metrics say so. Ends with
`N passed, M failed`.
"""

import argparse
import logging
import os
import socket
import ssl
import sys
import threading
import time
import urllib.request

from kazoo.exceptions import KazooException

from cluster import Record, wait_until
from kazoo_basics import close, connect
from nodes import ETCD, MEMBER, Nodes, ZOOKEEPER_TLS

KEYS = """
metrics = "{metrics}"
[member_tls]
certificate = "certs/n{i}-member.pem"
key = "certs/n{i}-member.key"
ca = "certs/members-ca.pem"
[client_tls]
certificate = "certs/n{i}.pem"
key = "certs/n{i}.key"
ca = "certs/ca.pem"
[etcd_tls]
certificate = "certs/n{i}.pem"
key = "certs/n{i}.key"
ca = "certs/ca.pem"
"""


class Secured(Nodes):
    def __init__(self, binary):
        super().__init__(binary, keys=KEYS.replace('metrics = "{metrics}"', ""),
                         per_member=lambda i: 'zookeeper_tls = "%s"\n' % self.address(ZOOKEEPER_TLS, i))

    def certify(self):
        self.quorate("certs", "--dir", self.file(""), "--hosts", "127.0.0.1,127.0.0.1,127.0.0.1", "--clients", "app")

    def file(self, name):
        return os.path.join(self.dir, "certs", name)

    def shake_hands(self, address, own=None, ca="ca.pem", say=b"", timeout=5):
        """The server's certificate, after one answer to what was said; an error if the server closes."""
        context = ssl.create_default_context(cafile=self.file(ca))
        context.check_hostname = False
        if own:
            context.load_cert_chain(self.file(own + ".pem"), self.file(own + ".key"))
        host, port = address.rsplit(":", 1)
        with socket.create_connection((host, int(port)), timeout=timeout) as plain:
            with context.wrap_socket(plain, server_hostname=host) as secured:
                certificate = secured.getpeercert(binary_form=True)
                secured.sendall(say)
                if say and not secured.recv(4096):
                    raise ConnectionError("closed without an answer")
                return certificate

    def metric(self, i, name):
        with urllib.request.urlopen("http://%s/metrics" % self.admin(i), timeout=5) as answer:
            lines = answer.read().decode().splitlines()
        return {line.split('table="')[1].split('"')[0]: float(line.split()[-1]) for line in lines if line.startswith(name + "{")}


class Writes(threading.Thread):
    """One session that writes all the time, at the servers' plain ports."""

    def __init__(self, hosts):
        super().__init__(daemon=True)
        self.client = connect(",".join(hosts), timeout=20.0)
        self.session = self.client.client_id[0]
        self.client.create("/beat", b"")
        self.done, self.failed, self.stopped = 0, 0, False

    def run(self):
        while not self.stopped:
            try:
                self.client.set("/beat", b"x")
                self.done += 1
            except KazooException:
                self.failed += 1
            time.sleep(0.005)

    def goes_on(self):
        before = self.done
        wait_until("further writes", lambda: self.done > before + 20, 20)
        assert self.client.client_id[0] == self.session, "the session was replaced"
        return "%d writes, %d of unknown outcome" % (self.done, self.failed)


RUOK, PREFACE = b"ruok", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"


def ports(nodes, i):
    """Each port with TLS, whose certificate it shows, who may come, and what gets an answer there."""
    return [
        (nodes.address(ZOOKEEPER_TLS, i), "n%d" % i, "app", "ca.pem", RUOK),
        (nodes.address(ETCD, i), "n%d" % i, "app", "ca.pem", PREFACE),
        (nodes.address(MEMBER, i), "n%d-member" % i, "n%d-member" % (i % 3 + 1), "members-ca.pem", b""),
    ]


def shown(nodes, name):
    with open(nodes.file(name + ".pem")) as f:
        return ssl.PEM_cert_to_DER_cert(f.read().split("-----END CERTIFICATE-----")[0] + "-----END CERTIFICATE-----\n")


def known_are_served(nodes):
    for i in nodes.ids:
        for address, name, own, ca, say in ports(nodes, i):
            assert nodes.shake_hands(address, own, ca, say) == shown(nodes, name), "%s at %s" % (name, address)


def refused(run, *arguments):
    try:
        run(*arguments)
    except (OSError, ssl.SSLError):
        return
    raise AssertionError("was let in: %s" % (arguments,))


def strangers_are_refused(nodes, writes):
    for i in nodes.ids:
        for address, _, own, ca, say in ports(nodes, i):
            refused(nodes.shake_hands, address, None, ca, say or b"x" * 100)
        member = nodes.address(MEMBER, i)
        # A client of the cluster is no member of it, and whoever may dial must still say who it is.
        refused(nodes.shake_hands, member, "app", "members-ca.pem", b"x" * 100)
        refused(nodes.shake_hands, member, "n1-member", "members-ca.pem", b"x" * 100)
        for garbage in (b"QRTM" + bytes(36), b"\xff" * 5000, b"GET / HTTP/1.1\r\n\r\n"):
            with socket.create_connection(tuple(member.rsplit(":", 1)), timeout=5) as s:
                try:
                    s.sendall(garbage)
                    s.settimeout(10)
                    while s.recv(4096):
                        pass  # an alert, and the end
                except ConnectionError:
                    pass
    return writes.goes_on()


def renew(nodes, writes):
    """Every certificate, while the cluster serves."""
    pids = [nodes.pid(i) for i in nodes.ids]
    before = {name: shown(nodes, name) for i in nodes.ids for _, name, *_ in ports(nodes, i)}
    for name in before:
        os.remove(nodes.file(name + ".pem"))
        os.remove(nodes.file(name + ".key"))
    nodes.certify()
    assert all(shown(nodes, name) != old for name, old in before.items())
    for i in nodes.ids:
        wait_until("the new certificates of node %d" % i, lambda: all(
            nodes.shake_hands(address, own, ca, say) == shown(nodes, name)
            for address, name, own, ca, say in ports(nodes, i)), 30, 0.5)
    assert pids == [nodes.pid(i) for i in nodes.ids]
    return writes.goes_on()


def members_meet_with_the_new_ones(nodes, writes):
    """A node that comes back dials, and is dialled, with what there is now."""
    victim = next(i for i in nodes.ids if i != nodes.leader())
    nodes.kill(victim)
    nodes.start(victim)
    nodes.wait_serving([victim])
    return writes.goes_on()


def damaged_files_change_nothing(nodes, writes):
    path = nodes.file("n1.pem")
    with open(path) as f:
        good = f.read()
    address, name, own, ca, say = ports(nodes, 1)[0]
    certificate = shown(nodes, name)
    with open(path, "w") as f:
        f.write("-----BEGIN CERTIFICATE-----\nno\n-----END CERTIFICATE-----\n")
    refused_metric = lambda: nodes.metric(1, "quorate_certificate_refused")
    wait_until("the metrics telling of it", lambda: refused_metric() == {"member_tls": 0, "client_tls": 1, "etcd_tls": 1}, 30, 0.3)
    assert "goes on with those before" in nodes.log(1)
    status = {entry["table"]: entry for entry in nodes.status(1)["certificates"]}
    assert "n1.pem" in status["client_tls"]["refused"], status
    assert nodes.shake_hands(address, own, ca, say) == certificate
    with open(path, "w") as f:
        f.write(good)
    nodes.signal(1, 1)  # SIGHUP: at once
    wait_until("the metrics telling that it is well", lambda: not any(refused_metric().values()), 30, 0.1)
    expires = nodes.metric(1, "quorate_certificate_expiry_seconds")
    assert all(800 < (at - time.time()) / 86400 < 830 for at in expires.values()) and len(expires) == 3, expires
    return writes.goes_on()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quorate", required=True)
    args = parser.parse_args()
    logging.getLogger("kazoo.client").setLevel(logging.CRITICAL)
    record = Record()
    nodes = Secured(args.quorate)
    nodes.certify()
    with nodes:
        nodes.start_all()
        writes = Writes(nodes.hosts)
        writes.start()
        record.case("who has a certificate is served on every port", known_are_served, nodes)
        record.case("strangers are refused, and the cluster goes on", strangers_are_refused, nodes, writes)
        record.case("all certificates are renewed under writes", renew, nodes, writes)
        record.case("members meet with the new ones", members_meet_with_the_new_ones, nodes, writes)
        record.case("damaged files change nothing", damaged_files_change_nothing, nodes, writes)
        writes.stopped = True
        writes.join()
        close(writes.client)
    return record.close()


if __name__ == "__main__":
    sys.exit(main())
