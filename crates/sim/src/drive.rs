//! How the world is driven: one queue of events in virtual time, one step at a time, and after each step the
//! checks. It keeps the rules of `contracts::Process` as `server` does.

use std::time::Duration;

use quorate_contracts::{
    Entry, EntryId, Gate, Input, LogIndex, NodeId, Output, Process, Record, Recovered, Service,
    SnapshotInput, Time, When, WriteMark,
};
use quorate_raft::{
    Body, ChangeOutcome, Config, Members, Message, Replica, ReplicaMessage, ReplicaReply,
    ReplicaRequest, TransferOutcome,
};

use crate::situations::Before;
use crate::traffic::{describe, is_request};
use crate::world::{MessageOf, World};
use crate::{Happening, Lane, MemoryStore, NodeState, Situation, Violation};

/// A server that finds work for ever without time passing has a deadline that it never serves.
const EVENTS_AT_ONE_INSTANT_MAX: u64 = 100_000;

/// What may have to wait for a write, and for which.
pub(crate) struct Gated<S: Service> {
    when: When,
    output: Leaving<S>,
}

enum Leaving<S: Service> {
    Send(NodeId, MessageOf<S>),
    Reply(S::Reply),
}

/// What is going to happen.
pub(crate) enum Event<S: Service> {
    /// A message arrives.
    Deliver { to: NodeId, from: NodeId, number: u64, message: MessageOf<S> },
    /// A connection was lost.
    Lost { to: NodeId, member: NodeId },
    /// A deadline, or the end of a batch.
    Wake { node: NodeId, life: u64 },
    /// The write in flight is durable.
    Synced { node: NodeId, life: u64 },
    /// A server dies in the middle of a write.
    Die { node: NodeId, life: u64 },
    /// A second has passed by a server's clock on the wall.
    Clock { node: NodeId, life: u64 },
    /// A server looks whether it hears the others.
    Look { node: NodeId, life: u64 },
    /// A lane of the real storage's disk has carried out an operation, or the storage wants to be woken.
    Disk { node: NodeId, life: u64, lane: Option<Lane> },
    /// The disk read something, or did something to a snapshot file.
    FromDisk { node: NodeId, life: u64, news: DiskNews },
}

pub(crate) enum DiskNews {
    Read(LogIndex, Vec<Entry>),
    Snapshot(SnapshotInput),
}

impl<S: Service> Event<S> {
    fn target(&self) -> (NodeId, Option<u64>) {
        match self {
            Self::Deliver { to, .. } | Self::Lost { to, .. } => (*to, None),
            Self::Wake { node, life }
            | Self::Synced { node, life }
            | Self::Clock { node, life }
            | Self::Look { node, life }
            | Self::Die { node, life }
            | Self::Disk { node, life, .. }
            | Self::FromDisk { node, life, .. } => (*node, Some(*life)),
        }
    }
}

pub(crate) type Checked = Result<(), Violation>;

