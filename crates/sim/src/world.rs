//! The driver of the simulated world: many replicas, one queue of events, virtual time.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use quorate_contracts::{
    Entry, EntryId, Gate, Input, LogIndex, NodeId, Output, Process, Random, Record, Recovered,
    Service, SnapshotInput, StateMachine, Time, When,
};
use quorate_raft::{Config, Limits, Replica, ReplicaMessage, Timing};

use crate::queue::Queue;
use crate::{
    Clock, MemoryStore, Network, NetworkOptions, Safety, StoreOptions, TraceHash, TraceLine,
    Violation,
};

/// What a world is made of.
#[derive(Clone, Debug)]
pub struct WorldOptions {
    /// How many servers; their ids are 1 to this.
    pub nodes: u64,
    /// How bad the network is.
    pub network: NetworkOptions,
    /// How slow the disks are.
    pub store: StoreOptions,
    /// Raft's timers.
    pub timing: Timing,
    /// Raft's bounds.
    pub limits: Limits,
    /// How much a clock may run fast or slow, in millionths.
    pub drift_ppm_max: u64,
    /// Keep readable lines of what happens.
    pub trace: bool,
}

impl Default for WorldOptions {
    fn default() -> Self {
        Self {
            nodes: 3,
            network: NetworkOptions::default(),
            store: StoreOptions::default(),
            timing: Timing::default(),
            limits: Limits::default(),
            drift_ppm_max: 0,
            trace: false,
        }
    }
}

/// A server that finds work for ever without time passing has a deadline that it never serves.
const EVENTS_AT_ONE_INSTANT_MAX: u64 = 100_000;

type Make<S> = Box<dyn FnMut(NodeId, u64) -> (<S as Service>::Machine, S)>;
type MessageOf<S> = ReplicaMessage<<S as Service>::Message>;

/// The simulated world.
pub struct World<S: Service> {
    now: Time,
    queue: Queue<Event<S>>,
    nodes: BTreeMap<NodeId, Node<S>>,
    /// The network, to be made worse or better.
    pub network: Network,
    options: WorldOptions,
    make: Make<S>,
    seeds: Random,
    safety: Safety,
    hash: TraceHash,
    trace: VecDeque<TraceLine>,
    replies: Vec<(NodeId, S::Reply)>,
    events: u64,
    events_at_now: u64,
}

/// One server: its disk stays when the process dies.
struct Node<S: Service> {
    process: Option<Replica<S>>,
    store: MemoryStore,
    gate: Gate<Gated<S>>,
    clock: Clock,
    /// Counts the lives: what was scheduled for an earlier one is not delivered.
    life: u64,
    /// A wake-up that is scheduled.
    wake_at: Option<Time>,
    /// Stopped (SIGSTOP) until then.
    paused_until: Time,
}

/// What waits for a write.
enum Gated<S: Service> {
    Send(NodeId, MessageOf<S>),
    Reply(S::Reply),
}

enum Event<S: Service> {
    /// A message arrives.
    Deliver { to: NodeId, from: NodeId, message: MessageOf<S> },
    /// A connection was lost.
    Lost { to: NodeId, member: NodeId },
    /// A deadline, or the end of a batch.
    Wake { node: NodeId, life: u64 },
    /// The write in flight is durable.
    Synced { node: NodeId, life: u64 },
    /// The disk read something, or did something to a snapshot file.
    FromDisk { node: NodeId, life: u64, news: DiskNews },
}

enum DiskNews {
    Read(LogIndex, Vec<Entry>),
    Snapshot(SnapshotInput),
}

