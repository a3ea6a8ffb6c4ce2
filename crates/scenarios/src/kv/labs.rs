//! The public tests of MIT 6.824 lab 3 (3A, 3B) under their own names, with their parameters and limits (KV-10).
//!
//! A lab's *append* is a put of a key of its own below the appended key, and a value is what a range of them spells in the
//! order of their creation: etcd's idiom for a queue, which shows a doubled append as a second version. What differs:
//! our store keeps old versions until it is told to compact, so the test of the snapshot's size tells it.

use std::collections::BTreeMap;
use std::time::Duration;

use quorate_checker::models::kv::{Input, Output};
use quorate_checker::models::{Kv, register};
use quorate_checker::{ClientId, History, Nanos, OpId, Value};
use quorate_clerk::{Answer, Ask, AskId};
use quorate_contracts::{NodeId, Random, RequestId, StateMachine, Time};
use quorate_etcd::messages::etcdserverpb as pb;
use quorate_etcd::server::{Request, Response, Server, ServerConfig};
use quorate_etcd::store::Store;
use quorate_raft::{Limits as RaftLimits, Timing};
use quorate_sim::{NetworkOptions, StoreOptions, World, WorldOptions};

use super::clients::{Clients, Who};
use crate::{Failure, Report, RunOptions, Summary, guarded, judged};

/// The catalogue's name.
pub const NAME: &str = "kv-lab";

type Checked = Result<(), Failure>;

/// One test.
#[derive(Clone, Copy)]
pub struct Row {
    /// Its name in the labs.
    pub name: &'static str,
    clients: usize,
    servers: u64,
    faults: Faults,
    /// `maxraftstate`, if the log is to be kept small.
    log_bytes: Option<u64>,
    test: fn(&mut Lab) -> Checked,
}

/// What goes wrong in a generic test.
#[derive(Clone, Copy)]
struct Faults {
    unreliable: bool,
    crash: bool,
    partitions: bool,
    random_keys: bool,
}

const fn generic(
    name: &'static str,
    clients: usize,
    servers: u64,
    faults: &str,
    log_bytes: Option<u64>,
) -> Row {
    Row { name, clients, servers, faults: Faults::of(faults), log_bytes, test: Lab::generic }
}

const fn special(
    name: &'static str,
    clients: usize,
    servers: u64,
    faults: &str,
    log_bytes: Option<u64>,
    test: fn(&mut Lab) -> Checked,
) -> Row {
    Row { name, clients, servers, faults: Faults::of(faults), log_bytes, test }
}

/// All of them, in the labs' order. Faults: unreliable, crash, partitions, random keys.
pub const CATALOGUE: &[Row] = &[
    generic("TestBasic3A", 1, 5, "", None),
    special("TestSpeed3A", 1, 3, "", None, Lab::speed),
    generic("TestConcurrent3A", 5, 5, "", None),
    generic("TestUnreliable3A", 5, 5, "u", None),
    special("TestUnreliableOneKey3A", 5, 3, "u", None, Lab::one_key),
    special("TestOnePartition3A", 3, 5, "", None, Lab::one_partition),
    generic("TestManyPartitionsOneClient3A", 1, 5, "p", None),
    generic("TestManyPartitionsManyClients3A", 5, 5, "p", None),
    generic("TestPersistOneClient3A", 1, 5, "c", None),
    generic("TestPersistConcurrent3A", 5, 5, "c", None),
    generic("TestPersistConcurrentUnreliable3A", 5, 5, "uc", None),
    generic("TestPersistPartition3A", 5, 5, "cp", None),
    generic("TestPersistPartitionUnreliable3A", 5, 5, "ucp", None),
    generic("TestPersistPartitionUnreliableLinearizable3A", 15, 7, "ucpr", None),
    special("TestSnapshotRPC3B", 1, 3, "", Some(1000), Lab::snapshot_rpc),
    special("TestSnapshotSize3B", 1, 3, "", Some(1000), Lab::snapshot_size),
    special("TestSpeed3B", 1, 3, "", Some(1000), Lab::speed),
    generic("TestSnapshotRecover3B", 1, 5, "c", Some(1000)),
    generic("TestSnapshotRecoverManyClients3B", 20, 5, "c", Some(1000)),
    generic("TestSnapshotUnreliable3B", 5, 5, "u", Some(1000)),
    generic("TestSnapshotUnreliableRecover3B", 5, 5, "uc", Some(1000)),
    generic("TestSnapshotUnreliableRecoverConcurrentPartition3B", 5, 5, "ucp", Some(1000)),
    generic(
        "TestSnapshotUnreliableRecoverConcurrentPartitionLinearizable3B",
        15,
        7,
        "ucpr",
        Some(1000),
    ),
];

