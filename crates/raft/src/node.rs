//! One Raft server: its state (Figure 2), the one door in, and the rules for all servers.
//!
//! What each role does with a message is in `follower`, `candidate` and `leader`; what becomes durable, and
//! when an answer may leave, is in `durability`.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use quorate_contracts::{
    EntryId, EntryKind, HardState, Input, LogIndex, NodeId, Output, Process, Random, Recovered,
    Refusal, RequestId, Room, SnapshotMeta, Term, Time, When, Wire,
};

use crate::candidate::Candidate;
use crate::durability::Durability;
use crate::follower::Incoming;
use crate::leader::Leader;
use crate::log::Log;
use crate::membership::Memberships;
use crate::mending::Mending;
use crate::progress::FollowerView;
use crate::read_index::Reads;
use crate::{Body, ChangeOutcome, Config, Members, Membership, Message, Timing, TransferOutcome};

/// What a server is doing.
#[derive(Debug)]
pub(crate) enum Role {
    /// Follows a leader, or waits for one.
    Follower,
    /// Asks for votes, or whether it would get them.
    Candidate(Candidate),
    /// Leads its term.
    Leader(Box<Leader>),
}

/// What a server is doing, as others see it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum RoleName {
    /// Follows a leader, or waits for one.
    Follower,
    /// Asks whether it would be elected.
    PreCandidate,
    /// Asks for votes.
    Candidate,
    /// Leads.
    Leader,
    /// Gets the log and does not vote.
    Learner,
}

/// One server of one group. Owns no disk, network or clock.
#[derive(Debug)]
pub struct Raft {
    pub(crate) config: Config,
    pub(crate) random: Random,
    pub(crate) hard_state: HardState,
    pub(crate) log: Log,
    pub(crate) memberships: Memberships,
    pub(crate) durability: Durability,
    /// What of the log is damaged or lost.
    pub(crate) mending: Mending,
    pub(crate) role: Role,
    /// The leader of this term, if it is known.
    pub(crate) leader: Option<NodeId>,
    /// When a leader was last heard, and which one.
    pub(crate) leader_heard: Time,
    /// See `leader_heard`; kept when the leader is not known any more.
    pub(crate) heard_leader: Option<NodeId>,
    /// The leader's own commit index, as last heard.
    pub(crate) leader_commit: LogIndex,
    /// Highest index known to be committed (`commitIndex`).
    pub(crate) commit: LogIndex,
    /// When to campaign, unless a leader is heard. `None` before the first step.
    pub(crate) election_at: Option<Time>,
    /// Campaigns since a leader was last known.
    pub(crate) campaigns: u32,
    /// The newest finished snapshot.
    pub(crate) snapshot: Option<SnapshotMeta>,
    /// A snapshot being received.
    pub(crate) incoming: Option<Incoming>,
    /// The snapshot file is busy with a piece that this server took itself.
    pub(crate) snapshot_file_busy: bool,
    /// Entries up to this one go with the next snapshot that covers them: the log on the disk is held back by them.
    pub(crate) let_go: LogIndex,
    /// The leader sends no heartbeats, and no timer runs until it does or its connection is lost.
    pub(crate) sleeping: bool,
    /// What room the disk has for the log.
    pub(crate) room: Room,
    /// Reads of this server's clients.
    pub(crate) reads: Reads,
    /// What this server's clients are told at the end of the step.
    pub(crate) answers: Vec<Reply>,
    /// The disk failed; nothing more is done.
    pub(crate) failed: bool,
}

/// What a client of the core asks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Request {
    /// Append these commands, if this server leads. Answered with `Appended` or `Refused`.
    Propose(Vec<Bytes>),
    /// At which index a read that arrives now is up to date (RAFT-21). Answered with `ReadReady` or `ReadRefused`.
    Read(RequestId),
    /// Hand leadership over to that voter, or to the best one (RAFT-7). Answered with `Transfer`.
    Transfer(Option<NodeId>),
    /// Change the members (RAFT-22). Answered with `Members`.
    ChangeMembers(Members),
}