impl<S: Service> World<S>
where
    S::Message: Clone,
{
    /// A world of new servers with empty disks. `make` gives the empty machine and the service of a
    /// server, with a seed of its own.
    pub fn new(
        seed: u64,
        options: WorldOptions,
        make: impl FnMut(NodeId, u64) -> (S::Machine, S) + 'static,
    ) -> Self {
        let random = Random::new(seed);
        let mut world = Self {
            now: Time::ZERO,
            queue: Queue::new(),
            nodes: BTreeMap::new(),
            network: Network::new(options.network, random.derive("network")),
            make: Box::new(make),
            seeds: random.derive("servers"),
            safety: Safety::default(),
            hash: TraceHash::default(),
            trace: VecDeque::new(),
            replies: Vec::new(),
            events: 0,
            events_at_now: 0,
            options,
        };
        let mut clocks = random.derive("clocks");
        for id in (1..=world.options.nodes).map(NodeId) {
            let store = MemoryStore::new(world.options.store, random.derive(&format!("disk {id}")));
            let clock = Clock::draw(&mut clocks, world.options.drift_ppm_max);
            let node = Node {
                process: None,
                store,
                gate: Gate::default(),
                clock,
                life: 0,
                wake_at: None,
                paused_until: Time::ZERO,
            };
            world.nodes.insert(id, node);
            world.start(id, Recovered::default());
        }
        world
    }

    /// True time.
    pub fn now(&self) -> Time {
        self.now
    }

    /// Steps that were made so far.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// A hash of everything that happened so far.
    pub fn trace_hash(&self) -> TraceHash {
        self.hash
    }

    /// The newest lines of the trace, if it is kept.
    pub fn trace(&self) -> impl Iterator<Item = &TraceLine> {
        self.trace.iter()
    }

    /// What a bystander knows.
    pub fn safety(&self) -> &Safety {
        &self.safety
    }

    /// All servers, up or down.
    pub fn ids(&self) -> Vec<NodeId> {
        self.nodes.keys().copied().collect()
    }

    /// A server that is up.
    pub fn replica(&self, id: NodeId) -> Option<&Replica<S>> {
        self.nodes.get(&id)?.process.as_ref()
    }

    /// Those that are up.
    pub fn up(&self) -> impl Iterator<Item = &Replica<S>> {
        self.nodes.values().filter_map(|node| node.process.as_ref())
    }

    /// The leader of the newest term among those that are up.
    pub fn leader(&self) -> Option<NodeId> {
        self.up()
            .filter(|r| r.raft().is_leader())
            .max_by_key(|r| r.raft().term())
            .map(|r| r.raft().node())
    }

    /// What services told their clients since the last time.
    pub fn take_replies(&mut self) -> Vec<(NodeId, S::Reply)> {
        std::mem::take(&mut self.replies)
    }

    /// A client of a server that is up asks for something; false if it is down or stopped.
    pub fn request(&mut self, node: NodeId, request: S::Request) -> Result<bool, Violation> {
        let reachable = self
            .nodes
            .get(&node)
            .is_some_and(|n| n.process.is_some() && n.paused_until <= self.now);
        if reachable {
            self.step(node, Input::Requested(request))?;
        }
        Ok(reachable)
    }

    /// Lets everything happen that is due by `until`.
    pub fn run_until(&mut self, until: Time) -> Result<(), Violation> {
        while let Some((at, event)) = self.queue.pop_until(until) {
            if at > self.now {
                (self.now, self.events_at_now) = (at, 0);
            }
            self.events_at_now += 1;
            if self.events_at_now > EVENTS_AT_ONE_INSTANT_MAX {
                let (node, _) = event.target();
                let reason =
                    self.replica(node).and_then(Process::deadline).map(|(_, reason)| reason);
                let what = format!("{node} never comes to rest: {reason:?}");
                return Err(Violation { property: "Rest", what });
            }
            self.happen(event)?;
        }
        self.now = self.now.max(until);
        Ok(())
    }

    /// Lets the next `duration` happen.
    pub fn run_for(&mut self, duration: Duration) -> Result<(), Violation> {
        self.run_until(self.now + duration)
    }

    /// A server dies: what it had not synced may be lost. `noticed` says whether the others see its
    /// connections close, as they do when a process dies but not when a machine does.
    pub fn crash(&mut self, id: NodeId, noticed: bool) {
        self.note(id, || "crashes".to_string());
        let others = self.ids();
        let Some(node) = self.nodes.get_mut(&id) else { return };
        node.process = None;
        node.gate = Gate::default();
        node.life += 1;
        node.wake_at = None;
        node.paused_until = Time::ZERO;
        node.store.crash();
        self.hash.mix(0xdead ^ id.0);
        for to in others.into_iter().filter(|to| noticed && *to != id) {
            if !self.network.is_cut(id, to) {
                let at = self.now + self.options.network.delay_max;
                self.queue.push(at, Event::Lost { to, member: id });
            }
        }
    }

    /// A server that is down starts again from its disk.
    pub fn restart(&mut self, id: NodeId) {
        if self.nodes.get(&id).is_some_and(|node| node.process.is_none()) {
            self.note(id, || "restarts".to_string());
            if let Some(node) = self.nodes.get_mut(&id) {
                let recovered = node.store.recover();
                self.start(id, recovered);
            }
        }
    }

    /// From here on all disks are this fast.
    pub fn make_disks(&mut self, options: StoreOptions) {
        self.nodes.values_mut().for_each(|node| node.store.options = options);
    }

    /// Whether a server is up.
    pub fn is_up(&self, id: NodeId) -> bool {
        self.replica(id).is_some()
    }

    /// A server stops (SIGSTOP) for a while: what arrives meanwhile waits.
    pub fn pause(&mut self, id: NodeId, duration: Duration) {
        self.note(id, || format!("is stopped for {duration:?}"));
        let until = self.now + duration;
        if let Some(node) = self.nodes.get_mut(&id) {
            node.paused_until = until;
        }
    }

    fn start(&mut self, id: NodeId, recovered: Recovered) {
        let seed = self.seeds.next_u64();
        let (machine, service) = (self.make)(id, seed);
        let voters = (1..=self.options.nodes).map(NodeId);
        let mut config = Config::new(id, voters);
        config.timing = self.options.timing;
        config.limits = self.options.limits;
        self.safety.restarted(id);
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let mut gate = Gate::default();
        gate.open(recovered.mark, |_: Gated<S>| {});
        node.gate = gate;
        node.process = Some(Replica::new(config, recovered, machine, service, seed));
        self.schedule_wake(id);
    }

    fn happen(&mut self, event: Event<S>) -> Result<(), Violation> {
        let (node, life) = event.target();
        let Some(target) = self.nodes.get_mut(&node) else { return Ok(()) };
        if target.process.is_none() || life.is_some_and(|life| life != target.life) {
            return Ok(());
        }
        if let Event::Wake { .. } = event {
            // An earlier deadline took its place: that one has a wake-up of its own.
            if target.wake_at != Some(self.now) {
                return Ok(());
            }
            target.wake_at = Some(self.now.max(target.paused_until));
        }
        if target.paused_until > self.now {
            self.queue.push(target.paused_until, event);
            return Ok(());
        }
        match event {
            Event::Deliver { from, message, .. } => {
                self.hash.mix(from.0);
                self.step(node, Input::Received { from, message })
            }
            Event::Lost { member, .. } => self.step(node, Input::MemberLost { member }),
            Event::Wake { .. } => self.wake(node),
            Event::Synced { .. } => self.synced(node),
            Event::FromDisk { news, .. } => self.step(
                node,
                match news {
                    DiskNews::Read(from, entries) => Input::Read { from, entries },
                    DiskNews::Snapshot(news) => Input::Snapshot(news),
                },
            ),
        }
    }

    fn wake(&mut self, id: NodeId) -> Result<(), Violation> {
        let Some(node) = self.nodes.get_mut(&id) else { return Ok(()) };
        node.wake_at = None;
        let local = node.clock.local(self.now);
        let due =
            node.process.as_ref().and_then(Process::deadline).is_some_and(|(at, _)| at <= local);
        if due {
            self.step(id, Input::Wake)
        } else {
            self.schedule_wake(id);
            Ok(())
        }
    }

    fn synced(&mut self, id: NodeId) -> Result<(), Violation> {
        let Some(node) = self.nodes.get_mut(&id) else { return Ok(()) };
        let mark = node.store.complete();
        let mut released = Vec::new();
        node.gate.open(mark, |output| released.push(output));
        for output in released {
            match output {
                Gated::Send(to, message) => self.send(id, to, message),
                Gated::Reply(reply) => self.replies.push((id, reply)),
            }
        }
        self.step(id, Input::Persisted { mark })
    }

    /// One step of a server, what follows from it, and the checks.
    fn step(&mut self, id: NodeId, input: Input<Replica<S>>) -> Result<(), Violation> {
        self.events += 1;
        let Some(node) = self.nodes.get_mut(&id) else { return Ok(()) };
        let local = node.clock.local(self.now);
        let Some(process) = node.process.as_mut() else { return Ok(()) };
        let was = self.options.trace.then(|| describe(process));
        let mut out = Vec::new();
        process.step(local, input, &mut out);
        for output in out {
            self.carry_out(id, output)?;
        }
        self.flush(id);
        self.check(id)?;
        if let Some(was) = was {
            self.note_change(id, &was);
        }
        self.schedule_wake(id);
        Ok(())
    }

    fn carry_out(&mut self, id: NodeId, output: Output<Replica<S>>) -> Result<(), Violation> {
        match output {
            Output::Persist { mark, record } => {
                self.check_record(id, &record)?;
                if let Some(node) = self.nodes.get_mut(&id) {
                    node.store.persist(mark, record);
                }
            }
            Output::Send { when, to, message } => self.gate(id, when, Gated::Send(to, message)),
            Output::Reply { when, reply } => self.gate(id, when, Gated::Reply(reply)),
            Output::ReadLog { from, to, bytes_max } => {
                self.ask_disk(id, |store| {
                    Some(DiskNews::Read(from, store.read_log(from, to, bytes_max)))
                });
            }
            Output::Snapshot(work) => {
                self.ask_disk(id, |store| store.snapshot(work).map(DiskNews::Snapshot));
            }
        }
        Ok(())
    }

    fn gate(&mut self, id: NodeId, when: When, output: Gated<S>) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        match node.gate.pass(when, output) {
            Some(Gated::Send(to, message)) => self.send(id, to, message),
            Some(Gated::Reply(reply)) => self.replies.push((id, reply)),
            None => {}
        }
    }

    fn send(&mut self, from: NodeId, to: NodeId, message: MessageOf<S>) {
        let [first, second] = self.network.arrivals(from, to);
        if let Some(delay) = second {
            let message = message.clone();
            self.queue.push(self.now + delay, Event::Deliver { to, from, message });
        }
        if let Some(delay) = first {
            self.queue.push(self.now + delay, Event::Deliver { to, from, message });
        }
    }

    fn ask_disk(&mut self, id: NodeId, work: impl FnOnce(&mut MemoryStore) -> Option<DiskNews>) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        if let Some(news) = work(&mut node.store) {
            let at = self.now + node.store.draw_latency();
            self.queue.push(at, Event::FromDisk { node: id, life: node.life, news });
        }
    }

    fn flush(&mut self, id: NodeId) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        if let Some(latency) = node.store.flush() {
            let event = Event::Synced { node: id, life: node.life };
            self.queue.push(self.now + latency, event);
        }
    }

    fn schedule_wake(&mut self, id: NodeId) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let Some((local, _)) = node.process.as_ref().and_then(Process::deadline) else { return };
        let at =
            if local <= node.clock.local(self.now) { self.now } else { node.clock.global(local) };
        if node.wake_at.is_none_or(|scheduled| at < scheduled) {
            node.wake_at = Some(at);
            self.queue.push(at, Event::Wake { node: id, life: node.life });
        }
    }

    fn check_record(&mut self, id: NodeId, record: &Record) -> Result<(), Violation> {
        match self.nodes.get(&id).and_then(|node| node.process.as_ref()) {
            Some(replica) => self.safety.writes(replica, record),
            None => Ok(()),
        }
    }

    fn check(&mut self, id: NodeId) -> Result<(), Violation> {
        let nodes = &self.nodes;
        let Some(replica) = nodes.get(&id).and_then(|node| node.process.as_ref()) else {
            return Ok(());
        };
        let raft = replica.raft();
        self.hash.mix(self.now.as_nanos() ^ id.0 << 56);
        self.hash.mix(raft.last().index.0 << 32 ^ raft.commit().0 << 8 ^ raft.term().0);
        let durable = |entry: EntryId| {
            raft.membership().is_quorum(|n| nodes.get(&n).is_some_and(|n| n.store.holds(entry)))
        };
        self.safety.stepped(replica, durable)
    }

    fn note(&mut self, node: NodeId, text: impl FnOnce() -> String) {
        const LINES_MAX: usize = 400;
        if self.options.trace {
            if self.trace.len() == LINES_MAX {
                self.trace.pop_front();
            }
            self.trace.push_back(TraceLine { at: self.now, node, text: text() });
        }
    }

    fn note_change(&mut self, id: NodeId, was: &str) {
        if let Some(is) = self.replica(id).map(describe).filter(|is| is != was) {
            self.note(id, || is);
        }
    }
}

impl<S: Service> Event<S> {
    fn target(&self) -> (NodeId, Option<u64>) {
        match self {
            Self::Deliver { to, .. } | Self::Lost { to, .. } => (*to, None),
            Self::Wake { node, life }
            | Self::Synced { node, life }
            | Self::FromDisk { node, life, .. } => (*node, Some(*life)),
        }
    }
}

/// `leader 3, last 17@3, commit 16, applied 16`
fn describe<S: Service>(replica: &Replica<S>) -> String {
    let raft = replica.raft();
    format!(
        "{:?} {}, last {}, commit {}, applied {}, digest {:x}",
        raft.role(),
        raft.term(),
        raft.last(),
        raft.commit(),
        replica.applied().index,
        replica.machine().digest()
    )
}