impl Faults {
    const fn of(letters: &str) -> Self {
        let mut faults =
            Self { unreliable: false, crash: false, partitions: false, random_keys: false };
        let letters = letters.as_bytes();
        let mut at = 0;
        while at < letters.len() {
            match letters[at] {
                b'u' => faults.unreliable = true,
                b'c' => faults.crash = true,
                b'p' => faults.partitions = true,
                _ => faults.random_keys = true,
            }
            at += 1;
        }
        faults
    }
}

impl Row {
    /// Runs one seed.
    pub fn run(&self, seed: u64, options: &RunOptions) -> Result<Summary, Box<Report>> {
        let mut lab = Lab::new(*self, seed, options.trace);
        match guarded(|| (self.test)(&mut lab).and_then(|()| lab.check_history())) {
            Ok(()) => Ok(Summary::of(seed, &lab.world)),
            Err(failure) => {
                let setting = format!("{} clerks, {} servers", self.clients, self.servers);
                let name = format!("{NAME} --name {}", self.name);
                Err(Box::new(Report::of(name, seed, setting, failure, &lab.world)))
            }
        }
    }

    fn world(&self, trace: bool) -> WorldOptions {
        let network = if self.faults.unreliable {
            NetworkOptions::LABRPC_UNRELIABLE
        } else {
            NetworkOptions::LABRPC
        };
        let store = StoreOptions {
            sync_min: Duration::ZERO,
            sync_max: Duration::ZERO,
            tail_entries: usize::MAX,
        };
        let limits = RaftLimits {
            snapshot_log_bytes: self.log_bytes.unwrap_or(u64::MAX),
            trailing_entries: 0,
            ..RaftLimits::default()
        };
        WorldOptions {
            nodes: self.servers,
            network,
            store,
            timing: TIMING,
            limits,
            trace,
            ..WorldOptions::default()
        }
    }
}

/// As in the Raft labs: a leader within five seconds, some tens of heartbeats a second.
const TIMING: Timing = Timing {
    heartbeat: Duration::from_millis(100),
    election_min: Duration::from_millis(400),
    election_max: Duration::from_millis(800),
    campaign: Duration::from_millis(150),
    stagger: Duration::from_millis(20),
    snapshot_retry: Duration::from_millis(300),
    hibernate_after: None,
};
/// How finely the clients' side is driven.
const LOOK: Duration = Duration::from_millis(2);
const PATIENCE: Duration = Duration::from_secs(10_000);
/// One test may take this long, as in the labs.
const TEST_MAX: Duration = Duration::from_secs(120);

/// The tester.
struct Lab {
    row: Row,
    world: World<Server>,
    clients: Clients,
    random: Random,
    history: History<Input, Output>,
    open: BTreeMap<AskId, (OpId, String, bool)>,
    answers: BTreeMap<AskId, Response>,
    next_ask: u64,
    partition_at: Time,
}

/// What a client of a generic test knows of its own key.
#[derive(Clone, Default)]
struct Own {
    waits_for: Option<AskId>,
    reads: bool,
    value: String,
    appended: u64,
}

impl Lab {
    fn new(row: Row, seed: u64, trace: bool) -> Self {
        let make = |node, seed: u64| {
            let config = ServerConfig::new(node, RequestId(seed & !0xffff_ffff));
            (Store::default(), Server::new(config, seed))
        };
        let world = World::new(seed, row.world(trace), make);
        let random = Random::new(seed).derive(row.name);
        let mut clients = Clients::new(row.clients, &world.ids(), random.derive("clerks"), 0);
        clients.delay_us = 500;
        if row.faults.unreliable {
            (clients.delay_us, clients.loss_ppm) = (26_000, 100_000);
        }
        Self {
            row,
            world,
            clients,
            random,
            history: History::new(),
            open: BTreeMap::new(),
            answers: BTreeMap::new(),
            next_ask: 0,
            partition_at: Time::ZERO,
        }
    }

