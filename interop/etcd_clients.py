"""Other people's clients of etcd with their own tests, against three nodes of ours and three of etcd: what etcd passes, we pass.

    etcd_clients.py --quorate target/release/quorate [--etcd etcd] [--place DIR] [rust] [python]

`rust` is the crate etcd-client, `python` the package etcd3; each is fetched from its registry with the tests that it is published with, into
DIR (target/interop-clients/etcd). The Rust tests have their server's address compiled in, and want a user root; the Python ones are of
2020, want tools of that time as far as today's Python takes them, and call etcdctl. Both clusters are new for each suite, and their leader is asked.
Ends with `N passed, M failed`: the tests that etcd passes.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv

from cluster import wait_until
from etcdctl import Ctl, Etcd, Judge, Quorate

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
RUST, PYTHON = "0.21.1", "0.12.0"
PACKAGES = ["grpcio", "protobuf<3.21", "tenacity>=8,<9", "hypothesis<7", "mock", "pytest<8", "six", "setuptools"]


def run(command, timeout=900, **more):
    return subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=timeout, check=False, **more)


def must(command, **more):
    ran = run(command, **more)
    if ran.returncode != 0:
        sys.exit("etcd_clients.py: %s failed:\n%s" % (" ".join(command), ran.stdout[-3000:]))
    return ran.stdout


def rewrite(path, old, new):
    with open(path) as file:
        text = file.read()
    assert old in text, path
    with open(path, "w") as file:
        file.write(text.replace(old, new))


class Rust:
    """The crate's sources as published, built in a place of their own."""

    def __init__(self, place):
        self.place = os.path.join(place, "rust")
        self.sources = os.path.join(self.place, "etcd-client-" + RUST)
        if not os.path.exists(self.sources):
            self.fetch()

    def fetch(self):
        asking = os.path.join(self.place, "fetch")
        os.makedirs(os.path.join(asking, "src"), exist_ok=True)
        with open(os.path.join(asking, "Cargo.toml"), "w") as out:
            out.write('[package]\nname = "fetch"\nversion = "0.0.0"\n[dependencies]\netcd-client = "=%s"\n[workspace]\n' % RUST)
        open(os.path.join(asking, "src", "lib.rs"), "w").close()
        told = run(["cargo", "metadata", "--format-version", "1", "-q"], cwd=asking).stdout
        packages = json.loads(told[told.index("{"):])["packages"]
        manifest = next(p["manifest_path"] for p in packages if p["name"] == "etcd-client")
        shutil.copytree(os.path.dirname(manifest), self.sources)
        with open(os.path.join(self.sources, "Cargo.toml"), "a") as out:
            out.write("\n[workspace]\n")
        rewrite(os.path.join(self.sources, "tests", "testing.rs"), '"localhost:2379"', 'env!("ENDPOINT")')

    def prepare(self, ctl):
        for words in (["user", "add", "root:rootpwd"], ["role", "add", "root"], ["user", "grant-role", "root", "root"]):
            ctl.run(words)

    def results(self, endpoint):
        environment = dict(os.environ, ENDPOINT=endpoint, CARGO_TARGET_DIR=os.path.join(self.place, "target"))
        command = ["cargo", "test", "-q", "--no-fail-fast", "--test", "client", "--test", "namespace"]
        must([*command, "--no-run"], cwd=self.sources, env=environment)
        command.remove("-q")
        told = run([*command, "--", "--test-threads=1"], cwd=self.sources, env=environment).stdout
        return dict(re.findall(r"^test (\S+) .*?\b(ok|FAILED|ignored)", told, re.MULTILINE | re.DOTALL)), told


class Python:
    """The package's sources as published, and an environment of its time."""

    def __init__(self, place):
        self.place = os.path.join(place, "python")
        self.sources = os.path.join(self.place, "etcd3-" + PYTHON)
        self.python = os.path.join(self.place, "venv", "bin", "python")
        if not os.path.exists(self.sources):
            venv.create(os.path.join(self.place, "venv"), with_pip=True)
            must([self.python, "-m", "pip", "install", "-q", *PACKAGES])
            must([self.python, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", ":all:",
                  "-d", self.place, "etcd3==" + PYTHON])
            with tarfile.open(self.sources + ".tar.gz") as archive:
                archive.extractall(self.place, filter="data")
            # Tests with a fixture and drawn arguments, which later versions of hypothesis warn of.
            rewrite(os.path.join(self.sources, "tests", "test_etcd3.py"), '"default", deadline=None)',
                    '"default", deadline=None, suppress_health_check=list(__import__("hypothesis").HealthCheck))')

    def prepare(self, ctl):
        """Nothing."""

    def results(self, endpoint):
        environment = dict(os.environ, PYTHON_ETCD_HTTP_URL="http://" + endpoint, TEST_ETCD_VERSION="v3.4.23",
                           PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION="python", PYTHONPATH=self.sources, ETCDCTL_API="3")
        # The tests that stop members look for processes by name, which is nobody's business here.
        command = [self.python, "-m", "pytest", "-v", "-p", "no:cacheprovider", "tests/test_etcd3.py", "-k", "not quorum"]
        told = run(command, cwd=self.sources, env=environment).stdout
        results = dict(re.findall(r"^\S+?::(\S+) (PASSED|FAILED|ERROR|SKIPPED)", told, re.MULTILINE))
        return {name: result.replace("PASSED", "ok") for name, result in results.items()}, told


SUITES = {"rust": Rust, "python": Python}


def leader(ctl):
    """The endpoint of whoever leads."""
    for told in json.loads(ctl.run(["endpoint", "status", "-w", "json"])[0]):
        status = told["Status"]
        if status["header"]["member_id"] == status["leader"]:
            return told["Endpoint"]
    return None


def results(suite, cluster, etcdctl):
    with cluster:
        ctl = Ctl(cluster, etcdctl)
        wait_until("a cluster that answers", lambda: ctl.run(["endpoint", "health"])[2] == 0, 60, 0.5)
        suite.prepare(ctl)
        return suite.results(wait_until("a leader", lambda: leader(ctl)))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quorate", metavar="BINARY", required=True)
    parser.add_argument("--etcdctl", default=shutil.which("etcdctl"))
    parser.add_argument("--etcd", metavar="BINARY", default=shutil.which("etcd"))
    parser.add_argument("--place", metavar="DIR", default=os.path.join(ROOT, "target", "interop-clients", "etcd"))
    parser.add_argument("suites", nargs="*", choices=[[], *SUITES], default=list(SUITES))
    args = parser.parse_args()
    if not args.etcdctl or not args.etcd:
        sys.exit("etcd_clients.py: install etcd-client and etcd-server, or name them with --etcdctl and --etcd")
    judge = Judge("etcd_clients")
    for name in args.suites:
        suite = SUITES[name](args.place)
        theirs, told = results(suite, Etcd(args.etcd), args.etcdctl)
        bar = sorted(test for test, result in theirs.items() if result == "ok")
        judge.tell("%s: %d of %d tests pass on etcd" % (name, len(bar), len(theirs)), bar, told[-2000:])
        ours, told = results(suite, Quorate(args.quorate, 3), args.etcdctl)
        for test in bar:
            at = told.rfind(test)
            judge.tell("%s: %s" % (name, test), ours.get(test) == "ok", told[at:at + 1500])
        print("%s: etcd does not pass: %s" % (name, " ".join(sorted(set(theirs) - set(bar))) or "none"))
    print("%d passed, %d failed" % (judge.passed, judge.failed))
    return 1 if judge.failed else 0


if __name__ == "__main__":
    sys.exit(main())
