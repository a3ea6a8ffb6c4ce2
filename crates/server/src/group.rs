//! One Raft group as its node hosts it. The loop (`host`) knows groups only as [`Hosted`]: which service
//! stands on a group, and what its messages and requests look like, is known here and in its [`Front`].

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use quorate_contracts::{
    Entry, EntryId, Gate, GroupId, Input, LogIndex, Malformed, NodeId, Output, Process, Room,
    Service, SnapshotInput, Time, Wire, WriteMark,
};
use quorate_raft::{
    Members, Replica, ReplicaMessage, ReplicaReply, ReplicaRequest, TransferOutcome,
};
use quorate_roster::{Act, Roster, Seats, Standing, View, next_act, standing};
use quorate_storage::{Storage, StorageEvent};
use tokio::sync::oneshot;

use crate::admin::{Backups, NodeStatus};
use crate::disk::RealDisk;
use crate::members;

/// What the groups of a node share.
pub(crate) struct Shared {
    /// The log and the snapshots.
    pub(crate) storage: Storage<RealDisk>,
    /// The connections to the other members.
    pub(crate) members: members::Members,
    /// What the storage has to tell the groups.
    pub(crate) news: Vec<StorageEvent>,
}

/// What a group is told, whatever its service is.
pub(crate) enum Event {
    /// Its deadline has come.
    Wake,
    /// A second has passed.
    Second { unix_ms: i64, uptime: Duration },
    /// Its clients have asked something.
    Requests,
    /// The connection to a member was lost.
    MemberLost(NodeId),
    /// Its writes are durable up to here.
    Persisted(WriteMark),
    /// Entries that it asked for.
    Read { from: LogIndex, entries: Vec<Entry> },
    /// News of its snapshot files.
    Snapshot(SnapshotInput),
    /// A snapshot of the state as it is now is wanted; tell when it is durable.
    TakeSnapshot(oneshot::Sender<EntryId>),
    /// Somebody wants to look into its state.
    Look(crate::dashboard::Looking),
    /// The disk has so much room for the log from here on.
    Room(Room),
    /// Too much of the log is held for its sake: its entries up to this one should go.
    LetGo { through: LogIndex },
    /// The disk failed.
    DiskFailed(String),
    /// That member is to lead; what came of it is to be told.
    Lead { to: NodeId, answer: oneshot::Sender<TransferOutcome> },
    /// The node is about to stop: another one should lead.
    HandOver,
    /// There is another list of members, and the groups are as it says.
    Members(Rc<Roster>),
    /// Nothing new is to be taken from clients.
    Drain,
}

/// A group, for the loop that hosts it.
pub(crate) trait Hosted {
    /// Which one it is.
    fn id(&self) -> GroupId;
    /// When to wake it.
    fn deadline(&self) -> Option<Time>;
    /// Tells it something, and carries out what it wants.
    fn step(&mut self, now: Time, event: Event, shared: &mut Shared);
    /// Gives it a member's message. One that does not read changes nothing.
    fn received(
        &mut self,
        now: Time,
        from: NodeId,
        body: &Bytes,
        shared: &mut Shared,
    ) -> Result<(), Malformed>;
    /// The end of a round: what was said to clients leaves.
    fn flush(&mut self);
    /// Adds how it is.
    fn report(&self, status: &mut NodeStatus);
    /// How far it has come with a list of members.
    fn standing(&self, _wanted: &Roster) -> Standing {
        Standing::Complete
    }
    /// Whether it has a leader, as far as this node knows.
    fn is_led(&self) -> bool {
        false
    }
    /// Takes the next step towards a list of members, if this node leads it. The list must be the newest that there is;
    /// `may_part` says whether members may leave the group yet.
    fn follow(&mut self, _now: Time, _wanted: &Roster, _may_part: bool, _shared: &mut Shared) {}
    /// Whether something that the node is to wait for before it stops is not done: leadership that is being handed
    /// over, requests that were taken and are not answered.
    fn is_busy(&self) -> bool;
}

/// What stands between a group's service and the sockets of its clients.
pub(crate) trait Front<S: Service> {
    /// The requests that came since the last call.
    fn requests(&mut self) -> VecDeque<S::Request>;
    /// A reply may leave now.
    fn reply(&mut self, reply: S::Reply);
    /// Replies of the round leave.
    fn flush(&mut self);
    /// The replica has caught up with its cluster: clients may come. Told once.
    fn open(&mut self);
    /// What the driver alone knows and the service is to be told about every second.
    fn facts(&self, replica: &Replica<S>, uptime: Duration) -> Option<S::Request>;
    /// There is another list of members, and the groups are as it says.
    fn members(&mut self, _roster: &Roster) {}
    /// Adds what people want to know of the group.
    fn report(&self, replica: &Replica<S>, status: &mut NodeStatus);
    /// Shows what somebody wants to see of the state; nothing, unless it has something to show.
    fn look(&self, _replica: &Replica<S>, _looking: crate::dashboard::Looking) {}
    /// Nothing more is to be read from clients.
    fn drain(&mut self);
    /// Whether clients wait for answers.
    fn is_busy(&self, replica: &Replica<S>) -> bool;
}

