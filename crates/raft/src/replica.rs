//! A replica: Raft, the state machine that its log drives, and the service in front of it, as one
//! process. What a driver runs, in production and in the simulator.
//!
//! ```text
//!   clients ─▶ Service ──propose──▶ here: leader? ──yes──▶ Raft ──committed──▶ StateMachine
//!                 ▲                      └──no──▶ Forward to the leader                │
//!                 └──────────────── outcome and events, entry by entry ◀───────────────┘
//! ```
//!
//! Invariants: entries are applied in order, each once; the service is told of an entry before the next
//! one is applied; nothing is applied while a snapshot is being loaded.
//!
//! Not here: the snapshots that this server takes itself (`taking`), and any retry of a proposal:
//! the service knows which of its commands may be proposed twice.

use bytes::Bytes;
use quorate_contracts::{
    Entry, EntryId, EntryKind, Input, LogIndex, NodeId, Output, Process, Proposal, Recovered,
    Refusal, RequestId, Service, ServiceInput, ServiceOutput, SnapshotInput, SnapshotOutput,
    StateMachine, Term, Time, When,
};

use crate::room::LeaderFull;
use crate::taking::Taking;
use crate::{
    ChangeOutcome, Config, Members, Membership, Message, Missing, Raft, Reply, Request, RoleName,
    TransferOutcome,
};

/// What replicas send each other.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ReplicaMessage<M> {
    /// Raft's own.
    Raft(Message),
    /// Proposals for the leader, in order.
    Forward(Vec<Bytes>),
    /// These proposals were not taken: nothing happened.
    NotTaken {
        /// Which.
        ids: Vec<RequestId>,
        /// Why.
        reason: Refusal,
    },
    /// The service's own.
    Service(M),
}

/// What is asked of a replica.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ReplicaRequest<R> {
    /// A client of the service asks.
    Client(R),
    /// Leadership is to go to that voter, or to the best one, before this server stops (RAFT-7). Answered with
    /// `ReplicaReply::Transfer`.
    Transfer(Option<NodeId>),
    /// The members are to be these, if this server leads (RAFT-22). Answered with `ReplicaReply::Members`.
    ChangeMembers(Members),
    /// A snapshot is to be taken, however short the log is: for a backup. Not answered; the file is its news.
    TakeSnapshot,
}

/// What a replica answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ReplicaReply<R> {
    /// To a client of the service.
    Client(R),
    /// What came of a transfer.
    Transfer(TransferOutcome),
    /// What came of a change of members.
    Members(ChangeOutcome),
}

/// A server of one group, whole.
pub struct Replica<S: Service> {
    pub(crate) raft: Raft,
    pub(crate) machine: S::Machine,
    service: S,
    /// The last entry applied.
    pub(crate) applied: EntryId,
    /// A snapshot is to be loaded before anything is applied.
    loading: Loading,
    /// Committed entries are being read from the disk.
    reading: bool,
    /// There is more to apply than one step may.
    more_to_apply: bool,
    /// Proposals that leave for the leader with the next wake-up.
    forward: Vec<Bytes>,
    /// The leader refuses proposals for want of room.
    pub(crate) leader_full: Option<LeaderFull>,
    /// Reads that are up to date once this much is applied.
    reads: Vec<(LogIndex, Vec<RequestId>)>,
    /// What the service was told last.
    told: (Option<NodeId>, Term),
    /// Since which entry the members are in force that it was told of.
    told_members: Option<LogIndex>,
    serving: bool,
    pub(crate) taking: Taking,
    raft_out: Vec<Output<Raft>>,
    service_out: Vec<ServiceOutput<S>>,
    events: Vec<<S::Machine as StateMachine>::Event>,
}

/// Whether a snapshot must be loaded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Loading {
    No,
    /// The disk must be asked.
    Wanted,
    /// The disk was asked.
    Asked,
}

