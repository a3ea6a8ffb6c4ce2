import java.util.ArrayList;
import java.util.Collections;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.framework.api.transaction.CuratorTransactionResult;
import org.apache.curator.framework.recipes.atomic.AtomicValue;
import org.apache.curator.framework.recipes.atomic.DistributedAtomicLong;
import org.apache.curator.framework.recipes.barriers.DistributedBarrier;
import org.apache.curator.framework.recipes.barriers.DistributedDoubleBarrier;
import org.apache.curator.framework.recipes.cache.CuratorCache;
import org.apache.curator.framework.recipes.cache.CuratorCacheListener;
import org.apache.curator.framework.recipes.cache.NodeCache;
import org.apache.curator.framework.recipes.cache.PathChildrenCache;
import org.apache.curator.framework.recipes.cache.TreeCache;
import org.apache.curator.framework.recipes.leader.LeaderLatch;
import org.apache.curator.framework.recipes.leader.LeaderSelector;
import org.apache.curator.framework.recipes.leader.LeaderSelectorListenerAdapter;
import org.apache.curator.framework.recipes.locks.InterProcessLock;
import org.apache.curator.framework.recipes.locks.InterProcessMultiLock;
import org.apache.curator.framework.recipes.locks.InterProcessMutex;
import org.apache.curator.framework.recipes.locks.InterProcessReadWriteLock;
import org.apache.curator.framework.recipes.locks.InterProcessSemaphoreMutex;
import org.apache.curator.framework.recipes.locks.InterProcessSemaphoreV2;
import org.apache.curator.framework.recipes.locks.Lease;
import org.apache.curator.framework.recipes.nodes.GroupMember;
import org.apache.curator.framework.recipes.nodes.PersistentNode;
import org.apache.curator.framework.recipes.nodes.PersistentTtlNode;
import org.apache.curator.framework.recipes.queue.DistributedDelayQueue;
import org.apache.curator.framework.recipes.queue.DistributedPriorityQueue;
import org.apache.curator.framework.recipes.queue.DistributedQueue;
import org.apache.curator.framework.recipes.queue.QueueBuilder;
import org.apache.curator.framework.recipes.queue.QueueConsumer;
import org.apache.curator.framework.recipes.queue.QueueSerializer;
import org.apache.curator.framework.recipes.queue.SimpleDistributedQueue;
import org.apache.curator.framework.recipes.shared.SharedCount;
import org.apache.curator.framework.recipes.watch.PersistentWatcher;
import org.apache.curator.framework.state.ConnectionState;
import org.apache.curator.retry.RetryForever;
import org.apache.curator.retry.RetryNTimes;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.data.Stat;

/**
 * Curator's recipes against running servers: Recipes HOSTS [CASE]. Each case works below a znode of its own; the last ones kill
 * the leader, by the commands in LEADER_KILL and LEADER_START, while recipes are in use.
 */
public final class Recipes {
    private static String hosts;
    private static final AtomicInteger next = new AtomicInteger();
    private static final String run = Long.toHexString(System.nanoTime());
    private static final ExecutorService pool = Executors.newCachedThreadPool(task -> {
        Thread thread = new Thread(task);
        thread.setDaemon(true);
        return thread;
    });

    public static void main(String[] args) throws Exception {
        hosts = args[0];
        Cases cases = new Cases(args);
        cases.run("znodes with parents, containers, protection, times to live", Recipes::znodes);
        cases.run("the ensemble tracker reads who the servers are", Recipes::ensemble);
        cases.run("transactions", Recipes::transactions);
        cases.run("the mutex excludes, and is reentrant", Recipes::mutex);
        cases.run("the semaphore mutex, the multi lock, the read/write lock", Recipes::locks);
        cases.run("the semaphore gives as many leases as there are", Recipes::semaphore);
        cases.run("the latch has one leader, and another when it goes", Recipes::latch);
        cases.run("the selector gives everybody a turn", Recipes::selector);
        cases.run("caches follow what happens: Curator, tree, children, node", Recipes::caches);
        cases.run("queues: simple, plain, with priorities, with delays", Recipes::queues);
        cases.run("barriers, single and double", Recipes::barriers);
        cases.run("counters, shared and atomic", Recipes::counters);
        cases.run("persistent nodes, and group members", Recipes::members);
        cases.run("persistent watchers", Recipes::watchers);
        if (System.getenv("LEADER_KILL") != null) {
            cases.run("leader killed: the counter loses nothing, the mutex excludes", Recipes::killedCounting);
            cases.run("leader killed: latch, cache and semaphore go on", Recipes::killedWatching);
            cases.run("leader killed: a queue loses nothing, a barrier opens, transactions are whole", Recipes::killedQueueing);
        }
        cases.close();
    }