const STRANDED: &str = "some of this node's log is damaged or lost, and nobody leads who could send it again: no majority of \
    the members is up and whole. It gives no answers, and no vote that could lose what was acknowledged. Next: start the \
    other members; `quorate status` shows which of them lack something. If the disks of a majority are damaged for good, \
    begin a new cluster with the newest backup (`quorate restore`)";

/// What waits for a write.
enum Gated<S: Service> {
    Send(NodeId, ReplicaMessage<S::Message>),
    Reply(S::Reply),
}

/// A replica and its front.
pub(crate) struct Group<S: Service, F> {
    id: GroupId,
    replica: Replica<S>,
    front: F,
    gate: Gate<Gated<S>>,
    out: Vec<Output<Replica<S>>>,
    backups: Backups,
    open: bool,
    /// It is known to be stranded.
    stranded: bool,
    handing_over: bool,
    /// Who waits to hear what came of a transfer.
    transfer: Option<oneshot::Sender<TransferOutcome>>,
    draining: bool,
    reigns: crate::dashboard::Reigns,
}

impl<S: Service, F: Front<S>> Group<S, F> {
    /// A group whose log is durable up to `durable`.
    pub(crate) fn new(id: GroupId, replica: Replica<S>, durable: WriteMark, front: F) -> Self {
        let mut gate = Gate::default();
        gate.open(durable, |_| {});
        Self {
            id,
            replica,
            front,
            gate,
            out: Vec::new(),
            backups: Backups::default(),
            open: false,
            stranded: false,
            handing_over: false,
            transfer: None,
            draining: false,
            reigns: Default::default(),
        }
    }

    fn input(&mut self, now: Time, input: Input<Replica<S>>, shared: &mut Shared) {
        let mut out = std::mem::take(&mut self.out);
        self.replica.step(now, input, &mut out);
        for output in out.drain(..) {
            self.carry_out(output, shared);
        }
        self.out = out;
        self.reigns.note(now, self.replica.raft());
        if !self.open && self.replica.is_serving() {
            self.open = true;
            self.front.open();
        }
        if self.stranded != self.replica.raft().is_stranded() {
            self.tell_stranded();
        }
    }

    /// Says that nobody can send again what is missing here, or that somebody can.
    fn tell_stranded(&mut self) {
        self.stranded = !self.stranded;
        let (group, missing) = (self.id, self.replica.raft().missing());
        match missing.filter(|_| self.stranded) {
            Some(missing) => tracing::error!(%group, %missing, "{STRANDED}"),
            None => {
                tracing::info!(%group, "another member leads, and sends again what is missing here")
            }
        }
    }

    fn carry_out(&mut self, output: Output<Replica<S>>, shared: &mut Shared) {
        match output {
            Output::Persist { mark, record } => shared.storage.persist(self.id, mark, record),
            Output::Send { when, to, message } => {
                if let Some(gated) = self.gate.pass(when, Gated::Send(to, message)) {
                    self.release(gated, shared);
                }
            }
            Output::Reply { reply: ReplicaReply::Transfer(outcome), .. } => {
                self.handing_over = false;
                if let Some(answer) = self.transfer.take() {
                    let _ = answer.send(outcome);
                }
                tracing::info!(group = %self.id, ?outcome, "leadership was to be handed over");
            }
            Output::Reply { reply: ReplicaReply::Members(outcome), .. } => {
                tracing::info!(group = %self.id, ?outcome, "the members were to change");
            }
            Output::Reply { when, reply: ReplicaReply::Client(reply) } => {
                if let Some(gated) = self.gate.pass(when, Gated::Reply(reply)) {
                    self.release(gated, shared);
                }
            }
            Output::ReadLog { from, to, bytes_max } => {
                shared.storage.read_log(self.id, from, to, bytes_max, &mut shared.news);
            }
            Output::Snapshot(work) => shared.storage.snapshot(self.id, work, &mut shared.news),
        }
    }

    fn release(&mut self, gated: Gated<S>, shared: &Shared) {
        match gated {
            Gated::Send(to, message) => shared.members.push(to, self.id, &message),
            Gated::Reply(reply) => self.front.reply(reply),
        }
    }

    /// Who has which part by now.
    fn seats(&self) -> Seats {
        let membership = self.replica.raft().membership();
        Seats { voters: membership.voters.clone(), learners: membership.learners.clone() }
    }

    fn persisted(&mut self, now: Time, mark: WriteMark, shared: &mut Shared) {
        let mut released = Vec::new();
        self.gate.open(mark, |gated| released.push(gated));
        released.into_iter().for_each(|gated| self.release(gated, shared));
        self.input(now, Input::Persisted { mark }, shared);
    }

