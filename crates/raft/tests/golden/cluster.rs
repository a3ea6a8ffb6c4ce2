//! A cluster of a script: servers with disks and clocks of their own, and the messages between them.
//!
//! Nothing happens by itself. A server's clock moves only when a script says so; a message
//! arrives when the script delivers it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use quorate_contracts::{
    Gate, HardState, Input, LogIndex, NodeId, Output, Process, RequestId, SnapshotInput,
    SnapshotMeta, Time, Wire,
};
use quorate_raft::{ChangeOutcome, Config, Lease, Limits, Message, Raft, Reply, Request, Timing};

use crate::disk::Disk;
use crate::event::{self, View};

/// What a server found on its disk before the story begins.
#[derive(Clone, Default)]
pub(crate) struct Given {
    pub(crate) hard_state: HardState,
    pub(crate) terms: Vec<u64>,
}

/// What the servers of a script are made with.
#[derive(Clone)]
pub(crate) struct Setting {
    pub(crate) voters: Vec<NodeId>,
    pub(crate) given: BTreeMap<NodeId, Given>,
    pub(crate) timing: Timing,
    pub(crate) limits: Limits,
    pub(crate) lease: Option<Lease>,
    /// Entries in memory after a restart.
    pub(crate) tail_entries: usize,
    pub(crate) show_messages: bool,
}

impl Default for Setting {
    fn default() -> Self {
        let limits = Limits { trailing_entries: 0, snapshot_piece_bytes: 100, ..Limits::default() };
        Self {
            voters: Vec::new(),
            given: BTreeMap::new(),
            timing: Timing::default(),
            limits,
            lease: None,
            tail_entries: usize::MAX,
            show_messages: false,
        }
    }
}

/// One server.
pub(crate) struct Node {
    pub(crate) raft: Option<Raft>,
    pub(crate) disk: Disk,
    gate: Gate<(NodeId, Message)>,
    pub(crate) clock: Time,
    lives: u64,
    /// What the disk will answer.
    disk_news: VecDeque<Input<Raft>>,
}

/// A message on its way.
pub(crate) struct InFlight {
    pub(crate) from: NodeId,
    pub(crate) to: NodeId,
    pub(crate) message: Message,
}

/// The cluster.
#[derive(Default)]
pub(crate) struct Cluster {
    pub(crate) setting: Setting,
    pub(crate) nodes: BTreeMap<NodeId, Node>,
    pub(crate) in_flight: VecDeque<InFlight>,
    /// Held back by the script until they arrive, late.
    pub(crate) delayed: Vec<InFlight>,
    /// Links on which messages are lost.
    pub(crate) cut: BTreeSet<(NodeId, NodeId)>,
    /// Messages that were delivered since the count was last told, by name.
    pub(crate) delivered: BTreeMap<&'static str, u64>,
    /// Changes of members that came about.
    pub(crate) changes_done: u64,
    /// Reads that may be served, with their indexes.
    pub(crate) reads_ready: Vec<(RequestId, LogIndex)>,
    pub(crate) output: Vec<String>,
}

/// Rounds after which a cluster that never comes to rest is a bug.
const ROUNDS_MAX: usize = 10_000;

impl Cluster {
    /// New servers with what was given to them.
    pub(crate) fn start(setting: Setting, servers: &[NodeId]) -> Self {
        let mut cluster = Self { setting, ..Self::default() };
        for id in servers {
            cluster.add(*id);
        }
        cluster
    }

    /// A new server joins the story.
    pub(crate) fn add(&mut self, id: NodeId) {
        let given = self.setting.given.get(&id).cloned().unwrap_or_default();
        let node = Node {
            raft: None,
            disk: Disk::with_log(given.hard_state, &given.terms),
            gate: Gate::default(),
            clock: Time::from_millis(1_000_000),
            lives: 0,
            disk_news: VecDeque::new(),
        };
        self.nodes.insert(id, node);
        self.restart(id);
    }

    pub(crate) fn tell(&mut self, node: NodeId, what: impl std::fmt::Display) {
        self.output.push(format!("{node}  {what}"));
    }

    pub(crate) fn node(&self, id: NodeId) -> Result<&Node, String> {
        self.nodes.get(&id).ok_or_else(|| format!("there is no {id}"))
    }

    pub(crate) fn node_mut(&mut self, id: NodeId) -> Result<&mut Node, String> {
        self.nodes.get_mut(&id).ok_or_else(|| format!("there is no {id}"))
    }

    pub(crate) fn raft(&self, id: NodeId) -> Result<&Raft, String> {
        self.node(id)?.raft.as_ref().ok_or_else(|| format!("{id} is down"))
    }