    private static CuratorFramework client() throws Exception {
        CuratorFramework client = CuratorFrameworkFactory.builder().connectString(hosts)
            .namespace("curator-" + run).sessionTimeoutMs(10_000).connectionTimeoutMs(10_000)
            .retryPolicy(new RetryForever(100)).build();
        client.start();
        Cases.check(client.blockUntilConnected(30, TimeUnit.SECONDS), "not connected");
        return client;
    }

    private static String room() {
        return "/" + next.incrementAndGet();
    }

    private static void znodes() throws Exception {
        try (CuratorFramework client = client()) {
            String path = room();
            Cases.same(path + "/a/b", client.create().creatingParentsIfNeeded().forPath(path + "/a/b", "x".getBytes()));
            client.create().creatingParentContainersIfNeeded().forPath(path + "/c/d");
            String made = client.create().withProtection().withMode(CreateMode.EPHEMERAL_SEQUENTIAL).forPath(path + "/p-");
            Cases.check(made.endsWith("0000000002"), made);
            client.create().withTtl(600_000).withMode(CreateMode.PERSISTENT_WITH_TTL).forPath(path + "/t");
            client.create().orSetData().forPath(path + "/a/b", "y".getBytes());
            Cases.same("y", new String(client.getData().forPath(path + "/a/b")));
            Cases.same(4, client.getChildren().forPath(path).size());
            client.sync().forPath(path);
            client.delete().guaranteed().deletingChildrenIfNeeded().forPath(path);
            Cases.same(null, client.checkExists().forPath(path));
        }
    }

    /** Curator replaces its connect string by what it reads in the configuration, and needs to understand it. */
    private static void ensemble() throws Exception {
        try (CuratorFramework client = client()) {
            int servers = hosts.split(",").length;
            Cases.until("all servers are known", () -> client.getCurrentConfig().getAllMembers().size() == servers);
        }
    }

    private static void transactions() throws Exception {
        try (CuratorFramework client = client()) {
            String path = room();
            List<CuratorTransactionResult> done = client.transaction().forOperations(
                client.transactionOp().create().forPath(path),
                client.transactionOp().create().withMode(CreateMode.EPHEMERAL).forPath(path + "/a", "1".getBytes()),
                client.transactionOp().setData().withVersion(0).forPath(path + "/a", "2".getBytes()),
                client.transactionOp().check().withVersion(1).forPath(path + "/a"));
            Cases.same(4, done.size());
            Cases.same(path + "/a", done.get(1).getResultPath());
            Cases.same(1, done.get(2).getResultStat().getVersion());
            try {
                client.transaction().forOperations(
                    client.transactionOp().delete().forPath(path + "/a"),
                    client.transactionOp().check().withVersion(7).forPath(path));
                throw new AssertionError("it was not refused");
            } catch (KeeperException.BadVersionException expected) {
                Cases.check(client.checkExists().forPath(path + "/a") != null, "a part was carried out");
            }
        }
    }

    /** Several threads, each with a session of its own, add to a number that nothing else protects. */
    private static void excludes(int threads, int rounds, java.util.function.Function<CuratorFramework, InterProcessLock> lock)
        throws Exception {
        AtomicInteger inside = new AtomicInteger();
        int[] sum = new int[1];
        List<Future<?>> all = new ArrayList<>();
        for (int i = 0; i < threads; i++) {
            all.add(pool.submit(() -> {
                try (CuratorFramework client = client()) {
                    InterProcessLock mine = lock.apply(client);
                    for (int round = 0; round < rounds; round++) {
                        Cases.check(mine.acquire(60, TimeUnit.SECONDS), "the lock was not had");
                        Cases.same(1, inside.incrementAndGet());
                        sum[0]++;
                        inside.decrementAndGet();
                        mine.release();
                    }
                }
                return null;
            }));
        }
        for (Future<?> one : all) {
            one.get(120, TimeUnit.SECONDS);
        }
        Cases.same(threads * rounds, sum[0]);
    }