    fn second(&mut self, now: Time, unix_ms: i64, uptime: Duration, shared: &mut Shared) {
        self.input(now, Input::WallClock { unix_ms }, shared);
        if let Some(facts) = self.front.facts(&self.replica, uptime) {
            self.input(now, Input::Requested(ReplicaRequest::Client(facts)), shared);
        }
    }
}

impl<S: Service, F: Front<S>> Hosted for Group<S, F> {
    fn id(&self) -> GroupId {
        self.id
    }

    fn deadline(&self) -> Option<Time> {
        self.replica.deadline().map(|(at, _)| at)
    }

    fn step(&mut self, now: Time, event: Event, shared: &mut Shared) {
        match event {
            Event::Wake => self.input(now, Input::Wake, shared),
            Event::Second { unix_ms, uptime } => self.second(now, unix_ms, uptime, shared),
            Event::Requests => {
                for request in self.front.requests() {
                    let request = ReplicaRequest::Client(request);
                    self.input(now, Input::Requested(request), shared);
                }
            }
            Event::MemberLost(member) => self.input(now, Input::MemberLost { member }, shared),
            Event::Persisted(mark) => self.persisted(now, mark, shared),
            Event::Read { from, entries } => {
                self.input(now, Input::Read { from, entries }, shared);
            }
            Event::Snapshot(news) => {
                self.backups.hear(&news);
                self.input(now, Input::Snapshot(news), shared);
            }
            Event::TakeSnapshot(taken) => {
                self.backups.wait(self.replica.applied().index, taken);
                self.input(now, Input::Requested(ReplicaRequest::TakeSnapshot), shared);
            }
            Event::Look(looking) => self.front.look(&self.replica, looking),
            Event::Room(room) => self.input(now, Input::Room(room), shared),
            Event::LetGo { through } => self.input(now, Input::LetGo { through }, shared),
            Event::DiskFailed(reason) => self.input(now, Input::DiskFailed { reason }, shared),
            Event::HandOver if self.replica.raft().is_leader() => {
                self.handing_over = true;
                self.input(now, Input::Requested(ReplicaRequest::Transfer(None)), shared);
            }
            Event::HandOver => {}
            Event::Lead { answer, .. } if self.transfer.is_some() => {
                let _ = answer.send(TransferOutcome::Busy);
            }
            Event::Lead { to, answer } => {
                self.transfer = Some(answer);
                self.input(now, Input::Requested(ReplicaRequest::Transfer(Some(to))), shared);
            }
            Event::Members(roster) => self.front.members(&roster),
            Event::Drain => {
                self.draining = true;
                self.front.drain();
            }
        }
    }

    fn received(
        &mut self,
        now: Time,
        from: NodeId,
        body: &Bytes,
        shared: &mut Shared,
    ) -> Result<(), Malformed> {
        let message = ReplicaMessage::from_bytes(body)?;
        self.input(now, Input::Received { from, message }, shared);
        Ok(())
    }

    fn flush(&mut self) {
        self.front.flush();
    }

    fn standing(&self, wanted: &Roster) -> Standing {
        // What is not committed may go again.
        let settled = self.replica.raft().has_settled_membership();
        if settled { standing(&self.seats(), wanted) } else { Standing::Unsettled }
    }

    fn is_led(&self) -> bool {
        self.replica.raft().leader().is_some()
    }

    fn follow(&mut self, now: Time, wanted: &Roster, may_part: bool, shared: &mut Shared) {
        let raft = self.replica.raft();
        if !raft.is_leader() || !raft.has_settled_membership() {
            return;
        }
        let seats = self.seats();
        let view = View { leader: raft.node(), now: &seats, wanted, may_part };
        let act = next_act(view, |node| raft.has_caught_up(now, node));
        // A group that sleeps hears of nobody: being asked for more than can be had yet wakes it.
        let wake =
            may_part && raft.is_hibernating() && standing(&seats, wanted) != Standing::Complete;
        let all = || Act::Change(Seats { voters: wanted.voters(), learners: wanted.observers() });
        let request = match act.or_else(|| wake.then(all)) {
            None => return,
            Some(Act::HandOver(to)) => ReplicaRequest::Transfer(Some(to)),
            Some(Act::Change(Seats { voters, learners })) => {
                ReplicaRequest::ChangeMembers(Members { voters, learners })
            }
        };
        self.input(now, Input::Requested(request), shared);
    }

    fn is_busy(&self) -> bool {
        self.handing_over || (self.draining && self.front.is_busy(&self.replica))
    }

    fn report(&self, status: &mut NodeStatus) {
        let own = status.groups.len();
        self.front.report(&self.replica, status);
        for group in &mut status.groups[own..] {
            group.add_log(self.id, self.reigns.seen, self.replica.raft(), &self.replica.status());
            group.reigns = self.reigns.told();
        }
    }
}
