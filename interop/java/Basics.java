import static org.apache.zookeeper.CreateMode.*;
import static org.apache.zookeeper.ZooDefs.Ids.OPEN_ACL_UNSAFE;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.zookeeper.*;
import org.apache.zookeeper.KeeperException.Code;
import org.apache.zookeeper.Watcher.Event.EventType;
import org.apache.zookeeper.data.ACL;
import org.apache.zookeeper.data.Id;
import org.apache.zookeeper.data.Stat;

/**
 * The Java client against running servers: Basics HOSTS [CASE]. Each case works below a znode of its own. The last ones kill the
 * leader, by the commands in LEADER_KILL and LEADER_START.
 */
public final class Basics {
    private static String hosts;
    private static int next;

    public static void main(String[] args) throws Exception {
        hosts = args[0];
        Cases cases = new Cases(args);
        cases.run("create, get, set, exists, delete and their Stats", Basics::znodes);
        cases.run("every refusal has its code", Basics::refusals);
        cases.run("sequential names grow, ephemerals go with their session", Basics::kinds);
        cases.run("containers and times to live are created", Basics::extended);
        cases.run("a multi is all or nothing, with ZooKeeper's results", Basics::multi);
        cases.run("multi reads answer each for itself", Basics::multiRead);
        cases.run("one-shot watches fire once, in order", Basics::watches);
        cases.run("persistent and recursive watches, and their removal", Basics::persistentWatches);
        cases.run("lists keep others out; who am I", Basics::acls);
        cases.run("listing: children with Stat, count of all, ephemerals of mine", Basics::listing);
        cases.run("chroot: paths are below it on both ways", Basics::chroot);
        cases.run("10,000 pipelined writes are answered in order", Basics::pipeline);
        cases.run("a session is taken over by id and password, a wrong one expires", Basics::takeOver);
        cases.run("sync, config and a megabyte of data", Basics::rest);
        if (System.getenv("LEADER_KILL") != null) {
            cases.run("a session outlives the leader: watches, ephemerals, writes", Basics::leaderKilled);
        }
        cases.close();
    }

    /** A session and what it was told. */
    static final class Session implements AutoCloseable, Watcher {
        final BlockingQueue<WatchedEvent> events = new LinkedBlockingQueue<>();
        final CountDownLatch connected = new CountDownLatch(1);
        final ZooKeeper zk;

        Session(String servers) throws Exception {
            zk = new ZooKeeper(servers, 10_000, this);
            Cases.check(connected.await(30, TimeUnit.SECONDS), "no session");
        }

        @Override public void process(WatchedEvent event) {
            if (event.getType() != EventType.None) {
                events.add(event);
            } else if (event.getState() == Event.KeeperState.SyncConnected) {
                connected.countDown();
            }
        }

        String event() throws InterruptedException {
            WatchedEvent event = events.poll(30, TimeUnit.SECONDS);
            return event == null ? "nothing" : event.getType() + " " + event.getPath();
        }

        @Override public void close() throws Exception {
            zk.close();
        }
    }

    private static String room(ZooKeeper zk) throws Exception {
        return zk.create("/java-" + ++next + "-", null, OPEN_ACL_UNSAFE, PERSISTENT_SEQUENTIAL);
    }

    private static void refused(Code code, Cases.Case request) throws Exception {
        try {
            request.run();
        } catch (KeeperException error) {
            Cases.same(code, error.code());
            return;
        }
        throw new AssertionError("was not refused with " + code);
    }