/// What it is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reply {
    /// The commands are in the leader's log from this entry on. They are committed once the commit
    /// index reaches them in this term.
    Appended {
        /// The first one's id; the others follow.
        first: EntryId,
    },
    /// The commands were not taken: nothing happened.
    Refused {
        /// Why.
        reason: Refusal,
        /// Who leads, if known.
        leader: Option<NodeId>,
    },
    /// The state is up to date for these reads once `index` is applied.
    ReadReady {
        /// The reads.
        ids: Vec<RequestId>,
        /// Everything that was committed when they arrived is at most here.
        index: LogIndex,
    },
    /// Nobody answered for these reads.
    ReadRefused {
        /// The reads.
        ids: Vec<RequestId>,
        /// Why.
        reason: Refusal,
    },
    /// What came of a transfer.
    Transfer(TransferOutcome),
    /// What came of a change of members.
    Members(ChangeOutcome),
}

pub(crate) type Outputs = Vec<Output<Raft>>;

impl Process for Raft {
    type Message = Message;
    type Request = Request;
    type Reply = Reply;

    fn deadline(&self) -> Option<(Time, &'static str)> {
        if self.failed {
            return None;
        }
        let role = match (&self.role, self.election_at) {
            (Role::Leader(_), _) if self.change_is_due() => {
                Some((Time::ZERO, "a change of members"))
            }
            (Role::Leader(leader), _) => leader.deadline(self.commit),
            (_, None) => Some((Time::ZERO, "start")),
            (_, Some(_)) if self.sleeping || !self.is_electable() => self.mending_deadline(),
            (Role::Follower, Some(at)) => Some((at, "election timeout")),
            (Role::Candidate(_), Some(at)) => Some((at, "campaign again")),
        };
        [role, self.reads_deadline()].into_iter().flatten().min()
    }

    fn step(&mut self, now: Time, input: Input<Self>, out: &mut Outputs) {
        if self.failed {
            return;
        }
        match input {
            Input::Wake => self.wake(now, out),
            Input::WallClock { .. } => {}
            Input::Received { from, message } => self.receive(now, from, message, out),
            Input::MemberLost { member } => self.member_lost(now, member),
            Input::Requested(request) => self.requested(now, request),
            Input::Persisted { mark } => {
                self.durability.persisted(mark);
                self.after_persisted(now, out);
            }
            Input::Read { from, entries } => self.entries_read(from, &entries, out),
            Input::Snapshot(news) => self.snapshot_news(now, news, out),
            Input::Room(room) => self.room_is(room),
            Input::LetGo { through } => self.let_go(through, out),
            Input::DiskFailed { .. } => self.failed = true,
        }
        self.flush_hard_state(out);
        let answers = self.answers.drain(..);
        out.extend(answers.map(|reply| Output::Reply { when: When::Now, reply }));
    }
}

impl Raft {
    /// A server as it was recovered from its disk. `seed` makes its random choices.
    pub fn new(config: Config, recovered: Recovered, seed: u64) -> Self {
        let mut initial = Membership::of_voters(config.voters.iter().copied());
        initial.learners.extend(&config.learners);
        let mut memberships = Memberships::new(initial);
        let mending = Mending::new(&recovered);
        let snapshot = recovered.snapshot.map(|(meta, _)| meta);
        if let Some(meta) = &snapshot {
            memberships.restore(LogIndex::ZERO, decode_membership(meta));
        }
        for (index, data) in &recovered.memberships {
            memberships.append(*index, data);
        }
        let commit = snapshot.as_ref().map_or(LogIndex::ZERO, |meta| meta.last.index);
        let Recovered { base, last, term_starts, tail, .. } = recovered;
        let mut random = Random::new(seed);
        Self {
            config,
            reads: Reads::new(random.next_u64()),
            random,
            hard_state: recovered.hard_state,
            log: Log::new(base, last, term_starts, tail),
            memberships,
            durability: Durability::new(
                recovered.mark,
                mending.whole_up_to(last.index),
                last.index,
            ),
            mending,
            role: Role::Follower,
            leader: None,
            leader_heard: Time::ZERO,
            heard_leader: None,
            leader_commit: LogIndex::ZERO,
            commit,
            election_at: None,
            campaigns: 0,
            snapshot,
            incoming: None,
            snapshot_file_busy: false,
            let_go: LogIndex::ZERO,
            sleeping: false,
            room: Room::Enough,
            answers: Vec::new(),
            failed: false,
        }
    }