    fn look(&mut self) -> Checked {
        let now = self.world.now();
        self.clients.run(&mut self.world)?;
        for (node, reply) in self.world.take_replies() {
            self.clients.replied(now, node, &reply);
        }
        for (_, told) in self.clients.take_told() {
            let Answer::Done(response) = told.answer else {
                return Err(wrong(format!("question {} came to {:?}", told.id.0, told.answer)));
            };
            if let Some((op, key, reads)) = self.open.remove(&told.id) {
                let output = if reads {
                    Output::Value(Value::Text(spell(&key, &response)?.into()))
                } else {
                    Output::Done
                };
                self.history.returned(op, Nanos(now.as_nanos()), output);
            }
            self.answers.insert(told.id, *response);
        }
        Ok(())
    }

    fn pass(&mut self, duration: Duration) -> Checked {
        let end = self.world.now() + duration;
        while self.world.now() < end {
            self.look()?;
            self.world.run_for(LOOK)?;
        }
        if self.world.now().since(Time::ZERO) > TEST_MAX {
            return Err(Failure::liveness(
                "the lab's time limit",
                format!("{TEST_MAX:?} have passed"),
            ));
        }
        Ok(())
    }

    fn ask(&mut self, who: Who, request: Request) -> AskId {
        self.next_ask += 1;
        let id = AskId(self.next_ask);
        self.clients.ask(self.world.now(), who, Ask { id, request, patience: PATIENCE });
        id
    }

    fn ask_of_key(&mut self, who: Who, key: &str, op: register::Input, request: Request) -> AskId {
        let reads = op == register::Input::Read;
        let now = Nanos(self.world.now().as_nanos());
        let op = self.history.invoke(ClientId(who as u64), now, Input::new(key, op));
        let id = self.ask(who, request);
        self.open.insert(id, (op, key.to_string(), reads));
        id
    }

    fn get(&mut self, who: Who, key: &str) -> AskId {
        self.ask_of_key(who, key, register::Input::Read, get(key))
    }

    fn put(&mut self, who: Who, key: &str, value: &str) -> AskId {
        self.ask_of_key(
            who,
            key,
            register::Input::Write(Value::Text(value.into())),
            put(key, value),
        )
    }

    fn append(&mut self, who: Who, key: &str, number: u64, piece: &str) -> AskId {
        let request = put(&format!("{key}/{who:02}-{number:06}"), piece);
        self.ask_of_key(who, key, register::Input::Append(Value::Text(piece.into())), request)
    }

    fn is_answered(&self, id: AskId) -> bool {
        self.answers.contains_key(&id)
    }

    /// Waits for an answer.
    fn wait(&mut self, id: AskId, max: Duration) -> Result<Response, Failure> {
        let end = self.world.now() + max;
        while !self.is_answered(id) {
            if self.world.now() >= end {
                return Err(Failure::liveness(
                    "an answer in time",
                    format!("question {} waits {max:?}", id.0),
                ));
            }
            self.pass(LOOK)?;
        }
        Ok(self.answers.remove(&id).expect("it was answered"))
    }

    fn put_and_wait(&mut self, who: Who, key: &str, value: &str) -> Checked {
        let id = self.put(who, key, value);
        self.wait(id, Duration::from_secs(20)).map(drop)
    }

    fn read(&mut self, who: Who, key: &str) -> Result<String, Failure> {
        let id = self.get(who, key);
        let response = self.wait(id, Duration::from_secs(20))?;
        spell(key, &response)
    }

    fn must_read(&mut self, who: Who, key: &str, wanted: &str) -> Checked {
        let found = self.read(who, key)?;
        if found == wanted {
            Ok(())
        } else {
            Err(wrong(format!("{key} is {found:?}, and must be {wanted:?}")))
        }
    }

