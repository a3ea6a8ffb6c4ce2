//! The loop of a node: drains its inbox into the replica, and carries out what it wants (the rules are in
//! `contracts::Process`).
//!
//! One round: let the sockets be read; take everything that arrived; read the clock; step; wake what is
//! due; then one log write, one packet a member, one flush a client.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use quorate_contracts::{Gate, GroupId, Input, NodeId, Output, Process, StateMachine, Time};
use quorate_raft::{Replica, ReplicaMessage};
use quorate_storage::{Completion, Storage, StorageEvent};
use quorate_zk::server::{
    ClientReply, ClientRequest, ConnectionId, HostFacts, Server, ServerMessage,
};
use tokio::sync::{Notify, oneshot};

use crate::admin::{GroupStatus, NodeStatus};
use crate::clients::Client;
use crate::disk::RealDisk;
use crate::members::Members;

/// What the coordination group's replicas send each other.
pub(crate) type Message = ReplicaMessage<ServerMessage>;
type Coordination = Replica<Server>;

/// What reaches the core.
pub(crate) enum Incoming {
    /// A client connected; its requests follow.
    Connected { connection: ConnectionId, client: Client },
    /// Something that a client asks.
    Client(ClientRequest),
    /// A member's message.
    Message { from: NodeId, group: GroupId, message: Message },
    /// A member's connection was lost.
    MemberLost(NodeId),
    /// Somebody asks how this node is.
    Status(oneshot::Sender<NodeStatus>),
}

/// Where the socket tasks put what arrives; all on one thread.
#[derive(Clone)]
pub(crate) struct Inbox {
    queue: Rc<RefCell<VecDeque<Incoming>>>,
    bell: Arc<Notify>,
}

impl Inbox {
    pub(crate) fn new(bell: Arc<Notify>) -> Self {
        Self { queue: Rc::default(), bell }
    }

    pub(crate) fn push(&self, incoming: Incoming) {
        self.queue.borrow_mut().push_back(incoming);
        self.bell.notify_one();
    }

    fn take(&self) -> VecDeque<Incoming> {
        std::mem::take(&mut *self.queue.borrow_mut())
    }
}

/// Where the disk's threads put what is done.
#[derive(Clone)]
pub(crate) struct Completions {
    done: Arc<Mutex<Vec<Completion>>>,
    bell: Arc<Notify>,
}

impl Completions {
    pub(crate) fn new(bell: Arc<Notify>) -> Self {
        Self { done: Arc::default(), bell }
    }

    pub(crate) fn push(&self, completion: Completion) {
        self.done.lock().unwrap_or_else(PoisonError::into_inner).push(completion);
        self.bell.notify_one();
    }

