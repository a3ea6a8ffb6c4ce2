//! What a follower does with what its leader sends (sections 5.3 and 7).

use bytes::Bytes;
use quorate_contracts::{
    Entry, EntryId, EntryKind, LogIndex, NodeId, Output, Record, SnapshotInput, SnapshotMeta,
    SnapshotOutput, Term, Time,
};

use crate::Body;
use crate::node::{Outputs, Raft, decode_membership};

/// A snapshot that is being received.
#[derive(Debug)]
pub(crate) struct Incoming {
    meta: SnapshotMeta,
    from: NodeId,
    /// The leader's term and round as of the newest piece: rounds are counted anew in each term.
    asked_in: (Term, u64),
    /// The file holds everything before this offset.
    written: u64,
    /// What the file does with what it was last given.
    stage: Stage,
}

impl Incoming {
    /// Whether it is this snapshot of this sender.
    fn is(&self, from: NodeId, meta: &SnapshotMeta) -> bool {
        self.from == from && self.meta == *meta
    }
}

/// What the file of an incoming snapshot is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// Waits for the next piece.
    Idle,
    /// Writes a piece; `done` if it is the last.
    Writing { done: bool },
    /// Becomes durable under its name.
    Finishing,
}

impl Raft {
    /// Section 5.3, and the receiver's rules 2 to 5 of Figure 2.
    #[expect(clippy::too_many_arguments, reason = "the message, taken apart")]
    pub(crate) fn append_entries(
        &mut self,
        now: Time,
        from: NodeId,
        prev: EntryId,
        entries: Vec<Entry>,
        commit: LogIndex,
        round: u64,
        out: &mut Outputs,
    ) {
        self.hear_leader(now, from);
        self.leader_commit = commit;
        if self.asks_to_mend(from, prev, round, out) {
            return;
        }
        // What the snapshot covers is committed, so it agrees with every leader's log.
        if prev.index >= self.log.base().index && !self.log.holds(prev) {
            let when = self.when_term_is_durable(out);
            let hint = self.log.last_not_above(prev.index, prev.term);
            self.send(out, when, from, Body::Rejected { prev: prev.index, hint, round });
            return;
        }
        let entries = self.with_room_for(entries);
        let agreed = LogIndex(prev.index.0 + entries.len() as u64);
        let heartbeat = entries.is_empty();
        self.store(entries, out);
        let agreed = self.mending.whole_up_to(agreed);
        self.confirm(agreed, out);
        self.commit_up_to(commit.min(agreed));
        // A heartbeat's answer never waits for a disk: it vouches for what is durable already.
        let matched = if heartbeat { agreed.min(self.durability.index()) } else { agreed };
        let when = self.when_log_is_durable(matched, out);
        self.send(out, when, from, self.acceptance(matched, round));
    }

    /// There is a leader of this term.
    pub(crate) fn hear_leader(&mut self, now: Time, from: NodeId) {
        assert!(
            !self.is_leader() && self.leader.is_none_or(|leader| leader == from),
            "Election Safety: {from} leads term {} and so does {:?}",
            self.term(),
            self.leader
        );
        self.become_follower(now, self.term(), Some(from));
        (self.leader_heard, self.heard_leader) = (now, Some(from));
        self.campaigns = 0;
        self.sleeping = false;
        self.reset_election(now);
        self.hope(now);
    }

    /// Stores what is new: skips what is there, and removes a suffix only where an entry conflicts
    /// (rule 3), never a committed one.
    fn store(&mut self, entries: Vec<Entry>, out: &mut Outputs) {
        let base = self.log.base().index;
        let known = entries
            .iter()
            .take_while(|entry| entry.id.index <= base || self.log.holds(entry.id))
            .count();
        self.mend(&entries[..known], out);
        let new: Vec<Entry> = entries.into_iter().skip(known).collect();
        let Some(first) = new.first() else { return };
        let mut record = Record::default();
        if first.id.index <= self.log.last().index {
            record.truncate_from = Some(first.id.index);
            self.truncate_from(first.id.index);
        }
        for entry in &new {
            self.append(entry.clone());
        }
        record.entries = new;
        self.persist(record, out);
    }