    /// This server's id.
    pub fn node(&self) -> NodeId {
        self.config.node
    }

    /// Latest term it has seen (`currentTerm`).
    pub fn term(&self) -> Term {
        self.hard_state.term
    }

    /// Term and vote.
    pub fn hard_state(&self) -> HardState {
        self.hard_state
    }

    /// What it is doing.
    pub fn role(&self) -> RoleName {
        match &self.role {
            Role::Leader(_) => RoleName::Leader,
            Role::Candidate(candidate) if candidate.pre_vote => RoleName::PreCandidate,
            Role::Candidate(_) => RoleName::Candidate,
            Role::Follower if !self.is_voter() => RoleName::Learner,
            Role::Follower => RoleName::Follower,
        }
    }

    /// Whether it leads its term.
    pub fn is_leader(&self) -> bool {
        matches!(self.role, Role::Leader(_))
    }

    /// The leader of this term, if known.
    pub fn leader(&self) -> Option<NodeId> {
        self.leader
    }

    /// Highest index known to be committed.
    pub fn commit(&self) -> LogIndex {
        self.commit
    }

    /// The commit index that the leader told of, which may lie ahead of what is here.
    pub fn leader_commit(&self) -> LogIndex {
        self.leader_commit.max(self.commit)
    }

    /// The last entry of the log.
    pub fn last(&self) -> EntryId {
        self.log.last()
    }

    /// The log begins after this entry.
    pub fn base(&self) -> EntryId {
        self.log.base()
    }

    /// Term of the entry at `index`, if the log knows it.
    pub fn term_at(&self, index: LogIndex) -> Option<Term> {
        self.log.term_at(index)
    }

    /// The entry at `index`, if it is in memory.
    pub fn entry(&self, index: LogIndex) -> Option<&quorate_contracts::Entry> {
        self.log.in_memory(index)
    }

    /// The members in force.
    pub fn membership(&self) -> &Membership {
        self.memberships.current()
    }

    /// Whether the members in force are committed, so that they stay in force.
    pub fn has_settled_membership(&self) -> bool {
        let (since, membership) = self.memberships.newest();
        since <= self.commit && !membership.is_joint()
    }

    /// The members that were in force at `index`, which the log must still reach: what a snapshot up to
    /// there is to say.
    pub fn membership_at(&self, index: LogIndex) -> &Membership {
        self.memberships.at(index)
    }

    /// The last entry that the newest finished snapshot covers.
    pub fn snapshot_index(&self) -> Option<LogIndex> {
        self.snapshot.as_ref().map(|meta| meta.last.index)
    }

    /// Highest index that is durable here.
    pub fn durable_index(&self) -> LogIndex {
        self.durability.index()
    }

    /// The commit index that is known at each follower (`matchIndex`), if this server leads.
    pub fn matched(&self) -> BTreeMap<NodeId, LogIndex> {
        match &self.role {
            Role::Leader(leader) => leader.matched(),
            _ => BTreeMap::new(),
        }
    }

    /// What this server knows of each other one's log, if it leads.
    pub fn followers(&self) -> Vec<FollowerView> {
        match &self.role {
            Role::Leader(leader) => leader.followers(),
            _ => Vec::new(),
        }
    }

