"""The dashboard in a real browser, on real processes.

    dashboard.py --quorate target/release/quorate [--within-s 2]

Pages render at desktop and phone width without a console error; what clients put into znodes stays text; a killed leader shows
in time; a page whose node dies finds it again; an open page costs little; members that come and go show; a simulated run is played.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

from kazoo.client import KazooClient
from kazoo.security import make_digest_acl

from browser import Browser
from cluster import QuorateCluster, Record, wait_until
from reconfigure import MEMBER, Growing

PAGES = {
    "cluster": "document.querySelectorAll('#picture circle.body').length === 3 && document.querySelector('#picture .crown')",
    "figures": "document.querySelectorAll('#plots .curve').length >= 3 && document.querySelector('#plots .curve[d^=M]')",
    "znodes": "document.querySelectorAll('#znode-tree [role=treeitem]').length > 2",
    "keys": "document.querySelectorAll('#keys tbody tr').length > 0",
    "clients": "document.querySelectorAll('#clients tbody tr').length > 0",
}
BAD_NAME, BAD_DATA = "<img src=x onerror=window.bad=1>", b"</pre><script>window.bad=1</script>"
KIB_MOST, CORE_MOST = 20.0, 0.01


# A run of three servers, as docs/trace.md has it: n1 leads, is cut off, n2 takes over and n1's entry 2 is replaced; then n3 crashes.
TRACE = [
    {"t": 0, "e": "state", "n": 1, "role": "Leader", "term": 1, "base": [0, 0], "last": [0, 0], "commit": 0, "applied": 0, "durable": 0, "digest": "0"},
    {"t": 0, "e": "state", "n": 2, "role": "Follower", "term": 1, "base": [0, 0], "last": [0, 0], "commit": 0, "applied": 0, "durable": 0, "digest": "0"},
    {"t": 0, "e": "state", "n": 3, "role": "Follower", "term": 1, "base": [0, 0], "last": [0, 0], "commit": 0, "applied": 0, "durable": 0, "digest": "0"},
    {"t": 1000000, "e": "wrote", "n": 1, "mark": 1, "entries": [[1, 1], [2, 1]]},
    {"t": 1500000, "e": "sent", "n": 1, "to": 2, "id": 1, "about": "AppendEntries term 1", "arrives": []},
    {"t": 2000000, "e": "cut", "n": 1, "to": 2}, {"t": 2000000, "e": "cut", "n": 2, "to": 1},
    {"t": 2000000, "e": "cut", "n": 1, "to": 3}, {"t": 2000000, "e": "cut", "n": 3, "to": 1},
    {"t": 3000000, "e": "state", "n": 2, "role": "Leader", "term": 2, "base": [0, 0], "last": [1, 1], "commit": 1, "applied": 1, "durable": 1, "digest": "1"},
    {"t": 4000000, "e": "healed"},
    {"t": 5000000, "e": "wrote", "n": 1, "mark": 2, "truncated": 2, "entries": [[2, 2], [3, 2]]},
    {"t": 5500000, "e": "something new", "n": 1},
    {"t": 6000000, "e": "crashed", "n": 3, "noticed": False},
    {"t": 7000000, "e": "violated", "text": "Log Matching"},
]

# Expressions over the modules and that run, and what they come to.
READ = [
    ("trace.nodes", [1, 2, 3]),
    ("trace.story.map((item) => item.text)", [
        "partition: n1 | n2 n3", "n2 is elected leader of term 2", "all links work again",
        "n1 removes its entries from 2 on, and writes 2@2 to 3@2", "n3 crashes, and nobody is told", "Log Matching"]),
    ("[1, 4.9, 5].map((t) => traces.serverAt(trace, 1, t).group.terms)", [[[1, 1]], [[1, 1]], [[1, 1], [2, 2]]]),
    ("[5.9, 6].map((t) => traces.serverAt(trace, 3, t).down)", [False, True]),
    ("[1.9, 2, 4].map((t) => traces.cutAt(trace, t).size)", [0, 4, 0]),
    ("[trace.violation.t, trace.skipped, trace.messages[0].arrives.length]", [7, 1, 0]),
    ("traces.parts([1, 2, 3, 4], new Set(['1-2', '1-3', '4-1']))", [[1], [2, 3, 4]]),
    ("['RequestPreVote term 2', 'Heartbeat term 1', 'AppendEntries term 1', 'ReadAnswer term 3'].map(traces.kindOf)", ["votes", "signs", "entries", "reads"]),
    # Ninety of a hundred since then took less than 8 us; what was counted before does not matter.
    ("figures.percentile([[4, 5], [8, 90], [64, 17]], [[4, 5], [64, 7]], 0.9)", 8),
    ("figures.percentile([[4, 5], [8, 90], [64, 17]], [[4, 5], [64, 7]], 0.99)", 64),
    ("figures.percentile([[4, 5]], [[4, 5]], 0.5)", None),
    ("figures.percentile([[4, 1]], [[4, 50]], 0.5)", 4),
]


class Dashboard:
    def __init__(self, cluster, browser, within_s):
        self.cluster, self.browser, self.within_s = cluster, browser, within_s

    def url(self, i, path="/"):
        return "http://%s%s" % (self.cluster.members()[i]["admin"], path)

    def get(self, i, path):
        with urllib.request.urlopen(self.url(i, path), timeout=5) as answer:
            return json.load(answer)

    def open(self, i, page="cluster", **kind):
        opened = self.browser.page(**kind)
        opened.go(self.url(i, "/#" + page))
        opened.wait("page " + page, "document.body && %s" % PAGES[page])
        return opened

    def pages(self, width, dark):
        for name in PAGES:
            with self.open(2, name, width=width, dark=dark) as page:
                overflow = page.run("document.documentElement.scrollWidth - innerWidth")
                assert overflow <= 0, "%s is %d pixels too wide" % (name, overflow)
                nameless = page.run("[...document.querySelectorAll('button, a, input, [role=img]')].filter((e) => !(e.textContent.trim() "
                                    "|| e.getAttribute('aria-label') || e.labels?.length)).length")
                assert nameless == 0, "%s: %d controls have no name" % (name, nameless)
                assert not page.problems, page.problems

    def modules(self):
        with self.open(1) as page:
            lines = json.dumps("\n".join(json.dumps(event) for event in TRACE))
            page.run("(async () => { window.traces = await import('/dashboard/trace.js'); window.figures = await import('/dashboard/figures.js'); "
                     "window.trace = traces.readTrace(%s); })()" % lines)
            for expression, expected in READ:
                came_to = page.run(expression)
                assert came_to == expected, "%s: %s, not %s" % (expression, came_to, expected)

    def policy(self):
        with urllib.request.urlopen(self.url(1), timeout=5) as answer:
            policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy, policy
        request = urllib.request.Request(self.url(1, "/dashboard/znodes/"), headers={"Host": "evil.example"})
        try:
            urllib.request.urlopen(request, timeout=5)
        except urllib.error.HTTPError as error:
            assert error.code == 403, error.code
        else:
            raise AssertionError("another site's name was answered")

    def text_stays_text(self):
        with self.open(1, "znodes") as page:
            page.run("document.getElementById('znode-path').value = '/app/%s'; document.getElementById('znode-form').requestSubmit()" % BAD_NAME)
            page.wait("the znode", "document.querySelector('#znode pre')?.textContent.includes('</pre><script>')")
            assert page.run("document.querySelectorAll('#znode img, #znode script, #znode-tree img').length") == 0
            assert page.run("window.bad") is None and not page.problems, page.problems

    def keys(self):
        with self.open(3, "keys") as page:
            page.run("document.getElementById('keys-prefix').value = 'app/'; document.getElementById('keys-form').requestSubmit()")
            page.wait("the key", "document.querySelector('#keys button')?.textContent === %s" % json.dumps("app/" + BAD_NAME))
            page.run("document.querySelector('#keys button').click()")
            page.wait("its value", "document.querySelector('#key pre')?.textContent === %s" % json.dumps(BAD_DATA.decode()))
            assert page.run("window.bad") is None and not page.problems, page.problems
        future = self.get(1, "/dashboard/keys/999/")
        assert "future" in future["error"], future

    def hidden(self):
        znode = self.get(1, "/dashboard/znodes/app/secret")
        assert znode == {"path": "/app/secret", "hidden": True}, znode
        holder = self.get(1, "/dashboard/znodes/app/worker")["holder"]
        assert holder["server"] in self.cluster.ids, holder

    def cost(self):
        """A stream is read for a while: bytes, and what all nodes spend on it beyond what they spend anyway."""
        seconds = 10
        before = self.spend(seconds)
        stream = urllib.request.urlopen(self.url(1, "/dashboard/stream"), timeout=5)
        took, end = 0, time.monotonic() + seconds
        began = {i: self.cpu(i) for i in self.cluster.ids}
        while time.monotonic() < end:
            took += len(stream.read1(1 << 16))
        spent = {i: (self.cpu(i) - began[i]) / seconds for i in self.cluster.ids}
        stream.close()
        more = max(spent[i] - before[i] for i in spent)
        kib = took / seconds / 1024
        assert 0.1 < kib < KIB_MOST, "%.1f KiB/s" % kib
        assert more < CORE_MOST, "%.2f %% of a core" % (100 * more)
        return "%.1f KiB/s, at most %.2f %% of a core" % (kib, 100 * max(more, 0))

    def spend(self, seconds):
        began = {i: self.cpu(i) for i in self.cluster.ids}
        time.sleep(seconds)
        return {i: (self.cpu(i) - began[i]) / seconds for i in began}

    def cpu(self, i):
        """Seconds of a core that a node has had, with all its threads."""
        total = 0
        for thread in os.listdir("/proc/%d/task" % self.cluster.pid(i)):
            with open("/proc/%d/task/%s/schedstat" % (self.cluster.pid(i), thread)) as f:
                total += int(f.read().split()[0])
        return total / 1e9

    def leader_killed(self):
        leader = self.cluster.leader()
        other = next(i for i in self.cluster.ids if i != leader)
        with self.open(other) as page:
            self.cluster.kill(leader)
            began = time.monotonic()
            page.wait("the dead leader shows", "document.querySelector('#picture .gone .name')?.textContent === 'n%d'" % leader, self.within_s)
            page.wait("the new leader shows", "document.querySelector('#picture .leader .name')", self.within_s)
            took = time.monotonic() - began
            self.cluster.start(leader)
            page.wait("it shows that the node is back", "!document.querySelector('#picture .gone')", 20)
            assert took <= self.within_s, "%.2f s" % took
            assert not page.problems, page.problems
            return "%.2f s after kill -9" % took

    def page_finds_its_node_again(self):
        with self.open(3) as page:
            points = page.run("document.querySelectorAll('.tile path').length")
            self.cluster.kill(3)
            page.wait("the page says that its node is gone", "!document.getElementById('trouble').hidden")
            assert page.run("document.querySelectorAll('#trouble a').length") == 2
            self.cluster.start(3)
            page.wait("the page goes on", "document.getElementById('trouble').hidden && !document.querySelector('#picture .gone')", 20)
            assert page.run("document.querySelectorAll('.tile path').length") >= points

    def player(self, quorate):
        with tempfile.TemporaryDirectory() as directory:
            trace, html, again = [os.path.join(directory, name) for name in ("storm.jsonl", "storm.html", "again.html")]
            for command in (["sim", "raft", "--seed", "5", "--trace", trace, "--html", html], ["trace", trace, "--html", again]):
                subprocess.run([quorate] + command, check=True, capture_output=True, timeout=120)
            assert os.path.getsize(again) > os.path.getsize(trace)
            with self.browser.page() as alone:
                alone.go("file://" + html)
                self.play(alone)
            with self.browser.page(width=390, height=844, dark=True) as served:
                served.go(self.url(1, "/dashboard/player"))
                served.wait("the player", "document.querySelector('#back a')")
                root = served.call("DOM.getDocument")["root"]["nodeId"]
                chooser = served.call("DOM.querySelector", nodeId=root, selector="#file")["nodeId"]
                served.call("DOM.setFileInputFiles", nodeId=chooser, files=[trace])
                return self.play(served)

    def play(self, page):
        page.wait("the run", "document.querySelectorAll('#story li').length > 5", 20)
        drawn = "(() => { const c = document.getElementById('diagram'); const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data; " \
                "return d.filter((v, i) => i % 4 === 3 && v > 0).length })()"
        assert page.run(drawn) > 5000, "the diagram is empty"
        time_of = "document.getElementById('time').textContent"
        seen = {page.run(time_of)}
        for key in ("ArrowRight", "e", "f", "."):
            page.press(key)
            page.wait("key %s moves" % key, "!%s.includes(%s)" % (json.dumps(sorted(seen)), time_of))
            seen.add(page.run(time_of))
        page.press(" ")
        page.wait("it plays", "!%s.includes(%s)" % (json.dumps(sorted(seen)), time_of))
        assert page.run("document.documentElement.scrollWidth - innerWidth") <= 0, "too wide"
        assert not page.problems, page.problems
        return page.run("document.getElementById('summary').textContent")


def members_come_and_go(quorate):
    """One is added, which has not started; it starts; it is removed. The page and `quorate status` say so."""
    with Growing(quorate, 4) as cluster, Browser() as browser, browser.page() as page:
        page.go("http://%s/" % cluster.members()[1]["admin"])
        roles = "[...document.querySelectorAll('#picture .role')].map((e) => e.textContent).join(' ')"
        page.wait("three members", "%s.split(' ').sort().join(' ') === 'follower follower leader'" % roles)
        cluster.member("add", cluster.address(MEMBER, 4))
        page.wait("the new one, which has not started", "%s.includes('not started')" % roles)
        assert not cluster.status()[4]["alive"], "status does not know that it has not started"
        cluster.join(4)
        page.wait("the new one following", "%s.split(' ').filter((role) => role === 'follower').length === 3" % roles, 40)
        wait_until("status knows it", lambda: cluster.status()[4]["alive"])
        cluster.member("remove", "4")
        page.wait("it is gone", "document.querySelectorAll('#picture circle.body').length === 3", 40)
        wait_until("status knows that it was removed", lambda: cluster.status().get(4, {"removed": True})["removed"])
        cluster.stop(4)
        wait_until("status shows three", lambda: sorted(cluster.status()) == [1, 2, 3])
        # A node that is not there makes no error in the console: only this page's own node is asked.
        assert not page.problems, page.problems


def put(address, key, value):
    """One gRPC call: a message of two fields behind a flag and its length, over HTTP/2, which Python has not."""
    message = b"".join(bytes([tag, len(field)]) + field for tag, field in ((10, key), (18, value)))
    frame = b"\0" + len(message).to_bytes(4, "big") + message
    command = ["curl", "-sS", "--http2-prior-knowledge", "-H", "content-type: application/grpc", "-H", "te: trailers", "--data-binary", "@-",
               "-o", os.devnull, "-D", "-", "http://%s/etcdserverpb.KV/Put" % address]
    told = subprocess.run(command, input=frame, capture_output=True, timeout=20, check=True).stdout
    assert b"grpc-status: 0" in told, told


def fill(cluster):
    """What the pages have to show; the clients stay."""
    client = KazooClient(hosts=",".join(cluster.hosts))
    client.start()
    client.ensure_path("/app")
    client.create("/app/" + BAD_NAME, BAD_DATA)
    client.create("/app/json", b'{"replicas": 3}')
    client.create("/app/secret", b"secret", acl=[make_digest_acl("bob", "pw", all=True)])
    client.create("/app/worker", b"", ephemeral=True)
    put(cluster.members()[1]["etcd"], b"app/" + BAD_NAME.encode(), BAD_DATA)
    others = [KazooClient(hosts=host) for host in cluster.hosts]
    for other in others:
        other.start()
        other.get("/app/json", watch=lambda _: None)
    return [client] + others


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quorate", metavar="BINARY", required=True)
    parser.add_argument("--within-s", type=float, default=2.0, help="a killed leader shows within so many seconds")
    args = parser.parse_args()
    record = Record()
    with QuorateCluster(args.quorate) as cluster, Browser() as browser:
        clients = fill(cluster)
        wait_until("the first figures", lambda: cluster.status())
        dashboard = Dashboard(cluster, browser, args.within_s)
        record.case("an open page costs little", dashboard.cost)
        record.case("pages at desktop width, light", dashboard.pages, 1280, False)
        record.case("pages at phone width, dark", dashboard.pages, 390, True)
        record.case("traces and figures are read as they are meant", dashboard.modules)
        record.case("pages have a strict policy, other sites are refused", dashboard.policy)
        record.case("what clients write stays text", dashboard.text_stays_text)
        record.case("keys are listed and read", dashboard.keys)
        record.case("what not everybody may read is not shown", dashboard.hidden)
        record.case("a killed leader shows in time", dashboard.leader_killed)
        record.case("a page finds its node again", dashboard.page_finds_its_node_again)
        record.case("a simulated run is played", dashboard.player, cluster.binary)
        for client in clients:
            client.stop()
            client.close()
    record.case("members that come and go show", members_come_and_go, args.quorate)
    return record.close()


if __name__ == "__main__":
    sys.exit(main())