/// What a replica looks like from outside.
#[derive(Clone, Debug)]
pub struct Status {
    /// What it is doing.
    pub role: RoleName,
    /// Its term.
    pub term: Term,
    /// The leader, if known.
    pub leader: Option<NodeId>,
    /// Highest committed index known.
    pub commit: LogIndex,
    /// Highest index applied.
    pub applied: LogIndex,
    /// The last entry of its log.
    pub last: EntryId,
    /// The log begins after this entry.
    pub base: EntryId,
    /// Highest index that is durable here.
    pub durable: LogIndex,
    /// The members in force.
    pub membership: Membership,
    /// It has once caught up with the cluster since it started, and so may serve clients.
    pub serving: bool,
    /// Its group has nothing to do and sleeps here (RAFT-23).
    pub asleep: bool,
    /// What its disk lost of what it had vouched for, until a leader has sent it again.
    pub missing: Option<Missing>,
    /// Nobody has led for long who could.
    pub stranded: bool,
}

impl<S: Service> Process for Replica<S> {
    type Message = ReplicaMessage<S::Message>;
    type Request = ReplicaRequest<S::Request>;
    type Reply = ReplicaReply<S::Reply>;

    fn deadline(&self) -> Option<(Time, &'static str)> {
        if self.has_batched_work() {
            return Some((Time::ZERO, "batched work"));
        }
        let service = if self.loading == Loading::No { self.service.deadline() } else { None };
        let question = self.leader_full.map(|full| (full.ask_at, "has the leader room again?"));
        [self.raft.deadline(), service, question].into_iter().flatten().min()
    }

    fn step(&mut self, now: Time, input: Input<Self>, out: &mut Vec<Output<Self>>) {
        match input {
            Input::Wake => self.wake(now, out),
            Input::WallClock { unix_ms } => self.serve(now, ServiceInput::WallClock { unix_ms }),
            Input::Received { from, message } => self.receive(now, from, message, out),
            Input::MemberLost { member } => self.raft_step(now, Input::MemberLost { member }),
            Input::Requested(ReplicaRequest::Client(request)) => {
                self.serve(now, ServiceInput::Requested(request));
            }
            Input::Requested(ReplicaRequest::TakeSnapshot) => self.taking.want(),
            Input::Requested(ReplicaRequest::Transfer(to)) => {
                self.raft_step(now, Input::Requested(Request::Transfer(to)));
            }
            Input::Requested(ReplicaRequest::ChangeMembers(wanted)) => {
                self.raft_step(now, Input::Requested(Request::ChangeMembers(wanted)));
            }
            Input::Persisted { mark } => self.raft_step(now, Input::Persisted { mark }),
            Input::Read { from, entries } => self.entries_read(now, from, entries),
            Input::Snapshot(news) => self.snapshot_news(now, news, out),
            Input::Room(room) => self.room_is(now, room),
            Input::LetGo { through } => self.raft_step(now, Input::LetGo { through }),
            Input::DiskFailed { reason } => self.raft_step(now, Input::DiskFailed { reason }),
        }
        self.settle(now, out);
    }
}

impl<S: Service> Replica<S> {
    /// A replica as it was recovered from its disk. `machine` is an empty one: the snapshot and
    /// the log bring it up to date. `seed` makes Raft's random choices.
    pub fn new(
        config: Config,
        recovered: Recovered,
        machine: S::Machine,
        service: S,
        seed: u64,
    ) -> Self {
        let loading = if recovered.snapshot.is_some() { Loading::Wanted } else { Loading::No };
        let snapshot_bytes = recovered.snapshot.as_ref().map_or(0, |(_, bytes)| *bytes);
        Self {
            taking: Taking::new(snapshot_bytes),
            raft: Raft::new(config, recovered, seed),
            machine,
            service,
            applied: EntryId::ZERO,
            loading,
            reading: false,
            more_to_apply: false,
            forward: Vec::new(),
            leader_full: None,
            reads: Vec::new(),
            told: (None, Term(0)),
            told_members: None,
            serving: false,
            raft_out: Vec::new(),
            service_out: Vec::new(),
            events: Vec::new(),
        }
    }

    /// The state as it is here.
    pub fn machine(&self) -> &S::Machine {
        &self.machine
    }

    /// The service in front of it.
    pub fn service(&self) -> &S {
        &self.service
    }

    /// The Raft server under it.
    pub fn raft(&self) -> &Raft {
        &self.raft
    }

    /// The last entry applied.
    pub fn applied(&self) -> EntryId {
        self.applied
    }

    /// Whether it has once caught up with the cluster since it started, and so may serve clients.
    pub fn is_serving(&self) -> bool {
        self.serving
    }