    pub(crate) fn up(&self) -> Vec<NodeId> {
        self.nodes.iter().filter(|(_, node)| node.raft.is_some()).map(|(id, _)| *id).collect()
    }

    /// A server starts from its disk.
    pub(crate) fn restart(&mut self, id: NodeId) {
        let mut config = Config::new(id, self.setting.voters.iter().copied());
        config.timing = self.setting.timing;
        config.limits = self.setting.limits;
        config.lease = self.setting.lease;
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let recovered = node.disk.recover(self.setting.tail_entries);
        node.lives += 1;
        node.gate = Gate::default();
        node.gate.open(recovered.mark, |_| {});
        node.raft = Some(Raft::new(config, recovered, id.0 * 1_000 + node.lives));
        // The first wake-up only starts its timers.
        self.step(id, Input::Wake);
    }

    /// A server dies with what it had not synced.
    pub(crate) fn crash(&mut self, id: NodeId) -> Result<(), String> {
        let node = self.node_mut(id)?;
        node.raft = None;
        node.disk.crash();
        node.disk_news.clear();
        self.in_flight.retain(|m| m.to != id);
        Ok(())
    }

    /// One step of a server; tells what changed.
    pub(crate) fn step(&mut self, id: NodeId, input: Input<Raft>) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let Some(raft) = node.raft.as_mut() else { return };
        let before = View::of(raft);
        let mut out = Vec::new();
        raft.step(node.clock, input, &mut out);
        let after = View::of(raft);
        if !before.same_office(&after) {
            self.tell(id, format_args!("{before} → {after}"));
        }
        out.into_iter().for_each(|output| self.carry_out(id, output));
        if after.commit > before.commit {
            let term = self.raft(id).ok().and_then(|raft| raft.term_at(after.commit));
            let term = term.expect("what is committed is in the log");
            self.tell(id, format_args!("commits {}@{term}", after.commit));
        }
    }

    fn carry_out(&mut self, id: NodeId, output: Output<Raft>) {
        match output {
            Output::Persist { mark, record } => {
                if let Some(what) = event::of_record(&record) {
                    self.tell(id, what);
                }
                if let Some(node) = self.nodes.get_mut(&id) {
                    node.disk.write(mark, record);
                }
            }
            Output::Send { when, to, message } => {
                if let Some(what) = event::of_vote(to, &message) {
                    self.tell(id, what);
                }
                let Some(node) = self.nodes.get_mut(&id) else { return };
                if let Some((to, message)) = node.gate.pass(when, (to, message)) {
                    self.in_flight.push_back(InFlight { from: id, to, message });
                }
            }
            Output::Reply { reply, .. } => self.replied(id, &reply),
            Output::ReadLog { from, to, bytes_max } => {
                let Some(node) = self.nodes.get_mut(&id) else { return };
                let entries = node.disk.read(from, to, bytes_max);
                node.disk_news.push_back(Input::Read { from, entries });
            }
            Output::Snapshot(work) => self.snapshot_work(id, work),
        }
    }

    fn snapshot_work(&mut self, id: NodeId, work: quorate_contracts::SnapshotOutput) {
        use quorate_contracts::SnapshotOutput::{Begin, Load};
        match &work {
            Begin { meta } => self.tell(id, format_args!("receives snapshot {}", meta.last)),
            Load => self.tell(id, "loads the snapshot"),
            _ => {}
        }
        let Some(node) = self.nodes.get_mut(&id) else { return };
        if let Some(news) = node.disk.snapshot(work) {
            node.disk_news.push_back(Input::Snapshot(news));
        }
    }

    fn replied(&mut self, id: NodeId, reply: &Reply) {
        match reply {
            Reply::Appended { .. } => {}
            Reply::Refused { reason, leader } => {
                let leader = leader.map_or("nobody known leads".into(), |n| format!("{n} leads"));
                self.tell(id, format_args!("refuses: {reason:?}, {leader}"));
            }
            Reply::ReadReady { ids, index } => {
                self.reads_ready.extend(ids.iter().map(|id| (*id, *index)));
                let ids = event::reads(ids);
                self.tell(id, format_args!("reads {ids} once {index} is applied"));
            }
            Reply::ReadRefused { ids, reason } => {
                let ids = event::reads(ids);
                self.tell(id, format_args!("refuses reads {ids}: {reason:?}"));
            }
            Reply::Members(outcome) => {
                self.changes_done += u64::from(matches!(outcome, ChangeOutcome::Done { .. }));
                self.tell(id, format_args!("change of members: {outcome:?}"));
            }
            Reply::Transfer(outcome) => self.tell(id, format_args!("transfer: {outcome:?}")),
        }
    }

    /// A client of a server asks.
    pub(crate) fn request(&mut self, id: NodeId, request: Request) -> Result<(), String> {
        self.raft(id)?;
        self.step(id, Input::Requested(request));
        self.work_locally();
        Ok(())
    }

    /// Everything that needs no message: wake-ups that are due, and the disks.
    pub(crate) fn work_locally(&mut self) -> bool {
        let mut worked = false;
        for id in self.up() {
            while self.wake_if_due(id) || self.sync(id) || self.disk_answers(id) {
                worked = true;
            }
        }
        worked
    }

    fn wake_if_due(&mut self, id: NodeId) -> bool {
        let Some(node) = self.nodes.get(&id) else { return false };
        let deadline = node.raft.as_ref().and_then(Process::deadline);
        let due = deadline.is_some_and(|(at, _)| at <= node.clock);
        if due {
            self.step(id, Input::Wake);
        }
        due
    }

    fn sync(&mut self, id: NodeId) -> bool {
        let Some(node) = self.nodes.get_mut(&id).filter(|node| !node.disk.held) else {
            return false;
        };
        let Some(mark) = node.disk.sync() else { return false };
        let mut released = Vec::new();
        node.gate.open(mark, |output| released.push(output));
        let leaving = released.into_iter().map(|(to, message)| InFlight { from: id, to, message });
        self.in_flight.extend(leaving);
        self.step(id, Input::Persisted { mark });
        true
    }

    fn disk_answers(&mut self, id: NodeId) -> bool {
        let Some(news) = self.nodes.get_mut(&id).and_then(|node| node.disk_news.pop_front()) else {
            return false;
        };
        self.step(id, news);
        true
    }

    /// One trip of the network: everything that is on its way now arrives or is lost. Returns whether
    /// anything was.
    pub(crate) fn deliver(&mut self) -> bool {
        self.work_locally();
        let batch = std::mem::take(&mut self.in_flight);
        let any = !batch.is_empty();
        for in_flight in batch {
            self.arrive(in_flight);
        }
        self.work_locally();
        any
    }

    pub(crate) fn arrive(&mut self, InFlight { from, to, message }: InFlight) {
        let lost = self.cut.contains(&(from, to)) || self.raft(to).is_err();
        if self.setting.show_messages {
            let end = if lost { "  (lost)" } else { "" };
            self.output.push(format!("  {from} → {to}  {}{end}", event::of_message(&message)));
        }
        if !lost {
            *self.delivered.entry(message.body.name()).or_default() += 1;
            self.step(to, Input::Received { from, message });
        }
    }

    /// Until nothing is on its way any more; no time passes.
    pub(crate) fn settle(&mut self) -> Result<(), String> {
        for _ in 0..ROUNDS_MAX {
            let worked = self.work_locally();
            if !self.deliver() && !worked {
                return Ok(());
            }
        }
        Err("the cluster never comes to rest".to_string())
    }

    /// Time passes for these servers alike; timers fire in order.
    pub(crate) fn wait(&mut self, duration: Duration, whose: &[NodeId]) -> Result<(), String> {
        let mut left = duration;
        loop {
            self.settle()?;
            let until_next = whose.iter().filter_map(|id| {
                let node = self.nodes.get(id)?;
                let (at, _) = node.raft.as_ref()?.deadline()?;
                Some(at.since(node.clock))
            });
            let pass = until_next.min().unwrap_or(left).min(left);
            if left.is_zero() {
                return Ok(());
            }
            for (_, node) in self.nodes.iter_mut().filter(|(id, _)| whose.contains(id)) {
                node.clock += pass;
            }
            left -= pass;
        }
    }

    /// A server takes a snapshot up to a committed entry, with some content.
    pub(crate) fn take_snapshot(
        &mut self,
        id: NodeId,
        index: LogIndex,
        content: &str,
    ) -> Result<(), String> {
        let raft = self.raft(id)?;
        let committed = raft.term_at(index).filter(|_| index <= raft.commit());
        let term = committed.ok_or("that is not committed")?;
        let last = quorate_contracts::EntryId::new(index, term);
        let meta = SnapshotMeta { last, membership: raft.membership_at(index).to_bytes() };
        let disk = &mut self.node_mut(id)?.disk;
        disk.snapshot(quorate_contracts::SnapshotOutput::Begin { meta });
        let bytes = bytes::Bytes::from(content.to_string());
        disk.snapshot(quorate_contracts::SnapshotOutput::Write { offset: 0, bytes });
        let finished = disk.snapshot(quorate_contracts::SnapshotOutput::Finish);
        if let Some(SnapshotInput::Finished { meta, bytes }) = finished {
            self.tell(id, format_args!("takes snapshot {last}"));
            self.step(id, Input::Snapshot(SnapshotInput::Finished { meta, bytes }));
            self.work_locally();
        }
        Ok(())
    }
}
