//! The simulated world as a scenario sees it: servers that are asked, killed, stopped and looked at, links that are
//! cut, and time that passes. How it is driven is in `drive`.

use std::collections::BTreeMap;
use std::time::Duration;

use quorate_contracts::{Gate, NodeId, Random, Recovered, Service, StateMachine, Time};
use quorate_raft::{Lease, Limits, Replica, ReplicaMessage, Timing};

use crate::disk_store::DiskStore;
use crate::drive::{Event, Gated};
use crate::queue::Queue;
use crate::store::CrashFate;
use crate::{
    Clock, DiskOptions, Happening, MemoryStore, Network, NetworkOptions, NodeState, Safety,
    Situation, Situations, StoreOptions, TraceEvent, TraceHash, Traffic, Violation,
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
    /// Put the real storage under the servers, on disks like these.
    pub disk: Option<DiskOptions>,
    /// Raft's timers.
    pub timing: Timing,
    /// Raft's bounds.
    pub limits: Limits,
    /// Whether reads may rest on clocks.
    pub lease: Option<Lease>,
    /// How much a clock may run fast or slow, in millionths.
    pub drift_ppm_max: u64,
    /// Tell servers the time of day, at their start and every second.
    pub wall_clock: bool,
    /// Keep everything that happens, to be shown or written to a file.
    pub trace: bool,
    /// Count messages and their bytes ([`World::traffic`]).
    pub measure: bool,
}

impl Default for WorldOptions {
    fn default() -> Self {
        Self {
            nodes: 3,
            network: NetworkOptions::default(),
            store: StoreOptions::default(),
            disk: None,
            timing: Timing::default(),
            limits: Limits::default(),
            lease: None,
            drift_ppm_max: 0,
            wall_clock: false,
            trace: false,
            measure: false,
        }
    }
}

pub(crate) type Make<S> = Box<dyn FnMut(NodeId, u64) -> (<S as Service>::Machine, S)>;
pub(crate) type MessageOf<S> = ReplicaMessage<<S as Service>::Message>;

/// The simulated world.
pub struct World<S: Service> {
    pub(crate) now: Time,
    pub(crate) queue: Queue<Event<S>>,
    pub(crate) nodes: BTreeMap<NodeId, Node<S>>,
    pub(crate) network: Network,
    pub(crate) options: WorldOptions,
    pub(crate) make: Make<S>,
    pub(crate) seeds: Random,
    pub(crate) safety: Safety,
    /// A server found on its disk what cannot be.
    pub(crate) violated_at_start: Option<Violation>,
    pub(crate) situations: Situations,
    pub(crate) traffic: Traffic,
    pub(crate) hash: TraceHash,
    pub(crate) trace: Vec<TraceEvent>,
    pub(crate) replies: Vec<(NodeId, S::Reply)>,
    pub(crate) messages: u64,
    pub(crate) events: u64,
    pub(crate) events_at_now: u64,
}