    /// The first entry of each run of one term in the log, the oldest first.
    pub fn term_starts(&self) -> impl ExactSizeIterator<Item = EntryId> {
        self.log.term_starts().iter().copied()
    }

    pub(crate) fn is_voter(&self) -> bool {
        self.membership().is_voter(self.config.node)
    }

    fn requested(&mut self, now: Time, request: Request) {
        match request {
            Request::Propose(commands) => {
                let reply = self.propose(commands);
                self.answers.push(reply);
            }
            Request::Read(id) => self.read(now, id),
            Request::Transfer(to) => self.transfer(now, to),
            Request::ChangeMembers(wanted) => self.change_members(now, wanted),
        }
    }

    /// Appends commands to the log, if this server leads; they leave with the next wake-up.
    pub(crate) fn propose(&mut self, commands: Vec<Bytes>) -> Reply {
        match self.refuses_proposals() {
            Some(reason) => Reply::Refused { reason, leader: self.leader },
            None => self.take_proposals(commands),
        }
    }

    /// The same, where it was seen before that this server takes them.
    pub(crate) fn take_proposals(&mut self, commands: Vec<Bytes>) -> Reply {
        let first = EntryId::new(self.log.last().index.next(), self.term());
        for data in commands {
            self.append_own(EntryKind::Command, data);
        }
        Reply::Appended { first }
    }

    fn wake(&mut self, now: Time, out: &mut Outputs) {
        self.ask_for_reads(now, out);
        match (&self.role, self.election_at) {
            (Role::Leader(_), _) => self.leader_wake(now, out),
            (_, None) => self.start(now),
            (_, Some(_)) if self.sleeping || !self.is_electable() => self.give_up_hope(now),
            (_, Some(at)) if at <= now => self.election_timeout(now, out),
            _ => {}
        }
    }

    /// The first wake-up: a cluster that starts together should not wait for a full timeout.
    /// Whoever comes back to a cluster that has a leader is refused by the pre-vote.
    fn start(&mut self, now: Time) {
        if self.config.lease.is_some() {
            // It may have promised a leader to elect nobody, and forgotten it.
            self.leader_heard = now;
        }
        self.hope(now);
        let wait = self.config.timing.stagger + self.staggered();
        self.election_at = Some(self.not_before_lease(now) + wait);
    }

    /// Rules for all servers (Figure 2): terms first, then the message itself.
    fn receive(&mut self, now: Time, from: NodeId, message: Message, out: &mut Outputs) {
        self.disturbed_by(from, &message.body);
        self.roused_by(now, from, &message.body, out);
        if message.term > self.term() && !self.looks_at_later_term(now, from, &message) {
            return;
        }
        if message.term < self.term() {
            if message.body.is_request() {
                let when = self.when_term_is_durable(out);
                self.send(out, when, from, Body::Stale);
            }
            return;
        }
        self.dispatch(now, from, message, out);
    }

    /// A message of a later term makes a follower of everyone (section 5.1), with three
    /// exceptions. Returns whether the message is to be looked at.
    fn looks_at_later_term(&mut self, now: Time, from: NodeId, message: &Message) -> bool {
        match &message.body {
            // Nobody's term changes for a question, or for the answer that encourages.
            Body::RequestVote { pre_vote: true, .. }
            | Body::Vote { pre_vote: true, granted: true } => {}
            // A live leader is protected from servers that only lost touch with it (thesis, 6.4.1).
            Body::RequestVote { transfer: false, .. } if self.protects_leader(now, from) => {
                return false;
            }
            _ => self.become_follower(now, message.term, None),
        }
        true
    }