impl<S: Service> World<S>
where
    S::Message: Clone,
{
    /// A client of a server that is up asks for something; false if it is down or stopped.
    pub fn request(&mut self, node: NodeId, request: S::Request) -> Result<bool, Violation> {
        let reachable = self
            .nodes
            .get(&node)
            .is_some_and(|n| n.process.is_some() && n.paused_until <= self.now);
        if reachable {
            let done = self.step(node, Input::Requested(ReplicaRequest::Client(request)));
            self.caught(done)?;
        }
        Ok(reachable)
    }

    /// A server is asked to hand leadership over, to that voter or to the best one (RAFT-7). What comes of it is in
    /// the trace.
    pub fn transfer(&mut self, node: NodeId, to: Option<NodeId>) -> Checked {
        let Some(state) = self.nodes.get_mut(&node) else { return Ok(()) };
        if state.process.is_none() || state.paused_until > self.now {
            return Ok(());
        }
        state.transferring = true;
        let done = self.step(node, Input::Requested(ReplicaRequest::Transfer(to)));
        self.caught(done)
    }

    /// As [`run_until`](Self::run_until), but no further than to the first thing that a client is told: for clients
    /// that act on what they are told.
    pub fn run_until_told(&mut self, until: Time) -> Checked {
        while self.replies.is_empty() && self.happen_next(until)? {}
        if self.replies.is_empty() {
            self.now = self.now.max(until);
        }
        Ok(())
    }

    /// A server is asked to change the members (RAFT-22). What comes of it is in the trace.
    pub fn change_members(&mut self, node: NodeId, wanted: Members) -> Checked {
        let Some(state) = self.nodes.get(&node) else { return Ok(()) };
        if state.process.is_none() || state.paused_until > self.now {
            return Ok(());
        }
        let done = self.step(node, Input::Requested(ReplicaRequest::ChangeMembers(wanted)));
        self.caught(done)
    }

    /// Lets everything happen that is due by `until`.
    pub fn run_until(&mut self, until: Time) -> Checked {
        while self.happen_next(until)? {}
        self.now = self.now.max(until);
        Ok(())
    }

    /// The next event, if it is due by `until`.
    fn happen_next(&mut self, until: Time) -> Result<bool, Violation> {
        if let Some(violation) = self.violated_at_start.take() {
            return self.caught(Err(violation)).map(|()| false);
        }
        if let Some((at, event)) = self.queue.pop_until(until) {
            if at > self.now {
                (self.now, self.events_at_now) = (at, 0);
            }
            self.comes_to_rest(&event)?;
            let done = self.happen(event);
            self.caught(done)?;
            return Ok(true);
        }
        Ok(false)
    }

    /// Lets the next `duration` happen.
    pub fn run_for(&mut self, duration: Duration) -> Checked {
        self.run_until(self.now + duration)
    }

    fn comes_to_rest(&mut self, event: &Event<S>) -> Checked {
        self.events_at_now += 1;
        if self.events_at_now <= EVENTS_AT_ONE_INSTANT_MAX {
            return Ok(());
        }
        let (node, _) = event.target();
        let reason = self.replica(node).and_then(Process::deadline).map(|(_, reason)| reason);
        let what = format!("{node} never comes to rest: {reason:?}");
        Err(Violation { property: "Rest", what })
    }

    fn caught(&mut self, done: Checked) -> Checked {
        if let Err(violation) = &done {
            self.note(|| Happening::Violated { text: violation.to_string() });
        }
        done
    }

    pub(crate) fn start(&mut self, id: NodeId, recovered: Recovered) {
        let seed = self.seeds.next_u64();
        let (machine, service) = (self.make)(id, seed);
        let voters = (1..=self.options.nodes).map(NodeId);
        let mut config = Config::new(id, voters);
        config.timing = self.options.timing;
        config.limits = self.options.limits;
        config.lease = self.options.lease;
        if recovered.snapshot.is_some() {
            self.situations.reach(Situation::StartedFromSnapshot);
        }
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let mut gate = Gate::default();
        gate.open(recovered.mark, |_: Gated<S>| {});
        node.gate = gate;
        let replica = Replica::new(config, recovered, machine, service, seed);
        if let Err(violation) = self.safety.started(&replica) {
            self.violated_at_start.get_or_insert(violation);
        }
        node.process = Some(replica);
        if self.options.wall_clock {
            self.queue.push(self.now, Event::Clock { node: id, life: node.life });
        }
        if let Some(state) = self.options.trace.then(|| self.state(id)).flatten() {
            self.note(|| Happening::State(state));
        }
        self.begin_looking(id);
        self.schedule_wake(id);
    }

    fn happen(&mut self, event: Event<S>) -> Checked {
        let (node, life) = event.target();
        let Some(target) = self.nodes.get_mut(&node) else { return Ok(()) };
        if target.process.is_none() || life.is_some_and(|life| life != target.life) {
            self.situations.reach(Situation::ToTheDead);
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
            self.situations.reach(Situation::Resumed);
            self.queue.push(target.paused_until, event);
            return Ok(());
        }
        match event {
            Event::Deliver { from, number, message, .. } => {
                self.arrive(node, from, number, message)
            }
            Event::Lost { member, .. } => self.step(node, Input::MemberLost { member }),
            Event::Wake { .. } => self.wake(node),
            Event::Synced { .. } => self.synced(node),
            Event::Clock { .. } => self.wall_clock(node),
            Event::Look { .. } => self.look(node),
            Event::Die { .. } => {
                if target.dies_in_write == Some(self.now) {
                    self.crash(node, false);
                }
                Ok(())
            }
            Event::Disk { lane, .. } => self.disk_event(node, lane),
            Event::FromDisk { news, .. } => self.step(
                node,
                match news {
                    DiskNews::Read(from, entries) => Input::Read { from, entries },
                    DiskNews::Snapshot(news) => Input::Snapshot(news),
                },
            ),
        }
    }

    fn arrive(&mut self, at: NodeId, from: NodeId, number: u64, message: MessageOf<S>) -> Checked {
        self.hash.mix(from.0);
        self.note(|| Happening::Arrived { message: number, to: at });
        if self.options.measure {
            self.traffic.arrives(at, &message);
        }
        if let Some(replica) = self.nodes.get(&at).and_then(|node| node.process.as_ref()) {
            self.situations.arrives::<S>(replica.raft(), &message);
        }
        self.step(at, Input::Received { from, message })
    }

    /// The time of day is true time since 2001, plus what the server's clock is off by.
    fn wall_clock(&mut self, id: NodeId) -> Checked {
        const BEGAN_UNIX_MS: i64 = 1_000_000_000_000;
        let Some(node) = self.nodes.get(&id) else { return Ok(()) };
        let unix_ms = BEGAN_UNIX_MS + (node.clock.local(self.now).as_nanos() / 1_000_000) as i64;
        let event = Event::Clock { node: id, life: node.life };
        self.queue.push(self.now + Duration::from_secs(1), event);
        self.step(id, Input::WallClock { unix_ms })
    }

    fn wake(&mut self, id: NodeId) -> Checked {
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

    fn synced(&mut self, id: NodeId) -> Checked {
        let Some(node) = self.nodes.get_mut(&id) else { return Ok(()) };
        let mark = node.store.complete();
        self.durable(id, mark)
    }

    /// Everything up to a mark is durable.
    pub(crate) fn durable(&mut self, id: NodeId, mark: WriteMark) -> Checked {
        let Some(node) = self.nodes.get_mut(&id) else { return Ok(()) };
        let mut released = Vec::new();
        node.gate.open(mark, |output| released.push(output));
        self.note(|| Happening::Durable { node: id, mark });
        for output in released {
            self.release(id, output)?;
        }
        self.step(id, Input::Persisted { mark })
    }

    /// One step of a server, what follows from it, and the checks.
    pub(crate) fn step(&mut self, id: NodeId, input: Input<Replica<S>>) -> Checked {
        self.events += 1;
        let Some(node) = self.nodes.get_mut(&id) else { return Ok(()) };
        let local = node.clock.local(self.now);
        let Some(process) = node.process.as_mut() else { return Ok(()) };
        let before = Before::of(process.raft());
        let mut out = Vec::new();
        process.step(local, input, &mut out);
        for output in out {
            self.carry_out(id, output)?;
        }
        self.flush(id);
        self.check(id)?;
        self.observe(id, before);
        self.schedule_wake(id);
        Ok(())
    }

    fn carry_out(&mut self, id: NodeId, output: Output<Replica<S>>) -> Checked {
        match output {
            Output::Persist { mark, record } => {
                self.check_record(id, &record)?;
                self.note(|| Happening::Wrote {
                    node: id,
                    mark,
                    truncated: record.truncate_from,
                    entries: record.entries.iter().map(|entry| entry.id).collect(),
                });
                let Some(output) = self.hand_to_storage(id, Output::Persist { mark, record })
                else {
                    return Ok(());
                };
                if let (Output::Persist { mark, record }, Some(node)) =
                    (output, self.nodes.get_mut(&id))
                {
                    node.store.persist(mark, record);
                }
            }
            Output::Send { when, to, message } => {
                self.check_promise(id, when, &message)?;
                self.gate(id, when, Leaving::Send(to, message))?;
            }
            Output::Reply { when, reply: ReplicaReply::Client(reply) } => {
                self.gate(id, when, Leaving::Reply(reply))?;
            }
            Output::Reply { reply: ReplicaReply::Transfer(outcome), .. } => {
                self.transferred(id, outcome);
                self.say(Some(id), || format!("transfer: {outcome:?}"));
            }
            Output::Reply { reply: ReplicaReply::Members(outcome), .. } => {
                if let ChangeOutcome::Done { .. } = outcome {
                    self.situations.reach(Situation::MembersChanged);
                }
                self.say(Some(id), || format!("change of members: {outcome:?}"));
            }
            Output::ReadLog { from, to, bytes_max } => {
                self.situations.reach(Situation::EntriesFromDisk);
                if self.hand_to_storage(id, Output::ReadLog { from, to, bytes_max }).is_none() {
                    return Ok(());
                }
                self.ask_disk(id, |store| {
                    Some(DiskNews::Read(from, store.read_log(from, to, bytes_max)))
                });
            }
            Output::Snapshot(work) => {
                if let Some(Output::Snapshot(work)) =
                    self.hand_to_storage(id, Output::Snapshot(work))
                {
                    self.ask_disk(id, |store| store.snapshot(work).map(DiskNews::Snapshot));
                }
            }
        }
        Ok(())
    }

    fn transferred(&mut self, id: NodeId, outcome: TransferOutcome) {
        if let Some(node) = self.nodes.get_mut(&id) {
            node.transferring = false;
        }
        match outcome {
            TransferOutcome::SteppedDown { .. } => self.situations.reach(Situation::TransferDone),
            TransferOutcome::TimedOut { .. } => self.situations.reach(Situation::TransferTimedOut),
            _ => {}
        }
    }

    fn gate(&mut self, id: NodeId, when: When, output: Leaving<S>) -> Checked {
        let Some(node) = self.nodes.get_mut(&id) else { return Ok(()) };
        match node.gate.pass(when, Gated { when, output }) {
            Some(output) => self.release(id, output),
            None => Ok(()),
        }
    }

    /// Something leaves a server. **Durable before acknowledged**: not before its write is on the disk.
    fn release(&mut self, id: NodeId, gated: Gated<S>) -> Checked {
        let durable = self.nodes.get(&id).map(|node| node.store.mark());
        if let (When::Durable(mark), Some(durable)) = (gated.when, durable)
            && mark > durable
        {
            let what = format!("{id} lets out what waits for {mark}, with {durable} on its disk");
            return Err(Violation { property: "Durable before acknowledged", what });
        }
        match gated.output {
            Leaving::Send(to, message) => self.send(id, to, message),
            Leaving::Reply(reply) => {
                self.replies.push((id, reply));
                Ok(())
            }
        }
    }

    fn send(&mut self, from: NodeId, to: NodeId, message: MessageOf<S>) -> Checked {
        if let ReplicaMessage::Raft(raft) = &message {
            self.check_term(from, to, raft)?;
            self.safety.leaves(from, to, raft)?;
            let transferring = self.nodes.get(&from).is_some_and(|node| node.transferring);
            if transferring && matches!(raft.body, Body::ReadAnswer { .. }) {
                self.situations.reach(Situation::ReadDuringTransfer);
            }
        }
        if self.options.measure {
            self.traffic.leaves(&message);
        }
        self.messages += 1;
        let number = self.messages;
        let arrivals = self.network.arrivals(from, to, is_request(&message));
        let now = self.now;
        self.note(|| Happening::Sent {
            message: number,
            from,
            to,
            about: describe(&message),
            arrives: arrivals.iter().flatten().map(|delay| now + *delay).collect(),
        });
        let [first, second] = arrivals;
        if let Some(delay) = second {
            self.situations.reach(Situation::Doubled);
            let message = message.clone();
            self.queue.push(now + delay, Event::Deliver { to, from, number, message });
        }
        if let Some(delay) = first {
            self.queue.push(now + delay, Event::Deliver { to, from, number, message });
        }
        Ok(())
    }

    fn ask_disk(&mut self, id: NodeId, work: impl FnOnce(&mut MemoryStore) -> Option<DiskNews>) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let Some(news) = work(&mut node.store) else { return };
        if let DiskNews::Snapshot(SnapshotInput::Finished { .. }) = &news {
            self.situations.reach(Situation::SnapshotFinished);
            let changing = |r: &Replica<S>| !r.raft().membership().outgoing.is_empty();
            if node.process.as_ref().is_some_and(changing) {
                self.situations.reach(Situation::SnapshotDuringChange);
            }
        }
        let at = self.now + node.store.draw_latency();
        self.queue.push(at, Event::FromDisk { node: id, life: node.life, news });
    }

    fn flush(&mut self, id: NodeId) {
        if self.options.disk.is_some() {
            return self.flush_disk(id);
        }
        let Some(node) = self.nodes.get_mut(&id) else { return };
        if let Some(latency) = node.store.flush() {
            let event = Event::Synced { node: id, life: node.life };
            self.queue.push(self.now + latency, event);
            if std::mem::take(&mut node.doomed) {
                let at = self.now + latency / 2;
                node.dies_in_write = Some(at);
                self.queue.push(at, Event::Die { node: id, life: node.life });
            }
        }
    }

    pub(crate) fn schedule_wake(&mut self, id: NodeId) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let Some((local, _)) = node.process.as_ref().and_then(Process::deadline) else { return };
        let at =
            if local <= node.clock.local(self.now) { self.now } else { node.clock.global(local) };
        if node.wake_at.is_none_or(|scheduled| at < scheduled) {
            node.wake_at = Some(at);
            self.queue.push(at, Event::Wake { node: id, life: node.life });
        }
    }

    fn check_record(&mut self, id: NodeId, record: &Record) -> Checked {
        match self.nodes.get(&id).and_then(|node| node.process.as_ref()) {
            Some(replica) => {
                let removed = self.safety.writes(replica, record)?;
                if let Some((first, last)) = removed {
                    self.situations.removed(first, last);
                }
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// **Durable before acknowledged**: what a follower vouches for is on its disk by the time that the
    /// message may leave (RAFT-15). Seen with a god's view of the disk.
    fn check_promise(&self, id: NodeId, when: When, message: &MessageOf<S>) -> Checked {
        let ReplicaMessage::Raft(raft) = message else { return Ok(()) };
        let (Body::Accepted { matched, .. } | Body::Full { matched, .. }) = raft.body else {
            return Ok(());
        };
        let Some(node) = self.nodes.get(&id) else { return Ok(()) };
        let term = node.process.as_ref().and_then(|replica| replica.raft().term_at(matched));
        let Some(term) = term.filter(|_| matched > LogIndex::ZERO) else { return Ok(()) };
        let entry = EntryId::new(matched, term);
        if node.store.holds_by(entry, when) {
            return Ok(());
        }
        let what = format!("{id} acknowledges {entry} {when}, which its disk will not have then");
        Err(Violation { property: "Durable before acknowledged", what })
    }

    /// **Durable before acknowledged**, for term and vote (RAFT-4, RAFT-15): what a message says of them is on the disk
    /// when it leaves. A question what an election would come to, and an answer that encourages it, speak of a term that
    /// has not begun.
    fn check_term(&self, from: NodeId, to: NodeId, message: &Message) -> Checked {
        let vote = match message.body {
            Body::RequestVote { pre_vote: true, .. }
            | Body::Vote { pre_vote: true, granted: true } => return Ok(()),
            Body::RequestVote { .. } => Some(from),
            Body::Vote { granted: true, .. } => Some(to),
            _ => None,
        };
        let Some(node) = self.nodes.get(&from) else { return Ok(()) };
        let durable = node.store.hard_state();
        let voted = vote.is_none() || durable.voted_for == vote;
        if durable.term > message.term || (durable.term == message.term && voted) {
            return Ok(());
        }
        let what = format!(
            "{from} speaks of term {} and vote {vote:?}, with term {} and vote {:?} on its disk",
            message.term, durable.term, durable.voted_for
        );
        Err(Violation { property: "Durable before acknowledged", what })
    }

    fn check(&mut self, id: NodeId) -> Checked {
        let nodes = &self.nodes;
        let Some(replica) = nodes.get(&id).and_then(|node| node.process.as_ref()) else {
            return Ok(());
        };
        let raft = replica.raft();
        self.hash.mix(self.now.as_nanos() ^ id.0 << 56);
        self.hash.mix(raft.last().index.0 << 32 ^ raft.commit().0 << 8 ^ raft.term().0);
        let durable = |entry: EntryId| {
            raft.membership()
                .is_quorum(|n| nodes.get(&n).is_some_and(|n| n.store.stands_for(entry)))
        };
        self.safety.stepped(replica, durable)
    }

    fn observe(&mut self, id: NodeId, before: Before) {
        let Some(replica) = self.nodes.get(&id).and_then(|node| node.process.as_ref()) else {
            return;
        };
        self.situations.stepped(before, replica);
        if replica.raft().is_leader() && !before.led(replica.raft().term()) {
            let others = self.nodes.values().filter_map(|node| node.process.as_ref());
            let leading = others.map(Replica::raft).filter(|r| r.is_leader() && r.node() != id);
            let leading = leading.map(|r| (r.node(), r.term()));
            self.situations.elected(replica.raft().term(), leading);
        }
        if self.options.trace {
            self.note_state(id);
        }
    }

    /// Notes how a server looks, if it looks different.
    fn note_state(&mut self, id: NodeId) {
        let Some(state) = self.state(id) else { return };
        let known = self.trace.iter().rev().find_map(|event| match &event.what {
            Happening::State(known @ NodeState { node, .. }) if *node == id => Some(*known),
            _ => None,
        });
        if known != Some(state) {
            self.note(|| Happening::State(state));
        }
    }
}
