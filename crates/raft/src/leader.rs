//! What a leader does: replicates, counts, commits, and steps down when it cannot reach a majority
//! (sections 5.3, 5.4 and 7; thesis, 6.2).
//!
//! Everything here ends with the role: a new term begins with a new `Leader`.

use std::collections::BTreeMap;

use bytes::Bytes;
use quorate_contracts::{
    Entry, EntryId, EntryKind, LogIndex, NodeId, Output, Record, SnapshotMeta, SnapshotOutput,
    Time, When,
};

use crate::log::{Slice, cost};
use crate::node::{Outputs, Raft, Role};
use crate::progress::{Feed, Progress, Window};
use crate::{Body, Limits};

/// A leader's state (Figure 2, "volatile state on leaders").
#[derive(Debug)]
pub(crate) struct Leader {
    progress: BTreeMap<NodeId, Progress>,
    /// Number of the newest heartbeat round.
    round: u64,
    heartbeat_at: Time,
    /// When to look whether a majority was heard lately (thesis, 6.2).
    quorum_check_at: Time,
    /// A server may have room for entries that it was not sent.
    feed_due: bool,
    /// Index from which on the disk is being read for followers far behind.
    reading: Option<LogIndex>,
}

impl Leader {
    pub(crate) fn deadline(&self, commit: LogIndex) -> (Time, &'static str) {
        let untold = |p: &Progress| p.told_commit < commit && p.feed == Feed::Replicate;
        if self.feed_due {
            return (Time::ZERO, "entries to replicate");
        }
        if self.progress.values().any(untold) {
            return (Time::ZERO, "a commit index to tell");
        }
        if self.quorum_check_at < self.heartbeat_at {
            return (self.quorum_check_at, "is a majority there?");
        }
        (self.heartbeat_at, "heartbeat")
    }

    pub(crate) fn matched(&self) -> BTreeMap<NodeId, LogIndex> {
        self.progress.iter().map(|(node, progress)| (*node, progress.matched)).collect()
    }