    fn dispatch(&mut self, now: Time, from: NodeId, message: Message, out: &mut Outputs) {
        match message.body {
            Body::RequestVote { pre_vote: true, last, .. } => {
                self.pre_vote_requested(now, from, message.term, last, out);
            }
            Body::RequestVote { last, transfer, .. } => {
                self.vote_requested(now, from, last, transfer, out);
            }
            Body::Vote { pre_vote, granted } => {
                self.vote_received(now, from, message.term, pre_vote, granted, out);
            }
            Body::AppendEntries { prev, entries, commit, round } => {
                self.append_entries(now, from, prev, entries, commit, round, out);
            }
            Body::Damaged { hint, round } => self.damaged(now, from, hint, round, out),
            Body::Reverted { last, round } => self.reverted(now, from, last, round, out),
            Body::Accepted { matched, round } => self.accepted(now, from, matched, round, out),
            Body::Full { matched, round, takes } => {
                self.full(now, from, matched, round, takes, out);
            }
            Body::Rejected { prev, hint, round } => {
                self.rejected(now, from, prev, hint, round, out);
            }
            Body::InstallSnapshot { meta, offset, bytes, done, round } => {
                self.install_snapshot(now, from, meta, offset, bytes, done, round, out);
            }
            Body::SnapshotProgress { last, next_offset } => {
                self.snapshot_progress(now, from, last, next_offset, out);
            }
            Body::TimeoutNow => self.campaign_for_transfer(now, out),
            Body::Stale | Body::Awake => {}
            Body::ReadRequest { attempt } => self.index_asked(from, attempt),
            Body::ReadAnswer { attempt, index } => self.index_known(attempt, index),
            Body::Hibernate { last, round } => self.hibernate(now, from, last, round, out),
            Body::Hibernating { round } => self.hibernating(now, from, round, out),
        }
    }

    /// Enters `term`, if it is later, as a follower. Everything that only a leader or a candidate
    /// holds ends with the role.
    pub(crate) fn become_follower(&mut self, now: Time, term: Term, leader: Option<NodeId>) {
        if term > self.term() {
            self.hard_state = HardState { term, voted_for: None };
            self.durability.hard_state_changed();
            self.leader = None;
            if std::mem::take(&mut self.sleeping) {
                self.reset_election(now);
            }
        }
        if !matches!(self.role, Role::Follower) {
            self.end_office();
            self.role = Role::Follower;
            self.reset_election(now);
        }
        if leader.is_some() {
            self.leader = leader;
        }
    }

    /// The next campaign is a full random timeout away (section 5.2).
    pub(crate) fn reset_election(&mut self, now: Time) {
        let Timing { election_min, election_max, .. } = self.config.timing;
        self.election_at = Some(now + self.draw(election_min, election_max));
    }

    pub(crate) fn send(&self, out: &mut Outputs, when: When, to: NodeId, body: Body) {
        out.push(Output::Send { when, to, message: Message { term: self.term(), body } });
    }

    /// A connection closed. If it was the leader's, voters campaign soon, one after the other; the
    /// pre-vote protects a leader that only this server lost.
    fn member_lost(&mut self, now: Time, member: NodeId) {
        if let Role::Leader(leader) = &mut self.role {
            leader.member_lost(member);
        } else if self.leader == Some(member) {
            self.leader = None;
            self.campaigns = 0;
            self.sleeping = false;
            let wait = self.staggered();
            self.election_at = Some(self.not_before_lease(now) + wait);
        }
    }

    /// A delay that differs from voter to voter.
    fn staggered(&mut self) -> Duration {
        let before = self.membership().voters.range(..self.config.node).count();
        let stagger = self.config.timing.stagger;
        stagger * before as u32 + self.draw(Duration::ZERO, stagger / 2)
    }

    pub(crate) fn draw(&mut self, low: Duration, high: Duration) -> Duration {
        let nanos = self.random.between(low.as_nanos() as u64, high.as_nanos() as u64);
        Duration::from_nanos(nanos)
    }
}

/// The members of a snapshot. An unreadable one is damage that its checksum did not see: a bug.
pub(crate) fn decode_membership(meta: &SnapshotMeta) -> Membership {
    Membership::from_bytes(&meta.membership)
        .unwrap_or_else(|error| panic!("membership of snapshot {}: {error}", meta.last))
}