    private static void mutex() throws Exception {
        String path = room();
        excludes(5, 20, client -> new InterProcessMutex(client, path));
        try (CuratorFramework client = client(); CuratorFramework other = client()) {
            InterProcessMutex mutex = new InterProcessMutex(client, path);
            mutex.acquire();
            mutex.acquire();
            Cases.check(!new InterProcessMutex(other, path).acquire(200, TimeUnit.MILLISECONDS), "two have it");
            Cases.same(1, mutex.getParticipantNodes().size());
            mutex.release();
            mutex.release();
        }
    }

    private static void locks() throws Exception {
        String path = room();
        excludes(3, 10, client -> new InterProcessSemaphoreMutex(client, path + "/s"));
        excludes(3, 5, client -> new InterProcessMultiLock(client, List.of(path + "/m1", path + "/m2")));
        excludes(3, 10, client -> new InterProcessReadWriteLock(client, path + "/rw").writeLock());
        try (CuratorFramework client = client(); CuratorFramework other = client()) {
            InterProcessReadWriteLock one = new InterProcessReadWriteLock(client, path + "/rw");
            InterProcessReadWriteLock two = new InterProcessReadWriteLock(other, path + "/rw");
            one.readLock().acquire();
            Cases.check(two.readLock().acquire(30, TimeUnit.SECONDS), "readers exclude each other");
            Cases.check(!two.writeLock().acquire(200, TimeUnit.MILLISECONDS), "a writer came in among readers");
            two.readLock().release();
            one.readLock().release();
            Cases.check(two.writeLock().acquire(30, TimeUnit.SECONDS), "the writer does not get it");
            two.writeLock().release();
        }
    }

    private static void semaphore() throws Exception {
        try (CuratorFramework client = client(); CuratorFramework other = client()) {
            InterProcessSemaphoreV2 one = new InterProcessSemaphoreV2(client, room(), 3);
            List<Lease> leases = new ArrayList<>(one.acquire(3));
            Cases.same(null, one.acquire(200, TimeUnit.MILLISECONDS));
            one.returnLease(leases.remove(0));
            Lease again = one.acquire(30, TimeUnit.SECONDS);
            Cases.check(again != null, "a lease that came back is not given");
            one.returnAll(leases);
        }
    }

    private static void latch() throws Exception {
        String path = room();
        List<CuratorFramework> clients = new ArrayList<>();
        List<LeaderLatch> latches = new ArrayList<>();
        for (int i = 0; i < 4; i++) {
            clients.add(client());
            latches.add(new LeaderLatch(clients.get(i), path, "id-" + i));
            latches.get(i).start();
        }
        for (int left = 4; left > 0; left--) {
            Cases.until("a leader", () -> latches.stream().anyMatch(LeaderLatch::hasLeadership));
            Cases.same(1L, latches.stream().filter(LeaderLatch::hasLeadership).count());
            LeaderLatch leader = latches.stream().filter(LeaderLatch::hasLeadership).findFirst().get();
            Cases.check(leader.getLeader().isLeader(), "the leader is not named");
            leader.close();
            latches.remove(leader);
        }
        clients.forEach(CuratorFramework::close);
    }

    private static void selector() throws Exception {
        String path = room();
        Set<Integer> led = Collections.synchronizedSet(new HashSet<>());
        AtomicInteger inside = new AtomicInteger();
        AtomicInteger clashes = new AtomicInteger();
        List<CuratorFramework> clients = new ArrayList<>();
        for (int i = 0; i < 3; i++) {
            int id = i;
            CuratorFramework client = client();
            clients.add(client);
            LeaderSelector selector = new LeaderSelector(client, path, new LeaderSelectorListenerAdapter() {
                @Override public void takeLeadership(CuratorFramework ignored) throws Exception {
                    clashes.addAndGet(inside.incrementAndGet() == 1 ? 0 : 1);
                    led.add(id);
                    Thread.sleep(30);
                    inside.decrementAndGet();
                }
            });
            selector.autoRequeue();
            selector.start();
        }
        Cases.until("everybody led", () -> led.size() == 3);
        Cases.same(0, clashes.get());
        clients.forEach(CuratorFramework::close);
    }

