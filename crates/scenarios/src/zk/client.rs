//! A client: one session that moves between servers, asks for many things at once, and checks what it is told as it is
//! told. It knows nothing of the servers but their answers.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use quorate_contracts::{NodeId, Random, Time};
use quorate_zk::command::{AclEntry, CreateMode, Op};
use quorate_zk::tree::{anyone, perms};
use quorate_zk::wire::{
    ConnectRequest, ConnectResponse, JuteReader, JuteWriter, ReplyHeader, opcode, xid,
};

use super::history::{ClientId, History, Watch};
use super::seen::{Answerer, Op as Seen, counted};
use crate::Failure;

/// The session timeout that is asked for.
const TIMEOUT: Duration = Duration::from_secs(6);
/// A server that says nothing for this long is left for another.
const SILENCE_MAX: Duration = Duration::from_secs(2);
const PING_EVERY: Duration = Duration::from_millis(700);
/// Requests in flight.
const PIPELINE: usize = 5;

/// Data nodes; the counter, the parent of the queue, and the configuration with its ready file.
pub(super) const NODES: [&str; 4] = ["/d0", "/d1", "/d2", "/d3"];
pub(super) const COUNTER: &str = "/counter";
const QUEUE: &str = "/queue";
const READY: &str = "/ready";
const CONFIG: [&str; 3] = ["/c0", "/c1", "/c2"];

/// ZooKeeper's numbers of refusals.
mod error {
    pub(super) const NO_NODE: i32 = -101;
    pub(super) const BAD_VERSION: i32 = -103;
    pub(super) const NODE_EXISTS: i32 = -110;
    pub(super) const SESSION_EXPIRED: i32 = -112;
    pub(super) const SESSION_MOVED: i32 = -118;
}

/// What a request was, and what its answer will be held against.
#[derive(Clone, Debug)]
enum Asked {
    /// One of the nodes that must exist before anything else.
    Prepare,
    /// Data of a value that nobody else writes.
    Set {
        path: String,
        value: String,
    },
    /// The counter, if it still has this version.
    Increment,
    Number,
    Ephemeral {
        path: String,
    },
    Get {
        path: String,
        watch: bool,
    },
    Sync,
    /// Another generation of the configuration: a step of it.
    Configure,
    /// A step of reading the configuration; the first one looks at the ready file.
    Configuration {
        step: usize,
    },
}

#[derive(Clone, Debug)]
struct InFlight {
    xid: i32,
    asked: Asked,
    /// What had been told to anybody when it was sent.
    floor: i64,
    /// What the checker is to be told of.
    seen: Option<Seen>,
}

/// What the client wants done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Wish {
    /// A connection to any server, after a pause.
    Connect,
    /// This packet sent; its length is not in front.
    Send(Bytes),
    /// The connection closed.
    HangUp,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Away,
    Greeting,
    Serving,
}

/// A reading of the configuration: the generation that the ready file had, and what was read since.
#[derive(Clone, Debug, Default)]
struct Reading {
    generation: Option<String>,
    /// Events of the ready file that had come by then.
    events: u64,
    found: Vec<String>,
}

/// What a client asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Diet {
    /// Everything.
    All,
    /// The ready-file protocol alone (section 2.3 of the paper): one client changes the configuration, the others read it.
    ReadyFile,
}

/// One client.
pub(super) struct Client {
    pub(super) id: ClientId,
    diet: Diet,
    random: Random,
    /// Its reads are to see everything that was acknowledged to anybody before (ZK-8).
    linearizable: bool,
    phase: Phase,
    /// Who serves it, or did last.
    server: NodeId,
    session: i64,
    password: [u8; 16],
    last_zxid: i64,
    last_write: i64,
    next_xid: i32,
    in_flight: VecDeque<InFlight>,
    heard: Time,
    sent: Time,
    watches: BTreeMap<String, Watch>,
    ready_events: u64,
    reading: Reading,
    generation: u64,
    values: u64,
    /// The nodes that everybody needs are there.
    prepared: bool,
    /// The version of the counter as last read.
    counter: Option<i32>,
    /// Ephemeral znodes of the session that are acknowledged.
    pub(super) ephemerals: BTreeSet<String>,
    /// Those of sessions that are over.
    pub(super) gone: BTreeSet<String>,
    /// Nothing more is asked for, but the session lives on.
    pub(super) quiet: bool,
    pub(super) wishes: Vec<Wish>,
}

