"""`quorate up --playground` in a real browser: nodes are killed and paused, links cut and a disk slowed from the page, and it says all
the while that what its clients see is linearizable.

    playground.py --quorate target/release/quorate
"""

import argparse
import json
import os
import re
import sys
import time
import urllib.error
import urllib.request

from browser import Browser
from cluster import QuorateCluster, Record, wait_until

NODES = 3
ROLES = "[...document.querySelectorAll('#picture .role')].map((e) => e.textContent)"
ANSWER = "document.getElementById('answer').textContent"
COUNT = r"Number((/^linearizable so far: ([\d,]+) operations$/.exec(%s) ?? [0, '0'])[1].replaceAll(',', ''))" % ANSWER


class Playground:
    def __init__(self, cluster, page):
        self.cluster, self.page = cluster, page
        self.url, self.key = self.address()

    def address(self):
        """As `up` printed it."""
        def printed():
            return re.search(r"Playground: (http://\S+/)#(\w+)", self.cluster.tail())
        return wait_until("the playground's address", printed).groups()

    def open(self):
        self.page.go("%s#%s" % (self.url, self.key))
        self.page.wait("the picture", "document.querySelectorAll('#handles .node').length === %d && document.querySelector('#picture .crown')" % NODES)

    def ask(self, path, body=None, key=None, **headers):
        """The status, and the answer."""
        request = urllib.request.Request(self.url + path, data=json.dumps(body).encode() if body else None, headers=headers)
        request.add_header("X-Quorate-Playground", key or self.key)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def tally(self):
        return self.ask("state")[1]["tally"]

    def leader(self):
        """The leader of the store in the picture: the newest one, if an older one does not know it yet."""
        self.page.wait("a leader", "document.querySelector('#picture .crown')", 30)
        return int(self.page.run("document.querySelector('#picture .crown').parentNode.querySelector('.name').textContent.slice(1)"))

    def take(self, *ids):
        self.page.run("document.getElementById('handle-%s').click()" % "-".join(map(str, ids)))

    def press(self, word):
        button = "[...document.querySelectorAll('#acts button')].find((b) => b.textContent === %s)" % json.dumps(word)
        self.page.wait("the button %s" % word, "%s && !%s.disabled" % (button, button))
        self.page.run("%s.click()" % button)

    def role(self, i, wanted, seconds=30):
        role = "[...document.querySelectorAll('#picture .name')].find((e) => e.textContent === 'n%d').parentNode.querySelector('.role').textContent" % i
        self.page.wait("n%d %s" % (i, wanted), "%s === %s" % (role, json.dumps(wanted)), seconds)

    def goes_on(self, seconds=60):
        """Operations are answered, and explained, from now on."""
        before = self.page.run(COUNT)
        self.page.wait("more operations that are linearizable", "%s > %d" % (COUNT, before + 50), seconds)
        assert not self.page.problems, self.page.problems

    # Cases.

    def counts(self):
        self.open()
        self.goes_on()
        wait_until("a batch read a last time", lambda: self.tally()["reread"] > 0, 60)

    def guarded(self):
        state = [self.ask("state", key="0" * 32), self.ask("state", Origin="http://evil.example"), self.ask("state", Host="evil.example")]
        acts = [self.ask("nodes", {"node": 1, "do": "kill"}, key="0" * 32), self.ask("links", {"link": [1, 2], "cut": True}, Origin="null")]
        assert [status for status, _ in state + acts] == [403] * 5, (state, acts)
        wrong = [self.ask("nodes", {"node": 9, "do": "kill"}), self.ask("links", {"link": [1, 1], "cut": True}), self.ask("nodes", {"node": 1, "do": "melt"})]
        assert [status for status, _ in wrong] == [409, 409, 400], wrong
        with urllib.request.urlopen(self.url, timeout=5) as answer:
            assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
            assert self.key not in answer.read().decode()

    def leader_killed(self):
        leader = self.leader()
        self.take(leader)
        began = time.monotonic()
        self.press("Kill \u22129")
        self.role(leader, "stopped")
        self.page.wait("another leader", "document.querySelector('#picture .leader .name')?.textContent !== 'n%d' && document.querySelector('#picture .crown')" % leader)
        took = time.monotonic() - began
        self.goes_on()
        self.press("Start")
        self.role(leader, "follower")
        self.goes_on()
        return "another one leads after %.1f s" % took

    def paused(self):
        leader = self.leader()
        self.take(leader)
        self.press("Pause")
        self.role(leader, "paused")
        self.goes_on()
        self.press("Go on")
        self.role(leader, "follower")
        self.goes_on()

    def cut_off(self):
        """The leader goes on believing that it leads for a while; the others elect another one, and clients go on there."""
        leader = self.leader()
        self.take(leader)
        self.press("Cut off")
        self.page.wait("cut links", "document.querySelectorAll('#picture .wire.cut').length === 2")
        wait_until("another leader", lambda: self.leader() != leader)
        self.goes_on()
        self.press("Connect")
        self.page.wait("whole links", "!document.querySelector('#picture .wire.cut')")
        self.role(leader, "follower")
        self.goes_on()

    def one_link(self):
        """Between a leader and a follower, one link is cut: the third node sees both."""
        leader = self.leader()
        other = next(i for i in self.cluster.ids if i != leader)
        self.take(*sorted((leader, other)))
        self.press("Cut")
        self.page.wait("the cut link", "document.querySelectorAll('#picture .wire.cut').length === 1")
        self.goes_on()
        self.press("Heal")
        self.page.wait("the whole link", "!document.querySelector('#picture .wire.cut')")
        self.goes_on()

    def slow_disk(self):
        leader = self.leader()
        self.take(leader)
        self.press("Slow disk")
        slow = lambda: any(end >= 200_000 and count for end, count in self.cluster.status()[leader]["syncs_us"])
        wait_until("a sync that takes 200 ms", slow)
        self.goes_on()
        self.press("Quick disk")
        self.goes_on()

    def mended(self):
        """Whatever was done is undone by one button; and n1 is stopped in order, not killed."""
        self.take(1)
        self.press("Stop")
        self.role(1, "stopped")
        self.take(2, 3)
        self.press("Cut")
        self.page.wait("a cut link", "document.querySelector('#picture .wire.cut')")
        self.page.run("document.getElementById('mend').click()")
        self.page.wait("all nodes", "%s.sort().join() === 'follower,follower,leader' && !document.querySelector('#picture .wire.cut')" % ROLES, 40)
        self.goes_on()
        story = self.page.run("document.getElementById('story').textContent")
        assert "n1 is told to stop" in story and "n1 starts" in story, story

    def breach_in_words(self):
        """Were it not linearizable the page would say so: told by an answer that nobody gave."""
        broken = {"why": ["key 7/r1: a read of 1 is behind a write of 2"], "file": "/somewhere/playground-7.jsonl"}
        self.page.run("(async () => { const real = await (await fetch('/state', { headers: { 'X-Quorate-Playground': '%s' } })).json(); "
                      "real.tally.broken = %s; window.fetch = async () => new Response(JSON.stringify(real)); })()" % (self.key, json.dumps(broken)))
        self.page.wait("the words", "%s.startsWith('Not linearizable')" % ANSWER)
        why = self.page.run("document.getElementById('why').textContent")
        assert "a read of 1 is behind a write of 2" in why and "playground-7.jsonl" in why, why
        assert not self.page.problems, self.page.problems

    def narrow(self):
        overflow = self.page.run("document.documentElement.scrollWidth - innerWidth")
        assert overflow <= 0, "%d pixels too wide" % overflow
        nameless = self.page.run("[...document.querySelectorAll('button, a, [role=img]')].filter((e) => !(e.textContent.trim() || e.getAttribute('aria-label'))).length")
        assert nameless == 0, "%d controls have no name" % nameless
        self.page.press("2")
        self.page.wait("a digit chooses a node", "document.getElementById('chosen').textContent.startsWith('n2')")
        self.page.press("Tab")
        assert self.page.run("document.activeElement.tagName") == "BUTTON"