/// One server: its disk stays when the process dies.
pub(crate) struct Node<S: Service> {
    pub(crate) process: Option<Replica<S>>,
    pub(crate) store: MemoryStore,
    /// The real storage; then `store` is what it vouched for.
    pub(crate) disk: Option<DiskStore>,
    /// Why it did not start.
    pub(crate) refusal: Option<String>,
    pub(crate) gate: Gate<Gated<S>>,
    pub(crate) clock: Clock,
    /// Counts the lives: what was scheduled for an earlier one is not delivered.
    pub(crate) life: u64,
    /// A wake-up that is scheduled.
    pub(crate) wake_at: Option<Time>,
    /// For how many looks each member was silent that was heard once.
    pub(crate) lines: BTreeMap<NodeId, u32>,
    /// Stopped (SIGSTOP) until then.
    pub(crate) paused_until: Time,
    /// It is handing leadership over.
    pub(crate) transferring: bool,
    /// It dies in the middle of its next write.
    pub(crate) doomed: bool,
    /// When it does, once the write has begun.
    pub(crate) dies_in_write: Option<Time>,
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
            network: Network::new(options.network, options.nodes, &random.derive("network")),
            make: Box::new(make),
            seeds: random.derive("servers"),
            safety: Safety::default(),
            violated_at_start: None,
            situations: Situations::default(),
            traffic: Traffic::default(),
            hash: TraceHash::default(),
            trace: Vec::new(),
            replies: Vec::new(),
            messages: 0,
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
                disk: world.options.disk.map(|options| {
                    DiskStore::new(id, options, random.derive(&format!("sectors {id}")))
                }),
                refusal: None,
                gate: Gate::default(),
                clock,
                life: 0,
                wake_at: None,
                lines: BTreeMap::new(),
                paused_until: Time::ZERO,
                transferring: false,
                doomed: false,
                dies_in_write: None,
            };
            let real = node.disk.is_some();
            world.nodes.insert(id, node);
            if real {
                world.start_from_disk(id);
            } else {
                world.start(id, Recovered::default());
            }
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

    /// Whether everything that happens is kept.
    pub fn keeps_trace(&self) -> bool {
        self.options.trace
    }

    /// Everything that happened, if it is kept.
    pub fn trace(&self) -> &[TraceEvent] {
        &self.trace
    }

    /// What a bystander knows.
    pub fn safety(&self) -> &Safety {
        &self.safety
    }

    /// Situations reached so far.
    pub fn situations(&self) -> &Situations {
        &self.situations
    }

    /// What went over the network so far, if it is counted.
    pub fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    /// All servers, up or down.
    pub fn ids(&self) -> Vec<NodeId> {
        self.nodes.keys().copied().collect()
    }

    /// A server that is up.
    pub fn replica(&self, id: NodeId) -> Option<&Replica<S>> {
        self.nodes.get(&id)?.process.as_ref()
    }

    /// A server's disk.
    pub fn store(&self, id: NodeId) -> Option<&MemoryStore> {
        self.nodes.get(&id).map(|node| &node.store)
    }

    /// Those that are up.
    pub fn up(&self) -> impl Iterator<Item = &Replica<S>> {
        self.nodes.values().filter_map(|node| node.process.as_ref())
    }

    /// A server that is up or down: which of its lives it is in.
    pub fn life(&self, id: NodeId) -> u64 {
        self.nodes.get(&id).map_or(0, |node| node.life)
    }

    /// Whether a server is up.
    pub fn is_up(&self, id: NodeId) -> bool {
        self.replica(id).is_some()
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

    /// A server dies: what it had not synced may be lost. `noticed` says whether the others see its
    /// connections close, as they do when a process dies but not when a machine does.
    pub fn crash(&mut self, id: NodeId, noticed: bool) {
        self.note(|| Happening::Crashed { node: id, noticed });
        let others = self.ids();
        let Some(node) = self.nodes.get_mut(&id) else { return };
        node.process = None;
        node.gate = Gate::default();
        node.life += 1;
        node.wake_at = None;
        node.paused_until = Time::ZERO;
        (node.transferring, node.doomed) = (false, false);
        if let Some(disk) = &mut node.disk {
            disk.crash();
        }
        let real = node.disk.is_some();
        // What the real storage had not vouched for may be found all the same.
        let fate = if real { CrashFate::default() } else { node.store.crash() };
        if fate.lost > 0 {
            self.situations.reach(Situation::UnsyncedLost);
        }
        if fate.kept > 0 {
            self.situations.reach(Situation::UnsyncedKept);
        }
        self.hash.mix(0xdead ^ id.0);
        for to in others.into_iter().filter(|to| noticed && *to != id) {
            if !self.network.is_cut(id, to) {
                let at = self.now + self.options.network.replies.delay_max;
                self.queue.push(at, Event::Lost { to, member: id });
            }
        }
    }

    /// A server that is up dies in the middle of the next write that it begins, unnoticed by the others.
    pub fn crash_in_write(&mut self, id: NodeId) {
        if let Some(node) = self.nodes.get_mut(&id) {
            node.doomed = node.process.is_some();
        }
    }

    /// From here on no server dies in its next write.
    pub fn pardon(&mut self) {
        for node in self.nodes.values_mut() {
            (node.doomed, node.dies_in_write) = (false, None);
        }
    }

    /// A server that is down starts again from its disk.
    pub fn restart(&mut self, id: NodeId) {
        if self.nodes.get(&id).is_some_and(|node| node.process.is_none()) {
            self.note(|| Happening::Restarted { node: id });
            if self.options.disk.is_some() {
                self.start_from_disk(id);
            } else if let Some(node) = self.nodes.get_mut(&id) {
                let recovered = node.store.recover();
                self.start(id, recovered);
            }
        }
    }

    /// The newest entries of a server that is down are gone from its disk, though they were durable; `noticed` says
    /// whether the disk knows that something is gone. For worlds without the real storage: that one has its own ways to lose.
    pub fn forget(&mut self, id: NodeId, entries: usize, noticed: bool) {
        if let Some(node) = self.nodes.get_mut(&id).filter(|node| node.process.is_none()) {
            node.store.forget(entries, noticed);
        }
    }

    /// A server stops (SIGSTOP) for a while: what arrives meanwhile waits.
    pub fn pause(&mut self, id: NodeId, duration: Duration) {
        let until = self.now + duration;
        self.note(|| Happening::Stopped { node: id, until });
        if let Some(node) = self.nodes.get_mut(&id) {
            node.paused_until = until;
        }
    }

    /// From here on a server's disk is this fast.
    pub fn make_disk(&mut self, id: NodeId, options: StoreOptions) {
        if let Some(node) = self.nodes.get_mut(&id) {
            node.store.options = options;
        }
    }

    /// From here on all disks are this fast.
    pub fn make_disks(&mut self, options: StoreOptions) {
        self.nodes.values_mut().for_each(|node| node.store.options = options);
    }

    /// From here on the network is this bad; links that are cut stay so.
    pub fn make_network(&mut self, options: NetworkOptions) {
        self.network.options = options;
    }

    /// The network: what happened on it, and which mishaps are left out.
    pub fn network(&mut self) -> &mut Network {
        &mut self.network
    }

    /// Nothing gets from `from` to `to` any more; the other direction is left as it is.
    pub fn cut_one_way(&mut self, from: NodeId, to: NodeId) {
        self.note(|| Happening::Link { from, to, cut: true });
        self.network.cut_one_way(from, to);
    }

    /// Two servers no longer hear each other.
    pub fn cut(&mut self, a: NodeId, b: NodeId) {
        self.cut_one_way(a, b);
        self.cut_one_way(b, a);
    }

    /// Nobody hears this server, and it hears nobody.
    pub fn isolate(&mut self, id: NodeId) {
        for other in self.ids().into_iter().filter(|other| *other != id) {
            self.cut(id, other);
        }
    }

    /// Two servers hear each other again.
    pub fn join(&mut self, a: NodeId, b: NodeId) {
        for (from, to) in [(a, b), (b, a)] {
            self.note(|| Happening::Link { from, to, cut: false });
        }
        self.network.join(a, b);
    }

    /// Every link works again.
    pub fn heal(&mut self) {
        self.note(|| Happening::Healed);
        self.network.heal();
    }

    /// Puts the scenario's own words into the trace.
    pub fn say(&mut self, node: Option<NodeId>, text: impl FnOnce() -> String) {
        self.note(|| Happening::Said { node, text: text() });
    }

    pub(crate) fn note(&mut self, what: impl FnOnce() -> Happening) {
        if self.options.trace {
            self.trace.push(TraceEvent { at: self.now, what: what() });
        }
    }

    pub(crate) fn state(&self, id: NodeId) -> Option<NodeState> {
        let replica = self.replica(id)?;
        let raft = replica.raft();
        Some(NodeState {
            node: id,
            role: raft.role(),
            term: raft.term(),
            voted_for: raft.hard_state().voted_for,
            leader: raft.leader(),
            base: raft.base(),
            last: raft.last(),
            commit: raft.commit(),
            applied: replica.applied().index,
            durable: raft.durable_index(),
            digest: replica.machine().digest(),
        })
    }
}