impl Client {
    pub(super) fn new(id: ClientId, diet: Diet, random: Random) -> Self {
        Self {
            id,
            diet,
            random,
            linearizable: id.0 % 3 == 2,
            phase: Phase::Away,
            server: NodeId(0),
            session: 0,
            password: [0; 16],
            last_zxid: 0,
            last_write: 0,
            next_xid: 1,
            in_flight: VecDeque::new(),
            heard: Time::ZERO,
            sent: Time::ZERO,
            watches: BTreeMap::new(),
            ready_events: 0,
            reading: Reading::default(),
            generation: 0,
            values: 0,
            prepared: false,
            counter: None,
            ephemerals: BTreeSet::new(),
            gone: BTreeSet::new(),
            quiet: false,
            wishes: Vec::new(),
        }
    }

    /// Whether it is served and owes nothing.
    pub(super) fn is_at_rest(&self) -> bool {
        self.phase == Phase::Serving && self.in_flight.is_empty()
    }

    /// The session, if it has one.
    pub(super) fn session(&self) -> Option<i64> {
        Some(self.session).filter(|session| *session != 0)
    }

    /// Watches that were not told of yet.
    pub(super) fn watches(&self) -> &BTreeMap<String, Watch> {
        &self.watches
    }

    /// A connection is made: the first packet says who it is.
    pub(super) fn connected(&mut self, now: Time, server: NodeId) {
        (self.phase, self.server) = (Phase::Greeting, server);
        self.heard = now;
        let request = ConnectRequest {
            last_zxid_seen: self.last_zxid,
            timeout_ms: TIMEOUT.as_millis() as i32,
            session: self.session,
            password: self.password.to_vec(),
            read_only: Some(false),
        };
        self.wishes.push(Wish::Send(request.encode().slice(4..)));
    }

    /// The connection is gone: what was asked may have happened or not.
    pub(super) fn lost(&mut self, history: &mut History) {
        self.phase = Phase::Away;
        for InFlight { asked, seen, .. } in self.in_flight.drain(..) {
            history.perhaps_incremented += i32::from(matches!(asked, Asked::Increment));
            seen.into_iter().for_each(|seen| history.seen.unknown(seen));
        }
        self.reading = Reading::default();
        self.wishes.push(Wish::Connect);
    }

    fn hang_up(&mut self, history: &mut History) {
        self.wishes.push(Wish::HangUp);
        self.lost(history);
    }

    /// Some time has passed.
    pub(super) fn act(&mut self, now: Time, history: &mut History) {
        if self.phase == Phase::Away {
            return;
        }
        if now.since(self.heard) > SILENCE_MAX {
            return self.hang_up(history);
        }
        if self.phase != Phase::Serving {
            return;
        }
        if now.since(self.sent) > PING_EVERY {
            self.sent = now;
            self.send(xid::PING, opcode::PING, |_| {});
        }
        if !self.quiet && self.in_flight.len() < PIPELINE {
            self.sent = now;
            self.ask_something(history);
        }
    }

    fn ask_something(&mut self, history: &mut History) {
        let floor = history.floor();
        if self.id == ClientId(0) {
            return self.configure(floor, history);
        }
        if self.diet == Diet::ReadyFile {
            return self.read_configuration(floor, history);
        }
        match self.random.below(12) {
            0..=2 => self.set(floor, history),
            3 => {
                let op = create("/queue/n-", b"", CreateMode::PersistentSequential);
                self.write(Asked::Number, floor, opcode::CREATE2, &op);
            }
            4 => {
                self.values += 1;
                let path = format!("/e-{}-{}", self.id.0, self.values);
                let asked = Asked::Ephemeral { path: path.clone() };
                self.write(
                    asked,
                    floor,
                    opcode::CREATE2,
                    &create(&path, b"", CreateMode::Ephemeral),
                );
            }
            5 => self.increment(floor, history),
            6 => self.get(COUNTER.to_string(), false, floor, history),
            7 => self.sync_and_get(floor, history),
            8 => self.read_configuration(floor, history),
            _ => {
                let path = self.any_node();
                let watch = self.random.chance_ppm(300_000);
                self.get(path, watch, floor, history);
            }
        }
    }

