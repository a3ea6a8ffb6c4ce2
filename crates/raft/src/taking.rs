//! Taking a snapshot of the own state: slice by slice, one piece on its way to the disk at a time.

use bytes::Bytes;
use quorate_contracts::{
    LogIndex, Output, Progress, Service, SnapshotInput, SnapshotMeta, SnapshotOutput, StateMachine,
    Time, Wire,
};

use crate::{Limits, Replica};

/// Where a snapshot of the own state stands, and whether one is due.
#[derive(Debug)]
pub(crate) struct Taking {
    stage: Stage,
    /// Log applied since the last snapshot.
    log_bytes: u64,
    /// Entries applied since the last snapshot.
    log_entries: u64,
    /// Size of the last snapshot.
    last_bytes: u64,
    /// One was asked for, however short the log is.
    wanted: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// None is being taken.
    Idle,
    /// The next slice is to be made; it goes to this offset.
    Slice { offset: u64 },
    /// A piece is on its way to the disk; the file then ends at `end`.
    Writing { end: u64, done: bool },
    /// The file becomes durable under its name.
    Finishing,
}

impl Taking {
    pub(crate) fn new(last_bytes: u64) -> Self {
        Self { stage: Stage::Idle, log_bytes: 0, log_entries: 0, last_bytes, wanted: false }
    }

    /// An entry was applied.
    pub(crate) fn log_grew(&mut self, bytes: u64) {
        self.log_bytes += bytes;
        self.log_entries += 1;
    }

    /// One is to be taken as soon as may be.
    pub(crate) fn want(&mut self) {
        self.wanted = true;
    }

    /// One is to be taken, if it lets any of the log go.
    pub(crate) fn want_for_room(&mut self) {
        self.wanted |= self.log_entries > 0;
    }

    /// The state was replaced: what was being taken means nothing any more.
    pub(crate) fn forget(&mut self) {
        self.stage = Stage::Idle;
        (self.log_bytes, self.log_entries) = (0, 0);
    }

    /// Whether there is a slice to make.
    pub(crate) fn has_work(&self) -> bool {
        matches!(self.stage, Stage::Slice { .. })
    }

    /// Whether the disk has the file in hand.
    fn is_busy(&self) -> bool {
        matches!(self.stage, Stage::Writing { .. } | Stage::Finishing)
    }

    fn is_due(&self, limits: &Limits) -> bool {
        let long = self.log_bytes > limits.snapshot_log_bytes.max(self.last_bytes);
        self.stage == Stage::Idle
            && (self.wanted || long || self.log_entries >= limits.snapshot_entries)
    }
}

impl<S: Service> Replica<S> {
    /// Begins a snapshot once the log since the last one is longer than that one (DESIGN:
    /// max(64 MiB, its size)), unless one is being received or sent.
    pub(crate) fn maybe_take_snapshot(&mut self, now: Time, out: &mut Vec<Output<Self>>) {
        if (self.taking.is_due(&self.raft.config.limits) || self.holds_back())
            && self.has_state()
            && !self.raft.is_receiving_snapshot()
            && !self.raft.is_sending_snapshot(now)
        {
            self.taking.wanted = false;
            self.machine.begin_snapshot();
            let membership = self.raft.memberships.at(self.applied.index).to_bytes();
            let meta = SnapshotMeta { last: self.applied, membership };
            out.push(Output::Snapshot(SnapshotOutput::Begin { meta }));
            (self.taking.log_bytes, self.taking.log_entries) = (0, 0);
            self.taking.stage = Stage::Slice { offset: 0 };
        }
    }

    /// Whether entries that are to go are in no snapshot yet, and could be.
    fn holds_back(&self) -> bool {
        let through = self.raft.let_go;
        self.taking.stage == Stage::Idle
            && self.applied.index >= through
            && self.raft.snapshot_index().unwrap_or_default() < through
    }

    /// Makes the next slice, if one is wanted.
    pub(crate) fn snapshot_work(&mut self, out: &mut Vec<Output<Self>>) {
        if self.raft.is_receiving_snapshot() {
            // The file that is being received took the place of the own one.
            self.taking.stage = Stage::Idle;
        }
        if let Stage::Slice { offset } = self.taking.stage {
            let mut bytes = Vec::new();
            let piece = self.raft.config.limits.snapshot_piece_bytes;
            let done = self.machine.snapshot_slice(piece, &mut bytes) == Progress::Done;
            let end = offset + bytes.len() as u64;
            self.taking.stage = Stage::Writing { end, done };
            out.push(Output::Snapshot(SnapshotOutput::Write { offset, bytes: Bytes::from(bytes) }));
        }
        self.raft.snapshot_file_busy = self.taking.is_busy();
    }

    /// News of the own snapshot's file; Raft is told as well, and compacts its log once it is durable.
    pub(crate) fn own_snapshot_news(&mut self, news: &SnapshotInput, out: &mut Vec<Output<Self>>) {
        match (news, self.taking.stage) {
            (SnapshotInput::Written { end: written }, Stage::Writing { end, done })
                if *written == end =>
            {
                self.taking.stage =
                    if done { Stage::Finishing } else { Stage::Slice { offset: end } };
                if done {
                    out.push(Output::Snapshot(SnapshotOutput::Finish));
                }
            }
            // The next one is due after as much log again; there may be space by then.
            (SnapshotInput::Cancelled { .. }, _) => {
                self.taking.stage = Stage::Idle;
                self.raft.let_go = LogIndex::ZERO;
            }
            (SnapshotInput::Finished { bytes, .. }, stage) => {
                self.taking.last_bytes = *bytes;
                if stage == Stage::Finishing {
                    self.taking.stage = Stage::Idle;
                }
            }
            _ => {}
        }
        self.raft.snapshot_file_busy = self.taking.is_busy();
    }
}