    private static void znodes() throws Exception {
        try (Session s = new Session(hosts)) {
            String path = room(s.zk) + "/a";
            Stat made = new Stat();
            Cases.same(path, s.zk.create(path, "one".getBytes(), OPEN_ACL_UNSAFE, PERSISTENT, made));
            Cases.same(made.getCzxid(), made.getMzxid());
            Stat read = new Stat();
            Cases.same("one", new String(s.zk.getData(path, false, read)));
            Cases.same(made, read);
            Stat set = s.zk.setData(path, "three".getBytes(), 0);
            Cases.same(List.of(1, 5, 0), List.of(set.getVersion(), set.getDataLength(), set.getAversion()));
            Cases.check(set.getMzxid() > made.getMzxid() && set.getCzxid() == made.getCzxid(), "zxids");
            s.zk.create(path + "/b", new byte[0], OPEN_ACL_UNSAFE, PERSISTENT);
            s.zk.delete(path + "/b", -1);
            Stat after = s.zk.exists(path, false);
            Cases.same(List.of(2, 0), List.of(after.getCversion(), after.getNumChildren()));
            Cases.check(after.getPzxid() > set.getMzxid(), "pzxid");
            s.zk.setData(path, null, -1);
            Cases.same(null, s.zk.getData(path, false, null));
            s.zk.delete(path, 2);
            Cases.same(null, s.zk.exists(path, false));
        }
    }

    private static void refusals() throws Exception {
        try (Session s = new Session(hosts)) {
            String path = room(s.zk);
            ZooKeeper zk = s.zk;
            refused(Code.NONODE, () -> zk.getData(path + "/none", false, null));
            refused(Code.NONODE, () -> zk.create(path + "/none/a", null, OPEN_ACL_UNSAFE, PERSISTENT));
            refused(Code.NODEEXISTS, () -> zk.create(path, null, OPEN_ACL_UNSAFE, PERSISTENT));
            refused(Code.BADVERSION, () -> zk.setData(path, null, 7));
            zk.create(path + "/e", null, OPEN_ACL_UNSAFE, EPHEMERAL);
            refused(Code.NOTEMPTY, () -> zk.delete(path, -1));
            refused(Code.NOCHILDRENFOREPHEMERALS, () -> zk.create(path + "/e/x", null, OPEN_ACL_UNSAFE, PERSISTENT));
            refused(Code.INVALIDACL, () -> zk.create(path + "/x", null, Collections.emptyList(), PERSISTENT));
            refused(Code.NOWATCHER, () -> zk.removeWatches(path, s, Watcher.WatcherType.Any, false));
        }
    }

    private static void kinds() throws Exception {
        try (Session other = new Session(hosts)) {
            String path;
            try (Session s = new Session(hosts)) {
                path = room(s.zk);
                for (int i = 0; i < 3; i++) {
                    String made = s.zk.create(path + "/s-", null, OPEN_ACL_UNSAFE, EPHEMERAL_SEQUENTIAL);
                    Cases.same(String.format("%s/s-%010d", path, i), made);
                    Stat stat = s.zk.exists(made, false);
                    Cases.same(s.zk.getSessionId(), stat.getEphemeralOwner());
                }
                other.zk.sync(path, (code, p, context) -> { }, null);
                Cases.same(3, other.zk.getChildren(path, false).size());
            }
            other.zk.sync(path, (code, p, context) -> { }, null);
            Cases.same(0, other.zk.getChildren(path, false).size());
        }
    }

    private static void extended() throws Exception {
        try (Session s = new Session(hosts)) {
            String path = room(s.zk);
            s.zk.create(path + "/c", null, OPEN_ACL_UNSAFE, CONTAINER);
            Cases.same(0L, s.zk.exists(path + "/c", false).getEphemeralOwner());
            s.zk.create(path + "/t", null, OPEN_ACL_UNSAFE, PERSISTENT_WITH_TTL, new Stat(), 600_000);
            String made = s.zk.create(path + "/t-", null, OPEN_ACL_UNSAFE, PERSISTENT_SEQUENTIAL_WITH_TTL, null, 600_000);
            Cases.same(path + "/t-0000000002", made);
            Cases.same(0L, s.zk.exists(made, false).getEphemeralOwner());
        }
    }

