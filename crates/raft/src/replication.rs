//! How a leader replicates: entries to those that lack them, and what it learns from their answers (section 5.3;
//! thesis, 10.2.1).
//!
//! A server that answers is streamed to, within a window; where the logs agree is searched with one append at a
//! time. A server that does not answer costs a heartbeat, whatever the others write.

use quorate_contracts::{Entry, EntryId, LogIndex, NodeId, Output, Room, Time, When};

use crate::log::{Slice, cost};
use crate::node::{Outputs, Raft, Role};
use crate::progress::{Feed, Progress, Window};
use crate::{Body, Limits};

impl Raft {
    pub(crate) fn feed_everyone(&mut self, now: Time, out: &mut Outputs) {
        for to in self.others() {
            self.feed(now, to, out);
        }
    }

    /// Everyone whom this leader feeds.
    pub(crate) fn others(&self) -> Vec<NodeId> {
        match &self.role {
            Role::Leader(leader) => leader.progress.keys().copied().collect(),
            _ => Vec::new(),
        }
    }

    fn window(&self) -> Window {
        let Limits { window_messages, window_bytes, .. } = self.config.limits;
        Window { messages: window_messages, bytes: window_bytes }
    }

    /// Sends a server as many entries as its window has room for, or at least the commit index.
    fn feed(&mut self, now: Time, to: NodeId, out: &mut Outputs) {
        let window = self.window();
        loop {
            let Some(progress) = self.progress_mut(to) else { return };
            let (next, room) = (progress.next, progress.has_room(window));
            if !room || next > self.log.last().index {
                break;
            }
            match self.log.slice(next, self.log.last().index, self.config.limits.append_bytes) {
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
        let round = leader.rounds.newest();
        if let Some(progress) = leader.progress.get_mut(&to) {
            progress.told_commit = commit;
            progress.told_round = round;
        }
        self.send(out, When::Now, to, Body::AppendEntries { prev, entries, commit, round });
    }

    /// A commit index follows promptly when there is nothing else to send (RAFT-8): clients of that
    /// server wait for it.
    fn tell_commit(&mut self, to: NodeId, out: &mut Outputs) {
        let commit = self.commit;
        let Some(progress) = self.progress_mut(to) else { return };
        if progress.wants_commit(commit) {
            self.send_heartbeat(to, out);
        }
    }

    /// Heartbeats for those that are to hear one: a new round.
    pub(crate) fn heartbeat(&mut self, now: Time, out: &mut Outputs) {
        let timing = self.config.timing;
        let base = self.log.base().index;
        self.forget_those_that_left(now);
        let receivers = self.heartbeat_for(now, out);
        let next_at = now + self.heartbeat_interval();
        let Role::Leader(leader) = &mut self.role else { return };
        leader.heartbeat_at = next_at;
        if receivers.is_empty() {
            return;
        }
        leader.rounds.begin(now);
        for progress in leader.progress.values_mut().filter(|p| p.feed == Feed::Replicate) {
            // What was streamed may be in the snapshot by now. If it was lost, no heartbeat could ask for it,
            // since the entry before the next one has no known term any more.
            let compacted = progress.next <= base;
            // Who is silent is not streamed to.
            let silent = progress.heard + timing.election_min <= now;
            if compacted || silent {
                progress.probe(progress.matched.next());
            }
        }
        for to in receivers {
            self.send_heartbeat(to, out);
            self.retry_snapshot(now, to, out);
        }
    }

    /// An append without entries, that asks whether the log agrees before the next entry.
    pub(crate) fn send_heartbeat(&mut self, to: NodeId, out: &mut Outputs) {
        let Some(progress) = self.progress_mut(to) else { return };
        let prev = LogIndex(progress.next.0 - 1);
        self.send_append(to, prev, Vec::new(), out);
    }

    /// A server's log agrees up to `matched`, durably.
    pub(crate) fn accepted(
        &mut self,
        now: Time,
        from: NodeId,
        matched: LogIndex,
        round: u64,
        out: &mut Outputs,
    ) {
        let last = self.log.last().index;
        let Some(progress) = self.progress_mut(from) else { return };
        progress.disk = Room::Enough;
        if round >= progress.believed_since {
            self.vouched(from, matched);
        }
        self.answered(now, from, round, out);
        self.transfer_heard(from);
        // What is owed leaves with the wake-up that follows the batch; a commit index likewise.
        if let Role::Leader(leader) = &mut self.role {
            leader.feed_due |= leader.progress.get(&from).is_some_and(|p| p.next <= last);
        }
    }

    /// What a server vouches for is on its disk, and nothing was lost there since it was asked.
    fn vouched(&mut self, from: NodeId, matched: LogIndex) {
        let last = self.log.last().index;
        let Some(progress) = self.progress_mut(from) else { return };
        assert!(matched <= last, "{from} has {matched}, which the leader never had (last {last})");
        let news = progress.accepted(matched);
        if progress.may_stream(matched) {
            progress.replicate();
        }
        if news {
            self.proven(from);
            self.advance_commit();
        }
    }

    fn proven(&mut self, from: NodeId) {
        let Role::Leader(leader) = &mut self.role else { return };
        let round = leader.rounds.newest();
        if let Some(progress) = leader.progress.get_mut(&from) {
            progress.proven_in = round;
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
        out: &mut Outputs,
    ) {
        let next = self.next_after(hint);
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(progress) = leader.progress.get_mut(&from) else { return };
        if progress.has_reverted(prev, round) {
            self.tell_reverted(from, round, out);
            return self.answered(now, from, round, out);
        }
        // One gap makes everything behind it in the window be rejected: only the first rejection
        // since the last fall-back counts, or each would send the window again.
        if progress.is_news(prev) && round >= progress.probing_since {
            progress.probing_since = leader.rounds.begin(now);
            progress.probe(next);
            leader.feed_due = true;
        }
        self.answered(now, from, round, out);
    }

    /// A server lacks what it had acknowledged, and does not know it. What it has said is not enough to feed it from further
    /// back: first it has to answer that it gives no vote any more.
    fn tell_reverted(&mut self, to: NodeId, round: u64, out: &mut Outputs) {
        let Some(matched) = self.progress_mut(to).map(|progress| progress.matched) else { return };
        if let Some(term) = self.log.term_at(matched) {
            let last = EntryId::new(matched, term);
            self.send(out, When::Now, to, Body::Reverted { last, round });
        }
    }

    /// A server lost some of what it had acknowledged: that no longer counts, and is sent again.
    pub(crate) fn damaged(
        &mut self,
        now: Time,
        from: NodeId,
        hint: EntryId,
        round: u64,
        out: &mut Outputs,
    ) {
        let next = self.next_after(hint);
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(progress) = leader.progress.get_mut(&from) else { return };
        if round >= progress.believed_since {
            let since = leader.rounds.begin(now);
            progress.lost(next, since);
            if !matches!(progress.feed, Feed::Snapshot { .. }) {
                progress.probing_since = since;
                progress.probe(next);
                leader.feed_due = true;
            }
        }
        self.answered(now, from, round, out);
    }

    /// What to send to a server whose log may agree up to `hint`. Where the logs can only agree inside the
    /// snapshot, that is what it needs.
    fn next_after(&self, hint: EntryId) -> LogIndex {
        let base = self.log.base();
        if hint.index <= base.index && hint != base {
            base.index
        } else {
            self.log.last_not_above(hint.index, hint.term).index.next()
        }
    }

    /// A server answered something of this round: it was in this term after the round had begun.
    pub(crate) fn answered(&mut self, now: Time, from: NodeId, round: u64, out: &mut Outputs) {
        let Some(progress) = self.progress_mut(from) else { return };
        progress.heard = now;
        progress.answered_round = progress.answered_round.max(round);
        self.confirm_reads(out);
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
        let window = self.window();
        let Role::Leader(leader) = &mut self.role else { return };
        if leader.reading == Some(first) {
            leader.reading = None;
            leader.feed_due = true;
        }
        // The log may have changed since they were asked for. If the entry before them went with a snapshot, there is
        // nothing to agree on: who needs them needs the snapshot.
        if self.log.term_at(LogIndex(first.0 - 1)).is_none() {
            return;
        }
        let valid = entries.iter().take_while(|entry| self.log.holds(entry.id)).count();
        for to in self.others() {
            let Some(progress) = self.progress_mut(to) else { continue };
            if progress.next == first && progress.has_room(window) {
                self.send_entries(to, entries[..valid].to_vec(), out);
            }
        }
    }

    pub(crate) fn progress_mut(&mut self, of: NodeId) -> Option<&mut Progress> {
        match &mut self.role {
            Role::Leader(leader) => leader.progress.get_mut(&of),
            _ => None,
        }
    }
}
