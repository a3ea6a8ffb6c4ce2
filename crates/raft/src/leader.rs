//! A leader's office: taking it, its timers, the commit rule, and stepping down when no majority answers (sections
//! 5.3 and 5.4; thesis, 6.2).
//!
//! Everything here ends with the role: a new term begins with a new `Leader`, so that nothing of a term that is over
//! is left behind (a transfer under way, a read that waits for a round).
//!
//! Not here: what is sent to whom (`replication`, `sending`), reads (`read_index`), transfers (`transfer`), changes of
//! members (`change`), sleep (`hibernate`).

use std::collections::BTreeMap;

use bytes::Bytes;
use quorate_contracts::{Entry, EntryId, EntryKind, LogIndex, NodeId, Record, Time};

use crate::hibernate::Sleep;
use crate::log::Slice;
use crate::node::{Outputs, Raft, Role};
use crate::progress::{FollowerView, Progress};
use crate::read_index::Confirming;
use crate::rounds::Rounds;
use crate::transfer::Transfer;
use crate::{ChangeOutcome, Reply, TransferOutcome};

/// A leader's state (Figure 2, "volatile state on leaders").
#[derive(Debug)]
pub(crate) struct Leader {
    pub(crate) progress: BTreeMap<NodeId, Progress>,
    /// Heartbeat rounds: who answers one was there after it began.
    pub(crate) rounds: Rounds,
    /// The no-op of this term: once it is committed, the commit index is known to be up to date.
    pub(crate) first: LogIndex,
    pub(crate) heartbeat_at: Time,
    /// When to look whether a majority was heard lately (thesis, 6.2).
    pub(crate) quorum_check_at: Time,
    /// Whether it sends heartbeats.
    pub(crate) sleep: Sleep,
    /// Something happened since the last wake-up.
    pub(crate) stirred: bool,
    /// A server may have room for entries that it was not sent.
    pub(crate) feed_due: bool,
    /// Index from which on the disk is being read for followers far behind.
    pub(crate) reading: Option<LogIndex>,
    /// Reads that wait for a round.
    pub(crate) confirming: Confirming,
    /// Leadership is being handed over.
    pub(crate) transfer: Option<Transfer>,
    /// When leadership may be handed over for want of room, once more.
    pub(crate) hand_over_at: Time,
    /// Somebody waits to be told that the change of members is done.
    pub(crate) change_asked: bool,
    /// Somebody was asked to campaign at once: voters may elect it whenever they like, for the rest of the term.
    pub(crate) lease_given_up: bool,
}

impl Leader {
    pub(crate) fn deadline(&self, commit: LogIndex) -> Option<(Time, &'static str)> {
        let untold = |p: &Progress| p.wants_commit(commit);
        if self.feed_due {
            return Some((Time::ZERO, "entries to replicate"));
        }
        if self.progress.values().any(untold) {
            return Some((Time::ZERO, "a commit index to tell"));
        }
        if self.confirming.has_new() && commit >= self.first {
            return Some((Time::ZERO, "reads to confirm"));
        }
        let heartbeat = Some((self.heartbeat_at, "heartbeat"));
        if let Sleep::Asleep { some_away } = self.sleep {
            return heartbeat.filter(|_| some_away);
        }
        let give_up = self.transfer.as_ref().map(|transfer| (transfer.give_up_at, "transfer"));
        let check = Some((self.quorum_check_at, "is a majority there?"));
        [check, heartbeat, give_up].into_iter().flatten().min()
    }

    pub(crate) fn matched(&self) -> BTreeMap<NodeId, LogIndex> {
        self.progress.iter().map(|(node, progress)| (*node, progress.matched)).collect()
    }

    pub(crate) fn followers(&self) -> Vec<FollowerView> {
        self.progress.iter().map(|(node, progress)| progress.view(*node)).collect()
    }

    /// What was on its way to that server may be lost.
    pub(crate) fn member_lost(&mut self, member: NodeId) {
        if let Some(progress) = self.progress.get_mut(&member) {
            progress.probe(progress.matched.next());
            self.stir();
        }
    }
}