    private static void multi() throws Exception {
        try (Session s = new Session(hosts)) {
            String path = room(s.zk);
            List<OpResult> done = s.zk.multi(Arrays.asList(
                Op.create(path + "/a", "1".getBytes(), OPEN_ACL_UNSAFE, PERSISTENT),
                Op.create(path + "/c", null, OPEN_ACL_UNSAFE, CONTAINER),
                Op.check(path + "/a", 0),
                Op.setData(path + "/a", "2".getBytes(), 0),
                Op.create(path + "/a/s-", null, OPEN_ACL_UNSAFE, PERSISTENT_SEQUENTIAL),
                Op.delete(path + "/a/s-0000000000", -1)));
            Cases.same(6, done.size());
            Cases.same(path + "/a/s-0000000000", ((OpResult.CreateResult) done.get(4)).getPath());
            Cases.same(1, ((OpResult.SetDataResult) done.get(3)).getStat().getVersion());
            try {
                s.zk.multi(Arrays.asList(
                    Op.delete(path + "/a", -1), Op.check(path + "/none", 3), Op.delete(path, -1)));
                throw new AssertionError("it was not refused");
            } catch (KeeperException error) {
                Cases.same(Code.NONODE, error.code());
                List<Integer> codes = new ArrayList<>();
                for (OpResult result : error.getResults()) {
                    codes.add(((OpResult.ErrorResult) result).getErr());
                }
                Cases.same(List.of(0, -101, -2), codes);
            }
            Cases.check(s.zk.exists(path + "/a", false) != null, "a part of the transaction was carried out");
            s.zk.transaction().create(path + "/t", null, OPEN_ACL_UNSAFE, EPHEMERAL).delete(path + "/a", 1).commit();
            Cases.same(List.of(), s.zk.multi(Collections.emptyList()));
        }
    }

    private static void multiRead() throws Exception {
        try (Session s = new Session(hosts)) {
            String path = room(s.zk);
            s.zk.create(path + "/a", "x".getBytes(), OPEN_ACL_UNSAFE, PERSISTENT);
            List<OpResult> read = s.zk.multi(Arrays.asList(
                Op.getData(path + "/a"), Op.getData(path + "/none"), Op.getChildren(path)));
            Cases.same("x", new String(((OpResult.GetDataResult) read.get(0)).getData()));
            Cases.same(-101, ((OpResult.ErrorResult) read.get(1)).getErr());
            Cases.same(List.of("a"), ((OpResult.GetChildrenResult) read.get(2)).getChildren());
        }
    }

    private static void watches() throws Exception {
        try (Session s = new Session(hosts); Session other = new Session(hosts)) {
            String path = room(s.zk);
            s.zk.exists(path + "/a", true);
            s.zk.getChildren(path, true);
            other.zk.create(path + "/a", null, OPEN_ACL_UNSAFE, PERSISTENT);
            Cases.same("NodeCreated " + path + "/a", s.event());
            Cases.same("NodeChildrenChanged " + path, s.event());
            s.zk.getData(path + "/a", true, null);
            s.zk.getChildren(path + "/a", true);
            other.zk.setData(path + "/a", null, -1);
            Cases.same("NodeDataChanged " + path + "/a", s.event());
            other.zk.delete(path + "/a", -1);
            Cases.same("NodeDeleted " + path + "/a", s.event());
            other.zk.create(path + "/a", null, OPEN_ACL_UNSAFE, PERSISTENT);
            s.zk.sync(path, (code, p, context) -> { }, null);
            s.zk.exists(path, false);
            Cases.same(0, s.events.size());
        }
    }

    private static void persistentWatches() throws Exception {
        try (Session s = new Session(hosts); Session other = new Session(hosts)) {
            String path = room(s.zk);
            s.zk.addWatch(path, AddWatchMode.PERSISTENT_RECURSIVE);
            other.zk.create(path + "/a", null, OPEN_ACL_UNSAFE, PERSISTENT);
            other.zk.create(path + "/a/b", null, OPEN_ACL_UNSAFE, PERSISTENT);
            other.zk.setData(path + "/a/b", null, -1);
            other.zk.delete(path + "/a/b", -1);
            Cases.same("NodeCreated " + path + "/a", s.event());
            Cases.same("NodeCreated " + path + "/a/b", s.event());
            Cases.same("NodeDataChanged " + path + "/a/b", s.event());
            Cases.same("NodeDeleted " + path + "/a/b", s.event());
            s.zk.removeWatches(path, s, Watcher.WatcherType.Any, false);
            Cases.same("PersistentWatchRemoved " + path, s.event());
            s.zk.addWatch(path, AddWatchMode.PERSISTENT);
            other.zk.create(path + "/c", null, OPEN_ACL_UNSAFE, PERSISTENT);
            other.zk.setData(path, null, -1);
            Cases.same("NodeChildrenChanged " + path, s.event());
            Cases.same("NodeDataChanged " + path, s.event());
        }
    }