    /// Three rounds of clients that append to, put and get keys; then every key is read.
    fn generic(&mut self) -> Checked {
        let mut own = vec![Own::default(); self.row.clients];
        for round in 0..3 {
            self.round(&mut own, round)?;
            self.recover()?;
            if !self.row.faults.random_keys {
                for (who, own) in own.iter().enumerate() {
                    self.must_read(who, &key_of(who as u64), &own.value)?;
                }
            }
            self.check_log()?;
        }
        Ok(())
    }

    /// Five seconds of work, or six with partitions, as they come.
    fn round(&mut self, own: &mut [Own], round: u32) -> Checked {
        if !self.row.faults.random_keys {
            for (who, own) in own.iter_mut().enumerate() {
                own.value.clear();
                self.put_and_wait(who, &key_of(who as u64), "")?;
            }
        }
        let work = if self.row.faults.partitions { 6 } else { 5 };
        let end = self.world.now() + Duration::from_secs(work);
        while self.world.now() < end {
            self.partition_now_and_then();
            for (who, own) in own.iter_mut().enumerate() {
                self.go_on(who, own, round)?;
            }
            self.pass(LOOK)?;
        }
        self.world.heal();
        let limit = self.world.now() + Duration::from_secs(20);
        for (who, own) in own.iter_mut().enumerate() {
            while own.waits_for.is_some_and(|id| !self.is_answered(id)) && self.world.now() < limit
            {
                self.pass(LOOK)?;
            }
            self.took(who, own)?;
        }
        Ok(())
    }

    /// A client whose last call was answered makes the next one.
    fn go_on(&mut self, who: Who, own: &mut Own, round: u32) -> Checked {
        if own.waits_for.is_some_and(|id| !self.is_answered(id)) {
            return Ok(());
        }
        self.took(who, own)?;
        let random_keys = self.row.faults.random_keys;
        let number =
            if random_keys { self.random.below(self.row.clients as u64) } else { who as u64 };
        let key = key_of(number);
        own.reads = false;
        own.waits_for = Some(match self.random.below(1_000) {
            0..500 => {
                own.appended += 1;
                let piece = format!("x {who} {round} {} y", own.appended);
                own.value.push_str(&piece);
                self.append(who, &key, own.appended, &piece)
            }
            500..550 if random_keys => {
                own.appended += 1;
                self.put(who, &key, &format!("put {who} {}", own.appended))
            }
            _ => {
                own.reads = true;
                self.get(who, &key)
            }
        });
        Ok(())
    }

    /// An answer is taken; a client that alone writes its key knows what it must read.
    fn took(&mut self, who: Who, own: &mut Own) -> Checked {
        let Some(id) = own.waits_for else { return Ok(()) };
        let Some(response) = self.answers.remove(&id) else {
            return Err(Failure::liveness("an answer in time", format!("clerk {who} still waits")));
        };
        own.waits_for = None;
        if own.reads && !self.row.faults.random_keys {
            let found = spell(&key_of(who as u64), &response)?;
            if found != own.value {
                return Err(wrong(format!(
                    "clerk {who} reads {found:?}, and must read {:?}",
                    own.value
                )));
            }
        }
        Ok(())
    }

    /// Each server goes to one of two sides, about once a second.
    fn partition_now_and_then(&mut self) {
        if !self.row.faults.partitions || self.world.now() < self.partition_at {
            return;
        }
        self.partition_at =
            self.world.now() + Duration::from_millis(self.random.between(1_000, 1_200));
        let (left, right): (Vec<NodeId>, Vec<NodeId>) =
            self.world.ids().into_iter().partition(|_| self.random.chance_ppm(500_000));
        self.split(&left, &right);
    }

    fn split(&mut self, left: &[NodeId], right: &[NodeId]) {
        self.world.heal();
        left.iter().for_each(|a| right.iter().for_each(|b| self.world.cut(*a, *b)));
    }

    /// The end of a round: links are whole again, and all servers are stopped and started if they are to be.
    fn recover(&mut self) -> Checked {
        if self.row.faults.partitions {
            self.pass(Duration::from_secs(1))?;
        }
        if self.row.faults.crash {
            for node in self.world.ids() {
                self.clients.crashed(self.world.now(), node, true);
                self.world.crash(node, true);
            }
            self.pass(Duration::from_secs(1))?;
            self.world.ids().into_iter().for_each(|node| self.world.restart(node));
        }
        Ok(())
    }