    fn any_node(&mut self) -> String {
        NODES[self.random.below(NODES.len() as u64) as usize].to_string()
    }

    fn set(&mut self, floor: i64, history: &mut History) {
        self.values += 1;
        let (path, value) = (self.any_node(), format!("{}-{}", self.id.0, self.values));
        let asked = Asked::Set { path: path.clone(), value: value.clone() };
        let op = Op::SetData { path: &path, data: Some(value.as_bytes()), version: -1 };
        self.write(asked, floor, opcode::SET_DATA, &op);
        self.seen_as(history.seen.sets(self.id, &path, &value));
    }

    fn increment(&mut self, floor: i64, history: &mut History) {
        let Some(version) = self.counter else {
            return self.get(COUNTER.to_string(), false, floor, history);
        };
        // The data stays as it is: the version counts.
        let op = Op::SetData { path: COUNTER, data: Some(b""), version };
        self.write(Asked::Increment, floor, opcode::SET_DATA, &op);
        self.seen_as(history.seen.increments(self.id, version));
    }

    fn get(&mut self, path: String, watch: bool, floor: i64, history: &mut History) {
        let seen = history.seen.reads(self.id, &path, false);
        self.look(path, watch, floor);
        self.seen_as(seen);
    }

    /// ZK-8: what is read on the heels of a `sync` is up to date.
    fn sync_and_get(&mut self, floor: i64, history: &mut History) {
        let path = if self.random.below(3) == 0 { COUNTER.to_string() } else { self.any_node() };
        let seen = history.seen.reads(self.id, &path, true);
        self.write(Asked::Sync, floor, opcode::SYNC, &Op::Sync { path: "/" });
        self.look(path, false, floor);
        self.seen_as(seen);
    }

    fn look(&mut self, path: String, watch: bool, floor: i64) {
        let body = path.clone();
        self.ask(Asked::Get { path, watch }, floor, opcode::GET_DATA, |out| {
            out.str(&body);
            out.bool(watch);
        });
    }

    /// What was asked last is for the checker, as this.
    fn seen_as(&mut self, seen: Seen) {
        if let Some(asked) = self.in_flight.back_mut() {
            asked.seen = Some(seen);
        }
    }

    /// ZK-12: the configuration is changed with the ready file away, all in one pipeline.
    fn configure(&mut self, floor: i64, history: &mut History) {
        if !self.in_flight.is_empty() || self.random.chance_ppm(800_000) {
            return;
        }
        self.generation += 1;
        let value = format!("g{}", self.generation);
        let delete = Op::Delete { path: READY, version: -1 };
        self.write(Asked::Configure, floor, opcode::DELETE, &delete);
        for path in CONFIG {
            let op = Op::SetData { path, data: Some(value.as_bytes()), version: -1 };
            self.write(Asked::Configure, floor, opcode::SET_DATA, &op);
            self.seen_as(history.seen.sets(self.id, path, &value));
        }
        let ready = create(READY, value.as_bytes(), CreateMode::Persistent);
        self.write(Asked::Configure, floor, opcode::CREATE2, &ready);
    }

    /// ZK-12: who watches the ready file, and is told nothing, has read one configuration.
    fn read_configuration(&mut self, floor: i64, history: &mut History) {
        if self.in_flight.iter().any(|f| matches!(f.asked, Asked::Configuration { .. })) {
            return;
        }
        for (step, path) in [READY].iter().chain(&CONFIG).enumerate() {
            self.ask(Asked::Configuration { step }, floor, opcode::GET_DATA, |out| {
                out.str(path);
                out.bool(step == 0);
            });
            if step > 0 {
                self.seen_as(history.seen.reads(self.id, path, false));
            }
        }
    }

    fn write(&mut self, asked: Asked, floor: i64, opcode: i32, op: &Op<'_>) {
        self.ask(asked, floor, opcode, |out| op.encode_request(out));
    }