    /// What it looks like from outside.
    pub fn status(&self) -> Status {
        Status {
            role: self.raft.role(),
            term: self.raft.term(),
            leader: self.raft.leader(),
            commit: self.raft.commit(),
            applied: self.applied.index,
            last: self.raft.last(),
            base: self.raft.base(),
            durable: self.raft.durable_index(),
            membership: self.raft.membership().clone(),
            serving: self.serving,
            asleep: self.raft.is_hibernating(),
            missing: self.raft.missing(),
            stranded: self.raft.is_stranded(),
        }
    }

    /// Whether there is a state: not while a snapshot is being loaded, nor before anything was applied.
    pub(crate) fn has_state(&self) -> bool {
        self.loading == Loading::No && self.applied != EntryId::ZERO
    }

    fn has_batched_work(&self) -> bool {
        !self.forward.is_empty()
            || !self.raft_out.is_empty()
            || self.more_to_apply
            || self.loading == Loading::Wanted
            || (self.loading == Loading::No && self.taking.has_work())
    }

    pub(crate) fn raft_step(&mut self, now: Time, input: Input<Raft>) {
        self.raft.step(now, input, &mut self.raft_out);
    }

    pub(crate) fn serve(&mut self, now: Time, input: ServiceInput<'_, S>) {
        self.service.step(now, input, &self.machine, &mut self.service_out);
    }

    fn wake(&mut self, now: Time, out: &mut Vec<Output<Self>>) {
        if self.loading == Loading::Wanted {
            self.loading = Loading::Asked;
            out.push(Output::Snapshot(SnapshotOutput::Load));
        }
        // The service first: what it proposes leaves with the same batch.
        if self.service.deadline().is_some_and(|(at, _)| at <= now) {
            self.serve(now, ServiceInput::Wake);
            self.carry_out(now, out);
        }
        self.ask_for_room(now, out);
        self.send_forward(now, out);
        self.raft_step(now, Input::Wake);
        self.snapshot_work(out);
    }

    fn receive(
        &mut self,
        now: Time,
        from: NodeId,
        message: ReplicaMessage<S::Message>,
        out: &mut Vec<Output<Self>>,
    ) {
        match message {
            ReplicaMessage::Raft(message) => {
                self.raft_step(now, Input::Received { from, message });
            }
            ReplicaMessage::Forward(proposals) => self.take_forwarded(from, proposals, out),
            ReplicaMessage::NotTaken { ids, reason } => {
                let reason = self.leader_refused(now, from, reason);
                for id in ids {
                    self.serve(now, ServiceInput::Refused { id, reason });
                }
            }
            ReplicaMessage::Service(message) => {
                self.serve(now, ServiceInput::Received { from, message });
            }
        }
    }

    /// Proposals of another server: into the log, or back.
    fn take_forwarded(&mut self, from: NodeId, proposals: Vec<Bytes>, out: &mut Vec<Output<Self>>) {
        let Some(reason) = self.raft.refuses_proposals() else {
            self.raft.propose(proposals);
            return;
        };
        let proposals = self.take_vital(reason, proposals);
        let ids = proposals.into_iter().filter_map(Proposal::from_data).map(|p| p.id()).collect();
        let message = ReplicaMessage::NotTaken { ids, reason };
        out.push(Output::Send { when: When::Now, to: from, message });
    }

    /// Carries out what the last step made, until nothing follows from it any more.
    fn settle(&mut self, now: Time, out: &mut Vec<Output<Self>>) {
        self.pass_on_raft(now, out);
        self.tell_leader(now);
        self.apply_committed(now, out);
        self.tell_members(now);
        self.serve_reads(now);
        self.carry_out(now, out);
        // What the service asked of Raft may have been answered at once.
        self.pass_on_raft(now, out);
        self.carry_out(now, out);
        self.maybe_take_snapshot(now, out);
    }

    /// Raft's outputs are this process's own, in the same order.
    fn pass_on_raft(&mut self, now: Time, out: &mut Vec<Output<Self>>) {
        for output in std::mem::take(&mut self.raft_out) {
            out.push(match output {
                Output::Persist { mark, record } => Output::Persist { mark, record },
                Output::Send { when, to, message } => {
                    Output::Send { when, to, message: ReplicaMessage::Raft(message) }
                }
                Output::ReadLog { from, to, bytes_max } => Output::ReadLog { from, to, bytes_max },
                Output::Snapshot(SnapshotOutput::Load) => {
                    self.loading = Loading::Asked;
                    Output::Snapshot(SnapshotOutput::Load)
                }
                Output::Snapshot(work) => Output::Snapshot(work),
                Output::Reply { reply, .. } => {
                    self.raft_replied(now, reply, out);
                    continue;
                }
            });
        }
    }