    /// KV-6: the log is kept small: eight times `maxraftstate`, as in the labs, or a few times as large as the snapshot:
    /// a state that has grown is not written out again for every thousand bytes of log.
    fn check_log(&self) -> Checked {
        let Some(bytes) = self.row.log_bytes else { return Ok(()) };
        for replica in self.world.up() {
            let node = replica.raft().node();
            let found = self.world.store(node).map_or(0, |store| store.state_bytes()) as u64;
            let limit = (8 * bytes).max(3 * replica.machine().snapshot_bytes_estimate());
            if found > limit {
                return Err(wrong(format!("{node} has {found} B of log, and may have {limit}")));
            }
        }
        Ok(())
    }

    fn check_history(&self) -> Checked {
        judged::linearizable(&Kv { missing: Value::Text("".into()) }, &self.history)
    }

    /// A thousand appends, one after the other, three to a heartbeat at least.
    fn speed(&mut self) -> Checked {
        self.must_read(0, "x", "")?;
        let start = self.world.now();
        let mut wanted = String::new();
        for number in 0..1_000 {
            let piece = format!("x 0 {number} y");
            let id = self.append(0, "x", number, &piece);
            self.wait(id, Duration::from_secs(5))?;
            wanted.push_str(&piece);
        }
        let took = self.world.now().since(start) / 1_000;
        if took > Duration::from_micros(33_300) {
            return Err(Failure::liveness("the lab's speed", format!("an append takes {took:?}")));
        }
        self.must_read(0, "x", &wanted)
    }

    /// Five clients append ten times each to one key: each piece is there once, and each client's in its order.
    fn one_key(&mut self) -> Checked {
        self.put_and_wait(0, "k", "")?;
        for number in 0..10 {
            let ids: Vec<AskId> = (0..5)
                .map(|who| self.append(who, "k", number, &format!("x {who} {number} y")))
                .collect();
            for id in ids {
                self.wait(id, Duration::from_secs(20))?;
            }
        }
        let value = self.read(0, "k")?;
        for who in 0..5 {
            let places: Vec<Vec<usize>> = (0..10)
                .map(|number| {
                    value.match_indices(&format!("x {who} {number} y")).map(|(at, _)| at).collect()
                })
                .collect();
            let once = places.iter().all(|places| places.len() == 1);
            if !once || !places.is_sorted() {
                return Err(wrong(format!("clerk {who}'s pieces are at {places:?}")));
            }
        }
        Ok(())
    }

    /// KV-5: the minority answers nothing, and what was asked of it is done once it is whole again.
    fn one_partition(&mut self) -> Checked {
        self.put_and_wait(0, "1", "13")?;
        let leader = self.leader()?;
        let others: Vec<NodeId> = self.world.ids().into_iter().filter(|id| *id != leader).collect();
        let (minority, majority) = (vec![leader, others[0]], others[1..].to_vec());
        self.split(&minority, &majority);
        self.clients.cut.extend(minority.iter().map(|node| (0, *node)));
        for who in [1, 2] {
            self.clients.cut.extend(majority.iter().map(|node| (who, *node)));
        }
        self.put_and_wait(0, "1", "14")?;
        self.must_read(0, "1", "14")?;
        let (put, get) = (self.put(1, "1", "15"), self.get(2, "1"));
        self.pass(Duration::from_secs(1))?;
        if self.is_answered(put) || self.is_answered(get) {
            return Err(Failure::safety("a minority answers nothing", "it did".to_string()));
        }
        self.must_read(0, "1", "14")?;
        self.put_and_wait(0, "1", "16")?;
        self.must_read(0, "1", "16")?;
        self.world.heal();
        self.clients.cut.clear();
        self.pass(Duration::from_secs(1))?;
        self.wait(put, Duration::from_secs(3))?;
        self.wait(get, Duration::from_secs(3))?;
        self.must_read(0, "1", "15")
    }

    fn leader(&mut self) -> Result<NodeId, Failure> {
        for _ in 0..50 {
            if let Some(leader) = self.world.leader() {
                return Ok(leader);
            }
            self.pass(Duration::from_millis(100))?;
        }
        Err(Failure::liveness("a leader within five seconds", "nobody leads".to_string()))
    }