    fn ask(&mut self, asked: Asked, floor: i64, opcode: i32, body: impl FnOnce(&mut JuteWriter)) {
        let xid = self.next_xid;
        self.next_xid += 1;
        self.in_flight.push_back(InFlight { xid, asked, floor, seen: None });
        self.send(xid, opcode, body);
    }

    fn send(&mut self, xid: i32, opcode: i32, body: impl FnOnce(&mut JuteWriter)) {
        let mut out = JuteWriter::with_capacity(64);
        out.int(xid);
        out.int(opcode);
        body(&mut out);
        self.wishes.push(Wish::Send(out.finish().slice(4..)));
    }

    /// A packet came, without its length.
    pub(super) fn received(
        &mut self,
        now: Time,
        packet: &[u8],
        history: &mut History,
    ) -> Result<(), Failure> {
        self.heard = now;
        match self.phase {
            Phase::Away => Ok(()),
            Phase::Greeting => self.greeted(packet, history),
            Phase::Serving => self.answered(packet, history),
        }
    }

    fn greeted(&mut self, packet: &[u8], history: &mut History) -> Result<(), Failure> {
        let response = ConnectResponse::decode(packet).map_err(|e| self.nonsense(&e))?;
        if response.session == 0 {
            self.session_over(history);
            self.hang_up(history);
            return Ok(());
        }
        self.phase = Phase::Serving;
        let floor = history.floor();
        if self.linearizable {
            self.send(xid::AUTH, opcode::AUTH, |out| {
                out.int(0);
                out.str("quorate");
                out.buffer(Some(b"linearizable"));
            });
        }
        if self.session == 0 {
            (self.session, self.password) = (response.session, response.password);
        } else {
            self.set_watches();
        }
        if !self.prepared {
            self.prepare(floor);
        }
        Ok(())
    }

    /// ZK-13: the session is over, and so are its watches and ephemeral znodes.
    fn session_over(&mut self, history: &mut History) {
        history.expired += 1;
        (self.session, self.password) = (0, [0; 16]);
        self.gone.append(&mut self.ephemerals);
        for (path, watch) in std::mem::take(&mut self.watches) {
            history.watch_ended(self.id, &path, watch);
        }
    }

    /// What everybody needs; whoever comes first makes it.
    fn prepare(&mut self, floor: i64) {
        for path in NODES.iter().chain(&CONFIG).chain(&[COUNTER, QUEUE]) {
            let op = create(path, b"", CreateMode::Persistent);
            self.write(Asked::Prepare, floor, opcode::CREATE2, &op);
        }
    }

    fn prepare_answered(&mut self) {
        self.prepared = !self.in_flight.iter().any(|f| matches!(f.asked, Asked::Prepare));
    }

    fn set_watches(&mut self) {
        if self.watches.is_empty() {
            return;
        }
        let paths: Vec<String> = self.watches.keys().cloned().collect();
        let zxid = self.last_zxid;
        self.send(xid::SET_WATCHES, opcode::SET_WATCHES, |out| {
            out.long(zxid);
            out.count(paths.len());
            paths.iter().for_each(|path| out.str(path));
            out.count(0);
            out.count(0);
        });
    }

    fn nonsense(&self, error: &dyn std::fmt::Display) -> Failure {
        Failure::safety("answers are well formed", format!("{:?}: {error}", self.id))
    }

    fn answered(&mut self, packet: &[u8], history: &mut History) -> Result<(), Failure> {
        let mut input = JuteReader::new(packet);
        let header = ReplyHeader::decode(&mut input).map_err(|e| self.nonsense(&e))?;
        match header.xid {
            xid::NOTIFICATION => return self.fired(&mut input, history),
            xid::PING | xid::SET_WATCHES | xid::AUTH => return Ok(()),
            _ => {}
        }
        history.answers += 1;
        let Some(InFlight { xid, asked, floor, seen }) = self.in_flight.pop_front() else {
            return Err(self.out_of_order(header.xid, None));
        };
        if xid != header.xid {
            return Err(self.out_of_order(header.xid, Some(xid)));
        }
        self.saw(header.zxid.0)?;
        if let Some(seen) = seen {
            self.record(seen, &asked, header, input.clone(), history)?;
        }
        if header.error != 0 {
            return self.refused(&asked, header.error, history);
        }
        self.told(asked, header.zxid.0, floor, &mut input, history)
    }