    fn raft_replied(&mut self, now: Time, reply: Reply, out: &mut Vec<Output<Self>>) {
        match reply {
            Reply::ReadReady { ids, index } => self.reads.push((index, ids)),
            Reply::ReadRefused { ids, reason } => {
                for id in ids {
                    self.serve(now, ServiceInput::ReadRefused { id, reason });
                }
            }
            Reply::Transfer(outcome) => {
                let reply = ReplicaReply::Transfer(outcome);
                out.push(Output::Reply { when: When::Now, reply });
            }
            Reply::Members(outcome) => {
                let reply = ReplicaReply::Members(outcome);
                out.push(Output::Reply { when: When::Now, reply });
            }
            // Proposals are told of by what becomes of them.
            Reply::Appended { .. } | Reply::Refused { .. } => {}
        }
    }

    /// Tells the service of reads for which enough is applied.
    fn serve_reads(&mut self, now: Time) {
        if self.reads.is_empty() || self.loading != Loading::No {
            return;
        }
        let applied = self.applied.index;
        let ready = self.reads.extract_if(.., |(index, _)| *index <= applied);
        for id in ready.flat_map(|(_, ids)| ids).collect::<Vec<_>>() {
            self.serve(now, ServiceInput::ReadReady { id });
        }
    }

    fn tell_leader(&mut self, now: Time) {
        let current = (self.raft.leader(), self.raft.term());
        if current != self.told {
            self.told = current;
            // What waited for the old leader would overtake what was sent to it: the service, told below,
            // proposes all of it again.
            self.forward.clear();
            self.leader_full = None;
            let (leader, term) = current;
            self.serve(now, ServiceInput::Leader { leader, term });
        }
    }

    /// Tells the service of the members as of what is applied. In the middle of a joint change they are not
    /// worth telling.
    fn tell_members(&mut self, now: Time) {
        let since = self.raft.memberships.since(self.applied.index);
        if self.loading != Loading::No || self.told_members == Some(since) {
            return;
        }
        self.told_members = Some(since);
        let members = self.raft.memberships.at(self.applied.index);
        if !members.is_joint() {
            let voters = members.voters.iter().copied().collect();
            let learners = members.learners.iter().copied().collect();
            self.serve(now, ServiceInput::Members { since, voters, learners });
        }
    }

    /// Applies what is committed, as much as one step may.
    fn apply_committed(&mut self, now: Time, out: &mut Vec<Output<Self>>) {
        self.more_to_apply = false;
        let mut budget = self.raft.config.limits.apply_bytes;
        while self.loading == Loading::No && self.applied.index < self.raft.commit() {
            if budget == 0 {
                self.more_to_apply = true;
                break;
            }
            let next = self.applied.index.next();
            let Some(entry) = self.raft.entry(next).cloned() else {
                self.read_committed(next, out);
                break;
            };
            budget = budget.saturating_sub(crate::log::cost(&entry));
            self.apply(now, &entry);
            self.carry_out(now, out);
        }
        self.serving |= self.loading == Loading::No && self.has_caught_up();
    }

    /// The leader's own no-op, or something after it, is applied here, and so is everything that the
    /// leader is known to have committed: what clients see is not older than this server's start.
    fn has_caught_up(&self) -> bool {
        self.raft.leader().is_some()
            && self.applied.term == self.raft.term()
            && self.applied.index >= self.raft.leader_commit()
    }

    fn apply(&mut self, now: Time, entry: &Entry) {
        assert_eq!(entry.id.index, self.applied.index.next(), "entries are applied in order");
        self.applied = entry.id;
        self.taking.log_grew(crate::log::cost(entry) as u64);
        if entry.kind != EntryKind::Command {
            return;
        }
        let proposal = Proposal::from_data(entry.data.clone())
            .unwrap_or_else(|| panic!("entry {} is shorter than a proposal's header", entry.id));
        let mut events = std::mem::take(&mut self.events);
        let outcome = self.machine.apply(entry.id.index, proposal.command(), &mut events);
        let own = proposal.origin() == self.raft.node();
        let id = own.then(|| proposal.id());
        self.serve(now, ServiceInput::Applied { at: entry.id, id, outcome, events: &events });
        events.clear();
        self.events = events;
    }