    private static void acls() throws Exception {
        try (Session s = new Session(hosts); Session other = new Session(hosts)) {
            String path = room(s.zk) + "/secret";
            s.zk.addAuthInfo("digest", "bob:pw".getBytes());
            s.zk.create(path, "x".getBytes(), ZooDefs.Ids.CREATOR_ALL_ACL, PERSISTENT);
            Cases.check(s.zk.getACL(path, null).get(0).getId().getId().startsWith("bob:"), "the list names bob");
            refused(Code.NOAUTH, () -> other.zk.getData(path, false, null));
            refused(Code.NOAUTH, () -> other.zk.setACL(path, OPEN_ACL_UNSAFE, -1));
            List<ACL> list = Arrays.asList(new ACL(ZooDefs.Perms.READ, new Id("ip", "127.0.0.1")),
                new ACL(ZooDefs.Perms.ALL, new Id("auth", "")));
            Cases.same(1, s.zk.setACL(path, list, 0).getAversion());
            Cases.same("x", new String(other.zk.getData(path, false, null)));
            refused(Code.NOAUTH, () -> other.zk.setData(path, null, -1));
            List<String> schemes = new ArrayList<>();
            s.zk.whoAmI().forEach(info -> schemes.add(info.getAuthScheme()));
            Cases.check(schemes.contains("digest") && schemes.contains("ip"), "whoAmI says " + schemes);
        }
    }

    private static void listing() throws Exception {
        try (Session s = new Session(hosts)) {
            String path = room(s.zk);
            for (String name : List.of("a", "b", "a/c")) {
                s.zk.create(path + "/" + name, null, OPEN_ACL_UNSAFE, PERSISTENT);
            }
            s.zk.create(path + "/b/e", null, OPEN_ACL_UNSAFE, EPHEMERAL);
            Stat stat = new Stat();
            List<String> names = s.zk.getChildren(path, false, stat);
            Collections.sort(names);
            Cases.same(List.of("a", "b"), names);
            Cases.same(2, stat.getNumChildren());
            Cases.same(4, s.zk.getAllChildrenNumber(path));
            Cases.same(List.of(path + "/b/e"), s.zk.getEphemerals(path));
        }
    }

    private static void chroot() throws Exception {
        try (Session s = new Session(hosts)) {
            String path = room(s.zk);
            try (Session below = new Session(hosts + path)) {
                Cases.same("/a", below.zk.create("/a", "x".getBytes(), OPEN_ACL_UNSAFE, PERSISTENT));
                below.zk.getData("/a", true, null);
                s.zk.setData(path + "/a", null, -1);
                Cases.same("NodeDataChanged /a", below.event());
            }
        }
    }

    private static void pipeline() throws Exception {
        try (Session s = new Session(hosts)) {
            String path = room(s.zk);
            s.zk.create(path + "/n", null, OPEN_ACL_UNSAFE, PERSISTENT);
            AtomicInteger answered = new AtomicInteger();
            AtomicInteger wrong = new AtomicInteger();
            CountDownLatch all = new CountDownLatch(10_000);
            for (int i = 0; i < 10_000; i++) {
                int version = i;
                s.zk.setData(path + "/n", String.valueOf(i).getBytes(), version, (code, p, context, stat) -> {
                    boolean right = code == 0 && stat.getVersion() == version + 1 && answered.getAndIncrement() == version;
                    wrong.addAndGet(right ? 0 : 1);
                    all.countDown();
                }, null);
            }
            Cases.check(all.await(60, TimeUnit.SECONDS), "not all were answered");
            Cases.same(0, wrong.get());
            Cases.same("9999", new String(s.zk.getData(path + "/n", false, null)));
        }
    }