    /// What was on its way to that server may be lost.
    pub(crate) fn member_lost(&mut self, member: NodeId) {
        if let Some(progress) = self.progress.get_mut(&member) {
            progress.probe(progress.matched.next());
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
            progress: others.map(|node| (node, Progress::new(last, now))).collect(),
            round: 0,
            heartbeat_at: now + self.config.timing.heartbeat,
            quorum_check_at: now + self.config.timing.election_max,
            feed_due: true,
            reading: None,
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
        if let Role::Leader(leader) = &mut self.role {
            leader.feed_due = true;
        }
    }

    /// Bytes that the leader holds and that are not committed yet.
    pub(crate) fn uncommitted_bytes(&self) -> usize {
        let uncommitted = self.log.last().index.distance_from(self.commit);
        // What is in memory bounds it from above, and is known without walking the entries.
        if uncommitted == 0 { 0 } else { self.log.memory_bytes() }
    }

    /// Writes and sends what was batched, and whatever is due.
    pub(crate) fn leader_wake(&mut self, now: Time, out: &mut Outputs) {
        // The messages are made first and the disk is asked first: both then work at once
        // (thesis, 10.2.1).
        self.persist_own(out);
        let Role::Leader(leader) = &mut self.role else { return };
        leader.feed_due = false;
        let check = leader.quorum_check_at <= now;
        let beat = leader.heartbeat_at <= now;
        if check && !self.majority_was_heard(now) {
            self.leader = None;
            self.become_follower(now, self.term(), None);
            return;
        }
        self.feed_everyone(now, out);
        if beat {
            self.heartbeat(now, out);
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
        leader.quorum_check_at = now + patience / 2;
        let heard = |n: NodeId| {
            n == node || leader.progress.get(&n).is_some_and(|p| now < p.heard + patience)
        };
        self.memberships.current().is_quorum(heard)
    }

    fn feed_everyone(&mut self, now: Time, out: &mut Outputs) {
        for to in self.others() {
            self.feed(now, to, out);
        }
    }

    fn others(&self) -> Vec<NodeId> {
        match &self.role {
            Role::Leader(leader) => leader.progress.keys().copied().collect(),
            _ => Vec::new(),
        }
    }

    /// Sends a server as many entries as its window has room for, or at least the commit index.
    fn feed(&mut self, now: Time, to: NodeId, out: &mut Outputs) {
        let Limits { append_bytes, window_messages, window_bytes, .. } = self.config.limits;
        let window = Window { messages: window_messages, bytes: window_bytes };
        loop {
            let Some(progress) = self.progress_mut(to) else { return };
            let (next, room) = (progress.next, progress.has_room(window));
            if !room || next > self.log.last().index {
                break;
            }
            match self.log.slice(next, self.log.last().index, append_bytes) {
                Slice::Entries(entries) => self.send_entries(to, entries, out),
                Slice::OnDisk => {
                    self.read_for(next, out);
                    break;
                }
                Slice::Compacted => return self.start_snapshot(now, to, out),
            }
        }
        self.tell_commit(to, out);
    }

    fn send_entries(&mut self, to: NodeId, entries: Vec<Entry>, out: &mut Outputs) {
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else { return };
        let (first, last) = (first.id.index, last.id.index);
        let bytes = entries.iter().map(cost).sum();
        self.send_append(to, LogIndex(first.0 - 1), entries, out);
        if let Some(progress) = self.progress_mut(to) {
            progress.sent(last, bytes);
        }
    }

    /// An append right after `prev`. Leaves at once: the leader's own disk works meanwhile.
    fn send_append(&mut self, to: NodeId, prev: LogIndex, entries: Vec<Entry>, out: &mut Outputs) {
        // Without the term of `prev`, there is nothing to agree on: only that the leader lives.
        let prev = self.log.term_at(prev).map_or(EntryId::ZERO, |term| EntryId::new(prev, term));
        let commit = self.commit;
        let Role::Leader(leader) = &mut self.role else { return };
        let round = leader.round;
        if let Some(progress) = leader.progress.get_mut(&to) {
            progress.told_commit = commit;
        }
        self.send(out, When::Now, to, Body::AppendEntries { prev, entries, commit, round });
    }

    /// A commit index follows promptly when there is nothing else to send (RAFT-8): clients of that
    /// server wait for it.
    fn tell_commit(&mut self, to: NodeId, out: &mut Outputs) {
        let commit = self.commit;
        let Some(progress) = self.progress_mut(to) else { return };
        if progress.feed == Feed::Replicate && progress.told_commit < commit {
            let prev = LogIndex(progress.next.0 - 1);
            self.send_append(to, prev, Vec::new(), out);
        }
    }

    fn heartbeat(&mut self, now: Time, out: &mut Outputs) {
        let interval = self.config.timing.heartbeat;
        let Role::Leader(leader) = &mut self.role else { return };
        leader.heartbeat_at = now + interval;
        leader.round += 1;
        let base = self.log.base().index;
        for to in self.others() {
            let Some(progress) = self.progress_mut(to) else { continue };
            if progress.feed == Feed::Replicate && progress.next <= base {
                // What was streamed is in the snapshot by now. If it was lost, no heartbeat could ask
                // for it, since the entry before the next one has no known term any more.
                progress.probe(progress.matched.next());
            }
            let prev = LogIndex(progress.next.0 - 1);
            self.send_append(to, prev, Vec::new(), out);
            self.retry_snapshot(now, to, out);
        }
    }

    /// A server's log agrees up to `matched`, durably.
    pub(crate) fn accepted(&mut self, now: Time, from: NodeId, matched: LogIndex, _round: u64) {
        let last = self.log.last().index;
        let Some(progress) = self.progress_mut(from) else { return };
        assert!(matched <= last, "{from} has {matched}, which the leader never had (last {last})");
        progress.heard = now;
        let news = progress.accepted(matched);
        let behind = match progress.feed {
            Feed::Snapshot { last: Some(end), .. } => matched < end.index,
            Feed::Snapshot { last: None, .. } => true,
            _ => false,
        };
        if progress.feed != Feed::Replicate && !behind {
            progress.replicate();
        }
        if news {
            self.advance_commit();
        }
        // What is owed leaves with the wake-up that follows the batch; a commit index likewise.
        if let Role::Leader(leader) = &mut self.role {
            leader.feed_due |= leader.progress.get(&from).is_some_and(|p| p.next <= last);
        }
    }

    /// A server's log has no such `prev`: look further back, a whole term at a time (RAFT-10).
    pub(crate) fn rejected(
        &mut self,
        now: Time,
        from: NodeId,
        prev: LogIndex,
        hint: EntryId,
        round: u64,
    ) {
        let base = self.log.base();
        // Where the logs can only agree inside the snapshot, that is what the server needs.
        let next = if hint.index <= base.index && hint != base {
            base.index
        } else {
            self.log.last_not_above(hint.index, hint.term).index.next()
        };
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(progress) = leader.progress.get_mut(&from) else { return };
        progress.heard = now;
        let stale = match progress.feed {
            Feed::Probe { .. } => prev.next() != progress.next,
            Feed::Replicate => prev <= progress.matched,
            Feed::Snapshot { .. } => true,
        };
        // One gap makes everything behind it in the window be rejected: only the first rejection
        // since the last fall-back counts, or each would send the window again.
        if !stale && round >= progress.probing_since {
            leader.round += 1;
            progress.probing_since = leader.round;
            progress.probe(next);
            leader.feed_due = true;
        }
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
        let index = self.membership().quorum_index(reached);
        if index > self.commit && self.log.term_at(index) == Some(self.term()) {
            self.commit_up_to(index);
        }
    }

    /// Entries for a follower far behind are on disk only. One read at a time serves everybody.
    fn read_for(&mut self, from: LogIndex, out: &mut Outputs) {
        let (to, bytes_max) = (self.log.last().index, self.config.limits.append_bytes);
        let Role::Leader(leader) = &mut self.role else { return };
        if leader.reading.is_none() {
            leader.reading = Some(from);
            out.push(Output::ReadLog { from, to, bytes_max });
        }
    }

    /// Entries were read: they go to whoever needs exactly them next.
    pub(crate) fn entries_read(&mut self, first: LogIndex, entries: &[Entry], out: &mut Outputs) {
        let Limits { window_messages, window_bytes, .. } = self.config.limits;
        let window = Window { messages: window_messages, bytes: window_bytes };
        let Role::Leader(leader) = &mut self.role else { return };
        if leader.reading == Some(first) {
            leader.reading = None;
            leader.feed_due = true;
        }
        // The log may have changed since they were asked for.
        let valid = entries.iter().take_while(|entry| self.log.holds(entry.id)).count();
        for to in self.others() {
            let Some(progress) = self.progress_mut(to) else { continue };
            if progress.next == first && progress.has_room(window) {
                self.send_entries(to, entries[..valid].to_vec(), out);
            }
        }
    }

    /// The entries that a server needs are in the snapshot only (section 7).
    fn start_snapshot(&mut self, now: Time, to: NodeId, out: &mut Outputs) {
        assert!(
            self.snapshot.is_some(),
            "the log begins after {} without a snapshot",
            self.log.base()
        );
        if let Some(progress) = self.progress_mut(to) {
            progress.snapshot(now);
            self.read_piece(to, 0, out);
        }
    }

    fn read_piece(&self, to: NodeId, offset: u64, out: &mut Outputs) {
        let bytes_max = self.config.limits.snapshot_piece_bytes;
        out.push(Output::Snapshot(SnapshotOutput::Read { offset, bytes_max, to }));
    }

    /// A piece was read for a server. If a newer snapshot took the place of the one that was begun, its
    /// first piece begins anew.
    #[expect(clippy::too_many_arguments, reason = "the news, taken apart")]
    pub(crate) fn snapshot_piece(
        &mut self,
        now: Time,
        meta: SnapshotMeta,
        offset: u64,
        bytes: Bytes,
        done: bool,
        to: NodeId,
        out: &mut Outputs,
    ) {
        let Some(progress) = self.progress_mut(to) else { return };
        let Feed::Snapshot { last, offset: current, asked } = &mut progress.feed else { return };
        *asked = now;
        if offset > 0 && *last != Some(meta.last) {
            (*last, *current) = (None, 0);
            return self.read_piece(to, 0, out);
        }
        (*last, *current) = (Some(meta.last), offset);
        self.send(out, When::Now, to, Body::InstallSnapshot { meta, offset, bytes, done });
    }

    /// Whether a server that is alive is being sent the snapshot. A newer one would make it begin
    /// anew, and under load it would never end.
    pub(crate) fn is_sending_snapshot(&self, now: Time) -> bool {
        let patience = self.config.timing.election_max;
        let Role::Leader(leader) = &self.role else { return false };
        let receives =
            |p: &Progress| matches!(p.feed, Feed::Snapshot { .. }) && now < p.heard + patience;
        leader.progress.values().any(receives)
    }

    /// A server wants the piece at `next_offset`.
    pub(crate) fn snapshot_progress(
        &mut self,
        now: Time,
        from: NodeId,
        last: EntryId,
        next_offset: u64,
        out: &mut Outputs,
    ) {
        let Some(progress) = self.progress_mut(from) else { return };
        progress.heard = now;
        if let Feed::Snapshot { last: current, asked, .. } = &mut progress.feed
            && *current == Some(last)
        {
            *asked = now;
            self.read_piece(from, next_offset, out);
        }
    }

    /// Asks again for a piece whose answer was lost.
    fn retry_snapshot(&mut self, now: Time, to: NodeId, out: &mut Outputs) {
        let patience = self.config.timing.snapshot_retry;
        let Some(progress) = self.progress_mut(to) else { return };
        if let Feed::Snapshot { offset, asked, .. } = &mut progress.feed
            && now >= *asked + patience
        {
            *asked = now;
            let offset = *offset;
            self.read_piece(to, offset, out);
        }
    }

    fn progress_mut(&mut self, of: NodeId) -> Option<&mut Progress> {
        match &mut self.role {
            Role::Leader(leader) => leader.progress.get_mut(&of),
            _ => None,
        }
    }
}