    /// Committed entries are on disk only: after a restart.
    fn read_committed(&mut self, from: LogIndex, out: &mut Vec<Output<Self>>) {
        if !self.reading {
            self.reading = true;
            let bytes_max = self.raft.config.limits.apply_bytes;
            out.push(Output::ReadLog { from, to: self.raft.commit(), bytes_max });
        }
    }

    fn entries_read(&mut self, now: Time, from: LogIndex, entries: Vec<Entry>) {
        if self.reading && from == self.applied.index.next() {
            self.reading = false;
            // The disk may not have been told yet that an entry was replaced: only what the log still
            // holds is committed.
            let current = |entry: &&Entry| {
                let EntryId { index, term } = entry.id;
                index <= self.raft.commit() && self.raft.term_at(index) == Some(term)
            };
            let count = entries.iter().take_while(current).count();
            for entry in &entries[..count] {
                if self.loading == Loading::No {
                    self.apply(now, entry);
                }
            }
        }
        self.raft_step(now, Input::Read { from, entries });
    }

    /// Does what the service wants, until it wants nothing more.
    fn carry_out(&mut self, now: Time, out: &mut Vec<Output<Self>>) {
        while !self.service_out.is_empty() {
            for output in std::mem::take(&mut self.service_out) {
                match output {
                    ServiceOutput::Propose(proposal) => self.propose(now, proposal),
                    ServiceOutput::ReadBarrier { id } => {
                        self.raft_step(now, Input::Requested(Request::Read(id)));
                    }
                    ServiceOutput::Reply(reply) => {
                        let reply = ReplicaReply::Client(reply);
                        out.push(Output::Reply { when: When::Now, reply });
                    }
                    ServiceOutput::Tell { to, message } if to == self.raft.node() => {
                        self.serve(now, ServiceInput::Received { from: to, message });
                    }
                    ServiceOutput::Tell { to, message } => {
                        let message = ReplicaMessage::Service(message);
                        out.push(Output::Send { when: When::Now, to, message });
                    }
                }
            }
        }
    }

    fn propose(&mut self, now: Time, proposal: Proposal) {
        match (self.refuses(proposal.command()), self.raft.leader()) {
            (None, _) => {
                self.raft.take_proposals(vec![proposal.into_data()]);
            }
            (Some(Refusal::NoLeader), Some(leader)) if leader != self.raft.node() => {
                self.forward.push(proposal.into_data());
            }
            (Some(reason), _) => {
                self.serve(now, ServiceInput::Refused { id: proposal.id(), reason });
            }
        }
    }

    /// One packet for all that was proposed since the last batch. If there is no leader any more,
    /// nobody hears of them: the service is told of the change, and knows what to do.
    fn send_forward(&mut self, now: Time, out: &mut Vec<Output<Self>>) {
        let proposals = std::mem::take(&mut self.forward);
        let leader = self.raft.leader().filter(|leader| *leader != self.raft.node());
        if let (Some(to), false) = (leader, proposals.is_empty()) {
            self.raft.waken(now);
            let message = ReplicaMessage::Forward(proposals);
            out.push(Output::Send { when: When::Now, to, message });
        }
    }

    fn snapshot_news(&mut self, now: Time, news: SnapshotInput, out: &mut Vec<Output<Self>>) {
        match news {
            // Another snapshot took its place while it was being read: that one is asked for as well, and has come
            // already or will.
            SnapshotInput::Loaded { meta, .. }
                if self.loading != Loading::Asked || meta.last.index < self.raft.base().index => {}
            SnapshotInput::Loaded { meta, mut reader } => {
                // A checksum vouched for every byte: what cannot be read is of another format, or
                // a bug, and going on would serve an empty tree.
                self.machine = S::Machine::restore(&mut reader)
                    .unwrap_or_else(|error| panic!("snapshot {}: {error}", meta.last));
                self.applied = meta.last;
                self.loading = Loading::No;
                self.reading = false;
                self.taking.forget();
                self.serve(now, ServiceInput::Restored);
            }
            news => {
                self.own_snapshot_news(&news, out);
                self.raft_step(now, Input::Snapshot(news));
            }
        }
    }
}