    fn truncate_from(&mut self, index: LogIndex) {
        assert!(
            index > self.commit,
            "Leader Completeness: entry {index} is committed (up to {}) and would be removed",
            self.commit
        );
        self.log.truncate_from(index);
        self.mending.truncate_from(index);
        self.memberships.truncate_from(index);
        self.durability.cut(LogIndex(index.0 - 1));
    }

    /// Adds an entry to the log in memory; a membership is in force from here on (section 6).
    pub(crate) fn append(&mut self, entry: Entry) {
        if entry.kind == EntryKind::Membership {
            self.memberships.append(entry.id.index, &entry.data);
        }
        self.log.append(entry);
    }

    /// Entries up to `index` are committed.
    pub(crate) fn commit_up_to(&mut self, index: LogIndex) {
        assert!(index <= self.log.last().index, "{index} is committed but not in the log");
        self.commit = self.commit.max(index);
    }

    /// Figure 13: takes the pieces of a snapshot in order; a stale one is answered with what is here.
    #[expect(clippy::too_many_arguments, reason = "the message, taken apart")]
    pub(crate) fn install_snapshot(
        &mut self,
        now: Time,
        from: NodeId,
        meta: SnapshotMeta,
        offset: u64,
        bytes: Bytes,
        done: bool,
        round: u64,
        out: &mut Outputs,
    ) {
        self.hear_leader(now, from);
        if meta.last.index <= self.commit {
            let matched = self.commit.min(self.durability.index());
            let when = self.when_term_is_durable(out);
            self.send(out, when, from, Body::Accepted { matched, round });
            return;
        }
        if self.snapshot_file_busy || !self.expects_piece(from, &meta, offset, out) {
            return;
        }
        if let Some(incoming) = &mut self.incoming {
            incoming.stage = Stage::Writing { done };
            incoming.asked_in = (self.hard_state.term, round);
            out.push(Output::Snapshot(SnapshotOutput::Write { offset, bytes }));
        }
    }

    /// Whether this piece comes next. The first piece of another snapshot begins a file; a piece
    /// that is out of order is answered with the one that is wanted. The same state taken by another
    /// server is another snapshot: two files of equal states need not be equal byte by byte.
    fn expects_piece(
        &mut self,
        from: NodeId,
        meta: &SnapshotMeta,
        offset: u64,
        out: &mut Outputs,
    ) -> bool {
        match &mut self.incoming {
            Some(incoming) if incoming.stage != Stage::Idle => return false,
            Some(incoming) if incoming.is(from, meta) && incoming.written == offset => return true,
            Some(incoming) if incoming.is(from, meta) => {}
            _ if offset == 0 => {
                out.push(Output::Snapshot(SnapshotOutput::Begin { meta: meta.clone() }));
                let (meta, stage) = (meta.clone(), Stage::Idle);
                let asked_in = (self.term(), 0);
                self.incoming = Some(Incoming { meta, from, asked_in, written: 0, stage });
                return true;
            }
            _ => {}
        }
        let wanted = self.incoming.as_ref().filter(|incoming| incoming.is(from, meta));
        let next_offset = wanted.map_or(0, |incoming| incoming.written);
        let when = self.when_term_is_durable(out);
        self.send(out, when, from, Body::SnapshotProgress { last: meta.last, next_offset });
        false
    }

    /// News of the snapshot file: a piece to send was read, or a received one was written.
    pub(crate) fn snapshot_news(&mut self, now: Time, news: SnapshotInput, out: &mut Outputs) {
        match news {
            SnapshotInput::Written { end } => self.piece_written(end, out),
            SnapshotInput::Finished { meta, .. } => self.snapshot_finished(meta, out),
            SnapshotInput::Piece { meta, offset, bytes, last, to } => {
                self.snapshot_piece(now, meta, offset, bytes, last, to, out);
            }
            // The leader asks again after a while, from the start.
            SnapshotInput::Cancelled { .. } => self.incoming = None,
            SnapshotInput::Loaded { .. } => {}
        }
    }

