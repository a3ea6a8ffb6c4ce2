"""What administrators, probes and scrapers read: the four-letter words, the AdminServer's commands, the metrics.

    admin.py --quorate target/release/quorate

Three nodes and a client with a watch and an ephemeral; every answer is compared with what the cluster is.
"""

import argparse
import json
import sys
import urllib.error
import urllib.request

from cluster import QuorateCluster, Record, four_letter_word, wait_until
from kazoo_basics import close, connect


SAFE = ("ruok", "srvr", "stat", "mntr", "envi", "conf", "isro", "cons", "dump", "dirs", "wchs")
CLOSED = ("wchc", "wchp")


def get(cluster, i, path, method="GET"):
    request = urllib.request.Request("http://%s%s" % (cluster.members()[i]["admin"], path), method=method)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return answer.read().decode()


def command(cluster, i, name, method="GET"):
    answer = json.loads(get(cluster, i, "/commands/" + name, method))
    assert answer["error"] is None, answer
    return answer


def words(cluster):
    for i in cluster.ids:
        for word in SAFE:
            answer = four_letter_word(cluster.host(i), word.encode()).decode()
            assert answer and "not in the whitelist" not in answer, "%s at server %d: %r" % (word, i, answer)
        for word in CLOSED:
            assert "not in the whitelist" in four_letter_word(cluster.host(i), word.encode()).decode(), word
    leader = four_letter_word(cluster.host(cluster.leader()), b"srvr").decode()
    assert "Mode: leader\nProposal sizes last/min/max: " in leader, leader


def commands(cluster, session):
    answers = {}
    page = get(cluster, 1, "/commands")
    names = [part.split('"')[0] for part in page.split("/commands/")[1:]]
    assert len(names) > 20, names
    for i in cluster.ids:
        for name in names:
            answers[i, name] = command(cluster, i, name)
    leader = cluster.leader()
    for i in cluster.ids:
        told = answers[i, "leader"]
        assert (told["is_leader"], told["leader_id"]) == (i == leader, leader), told
        assert sorted(answers[i, "voting_view"]["current_config"]) == ["1", "2", "3"], answers[i, "voting_view"]
        assert answers[i, "zabstate"]["zabstate"] == "broadcast"
        assert answers[i, "is_read_only"]["read_only"] is False
    watching = [answers[i, "watches"]["session_id_to_watched_paths"] for i in cluster.ids]
    assert {session: ["/admin-watched"]} in watching, watching
    paths = [answers[i, "watches_by_path"]["path_to_session_ids"] for i in cluster.ids]
    assert {"/admin-watched": [session]} in paths, paths
    connections = [c for i in cluster.ids for c in answers[i, "connections"]["connections"]]
    assert session in [c.get("session_id") for c in connections], connections
    return "%d commands" % len(names)


def metrics(cluster):
    leader = get(cluster, cluster.leader(), "/metrics")
    for line in ("\nsynced_followers 2\n", "\nquorum_size 3\n", "# TYPE fsynctime summary\n", "\nupdatelatency_count ", "\nleader_uptime "):
        assert line in leader, "no %r in %s" % (line, leader)
    # The service is told of its host every second.
    wait_until("counted fdatasyncs", lambda: "\nfsynctime_count 0\n" not in get(cluster, cluster.leader(), "/metrics"))


def snapshot(cluster):
    taken = command(cluster, 1, "snapshot", "POST")
    assert taken["snapshot_size"] > 0, taken
    assert command(cluster, 1, "last_snapshot")["zxid"] == taken["last_zxid"]
    return "%d bytes at %s" % (taken["snapshot_size"], taken["last_zxid"])


def unknown(cluster):
    try:
        get(cluster, 1, "/commands/explode")
    except urllib.error.HTTPError as error:
        assert error.code == 404 and "monitor" in error.read().decode()
    else:
        raise AssertionError("a command that is not there was answered")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quorate", metavar="BINARY", required=True)
    args = parser.parse_args()
    record = Record()
    with QuorateCluster(args.quorate) as cluster:
        client = connect(cluster.hosts, 8.0)
        client.exists("/admin-watched", watch=lambda event: None)
        client.create("/admin-ephemeral", b"", ephemeral=True)
        record.case("admin: words that are open, and closed ones", words, cluster)
        record.case("admin: every command, on every node", commands, cluster, "0x%x" % client.client_id[0])
        record.case("admin: metrics", metrics, cluster)
        record.case("admin: a snapshot on demand", snapshot, cluster)
        record.case("admin: a command that is not there", unknown, cluster)
        close(client)
    return record.close()


if __name__ == "__main__":
    sys.exit(main())