impl Raft {
    /// Takes office: asks everyone where the logs agree, with a no-op that will commit what was inherited
    /// (RAFT-11).
    pub(crate) fn become_leader(&mut self, now: Time) {
        let last = self.log.last().index;
        let others = self.membership().everyone().into_iter().filter(|n| *n != self.config.node);
        let leader = Leader {
            progress: others.map(|node| (node, Progress::new(last, now, 0))).collect(),
            rounds: Rounds::default(),
            first: last.next(),
            heartbeat_at: now + self.config.timing.heartbeat,
            quorum_check_at: now + self.config.timing.election_max,
            sleep: Sleep::Awake { idle_since: now },
            stirred: false,
            feed_due: true,
            reading: None,
            confirming: Confirming::default(),
            transfer: None,
            hand_over_at: now,
            change_asked: false,
            lease_given_up: false,
        };
        self.role = Role::Leader(Box::new(leader));
        self.leader = Some(self.config.node);
        self.leader_commit = self.commit;
        self.campaigns = 0;
        self.incoming = None;
        self.append_own(EntryKind::Noop, Bytes::new());
    }

    /// Appends an entry of the leader's own term (Leader Append-Only: it never does anything else to its
    /// log). It is written and sent with the next wake-up.
    pub(crate) fn append_own(&mut self, kind: EntryKind, data: Bytes) {
        let id = EntryId::new(self.log.last().index.next(), self.term());
        self.append(Entry::new(id, kind, data));
        self.stir();
    }

    /// Bytes that the leader holds and that are not committed yet.
    pub(crate) fn uncommitted_bytes(&self) -> usize {
        let uncommitted = self.log.last().index.distance_from(self.commit);
        // What is in memory bounds it from above, and is known without walking the entries.
        if uncommitted == 0 { 0 } else { self.log.memory_bytes() }
    }

    /// Writes and sends what was batched, and whatever is due.
    pub(crate) fn leader_wake(&mut self, now: Time, out: &mut Outputs) {
        self.rise(now);
        self.go_on_with_change(now, out);
        // The messages are made first and the disk is asked first: both then work at once
        // (thesis, 10.2.1).
        self.persist_own(out);
        let Role::Leader(leader) = &mut self.role else { return };
        leader.feed_due = false;
        let asleep = matches!(leader.sleep, Sleep::Asleep { .. });
        let check = !asleep && leader.quorum_check_at <= now;
        let beat = leader.heartbeat_at <= now;
        if check && !self.majority_was_heard(now) {
            return self.step_down(now);
        }
        self.begin_read_round(now, out);
        self.feed_everyone(now, out);
        if beat {
            self.heartbeat(now, out);
        }
        self.announce_read_round(out);
        self.hand_over_for_room(now);
        self.push_transfer(now, beat, out);
    }

    /// Gives up the office; who leads next is not known.
    pub(crate) fn step_down(&mut self, now: Time) {
        self.leader = None;
        self.become_follower(now, self.term(), None);
    }

    /// The role ends, and with it what was under way: whoever asked for it is told.
    pub(crate) fn end_office(&mut self) {
        let Role::Leader(leader) = &self.role else { return };
        if let Some(to) = leader.transfer.as_ref().map(Transfer::to) {
            self.answers.push(Reply::Transfer(TransferOutcome::SteppedDown { to }));
        }
        if leader.change_asked {
            self.answers.push(Reply::Members(ChangeOutcome::Unknown));
        }
    }

    /// Writes the entries that were appended since the last time, as one record.
    fn persist_own(&mut self, out: &mut Outputs) {
        let from = self.durability.written().next();
        if let Slice::Entries(entries) = self.log.slice(from, self.log.last().index, usize::MAX) {
            self.persist(Record { entries, ..Record::default() }, out);
        }
        self.advance_commit();
    }

    /// CheckQuorum: a leader that was not heard by a majority for an election timeout has most likely
    /// been replaced, and must not let clients wait for it.
    fn majority_was_heard(&mut self, now: Time) -> bool {
        let (node, patience) = (self.config.node, self.config.timing.election_max);
        let Role::Leader(leader) = &mut self.role else { return false };
        let heard = |n: NodeId| match leader.progress.get(&n) {
            Some(progress) => progress.heard,
            None if n == node => now,
            None => Time::ZERO,
        };
        leader.quorum_check_at = self.memberships.current().quorum_value(heard) + patience;
        now < leader.quorum_check_at
    }

    /// Commits what a majority has durably, but counts only entries of its own term (section 5.4.2,
    /// Figure 8): earlier ones commit with them.
    pub(crate) fn advance_commit(&mut self) {
        let (node, own) = (self.config.node, self.durability.index());
        let Role::Leader(leader) = &self.role else { return };
        let reached = |n: NodeId| match leader.progress.get(&n) {
            Some(progress) => progress.matched,
            None if n == node => own,
            None => LogIndex::ZERO,
        };
        let index = self.membership().quorum_value(reached);
        if index > self.commit && self.log.term_at(index) == Some(self.term()) {
            self.commit_up_to(index);
        }
    }
}
