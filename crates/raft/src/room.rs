//! What goes on while a disk is full: reads, elections, and what is on its way; but nothing new is taken from clients.
//!
//! ```text
//!              leads                               follows
//!   Little     refuses proposals, but for vital    takes entries; says that it should not lead
//!              ones; hands over to a voter with
//!              room
//!   Reserve    refuses all                         takes no entries, and is sent none until it says otherwise;
//!                                                  votes and answers, for which the reserve is
//! ```
//!
//! A leader with room refuses in the same way when a majority has no more than little, or the reserve: what it takes would wait.
//! So leaders stop before followers do: where all disks fill up, what was proposed still gets through, and so does
//! the first entry of a new leader, without which nobody could read.
//!
//! Everything ends by itself: the storage says when there is room again, and the next heartbeat's answer tells the leader.
//!
//! Not here: how much room there is (`storage`).

use std::time::Duration;

use bytes::Bytes;
use quorate_contracts::{
    Entry, Input, LogIndex, NodeId, Output, Proposal, Refusal, Room, Service, Time, When,
};

use crate::node::{Outputs, Raft, Role};
use crate::progress::{Feed, Progress};
use crate::{Body, Replica, ReplicaMessage};

/// A follower asks its leader so often whether there is room again.
const ASK_EVERY: Duration = Duration::from_millis(250);

impl Raft {
    /// What room the disk has for the log.
    pub fn room(&self) -> Room {
        self.room
    }

    pub(crate) fn room_is(&mut self, room: Room) {
        self.room = room;
        if let Role::Leader(leader) = &mut self.role {
            leader.stir();
        }
    }

    /// What room there is for what a leader proposes: on its own disk, and on those of a majority, without which it would
    /// wait.
    pub(crate) fn room_to_commit(&self) -> Room {
        let Role::Leader(leader) = &self.role else { return self.room };
        if leader.progress.values().all(|progress| progress.disk == Room::Enough) {
            return self.room;
        }
        let room = |node: NodeId| match leader.progress.get(&node) {
            Some(progress) => progress.disk,
            None if node == self.config.node => self.room,
            None => Room::Enough,
        };
        self.room.min(self.membership().quorum_value(room))
    }

    /// What of these entries a follower takes: on a reserve, none. The leader sends them again.
    pub(crate) fn with_room_for(&self, entries: Vec<Entry>) -> Vec<Entry> {
        if self.room == Room::Reserve { Vec::new() } else { entries }
    }

    /// The log agrees with the leader's up to `matched`.
    pub(crate) fn acceptance(&self, matched: LogIndex, round: u64) -> Body {
        match self.room {
            Room::Enough => Body::Accepted { matched, round },
            Room::Little => Body::Full { matched, round, takes: true },
            Room::Reserve => Body::Full { matched, round, takes: false },
        }
    }

    /// A server's log agrees up to `matched`, durably, and its disk is full.
    pub(crate) fn full(
        &mut self,
        now: Time,
        from: NodeId,
        matched: LogIndex,
        round: u64,
        takes: bool,
        out: &mut Outputs,
    ) {
        self.accepted(now, from, matched, round, out);
        let Some(progress) = self.progress_mut(from) else { return };
        progress.disk = if takes { Room::Little } else { Room::Reserve };
        if !takes && !matches!(progress.feed, Feed::Snapshot { .. }) {
            // What was streamed was not taken.
            progress.probe(progress.matched.next());
        }
    }

    /// A leader without room asks a voter that has room to lead. If that comes to nothing, it is a while before it
    /// asks again: meanwhile it refuses, rather than lets clients wait for a transfer.
    pub(crate) fn hand_over_for_room(&mut self, now: Time) {
        let Role::Leader(leader) = &self.role else { return };
        if self.room == Room::Enough || now < leader.hand_over_at || leader.transfer.is_some() {
            return;
        }
        let Some(to) = self.successor_with_room(now) else { return };
        if self.begin_transfer(now, Some(to)).is_ok()
            && let Role::Leader(leader) = &mut self.role
        {
            leader.hand_over_at = now + 5 * self.config.timing.election_max;
        }
    }

    /// The voter with the longest log among those that said lately that they have room.
    fn successor_with_room(&self, now: Time) -> Option<NodeId> {
        let patience = self.config.timing.election_min;
        let Role::Leader(leader) = &self.role else { return None };
        let fit = |(node, progress): &(&NodeId, &Progress)| {
            self.membership().is_voter(**node)
                && progress.disk == Room::Enough
                && progress.answered_round > 0
                && now < progress.heard + patience
        };
        let fit = leader.progress.iter().filter(fit);
        fit.max_by_key(|(_, progress)| progress.matched).map(|(node, _)| *node)
    }
}

/// What a follower knows of a leader that has no room.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LeaderFull {
    /// When to ask whether it has room again; or, once it was asked, when to believe so, unless it says no.
    pub(crate) ask_at: Time,
    asked: bool,
}

impl<S: Service> Replica<S> {
    pub(crate) fn room_is(&mut self, now: Time, room: Room) {
        if room < Room::Enough {
            self.taking.want_for_room();
        }
        self.raft_step(now, Input::Room(room));
    }

    /// Why this server takes no such command into its log.
    pub(crate) fn refuses(&self, command: &[u8]) -> Option<Refusal> {
        match self.raft.refuses_proposals() {
            Some(Refusal::NoRoom) if self.lets_through(command) => None,
            Some(Refusal::NoLeader) if self.leader_full.is_some() && !S::is_vital(command) => {
                Some(Refusal::NoRoom)
            }
            refusal => refusal,
        }
    }

    fn lets_through(&self, command: &[u8]) -> bool {
        self.raft.room_to_commit() == Room::Little && S::is_vital(command)
    }

    /// Of forwarded proposals that a leader refuses, takes those that clients need to go on reading; gives back the
    /// others.
    pub(crate) fn take_vital(&mut self, reason: Refusal, proposals: Vec<Bytes>) -> Vec<Bytes> {
        if reason != Refusal::NoRoom {
            return proposals;
        }
        let vital = |data: &Bytes| {
            Proposal::from_data(data.clone()).is_some_and(|p| self.lets_through(p.command()))
        };
        let (taken, refused) = proposals.into_iter().partition(vital);
        self.raft.take_proposals(taken);
        refused
    }

    /// The leader refused what was forwarded. For want of room: what comes next is refused right here, until the leader
    /// has room again. Gives back what to tell the service of those that had left.
    pub(crate) fn leader_refused(&mut self, now: Time, from: NodeId, reason: Refusal) -> Refusal {
        if reason != Refusal::NoRoom {
            return reason;
        }
        if self.raft.leader() == Some(from) {
            self.leader_full = Some(LeaderFull { ask_at: now + ASK_EVERY, asked: false });
        }
        Refusal::Busy
    }

    /// Asks by forwarding nothing. A leader that has room does not answer.
    pub(crate) fn ask_for_room(&mut self, now: Time, out: &mut Vec<Output<Self>>) {
        let Some(full) = self.leader_full.filter(|full| full.ask_at <= now) else { return };
        let leader = self.raft.leader().filter(|leader| *leader != self.raft.node());
        let (Some(to), false) = (leader, full.asked) else {
            self.leader_full = None;
            return;
        };
        self.leader_full = Some(LeaderFull { ask_at: now + ASK_EVERY, asked: true });
        out.push(Output::Send {
            when: When::Now,
            to,
            message: ReplicaMessage::Forward(Vec::new()),
        });
    }
}