    /// KV-6: a server that was cut off gets a snapshot.
    fn snapshot_rpc(&mut self) -> Checked {
        let [a, b, c] = [NodeId(1), NodeId(2), NodeId(3)];
        self.put_and_wait(0, "a", "A")?;
        self.split(&[a, b], &[c]);
        for number in 0..50 {
            self.put_and_wait(0, &format!("n{number}"), &number.to_string())?;
        }
        self.pass(Duration::from_secs(1))?;
        self.put_and_wait(0, "b", "B")?;
        self.check_log()?;
        self.split(&[a, c], &[b]);
        self.put_and_wait(0, "c", "C")?;
        self.put_and_wait(0, "d", "D")?;
        for (key, value) in [("a", "A"), ("b", "B"), ("n1", "1"), ("n49", "49")] {
            self.must_read(0, key, value)?;
        }
        self.world.heal();
        self.put_and_wait(0, "e", "E")?;
        for (key, value) in [("c", "C"), ("e", "E"), ("n1", "1")] {
            self.must_read(0, key, value)?;
        }
        Ok(())
    }

    /// KV-6: neither log nor snapshot grows with the number of writes.
    fn snapshot_size(&mut self) -> Checked {
        for _ in 0..200 {
            for value in ["0", "1"] {
                self.put_and_wait(0, "x", value)?;
                self.must_read(0, "x", value)?;
            }
        }
        self.check_log()?;
        let revision =
            self.world.up().map(|replica| replica.machine().revision().0).max().unwrap_or(1);
        let id = self.ask(0, Request::Compact(pb::CompactionRequest { revision, physical: true }));
        self.wait(id, Duration::from_secs(5))?;
        self.pass(Duration::from_secs(2))?;
        let bytes = self
            .world
            .up()
            .map(|replica| replica.machine().snapshot_bytes_estimate())
            .max()
            .unwrap_or(0);
        if bytes <= 500 { Ok(()) } else { Err(wrong(format!("a snapshot has {bytes} B"))) }
    }
}

fn wrong(what: String) -> Failure {
    Failure::safety("the lab's assertion", what)
}

fn key_of(number: u64) -> String {
    format!("k{number:02}")
}

fn put(key: &str, value: &str) -> Request {
    let (key, value) = (key.to_string().into(), value.to_string().into());
    Request::Put(pb::PutRequest { key, value, ..Default::default() })
}

/// The key itself, and what was appended to it.
fn get(key: &str) -> Request {
    let range_end = format!("{key}0").into();
    Request::Range(pb::RangeRequest {
        key: key.to_string().into(),
        range_end,
        ..Default::default()
    })
}

/// The value of a key: what was put last, and what was appended since, in order.
fn spell(key: &str, response: &Response) -> Result<String, Failure> {
    let Response::Range(read) = response else { return Ok(String::new()) };
    let base = read.kvs.iter().find(|kv| kv.key == key.as_bytes());
    let since = base.map_or(0, |kv| kv.mod_revision);
    let mut pieces: Vec<_> = read
        .kvs
        .iter()
        .filter(|kv| kv.key != key.as_bytes() && kv.create_revision > since)
        .collect();
    pieces.sort_by_key(|kv| kv.create_revision);
    if let Some(doubled) = pieces.iter().find(|kv| kv.version != 1) {
        return Err(Failure::safety("exactly once", format!("{doubled:?} was appended twice")));
    }
    let values = base.into_iter().chain(pieces);
    Ok(values.map(|kv| String::from_utf8_lossy(&kv.value).into_owned()).collect())
}

impl crate::Test for Row {
    fn name(&self) -> &'static str {
        self.name
    }

    fn run(&self, seed: u64, options: &RunOptions) -> Result<Summary, Box<Report>> {
        self.run(seed, options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// KV-10: every public scenario of lab 3; `quorate sim kv-lab --seeds 100` runs more seeds of each.
    #[test]
    fn the_whole_catalogue() {
        for row in CATALOGUE {
            if let Err(report) = row.run(1, &RunOptions { trace: true, ..Default::default() }) {
                panic!("\n{report}");
            }
        }
    }
}