    @SuppressWarnings("deprecation")
    private static void caches() throws Exception {
        String path = room();
        try (CuratorFramework client = client(); CuratorFramework other = client()) {
            client.create().creatingParentsIfNeeded().forPath(path + "/a", "1".getBytes());
            BlockingQueue<String> told = new LinkedBlockingQueue<>();
            CuratorCache cache = CuratorCache.build(client, path);
            cache.listenable().addListener(CuratorCacheListener.builder()
                .forCreates(node -> told.add("+" + node.getPath()))
                .forChanges((before, node) -> told.add("=" + node.getPath() + " " + new String(node.getData())))
                .forDeletes(node -> told.add("-" + node.getPath())).build());
            TreeCache tree = new TreeCache(client, path);
            PathChildrenCache children = new PathChildrenCache(client, path, true);
            NodeCache node = new NodeCache(client, path + "/a");
            cache.start();
            tree.start();
            children.start(PathChildrenCache.StartMode.BUILD_INITIAL_CACHE);
            node.start(true);
            Cases.until("the first look", () -> told.size() == 2);
            told.clear();
            // A cache reads a znode once it is told of it: one that is gone again by then was never there for it.
            other.create().forPath(path + "/b", "2".getBytes());
            Cases.until("the cache was told of the new one", () -> told.contains("+" + path + "/b"));
            other.setData().forPath(path + "/a", "3".getBytes());
            other.delete().forPath(path + "/b");
            Set<String> all = Set.of("=" + path + "/a 3", "-" + path + "/b");
            Cases.until("the cache was told of the others", () -> new HashSet<>(told).containsAll(all));
            Cases.until("the tree", () -> tree.getCurrentData(path + "/a") != null
                && new String(tree.getCurrentData(path + "/a").getData()).equals("3") && tree.getCurrentData(path + "/b") == null);
            Cases.until("the children", () -> children.getCurrentData().size() == 1
                && new String(children.getCurrentData().get(0).getData()).equals("3"));
            Cases.until("the node", () -> new String(node.getCurrentData().getData()).equals("3"));
            cache.close();
            tree.close();
            children.close();
            node.close();
        }
    }

    private static final QueueSerializer<String> TEXT = new QueueSerializer<String>() {
        @Override public byte[] serialize(String item) {
            return item.getBytes();
        }

        @Override public String deserialize(byte[] bytes) {
            return new String(bytes);
        }
    };

    private static QueueConsumer<String> into(BlockingQueue<String> got) {
        return new QueueConsumer<String>() {
            @Override public void consumeMessage(String item) {
                got.add(item);
            }

            @Override public void stateChanged(CuratorFramework client, ConnectionState state) { }
        };
    }

    private static void queues() throws Exception {
        String path = room();
        try (CuratorFramework client = client(); CuratorFramework other = client()) {
            SimpleDistributedQueue simple = new SimpleDistributedQueue(client, path + "/simple");
            for (int i = 0; i < 20; i++) {
                simple.offer(("" + i).getBytes());
            }
            SimpleDistributedQueue taking = new SimpleDistributedQueue(other, path + "/simple");
            for (int i = 0; i < 20; i++) {
                Cases.same("" + i, new String(taking.poll(30, TimeUnit.SECONDS)));
            }
            BlockingQueue<String> got = new LinkedBlockingQueue<>();
            try (DistributedQueue<String> queue = QueueBuilder.builder(client, into(got), TEXT, path + "/plain")
                .lockPath(path + "/plain-lock").buildQueue()) {
                queue.start();
                for (int i = 0; i < 20; i++) {
                    queue.put("" + i);
                }
                Cases.until("all came", () -> got.size() == 20);
                Cases.same("0", got.peek());
            }
            BlockingQueue<String> ordered = new LinkedBlockingQueue<>();
            DistributedPriorityQueue<String> put = QueueBuilder.<String>builder(other, null, TEXT, path + "/priority")
                .buildPriorityQueue(1);
            put.start();
            put.put("later", 5);
            put.put("first", 1);
            put.flushPuts(30, TimeUnit.SECONDS);
            try (DistributedPriorityQueue<String> take = QueueBuilder.builder(client, into(ordered), TEXT, path + "/priority")
                .buildPriorityQueue(1)) {
                take.start();
                Cases.same("first", ordered.poll(30, TimeUnit.SECONDS));
                Cases.same("later", ordered.poll(30, TimeUnit.SECONDS));
            }
            put.close();
            BlockingQueue<String> delayed = new LinkedBlockingQueue<>();
            try (DistributedDelayQueue<String> queue = QueueBuilder.builder(client, into(delayed), TEXT, path + "/delay")
                .buildDelayQueue()) {
                queue.start();
                queue.put("late", System.currentTimeMillis() + 600);
                queue.put("soon", System.currentTimeMillis() + 100);
                Cases.same("soon", delayed.poll(30, TimeUnit.SECONDS));
                Cases.same("late", delayed.poll(30, TimeUnit.SECONDS));
            }
        }
    }