    fn take(&self) -> Vec<Completion> {
        std::mem::take(&mut *self.done.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What waits for a write.
enum Gated {
    Send(NodeId, Message),
    Reply(ClientReply),
}

/// Steps of one round after which sockets get their turn again.
const WAKES_MAX: usize = 64;
const SECOND: Duration = Duration::from_secs(1);

/// The core of a node.
pub(crate) struct Core {
    pub(crate) group: GroupId,
    pub(crate) replica: Coordination,
    pub(crate) storage: Storage<RealDisk>,
    pub(crate) members: Members,
    pub(crate) inbox: Inbox,
    pub(crate) completions: Completions,
    pub(crate) bell: Arc<Notify>,
    /// Rings once this node has caught up with its cluster.
    pub(crate) serving: Rc<Notify>,
    gate: Gate<Gated>,
    clients: BTreeMap<ConnectionId, Client>,
    /// Clients that were written to in this round.
    written: BTreeSet<ConnectionId>,
    out: Vec<Output<Coordination>>,
    news: Vec<StorageEvent>,
    start: Instant,
    now: Time,
    wall_clock_at: Time,
    failure: Option<String>,
}

/// What a core is made of.
pub(crate) struct Parts {
    pub(crate) group: GroupId,
    pub(crate) replica: Coordination,
    pub(crate) storage: Storage<RealDisk>,
    pub(crate) members: Members,
    pub(crate) inbox: Inbox,
    pub(crate) completions: Completions,
    pub(crate) bell: Arc<Notify>,
    pub(crate) serving: Rc<Notify>,
    pub(crate) durable: quorate_contracts::WriteMark,
}

impl Core {
    pub(crate) fn new(parts: Parts) -> Self {
        let mut gate = Gate::default();
        gate.open(parts.durable, |_| {});
        Self {
            group: parts.group,
            replica: parts.replica,
            storage: parts.storage,
            members: parts.members,
            inbox: parts.inbox,
            completions: parts.completions,
            bell: parts.bell,
            serving: parts.serving,
            gate,
            clients: BTreeMap::new(),
            written: BTreeSet::new(),
            out: Vec::new(),
            news: Vec::new(),
            start: Instant::now(),
            now: Time::ZERO,
            wall_clock_at: Time::ZERO,
            failure: None,
        }
    }

    /// Runs until the disk fails; the reason comes back.
    pub(crate) async fn run(mut self) -> String {
        loop {
            self.wait().await;
            // The driver of the sockets gets its turn, and their tasks after it: what has arrived is stepped
            // before any timer.
            tokio::task::yield_now().await;
            self.round();
            if let Some(failure) = self.failure.take() {
                return failure;
            }
        }
    }

    async fn wait(&self) {
        let deadline = self.replica.deadline().map_or(self.wall_clock_at, |(at, _)| at);
        let wait = deadline.min(self.wall_clock_at).since(self.now());
        if !wait.is_zero() {
            tokio::select! {
                () = self.bell.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    fn now(&self) -> Time {
        Time::from_nanos(u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    fn round(&mut self) {
        let arrived = self.inbox.take();
        let completed = self.completions.take();
        self.now = self.now();
        if self.wall_clock_at <= self.now {
            self.every_second();
        }
        for completion in completed {
            self.storage.complete(completion, &mut self.news);
        }
        self.take_news();
        for incoming in arrived {
            self.take(incoming);
        }
        for _ in 0..WAKES_MAX {
            if self.replica.deadline().is_none_or(|(at, _)| at > self.now) {
                break;
            }
            self.step(Input::Wake);
        }
        self.storage.flush();
        self.take_news();
        self.members.flush();
        self.flush_clients();
        if self.replica.is_serving() {
            self.serving.notify_one();
        }
    }

    fn step(&mut self, input: Input<Coordination>) {
        let mut out = std::mem::take(&mut self.out);
        self.replica.step(self.now, input, &mut out);
        for output in out.drain(..) {
            self.carry_out(output);
        }
        self.out = out;
    }

    fn take(&mut self, incoming: Incoming) {
        match incoming {
            Incoming::Connected { connection, client } => {
                self.clients.insert(connection, client);
            }
            Incoming::Client(request) => {
                let closed = match &request {
                    ClientRequest::Closed { connection } => Some(*connection),
                    _ => None,
                };
                self.step(Input::Requested(request));
                if let Some(client) = closed.and_then(|connection| self.clients.remove(&connection))
                {
                    client.end();
                }
            }
            Incoming::Message { from, group, message } if group == self.group => {
                self.step(Input::Received { from, message });
            }
            Incoming::Message { group, .. } => {
                tracing::debug!(%group, "a message for a group that is not here");
            }
            Incoming::MemberLost(member) => {
                tracing::info!(%member, "lost the connection to a member");
                self.step(Input::MemberLost { member });
            }
            Incoming::Status(answer) => {
                let _ = answer.send(self.status());
            }
        }
    }

    fn carry_out(&mut self, output: Output<Coordination>) {
        match output {
            Output::Persist { mark, record } => self.storage.persist(self.group, mark, record),
            Output::Send { when, to, message } => {
                if let Some(gated) = self.gate.pass(when, Gated::Send(to, message)) {
                    self.release(gated);
                }
            }
            Output::Reply { when, reply } => {
                if let Some(gated) = self.gate.pass(when, Gated::Reply(reply)) {
                    self.release(gated);
                }
            }
            Output::ReadLog { from, to, bytes_max } => {
                self.storage.read_log(self.group, from, to, bytes_max, &mut self.news);
            }
            Output::Snapshot(work) => self.storage.snapshot(self.group, work, &mut self.news),
        }
    }

    fn release(&mut self, gated: Gated) {
        match gated {
            Gated::Send(to, message) => self.members.push(to, self.group, &message),
            Gated::Reply(ClientReply::Write { connection, bytes }) => {
                if let Some(client) = self.clients.get(&connection) {
                    client.push(&bytes);
                    self.written.insert(connection);
                }
            }
            Gated::Reply(ClientReply::Close { connection }) => {
                if let Some(client) = self.clients.remove(&connection) {
                    client.end();
                }
            }
            Gated::Reply(ClientReply::Pause { connection }) => {
                self.clients.get(&connection).into_iter().for_each(|client| client.pause(true));
            }
            Gated::Reply(ClientReply::Resume { connection }) => {
                self.clients.get(&connection).into_iter().for_each(|client| client.pause(false));
            }
        }
    }

    /// What the storage has to tell; telling it may give it more to tell.
    fn take_news(&mut self) {
        while !self.news.is_empty() {
            for event in std::mem::take(&mut self.news) {
                match event {
                    StorageEvent::Persisted { mark, .. } => {
                        let mut released = Vec::new();
                        self.gate.open(mark, |gated| released.push(gated));
                        released.into_iter().for_each(|gated| self.release(gated));
                        self.step(Input::Persisted { mark });
                    }
                    StorageEvent::Read { from, entries, .. } => {
                        self.step(Input::Read { from, entries });
                    }
                    StorageEvent::Snapshot { news, .. } => self.step(Input::Snapshot(news)),
                    StorageEvent::Failed { reason } => {
                        self.step(Input::DiskFailed { reason: reason.clone() });
                        self.failure = Some(reason);
                    }
                }
            }
        }
    }

    fn flush_clients(&mut self) {
        for connection in std::mem::take(&mut self.written) {
            if let Some(client) = self.clients.get(&connection) {
                client.flush();
            }
        }
    }

    fn every_second(&mut self) {
        self.wall_clock_at = self.now + SECOND;
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let unix_ms = i64::try_from(since.as_millis()).unwrap_or(i64::MAX);
        self.step(Input::WallClock { unix_ms });
        let voters = self.replica.raft().membership().voters.len();
        let facts = host_facts(self.start.elapsed(), voters);
        self.step(Input::Requested(ClientRequest::HostFacts(facts)));
    }

    fn status(&self) -> NodeStatus {
        let status = self.replica.status();
        let counters = self.storage.counters();
        let tree = self.replica.machine();
        NodeStatus {
            id: self.replica.raft().node().0,
            pid: std::process::id(),
            serving: status.serving,
            zxid: format!("0x{:x}", tree.last_zxid().0),
            sessions: tree.sessions().len(),
            connections: self.replica.service().connections(),
            watches: self.replica.service().watches(),
            znodes: tree.znodes(),
            digest: format!("{:016x}", tree.digest()),
            resident_bytes: resident_bytes(),
            fdatasyncs: counters.syncs,
            log_entries: counters.entries,
            log_bytes: counters.bytes,
            groups: vec![GroupStatus::new("coordination", &status)],
        }
    }
}

fn host_facts(uptime: Duration, voters: usize) -> HostFacts {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let environment = [
        ("host.name", rustix::system::uname().nodename().to_string_lossy().into_owned()),
        ("os.name", rustix::system::uname().sysname().to_string_lossy().into_owned()),
        ("os.version", rustix::system::uname().release().to_string_lossy().into_owned()),
        ("os.arch", std::env::consts::ARCH.to_string()),
    ];
    HostFacts {
        uptime_ms: uptime.as_millis() as u64,
        open_files: std::fs::read_dir("/proc/self/fd").map_or(0, |files| files.count() as u64),
        open_files_max: limit.unwrap_or(u64::MAX),
        environment: environment.map(|(key, value)| (key.to_string(), value)).into(),
        voters,
    }
}

/// Resident memory of this process, as the kernel counts it; 0 where it does not tell.
fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * rustix::param::page_size() as u64
}
