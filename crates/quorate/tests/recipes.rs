//! The client library's recipes on clusters of real processes, some of which are killed meanwhile (ZK-14 to ZK-16).
#![allow(
    clippy::print_stdout,
    reason = "the figures of the herd and of the counter are told with --nocapture"
)]

#[path = "up/cluster.rs"]
#[allow(dead_code, reason = "the tests of `up` use more of it")]
mod cluster;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use cluster::{Cluster, kill};
use quorate_client::recipes::{
    Barrier, Choice, Counter, DoubleBarrier, Election, Group, Held, Lock, Queue, ReadyConfig,
    Sharing, SimpleLock,
};
use quorate_client::{Acl, Client, CreateMode, Options, Zxid};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Whatever hangs is a failure, and machines are slow.
const PATIENCE: Duration = Duration::from_secs(240);

async fn connect(cluster: &Cluster) -> Client {
    connect_to(&cluster.servers()).await
}

async fn connect_to(servers: &str) -> Client {
    let servers: Vec<&str> = servers.split(',').collect();
    let options = Options { patience: PATIENCE, ..Options::default() };
    Client::connect(&servers, options).await.unwrap()
}

async fn connect_many(cluster: &Cluster, count: usize) -> Vec<Client> {
    let mut clients = Vec::new();
    for _ in 0..count {
        clients.push(connect(cluster).await);
    }
    clients
}

/// Runs a test with a limit.
fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(PATIENCE, test).await.expect("it hangs") });
}

/// Kills the leader and starts it again, a few times, in a thread of its own, until told that the test is done.
fn storm(cluster: &Cluster, kills: usize) -> std::thread::JoinHandle<()> {
    let directory = cluster.directory.path.display().to_string();
    let nodes = directory.clone();
    let quorate = |words: &[&str]| {
        let done = std::process::Command::new(env!("CARGO_BIN_EXE_quorate")).args(words).output();
        String::from_utf8_lossy(&done.unwrap().stdout).into_owned()
    };
    std::thread::spawn(move || {
        for _ in 0..kills {
            std::thread::sleep(Duration::from_millis(400));
            let status = quorate(&["status", "--dir", &nodes, "--json"]);
            let status: serde_json::Value = serde_json::from_str(&status).unwrap();
            let leader =
                status["nodes"].as_array().unwrap().iter().find(|node| node["role"] == "leader");
            let Some(leader) = leader else { continue };
            kill(leader["pid"].as_u64().unwrap());
            std::thread::sleep(Duration::from_millis(300));
            quorate(&["node", "start", "--dir", &directory, "--id", &leader["id"].to_string()]);
        }
    })
}

#[test]
fn every_recipe_on_a_quiet_cluster() {
    let cluster = Cluster::start(3);
    run(async {
        one_of_many_is_chosen(&cluster).await;
        readers_share_and_writers_do_not(&cluster).await;
        leaders_follow_each_other(&cluster).await;
        barriers_hold_and_open(&cluster).await;
        members_come_and_go(&cluster).await;
        a_hundred_contenders_count(&cluster).await;
        a_caller_who_goes_away_blocks_nobody(&cluster).await;
    });
}

/// ZK-14: of many that create, exactly one wins, and the others are told who.
async fn one_of_many_is_chosen(cluster: &Cluster) {
    let mut choosing = JoinSet::new();
    for (number, client) in connect_many(cluster, 20).await.into_iter().enumerate() {
        choosing.spawn(async move {
            let name = number.to_string();
            SimpleLock::new(&client, "/chosen")
                .choose(name.as_bytes())
                .await
                .map(|choice| (name, choice))
        });
    }
    let (mut won, mut told) = (Vec::new(), BTreeSet::new());
    while let Some(chosen) = choosing.join_next().await {
        match chosen.unwrap().unwrap() {
            (name, Choice::Won(held)) => won.push((name, held)),
            (_, Choice::Lost(name)) => drop(told.insert(String::from_utf8(name).unwrap())),
        }
    }
    assert_eq!(won.len(), 1, "several won");
    assert_eq!(told, BTreeSet::from([won[0].0.clone()]));
}

/// ZK-16: readers are there together, a writer alone; the line is kept.
async fn readers_share_and_writers_do_not(cluster: &Cluster) {
    let clients = connect_many(cluster, 4).await;
    let locks: Vec<Lock> =
        clients.iter().map(|client| Lock::new(client, "/locks/shared")).collect();
    let first = locks[0].acquire_as(Sharing::Shared).await.unwrap();
    let second = locks[1].acquire_as(Sharing::Shared).await.unwrap();
    let writer = tokio::spawn({
        let lock = locks[2].clone();
        async move { lock.acquire().await.unwrap() }
    });
    while locks[3].contenders().await.unwrap() < 3 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(locks[3].try_acquire().await.unwrap().is_none());
    first.release().await.unwrap();
    assert!(!writer.is_finished(), "a writer is in with a reader");
    second.release().await.unwrap();
    let writer = writer.await.unwrap();
    assert_eq!(locks[3].contenders().await.unwrap(), 1);
    writer.release().await.unwrap();
    assert!(locks[3].try_acquire().await.unwrap().is_some());
}