    private static void barriers() throws Exception {
        String path = room();
        try (CuratorFramework client = client(); CuratorFramework other = client()) {
            DistributedBarrier barrier = new DistributedBarrier(client, path + "/single");
            barrier.setBarrier();
            Future<Boolean> through = pool.submit(() -> new DistributedBarrier(other, path + "/single").waitOnBarrier(30, TimeUnit.SECONDS));
            Thread.sleep(100);
            Cases.check(!through.isDone(), "it is no barrier");
            barrier.removeBarrier();
            Cases.check(through.get(30, TimeUnit.SECONDS), "it does not open");
            AtomicInteger entered = new AtomicInteger();
            List<Future<Integer>> all = new ArrayList<>();
            for (int i = 0; i < 4; i++) {
                all.add(pool.submit(() -> {
                    DistributedDoubleBarrier twice = new DistributedDoubleBarrier(client, path + "/double", 4);
                    Cases.check(twice.enter(30, TimeUnit.SECONDS), "not entered");
                    int together = entered.incrementAndGet();
                    Cases.check(twice.leave(30, TimeUnit.SECONDS), "not left");
                    return entered.get();
                }));
            }
            for (Future<Integer> one : all) {
                Cases.same(4, one.get(60, TimeUnit.SECONDS));
            }
        }
    }

    private static void counters() throws Exception {
        String path = room();
        try (CuratorFramework client = client(); CuratorFramework other = client()) {
            SharedCount one = new SharedCount(client, path + "/shared", 7);
            SharedCount two = new SharedCount(other, path + "/shared", 7);
            one.start();
            two.start();
            Cases.check(one.trySetCount(one.getVersionedValue(), 8), "not set");
            Cases.until("the other sees it", () -> two.getCount() == 8);
            one.close();
            two.close();
        }
        Cases.same(100L, count(path + "/atomic", 5, 20));
    }

    /** Several sessions add to one number. */
    private static long count(String path, int threads, int rounds) throws Exception {
        List<Future<?>> all = new ArrayList<>();
        for (int i = 0; i < threads; i++) {
            all.add(pool.submit(() -> {
                try (CuratorFramework client = client()) {
                    DistributedAtomicLong number = new DistributedAtomicLong(client, path, new RetryNTimes(1000, 5));
                    for (int round = 0; round < rounds; ) {
                        AtomicValue<Long> added = number.increment();
                        round += added.succeeded() ? 1 : 0;
                    }
                }
                return null;
            }));
        }
        for (Future<?> one : all) {
            one.get(120, TimeUnit.SECONDS);
        }
        try (CuratorFramework client = client()) {
            return new DistributedAtomicLong(client, path, new RetryNTimes(10, 5)).get().postValue();
        }
    }

    private static void members() throws Exception {
        String path = room();
        try (CuratorFramework client = client(); CuratorFramework other = client()) {
            PersistentNode node = new PersistentNode(client, CreateMode.EPHEMERAL, false, path + "/node", "x".getBytes());
            node.start();
            Cases.check(node.waitForInitialCreate(30, TimeUnit.SECONDS), "not created");
            other.delete().forPath(path + "/node");
            Cases.until("it is there again", () -> other.checkExists().forPath(path + "/node") != null);
            node.close();
            PersistentTtlNode lasting = new PersistentTtlNode(client, path + "/ttl", 60_000, "x".getBytes());
            lasting.start();
            Cases.check(lasting.waitForInitialCreate(30, TimeUnit.SECONDS), "not created");
            lasting.close();
            GroupMember one = new GroupMember(client, path + "/group", "one");
            GroupMember two = new GroupMember(other, path + "/group", "two");
            one.start();
            two.start();
            Cases.until("both are members", () -> one.getCurrentMembers().keySet().equals(Set.of("one", "two")));
            two.close();
            Cases.until("one is left", () -> one.getCurrentMembers().keySet().equals(Set.of("one")));
            one.close();
        }
    }