    fn piece_written(&mut self, end: u64, out: &mut Outputs) {
        let Some(incoming) = &mut self.incoming else { return };
        let Stage::Writing { done } = incoming.stage else { return };
        incoming.written = end;
        if done {
            incoming.stage = Stage::Finishing;
            out.push(Output::Snapshot(SnapshotOutput::Finish));
            return;
        }
        incoming.stage = Stage::Idle;
        let (to, last) = (incoming.from, incoming.meta.last);
        let when = self.when_term_is_durable(out);
        self.send(out, when, to, Body::SnapshotProgress { last, next_offset: end });
    }

    /// A snapshot is durable: one that was received replaces the log up to its end; one that was
    /// taken here lets the log before it go.
    fn snapshot_finished(&mut self, meta: SnapshotMeta, out: &mut Outputs) {
        let received = self.incoming.take();
        self.snapshot = Some(meta.clone());
        match received {
            Some(incoming) => self.install(&incoming, out),
            None => self.compact(meta.last, out),
        }
    }

    fn install(&mut self, incoming: &Incoming, out: &mut Outputs) {
        let last = incoming.meta.last;
        if last.index > self.commit {
            let mut record = Record { base: Some(last), ..Record::default() };
            if !self.log.holds(last) {
                record.truncate_from = Some(last.index.next());
                self.mending.truncate_from(last.index);
                self.durability.cut(LogIndex::ZERO);
                self.memberships.restore(last.index, decode_membership(&incoming.meta));
            }
            self.log.install(last);
            self.mending.installed(last.index);
            self.memberships.compact(last.index);
            self.durability.installed(last.index);
            self.commit = last.index;
            self.persist(record, out);
            out.push(Output::Snapshot(SnapshotOutput::Load));
        }
        let when = self.when_log_is_durable(last.index, out);
        let (term, round) = incoming.asked_in;
        let round = if term == self.term() { round } else { 0 };
        let matched = last.index;
        self.send(out, when, incoming.from, Body::Accepted { matched, round });
    }

    /// The log on the disk is held back by entries up to this one. If they are in a snapshot, they go at once.
    pub(crate) fn let_go(&mut self, through: LogIndex, out: &mut Outputs) {
        self.let_go = self.let_go.max(through);
        if let Some(last) = self.snapshot.as_ref().map(|meta| meta.last) {
            self.compact(last, out);
        }
    }

    /// The log up to a snapshot may go, but for a few entries that spare a follower that is a little
    /// behind the whole snapshot; unless those hold back too much.
    fn compact(&mut self, last: EntryId, out: &mut Outputs) {
        let trailing = LogIndex(last.index.0.saturating_sub(self.config.limits.trailing_entries));
        let index = trailing.max(self.let_go.min(last.index));
        let Some(term) = self.log.term_at(index).filter(|_| index > self.log.base().index) else {
            return;
        };
        let base = EntryId::new(index, term);
        self.log.compact(base);
        self.memberships.compact(index);
        self.persist(Record { base: Some(base), ..Record::default() }, out);
    }

    /// Whether a snapshot is being received.
    pub fn is_receiving_snapshot(&self) -> bool {
        self.incoming.is_some()
    }

    /// After the disk vouched for more.
    pub(crate) fn after_persisted(&mut self, now: Time, out: &mut Outputs) {
        self.own_vote_durable(now, out);
        if self.is_leader() {
            self.advance_commit();
        }
        let keep = self.config.limits.memory_bytes;
        self.log.shed(keep, self.durability.index().min(self.commit));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Config, Message};
    use quorate_contracts::{Input, Process, Recovered};

    /// eBay/NuRaft 531: a second leader of one term is no message to be ignored. Somebody's vote was given twice, and going on
    /// would only spread what came of it.
    #[test]
    #[should_panic(expected = "Election Safety")]
    fn a_second_leader_of_one_term_ends_the_server() {
        let servers = [1, 2, 3].map(NodeId);
        let mut raft = Raft::new(Config::new(servers[1], servers), Recovered::default(), 1);
        for leader in [servers[0], servers[2]] {
            let (prev, commit) = (EntryId::ZERO, LogIndex::ZERO);
            let body = Body::AppendEntries { prev, entries: Vec::new(), commit, round: 1 };
            let message = Message { term: Term(1), body };
            let input = Input::Received { from: leader, message };
            raft.step(Time::ZERO, input, &mut Vec::new());
        }
    }
}
