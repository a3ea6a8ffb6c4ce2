"""A Kafka broker that keeps its metadata in our servers: topics, messages, a restart, kill -9, and the leader killed in between.

    broker.py --place DIR --hosts HOSTS        DIR has jars/ and classes/ (.ci/setup-clients)

The last cases need LEADER_KILL and LEADER_START. Ends with `N passed, M failed`.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import zkwire as zk  # noqa: E402
from cluster import Record, is_free, wait_until  # noqa: E402

PROPERTIES = """broker.id=1
listeners=PLAINTEXT://127.0.0.1:{port}
log.dirs={dir}/logs
zookeeper.connect={hosts}/kafka
zookeeper.session.timeout.ms=6000
zookeeper.connection.timeout.ms=30000
offsets.topic.replication.factor=1
offsets.topic.num.partitions=3
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
"""


class Broker:
    def __init__(self, place, hosts):
        self.place, self.hosts = place, hosts.split(",")
        self.dir = tempfile.mkdtemp(prefix="quorate-kafka-")
        self.port = next(p for p in range(41000 + os.getpid() % 9000, 65000, 3) if is_free(p))
        with open(os.path.join(self.dir, "server.properties"), "w") as f:
            f.write(PROPERTIES.format(port=self.port, dir=self.dir, hosts=hosts))
        self.process = None

    @property
    def address(self):
        return "127.0.0.1:%d" % self.port

    def java(self, level, heap):
        classes = "%s/classes:%s/jars/*" % (self.place, self.place)
        return ["java", heap, "-Dorg.slf4j.simpleLogger.defaultLogLevel=" + level, "-cp", classes]

    def start(self):
        with open(os.path.join(self.dir, "log"), "ab") as log:
            command = self.java("info", "-Xmx512m") + ["kafka.Kafka", os.path.join(self.dir, "server.properties")]
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.dir)
        wait_until("the broker listening", self.listening, 90, 0.2)

    def listening(self):
        if self.process.poll() is not None:
            raise AssertionError("the broker ended with %s; see %s/log" % (self.process.returncode, self.dir))
        return not is_free(self.port)

    def stop(self, number=signal.SIGTERM):
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)
            self.process.wait(60)

    def wait_until_forgotten(self):
        """Kafka ends at once where the ephemeral of a broker with its number is left: whoever supervises it starts it again."""
        connection = zk.Connection(self.hosts[0])
        try:
            path = zk.text("/kafka/brokers/ids/1") + zk.flag(False)
            wait_until("the old session's end", lambda: connection.ask(zk.EXISTS, path)[0] != "ok", 30, 0.2)
        finally:
            connection.close()

    def ask(self, *words):
        command = self.java("off", "-Xmx128m") + ["Messages", self.address, *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=150)
        assert done.returncode == 0, "%s failed: %s" % (" ".join(words), done.stderr[-2000:])


def hook(name):
    subprocess.run(os.environ[name], shell=True, check=True, timeout=120)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--place", required=True)
    parser.add_argument("--hosts", required=True)
    args = parser.parse_args()
    broker, record = Broker(args.place, args.hosts), Record()

    def restarted(number):
        broker.stop(number)
        broker.wait_until_forgotten()
        broker.start()
        broker.ask("consume", "first", "100")

    def leader_killed():
        hook("LEADER_KILL")
        broker.ask("produce", "first", "100", "150")
        broker.ask("create", "second")
        hook("LEADER_START")
        broker.ask("produce", "second", "0", "20")
        broker.ask("consume", "second", "20")
        broker.ask("consume", "first", "150")

    try:
        record.case("a broker starts", broker.start)
        record.case("a topic is created", broker.ask, "create", "first")
        record.case("messages are produced and consumed", lambda: (
            broker.ask("produce", "first", "0", "100"), broker.ask("consume", "first", "100"))[2:])
        record.case("a topic's settings are changed", broker.ask, "configure", "first")
        record.case("the broker is restarted", restarted, signal.SIGTERM)
        record.case("the broker is killed with -9 and started", restarted, signal.SIGKILL)
        if "LEADER_KILL" in os.environ:
            record.case("the leader of the cluster is killed", leader_killed)
        record.case("a topic is deleted", broker.ask, "delete", "first")
    finally:
        broker.stop()
    status = record.close()
    if status == 0:
        shutil.rmtree(broker.dir, ignore_errors=True)
    else:
        print("kept for a look: %s" % broker.dir, file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