    private static void watchers() throws Exception {
        String path = room();
        try (CuratorFramework client = client(); CuratorFramework other = client()) {
            client.create().forPath(path);
            BlockingQueue<String> told = new LinkedBlockingQueue<>();
            PersistentWatcher watcher = new PersistentWatcher(client, path, true);
            CountDownLatch set = new CountDownLatch(1);
            watcher.getResetListenable().addListener(set::countDown);
            watcher.getListenable().addListener(event -> told.add(event.getType() + " " + event.getPath()));
            watcher.start();
            Cases.check(set.await(30, TimeUnit.SECONDS), "the watch was not set");
            other.create().forPath(path + "/a");
            other.delete().forPath(path + "/a");
            Cases.same("NodeCreated " + path + "/a", told.poll(30, TimeUnit.SECONDS));
            Cases.same("NodeDeleted " + path + "/a", told.poll(30, TimeUnit.SECONDS));
            watcher.close();
        }
    }

    private static void killedCounting() throws Exception {
        String path = room();
        Future<Long> counted = pool.submit(() -> {
            AtomicInteger inside = new AtomicInteger();
            long sum = 0;
            try (CuratorFramework client = client()) {
                client.create().creatingParentsIfNeeded().forPath(path + "/n", "0".getBytes());
            }
            List<Future<?>> all = new ArrayList<>();
            for (int i = 0; i < 3; i++) {
                all.add(pool.submit(() -> {
                    try (CuratorFramework client = client()) {
                        InterProcessMutex mutex = new InterProcessMutex(client, path + "/lock");
                        for (int round = 0; round < 60; round++) {
                            mutex.acquire();
                            Cases.same(1, inside.incrementAndGet());
                            int number = Integer.parseInt(new String(client.getData().forPath(path + "/n")));
                            client.setData().forPath(path + "/n", String.valueOf(number + 1).getBytes());
                            inside.decrementAndGet();
                            mutex.release();
                            Thread.sleep(10);
                        }
                    }
                    return null;
                }));
            }
            for (Future<?> one : all) {
                one.get(200, TimeUnit.SECONDS);
            }
            try (CuratorFramework client = client()) {
                return Long.parseLong(new String(client.getData().forPath(path + "/n")));
            }
        });
        for (int i = 0; i < 2; i++) {
            Thread.sleep(500);
            Cases.hook("LEADER_KILL");
            Thread.sleep(500);
            Cases.hook("LEADER_START");
        }
        Cases.same(180L, counted.get(200, TimeUnit.SECONDS));
    }

    private static void killedWatching() throws Exception {
        String path = room();
        try (CuratorFramework client = client(); CuratorFramework other = client()) {
            LeaderLatch one = new LeaderLatch(client, path + "/latch");
            LeaderLatch two = new LeaderLatch(other, path + "/latch");
            one.start();
            Cases.until("the first leads", one::hasLeadership);
            two.start();
            client.create().creatingParentsIfNeeded().forPath(path + "/tree/a", "1".getBytes());
            CuratorCache cache = CuratorCache.build(client, path + "/tree");
            cache.start();
            InterProcessSemaphoreV2 semaphore = new InterProcessSemaphoreV2(client, path + "/semaphore", 1);
            Lease lease = semaphore.acquire();
            Cases.hook("LEADER_KILL");
            other.setData().forPath(path + "/tree/a", "2".getBytes());
            other.create().forPath(path + "/tree/b", "3".getBytes());
            Cases.until("the cache caught up", () -> cache.get(path + "/tree/b").isPresent()
                && new String(cache.get(path + "/tree/a").get().getData()).equals("2"));
            Cases.hook("LEADER_START");
            Cases.until("one leads", () -> one.hasLeadership() ^ two.hasLeadership());
            InterProcessSemaphoreV2 second = new InterProcessSemaphoreV2(other, path + "/semaphore", 1);
            Cases.same(null, second.acquire(300, TimeUnit.MILLISECONDS));
            semaphore.returnLease(lease);
            Cases.check(second.acquire(30, TimeUnit.SECONDS) != null, "the lease is not given on");
            cache.close();
            one.close();
            Cases.until("the second leads", two::hasLeadership);
            two.close();
        }
    }