def afterwards(cluster):
    """The same directory without a playground: nothing of it is left, and nothing was lost."""
    cluster.stop_all()
    cluster.more = []
    cluster.start_all()
    for i in cluster.ids:
        with open(os.path.join(cluster.data, "n%d" % i, "serve.toml")) as f:
            assert "member_listen" not in f.read()
        assert not os.path.exists(os.path.join(cluster.data, "n%d" % i, "disk-delay-ms"))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quorate", metavar="BINARY", required=True)
    args = parser.parse_args()
    record = Record()
    with QuorateCluster(args.quorate, NODES, more=["--playground"]) as cluster, Browser() as browser:
        with browser.page() as page:
            playground = Playground(cluster, page)
            record.case("operations are counted", playground.counts)
            record.case("nobody without the key, and no other site", playground.guarded)
            record.case("the leader is killed", playground.leader_killed)
            record.case("the leader is paused", playground.paused)
            record.case("the leader is cut off", playground.cut_off)
            record.case("one link is cut", playground.one_link)
            record.case("a disk is slow", playground.slow_disk)
            record.case("all is mended by one button", playground.mended)
        with browser.page(width=390, height=844, dark=True) as page:
            narrow = Playground(cluster, page)
            narrow.open()
            record.case("at phone width, by keyboard", narrow.narrow)
            record.case("a breach would be told in words", narrow.breach_in_words)
        tally = playground.tally()
        record.case("all of it was linearizable", lambda: check(tally))
        record.case("without a playground the same cluster serves", afterwards, cluster)
    return record.close()


def check(tally):
    assert tally["broken"] is None and tally["undecided"] == 0, tally
    return "%d operations, %d of unknown outcome" % (tally["linearizable"], tally["unknown"])


if __name__ == "__main__":
    sys.exit(main())