    /// Tells the checker of an answer.
    fn record(
        &self,
        seen: Seen,
        asked: &Asked,
        header: ReplyHeader,
        mut body: JuteReader<'_>,
        history: &mut History,
    ) -> Result<(), Failure> {
        let by = Answerer { server: self.server, zxid: header.zxid.0 };
        match (asked, header.error) {
            (Asked::Get { .. } | Asked::Configuration { .. }, 0) => {
                let data = body.buffer().map_err(|e| self.nonsense(&e))?;
                let stat = body.stat().map_err(|e| self.nonsense(&e))?;
                let is_counter = matches!(asked, Asked::Get { path, .. } if path == COUNTER);
                let value =
                    if is_counter { counted(stat.version) } else { text(data).as_str().into() };
                history.seen.found(seen, value, by);
            }
            (Asked::Increment, error::BAD_VERSION) => history.seen.swapped(seen, false, by),
            (Asked::Increment, 0) => history.seen.swapped(seen, true, by),
            (_, 0) => history.seen.done(seen, by),
            (_, error::SESSION_EXPIRED | error::SESSION_MOVED) => history.seen.unknown(seen),
            _ => history.seen.refused(seen),
        }
        Ok(())
    }

    /// ZK-6.
    fn out_of_order(&self, got: i32, expected: Option<i32>) -> Failure {
        let what = format!("{:?} got an answer to {got}, not to {expected:?}", self.id);
        Failure::safety("ZK-6: answers come in the order of the requests", what)
    }

    /// ZK-7: never backwards, also on another server. An answer that shows a transaction puts an end to the watches that
    /// must have told of it before.
    fn saw(&mut self, zxid: i64) -> Result<(), Failure> {
        if zxid < self.last_zxid {
            let what = format!("{:?} saw {:#x}, then {zxid:#x}", self.id, self.last_zxid);
            return Err(Failure::safety("ZK-7: no client reads backwards", what));
        }
        self.last_zxid = zxid;
        self.watches.values_mut().for_each(|watch| watch.seen = watch.seen.max(zxid));
        Ok(())
    }

    fn fired(&mut self, input: &mut JuteReader<'_>, history: &mut History) -> Result<(), Failure> {
        history.events += 1;
        let path = (|| {
            input.int()?;
            input.int()?;
            input.str().map(str::to_string)
        })();
        let path = path.map_err(|e: quorate_zk::wire::BadPacket| self.nonsense(&e))?;
        if path == READY {
            self.ready_events += 1;
        }
        if let Some(watch) = self.watches.remove(&path) {
            history.watch_ended(self.id, &path, watch);
        }
        Ok(())
    }

    /// A refusal that makes sense, or not.
    fn refused(&mut self, asked: &Asked, error: i32, history: &mut History) -> Result<(), Failure> {
        match (asked, error) {
            (_, error::SESSION_EXPIRED | error::SESSION_MOVED) => {
                if matches!(asked, Asked::Increment) {
                    history.perhaps_incremented += 1;
                }
                self.hang_up(history);
            }
            (Asked::Increment, error::BAD_VERSION) => self.counter = None,
            // The ready file is away.
            (Asked::Configuration { step: 0 }, error::NO_NODE) => {
                self.reading = Reading { generation: None, ..Reading::default() };
            }
            (Asked::Configuration { .. } | Asked::Get { .. }, error::NO_NODE)
            | (Asked::Configure, error::NODE_EXISTS | error::NO_NODE) => {}
            (Asked::Prepare, error::NODE_EXISTS) => self.prepare_answered(),
            _ => {
                let what = format!("{:?} was told {error} of {asked:?}", self.id);
                return Err(Failure::safety("ZK-3: refusals make sense", what));
            }
        }
        Ok(())
    }