    private static void takeOver() throws Exception {
        try (Session s = new Session(hosts)) {
            String path = room(s.zk) + "/e";
            s.zk.create(path, null, OPEN_ACL_UNSAFE, EPHEMERAL);
            long id = s.zk.getSessionId();
            byte[] password = s.zk.getSessionPasswd();
            LinkedBlockingQueue<Watcher.Event.KeeperState> states = new LinkedBlockingQueue<>();
            ZooKeeper wrong = new ZooKeeper(hosts, 10_000, event -> states.add(event.getState()), id, new byte[16]);
            Cases.same(Watcher.Event.KeeperState.Expired, states.poll(30, TimeUnit.SECONDS));
            wrong.close();
            LinkedBlockingQueue<Watcher.Event.KeeperState> taken = new LinkedBlockingQueue<>();
            ZooKeeper second = new ZooKeeper(hosts, 10_000, event -> taken.add(event.getState()), id, password);
            Cases.same(Watcher.Event.KeeperState.SyncConnected, taken.poll(30, TimeUnit.SECONDS));
            Cases.same(id, second.exists(path, false).getEphemeralOwner());
            second.close();
        }
    }

    private static void rest() throws Exception {
        try (Session s = new Session(hosts)) {
            String path = room(s.zk);
            CountDownLatch synced = new CountDownLatch(1);
            s.zk.sync(path, (code, p, context) -> synced.countDown(), null);
            Cases.check(synced.await(30, TimeUnit.SECONDS), "sync was not answered");
            s.zk.getConfig(false, new Stat());
            byte[] large = new byte[1_000_000];
            Arrays.fill(large, (byte) 7);
            s.zk.create(path + "/large", large, OPEN_ACL_UNSAFE, PERSISTENT);
            Cases.check(Arrays.equals(large, s.zk.getData(path + "/large", false, null)), "other bytes came back");
        }
    }

    private static void leaderKilled() throws Exception {
        try (Session s = new Session(hosts); Session other = new Session(hosts)) {
            String path = room(s.zk);
            s.zk.create(path + "/e", null, OPEN_ACL_UNSAFE, EPHEMERAL);
            s.zk.create(path + "/n", "0".getBytes(), OPEN_ACL_UNSAFE, PERSISTENT);
            long id = s.zk.getSessionId();
            s.zk.exists(path + "/later", true);
            s.zk.addWatch(path + "/n", AddWatchMode.PERSISTENT);
            int version = 0;
            for (int round = 0; round < 2; round++) {
                Cases.hook("LEADER_KILL");
                for (int i = 0; i < 20; i++) {
                    version = increment(other.zk, path + "/n", version);
                }
                Cases.hook("LEADER_START");
            }
            while (true) {
                try {
                    other.zk.create(path + "/later", null, OPEN_ACL_UNSAFE, PERSISTENT);
                    break;
                } catch (KeeperException.ConnectionLossException lost) {
                    Thread.sleep(50);
                } catch (KeeperException.NodeExistsException there) {
                    break;
                }
            }
            String event = s.event();
            while (event.equals("NodeDataChanged " + path + "/n")) {
                event = s.event();
            }
            Cases.same("NodeCreated " + path + "/later", event);
            Cases.same(id, s.zk.getSessionId());
            Cases.same(id, s.zk.exists(path + "/e", false).getEphemeralOwner());
            Cases.same(String.valueOf(version), new String(s.zk.getData(path + "/n", false, null)));
        }
    }

    /** Writes version + 1; after a lost connection it looks whether it did. */
    private static int increment(ZooKeeper zk, String path, int version) throws Exception {
        byte[] data = String.valueOf(version + 1).getBytes();
        while (true) {
            try {
                return zk.setData(path, data, version).getVersion();
            } catch (KeeperException.ConnectionLossException lost) {
                Thread.sleep(20);
            } catch (KeeperException.BadVersionException done) {
                Stat stat = new Stat();
                Cases.same(new String(data), new String(zk.getData(path, false, stat)));
                Cases.same(version + 1, stat.getVersion());
                return version + 1;
            }
        }
    }
}