/// ZK-16: the first leads; when its session ends, the next one does, with a higher token.
async fn leaders_follow_each_other(cluster: &Cluster) {
    let clients = connect_many(cluster, 3).await;
    let watching = Election::new(&clients[2], "/election");
    assert_eq!(watching.leader().await.unwrap(), None);
    let first = Election::new(&clients[0], "/election").lead(b"first").await.unwrap();
    let election = Election::new(&clients[1], "/election");
    let second = tokio::spawn(async move { election.lead(b"second").await.unwrap() });
    assert_eq!(watching.leader().await.unwrap(), Some((b"first".to_vec(), first.token())));
    clients[0].close().await.unwrap();
    let second = second.await.unwrap();
    assert!(second.token() > first.token());
    assert_eq!(watching.leader().await.unwrap(), Some((b"second".to_vec(), second.token())));
    first.lost().await;
}

/// ZK-16: a closed barrier holds; a double barrier lets nobody in or out alone.
async fn barriers_hold_and_open(cluster: &Cluster) {
    let clients = connect_many(cluster, 5).await;
    let barrier = Barrier::new(&clients[0], "/barrier");
    barrier.close().await.unwrap();
    let waiting = tokio::spawn({
        let barrier = Barrier::new(&clients[1], "/barrier");
        async move { barrier.wait().await.unwrap() }
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!waiting.is_finished());
    barrier.open().await.unwrap();
    waiting.await.unwrap();

    for _ in 0..2 {
        let inside = Arc::new(AtomicU64::new(0));
        let mut together = JoinSet::new();
        for client in clients.clone() {
            let inside = inside.clone();
            together.spawn(async move {
                let mut barrier = DoubleBarrier::new(&client, "/double", 5);
                inside.fetch_add(1, Ordering::SeqCst);
                barrier.enter().await.unwrap();
                assert_eq!(inside.load(Ordering::SeqCst), 5, "in before all were there");
                barrier.leave().await.unwrap();
            });
        }
        while let Some(one) = together.join_next().await {
            one.unwrap();
        }
    }
}

/// ZK-16: a member goes when it leaves and when its session ends; a name is had once.
async fn members_come_and_go(cluster: &Cluster) {
    let clients = connect_many(cluster, 3).await;
    let group = Group::open(&clients[0], "/group").await.unwrap();
    let _one = group.join("one", b"").await.unwrap();
    let before = group.members().await.unwrap();
    let other = Group::open(&clients[1], "/group").await.unwrap();
    assert!(other.join("one", b"").await.is_err());
    let two = other.join("two", b"").await.unwrap();
    before.changed().await.unwrap();
    let both = group.members().await.unwrap();
    assert_eq!(both.names, BTreeSet::from(["one", "two"].map(str::to_owned)));
    clients[1].close().await.unwrap();
    both.changed().await.unwrap();
    assert_eq!(group.members().await.unwrap().names, BTreeSet::from(["one".to_owned()]));
    drop(two);
}

/// ZK-3, ZK-16: a hundred add one each at the same time; nothing is lost, and everybody is done in the end.
async fn a_hundred_contenders_count(cluster: &Cluster) {
    let mut adding = JoinSet::new();
    for client in connect_many(cluster, 100).await {
        adding.spawn(async move {
            let mut counter = Counter::open(&client, "/counter").await.unwrap();
            counter.add(1).await.unwrap()
        });
    }
    let (mut values, mut collisions) = (BTreeSet::new(), Vec::new());
    while let Some(added) = adding.join_next().await {
        let added = added.unwrap();
        values.insert(added.value);
        collisions.push(added.collisions);
    }
    assert_eq!(values, (1..=100).collect());
    let most = collisions.iter().max().copied().unwrap_or_default();
    let all: u32 = collisions.iter().sum();
    // Each collision of one is a success of another, so 99 is the most without any backing off.
    assert!(most < 99, "backing off did not help: {most}");
    println!("counter: 100 contenders, {all} collisions in all, {most} for the unluckiest");
}

/// A future that is dropped gives up its place in line.
async fn a_caller_who_goes_away_blocks_nobody(cluster: &Cluster) {
    let clients = connect_many(cluster, 2).await;
    let lock = Lock::new(&clients[0], "/locks/left");
    let held = lock.acquire().await.unwrap();
    let other = Lock::new(&clients[1], "/locks/left");
    for wait in [0, 2, 50] {
        let waited = tokio::time::timeout(Duration::from_millis(wait), other.acquire()).await;
        assert!(waited.is_err(), "two hold it");
    }
    drop(held);
    other.acquire().await.unwrap().release().await.unwrap();
    lock.acquire().await.unwrap();
}

/// What a herd costs: notifications a release, with a hundred waiters (ZK-15).
#[test]
fn a_release_wakes_the_next_one_only() {
    let cluster = Cluster::start(3);
    run(async {
        let clients = connect_many(&cluster, 101).await;
        let simple = per_release(&clients, |client| {
            let lock = SimpleLock::new(client, "/simple");
            async move { lock.acquire().await.unwrap() }
        });
        let simple = simple.await;
        let in_line = per_release(&clients, |client| {
            let lock = Lock::new(client, "/in-line");
            async move { lock.acquire().await.unwrap() }
        });
        let in_line = in_line.await;
        println!("notifications a release, 100 waiters: simple {simple:?}, in line {in_line:?}");
        assert!(in_line.iter().all(|told| *told <= 1), "{in_line:?}");
        // The first release wakes all that wait, the next one all but one, and so on.
        assert!(
            simple.iter().zip((0..=100).rev()).all(|(told, waiting)| *told >= waiting),
            "{simple:?}"
        );
    });
}

/// The first client holds, all others wait; then ten releases. How many watches fired by each.
async fn per_release<F>(clients: &[Client], acquire: impl Fn(&Client) -> F) -> Vec<u64>
where
    F: Future<Output = Held> + Send + 'static,
{
    let mut held = acquire(&clients[0]).await;
    let (holds, mut holding) = mpsc::unbounded_channel();
    let mut waiting = JoinSet::new();
    for client in &clients[1..] {
        let (acquiring, holds) = (acquire(client), holds.clone());
        waiting.spawn(async move {
            let _ = holds.send(acquiring.await); // the measurement is over
        });
    }
    let notifications = || clients.iter().map(Client::notifications).sum::<u64>();
    let settled = async || {
        let mut before = u64::MAX;
        while before != notifications() {
            before = notifications();
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        before
    };
    let mut told = Vec::new();
    let mut before = settled().await;
    for _ in 0..5 {
        held.release().await.unwrap();
        held = holding.recv().await.unwrap();
        let after = settled().await;
        told.push(after - before);
        before = after;
    }
    waiting.abort_all();
    told
}

/// ZK-15: a holder that was stopped for longer than its session lost the lock without knowing. Its token tells.
#[test]
fn a_resource_refuses_a_holder_that_lost_its_session() {
    let cluster = Cluster::start(3);
    // Nobody drives this runtime while the test is elsewhere: the client in it is stopped.
    let stopped = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let servers = cluster.servers();
    let old = stopped.block_on(async {
        let options = Options { session_timeout: Duration::from_secs(4), ..Options::default() };
        let servers: Vec<&str> = servers.split(',').collect();
        let client = Client::connect(&servers, options).await.unwrap();
        Lock::new(&client, "/fenced").acquire().await.unwrap()
    });
    let mut resource = Fenced::default();
    assert!(resource.write(old.token(), "old"));
    run(async {
        let client = connect(&cluster).await;
        let new = Lock::new(&client, "/fenced").acquire().await.unwrap();
        assert!(resource.write(new.token(), "new"));
        assert!(!resource.write(old.token(), "late"));
        new.release().await.unwrap();
    });
    assert_eq!(resource.content, "new");
    stopped
        .block_on(async { tokio::time::timeout(PATIENCE, old.lost()).await.expect("it is told") });
}

/// Keeps the highest token, and refuses lower ones.
#[derive(Default)]
struct Fenced {
    highest: Zxid,
    content: &'static str,
}

impl Fenced {
    fn write(&mut self, token: Zxid, content: &'static str) -> bool {
        let good = token >= self.highest;
        if good {
            (self.highest, self.content) = (token, content);
        }
        good
    }
}

/// Locks, counters, queues and configurations while the leader is killed with -9 again and again.
#[test]
fn recipes_outlive_leaders() {
    let cluster = Cluster::start(3);
    let storm = storm(&cluster, 4);
    run(async {
        let servers = cluster.servers();
        tokio::join!(
            locked_sum(&servers),
            counted(&servers),
            queued(&servers),
            configured(&servers),
        );
    });
    storm.join().unwrap();
}

/// ZK-15: under the lock a read and a write are one; tokens grow from holder to holder.
async fn locked_sum(servers: &str) {
    let setup = connect_to(servers).await;
    setup.create("/sum", b"0", CreateMode::Persistent, Acl::open()).await.unwrap();
    let highest = Arc::new(AtomicI64::new(0));
    let mut working = JoinSet::new();
    for _ in 0..4 {
        let (client, highest) = (connect_to(servers).await, highest.clone());
        working.spawn(async move {
            let lock = Lock::new(&client, "/locks/sum");
            for _ in 0..40 {
                let held = lock.acquire().await.unwrap();
                assert!(highest.swap(held.token().0, Ordering::SeqCst) < held.token().0);
                add_one_unprotected(&client).await;
                held.release().await.unwrap();
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
    }
    while let Some(done) = working.join_next().await {
        done.unwrap();
    }
    let (sum, _) = setup.get_data("/sum").await.unwrap();
    assert_eq!(std::str::from_utf8(&sum), Ok("160"));
}

/// Only the lock protects it; a write whose answer was lost is looked for.
async fn add_one_unprotected(client: &Client) {
    let (data, stat) = client.get_data("/sum").await.unwrap();
    let next = (std::str::from_utf8(&data).unwrap().parse::<u64>().unwrap() + 1).to_string();
    loop {
        match client.set_data("/sum", next.as_bytes(), stat.version).await {
            Ok(_) => return,
            Err(quorate_client::Failure::Unknown(_)) => {}
            Err(_) => {
                let (now, _) = client.get_data("/sum").await.unwrap();
                assert_eq!(now, next.as_bytes(), "two were under the lock");
                return;
            }
        }
    }
}

/// ZK-16: every addition counts once, also when its answer was lost.
async fn counted(servers: &str) {
    let mut adding = JoinSet::new();
    for _ in 0..5 {
        let client = connect_to(servers).await;
        adding.spawn(async move {
            let mut counter = Counter::open(&client, "/counted").await.unwrap();
            for _ in 0..60 {
                counter.add(1).await.unwrap();
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            counter.value().await.unwrap()
        });
    }
    let mut last = 0;
    while let Some(value) = adding.join_next().await {
        last = last.max(value.unwrap());
    }
    assert_eq!(last, 300);
}

/// ZK-16: every item is taken once, and those of one producer in their order.
async fn queued(servers: &str) {
    let mut working = JoinSet::new();
    for producer in 0..3 {
        let client = connect_to(servers).await;
        working.spawn(async move {
            let mut queue = Queue::open(&client, "/queue").await.unwrap();
            for item in 0..50 {
                queue.put(format!("{producer} {item}").as_bytes()).await.unwrap();
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
    }
    let (took, mut taken) = mpsc::unbounded_channel();
    for _ in 0..2 {
        let (client, took) = (connect_to(servers).await, took.clone());
        working.spawn(async move {
            let mut queue = Queue::open(&client, "/queue").await.unwrap();
            while took.send(queue.take().await.unwrap()).is_ok() {}
        });
    }
    let mut items = BTreeMap::new();
    while items.len() < 150 {
        let item = taken.recv().await.unwrap();
        let text = String::from_utf8(item.data.to_vec()).unwrap();
        assert!(items.insert(item.number, text.clone()).is_none(), "{text} was taken twice");
    }
    for producer in ["0", "1", "2"] {
        let own =
            items.values().filter_map(|text| text.split_once(' ')).filter(|(p, _)| *p == producer);
        let own: Vec<String> = own.map(|(_, item)| item.to_owned()).collect();
        assert_eq!(own, (0..50).map(|item| item.to_string()).collect::<Vec<_>>());
    }
    working.abort_all();
}

/// ZK-12: a reader sees one version of a configuration whole, whatever the writer and the servers do.
async fn configured(servers: &str) {
    let writing = connect_to(servers).await;
    let config = ReadyConfig::open(&writing, "/config").await.unwrap();
    let version = |number: u32| -> BTreeMap<String, Vec<u8>> {
        (0..6).map(|file| (format!("f{file}"), number.to_string().into_bytes())).collect()
    };
    let mut reading = JoinSet::new();
    for _ in 0..3 {
        let client = connect_to(servers).await;
        let config = ReadyConfig::open(&client, "/config").await.unwrap();
        reading.spawn(async move {
            let mut seen = BTreeSet::new();
            loop {
                let version = config.read().await.unwrap();
                let distinct: BTreeSet<_> = version.files.values().collect();
                assert!(
                    version.files.len() == 6 && distinct.len() == 1,
                    "mixed: {:?}",
                    version.files
                );
                let number: u32 =
                    std::str::from_utf8(&version.files["f0"]).unwrap().parse().unwrap();
                assert!(seen.last().is_none_or(|last| *last <= number), "{number} after {seen:?}");
                seen.insert(number);
                if number == 60 {
                    return seen.len();
                }
                version.changed().await.unwrap();
            }
        });
    }
    for number in 1..=60 {
        while config.publish(&version(number)).await.is_err() {}
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    while let Some(seen) = reading.join_next().await {
        assert!(seen.unwrap() > 1, "a reader saw the last version only");
    }
}