    fn told(
        &mut self,
        asked: Asked,
        zxid: i64,
        floor: i64,
        input: &mut JuteReader<'_>,
        history: &mut History,
    ) -> Result<(), Failure> {
        let bad = |e: quorate_zk::wire::BadPacket| {
            Failure::safety("answers are well formed", e.to_string())
        };
        match asked {
            Asked::Prepare => {
                self.prepare_answered();
                Ok(())
            }
            Asked::Set { path, value } => {
                let stat = input.stat().map_err(bad)?;
                self.wrote(&path, stat.mzxid.0, floor, Some(&value), history)
            }
            Asked::Increment => {
                let stat = input.stat().map_err(bad)?;
                history.incremented += 1;
                self.counter = Some(stat.version);
                self.wrote(COUNTER, stat.mzxid.0, floor, None, history)
            }
            Asked::Number => {
                let path = input.str().map_err(bad)?.to_string();
                let stat = input.stat().map_err(bad)?;
                let digits = path.rsplit('-').next().and_then(|digits| digits.parse().ok());
                history.numbered(digits.unwrap_or(u64::MAX), stat.czxid.0)?;
                self.wrote(&path, stat.czxid.0, floor, None, history)
            }
            Asked::Ephemeral { path } => {
                input.str().map_err(bad)?;
                let stat = input.stat().map_err(bad)?;
                self.ephemerals.insert(path.clone());
                self.wrote(&path, stat.czxid.0, floor, None, history)
            }
            Asked::Sync if zxid < floor => {
                let what = format!("{:?} synced up to {zxid:#x}, not {floor:#x}", self.id);
                Err(Failure::safety("ZK-8: sync sees what was acknowledged before", what))
            }
            Asked::Sync => Ok(()),
            Asked::Configure => Ok(()),
            Asked::Get { path, .. } if self.linearizable && zxid < floor => {
                let what = format!(
                    "{:?} read {path} on a server at {zxid:#x}; {floor:#x} was told of before it asked",
                    self.id
                );
                Err(Failure::safety("ZK-8: linearizable reads are never stale", what))
            }
            Asked::Get { path, watch } => {
                let value = text(input.buffer().map_err(bad)?);
                let stat = input.stat().map_err(bad)?;
                if watch {
                    let fresh = Watch { set_at: zxid, seen: zxid };
                    self.watches.entry(path.clone()).or_insert(fresh);
                }
                if path == COUNTER {
                    self.counter = Some(stat.version);
                }
                history.read(self.id, &path, (stat.mzxid.0, zxid), &value)
            }
            Asked::Configuration { step } => {
                let value = text(input.buffer().map_err(bad)?);
                self.configuration_read(step, value, history)
            }
        }
    }

    /// A write of this client: in order (ZK-6), and after all that was told of before (ZK-5).
    fn wrote(
        &mut self,
        path: &str,
        zxid: i64,
        floor: i64,
        value: Option<&str>,
        history: &mut History,
    ) -> Result<(), Failure> {
        if zxid <= self.last_write {
            let what =
                format!("{:?} wrote {path} in {zxid:#x}, after {:#x}", self.id, self.last_write);
            return Err(Failure::safety("ZK-6: writes of a client are in order", what));
        }
        self.last_write = zxid;
        history.wrote(self.id, path, zxid, floor, value)
    }

    fn configuration_read(
        &mut self,
        step: usize,
        value: String,
        history: &mut History,
    ) -> Result<(), Failure> {
        if step == 0 {
            let (generation, events) = (Some(value), self.ready_events);
            self.reading = Reading { generation, events, found: Vec::new() };
            return Ok(());
        }
        self.reading.found.push(value);
        let Reading { generation: Some(generation), events, found } = &self.reading else {
            return Ok(());
        };
        let untold = *events == self.ready_events;
        history.configurations += u64::from(untold && found.len() == CONFIG.len());
        if untold && found.iter().any(|value| value != generation) {
            let what = format!(
                "{:?} saw the ready file of {generation}, was told nothing, and read {found:?}",
                self.id
            );
            return Err(Failure::safety("ZK-12: the ready file", what));
        }
        Ok(())
    }
}

fn text(data: Option<&[u8]>) -> String {
    String::from_utf8_lossy(data.unwrap_or_default()).into_owned()
}

fn create<'a>(path: &'a str, data: &'a [u8], mode: CreateMode) -> Op<'a> {
    let acl = vec![AclEntry { perms: perms::ALL, identity: anyone() }];
    Op::Create { path, data: Some(data), acl, mode }
}