    /** A queue is filled and emptied, two transfer between two accounts, and one waits at a barrier, while the leader dies. */
    private static void killedQueueing() throws Exception {
        String path = room();
        try (CuratorFramework client = client(); CuratorFramework other = client()) {
            client.create().creatingParentsIfNeeded().forPath(path + "/from", "0".getBytes());
            client.create().forPath(path + "/to", "0".getBytes());
            DistributedBarrier barrier = new DistributedBarrier(client, path + "/barrier");
            barrier.setBarrier();
            Future<Boolean> through = pool.submit(() -> new DistributedBarrier(other, path + "/barrier").waitOnBarrier(90, TimeUnit.SECONDS));
            Future<?> offered = pool.submit(() -> offer(client, path + "/queue", 200));
            Future<Set<String>> taken = pool.submit(() -> take(other, path + "/queue", offered));
            List<Future<?>> transferred = List.of(pool.submit(() -> transfer(client, path, 100)), pool.submit(() -> transfer(other, path, 100)));
            Thread.sleep(200);
            Cases.hook("LEADER_KILL");
            Thread.sleep(500);
            Cases.check(!through.isDone(), "the barrier opened by itself");
            barrier.removeBarrier();
            Cases.check(through.get(90, TimeUnit.SECONDS), "the barrier does not open");
            Cases.hook("LEADER_START");
            offered.get(90, TimeUnit.SECONDS);
            // Curator forgets the item that it was removing when the answer was lost.
            int came = taken.get(90, TimeUnit.SECONDS).size();
            Cases.check(came == 200 || came == 199, came + " items came");
            for (Future<?> one : transferred) {
                one.get(90, TimeUnit.SECONDS);
            }
            int from = Integer.parseInt(new String(client.getData().forPath(path + "/from")));
            int to = Integer.parseInt(new String(client.getData().forPath(path + "/to")));
            Cases.same(0, from + to);
            Cases.check(to >= 200, "only " + to + " transfers");
        }
    }

    private static Void offer(CuratorFramework client, String path, int count) throws Exception {
        SimpleDistributedQueue queue = new SimpleDistributedQueue(client, path);
        for (int i = 0; i < count; i++) {
            queue.offer(("" + i).getBytes());
            Thread.sleep(5);
        }
        return null;
    }

    /** Takes until nothing more is offered; what was offered again, because its answer was lost, may come twice. */
    private static Set<String> take(CuratorFramework client, String path, Future<?> offered) throws Exception {
        SimpleDistributedQueue queue = new SimpleDistributedQueue(client, path);
        Set<String> all = new HashSet<>();
        while (true) {
            boolean isLast = offered.isDone();
            byte[] item = queue.poll(2, TimeUnit.SECONDS);
            if (item != null) {
                all.add(new String(item));
            } else if (isLast) {
                return all;
            }
        }
    }

    /** Moves one from an account to another, so many times, each with both versions as they were read. */
    private static Void transfer(CuratorFramework client, String path, int count) throws Exception {
        for (int done = 0; done < count; ) {
            Stat from = new Stat(), to = new Stat();
            int had = Integer.parseInt(new String(client.getData().storingStatIn(from).forPath(path + "/from")));
            int has = Integer.parseInt(new String(client.getData().storingStatIn(to).forPath(path + "/to")));
            try {
                client.transaction().forOperations(
                    client.transactionOp().setData().withVersion(from.getVersion()).forPath(path + "/from", ("" + (had - 1)).getBytes()),
                    client.transactionOp().setData().withVersion(to.getVersion()).forPath(path + "/to", ("" + (has + 1)).getBytes()));
                done++;
            } catch (KeeperException.BadVersionException another) {
                // Somebody else was first, or the answer was lost and the transaction was tried twice.
                Thread.sleep(1);
            }
        }
        return null;
    }
}
