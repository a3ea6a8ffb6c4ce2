//! What a leader does for a server that needs its snapshot: one piece at a time, read from the file, sent, and sent
//! again if nothing is heard of it (section 7, Figure 13).
//!
//! The leader goes on serving: a piece is read only once the one before it was taken, so that a transfer is as
//! slow as its receiver and never more than a piece is in memory.
//!
//! Not here: taking snapshots (`taking`), receiving them (`follower`).

use bytes::Bytes;
use quorate_contracts::{EntryId, NodeId, Output, SnapshotMeta, SnapshotOutput, Time, When};

use crate::Body;
use crate::node::{Outputs, Raft, Role};
use crate::progress::{Feed, Progress};

impl Raft {
    /// The entries that a server needs are in the snapshot only (section 7).
    pub(crate) fn start_snapshot(&mut self, now: Time, to: NodeId, out: &mut Outputs) {
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
        let Role::Leader(leader) = &mut self.role else { return };
        let round = leader.rounds.newest();
        let Some(progress) = leader.progress.get_mut(&to) else { return };
        let Feed::Snapshot { last, offset: current, asked } = &mut progress.feed else { return };
        *asked = now;
        if offset > 0 && *last != Some(meta.last) {
            (*last, *current) = (None, 0);
            return self.read_piece(to, 0, out);
        }
        (*last, *current) = (Some(meta.last), offset);
        self.send(out, When::Now, to, Body::InstallSnapshot { meta, offset, bytes, done, round });
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
    pub(crate) fn retry_snapshot(&mut self, now: Time, to: NodeId, out: &mut Outputs) {
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
}
