//! The disk of one server in a script: what was synced stays, and a sync may be held back.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use quorate_contracts::{
    Entry, EntryId, EntryKind, HardState, LogIndex, Record, Recovered, SnapshotInput, SnapshotMeta,
    SnapshotOutput, WriteMark,
};

/// A disk.
#[derive(Default)]
pub(crate) struct Disk {
    pub(crate) hard_state: HardState,
    mark: WriteMark,
    base: EntryId,
    entries: BTreeMap<LogIndex, Entry>,
    /// Entries whose data does not read any more.
    damaged: BTreeSet<LogIndex>,
    /// Entries up to here were lost, with all that was known of them.
    lost: Option<LogIndex>,
    pending: VecDeque<(WriteMark, Record)>,
    /// Nothing becomes durable until it is released.
    pub(crate) held: bool,
    snapshot: Option<(SnapshotMeta, Bytes)>,
    unfinished: Option<(SnapshotMeta, Vec<u8>)>,
}

impl Disk {
    /// A disk on which a log with these terms was written before the story begins.
    pub(crate) fn with_log(hard_state: HardState, terms: &[u64]) -> Self {
        let mut disk = Self { hard_state, ..Self::default() };
        for (index, term) in (1..).map(LogIndex).zip(terms) {
            let id = EntryId::new(index, quorate_contracts::Term(*term));
            disk.entries.insert(index, Entry::new(id, EntryKind::Command, Bytes::from("x")));
        }
        disk
    }

    pub(crate) fn write(&mut self, mark: WriteMark, record: Record) {
        self.pending.push_back((mark, record));
    }

    /// Makes durable what was written; the newest mark, if there is one.
    pub(crate) fn sync(&mut self) -> Option<WriteMark> {
        let mark = self.pending.back()?.0;
        while let Some((mark, record)) = self.pending.pop_front() {
            self.make_durable(mark, record);
        }
        Some(mark)
    }

    fn make_durable(&mut self, mark: WriteMark, record: Record) {
        self.mark = mark;
        self.hard_state = record.hard_state.unwrap_or(self.hard_state);
        if let Some(base) = record.base {
            self.entries = self.entries.split_off(&base.index.next());
            self.damaged = self.damaged.split_off(&base.index.next());
            self.base = base;
        }
        if let Some(from) = record.truncate_from {
            self.entries.split_off(&from);
            self.damaged.split_off(&from);
        }
        self.lost = if record.confirmed { None } else { self.lost.max(record.lost) };
        for entry in &record.entries {
            self.damaged.remove(&entry.id.index);
        }
        self.entries.extend(record.entries.into_iter().map(|entry| (entry.id.index, entry)));
    }

    /// The data of these entries rots; what they are is still known.
    pub(crate) fn rot(&mut self, first: LogIndex, last: LogIndex) {
        self.damaged.extend(self.entries.range(first..=last).map(|(index, _)| *index));
    }

    /// Whether nothing that was durable is missing.
    pub(crate) fn is_whole(&self) -> bool {
        self.damaged.is_empty() && self.lost.is_none()
    }

    /// All from an entry on is gone, and that something is gone is known.
    pub(crate) fn forget(&mut self, first: LogIndex) {
        let gone = self.entries.split_off(&first);
        self.damaged.split_off(&first);
        self.lost = self.lost.max(gone.last_key_value().map(|(index, _)| *index));
    }

    /// ... or is not known.
    pub(crate) fn revert(&mut self, first: LogIndex) {
        let lost = self.lost;
        self.forget(first);
        self.lost = lost;
    }

    /// What was not synced is gone.
    pub(crate) fn crash(&mut self) {
        self.pending.clear();
        self.unfinished = None;
    }

    /// Up to so many bytes of entries from an index on, among them those that are only written.
    pub(crate) fn read(&self, from: LogIndex, to: LogIndex, bytes_max: usize) -> Vec<Entry> {
        let mut bytes = 0;
        let fitting = self.entries.range(from..=to).take_while(|(index, entry)| {
            let wanted = bytes == 0 || bytes < bytes_max;
            bytes += entry.data.len().max(1);
            wanted && !self.damaged.contains(index)
        });
        fitting.map(|(_, entry)| entry.clone()).collect()
    }

    /// Work on the snapshot file, done at once.
    pub(crate) fn snapshot(&mut self, work: SnapshotOutput) -> Option<SnapshotInput> {
        match work {
            SnapshotOutput::Begin { meta } => {
                self.unfinished = Some((meta, Vec::new()));
                None
            }
            SnapshotOutput::Write { offset, bytes } => {
                let (_, content) = self.unfinished.as_mut().expect("a file was begun");
                assert_eq!(content.len() as u64, offset, "pieces are written in order");
                content.extend_from_slice(&bytes);
                Some(SnapshotInput::Written { end: content.len() as u64 })
            }
            SnapshotOutput::Finish => {
                let (meta, content) = self.unfinished.take().expect("a file was begun");
                let bytes = content.len() as u64;
                self.snapshot = Some((meta.clone(), content.into()));
                Some(SnapshotInput::Finished { meta, bytes })
            }
            SnapshotOutput::Read { offset, bytes_max, to } => {
                let (meta, content) = self.snapshot.clone().expect("a snapshot was taken");
                let begin = content.len().min(offset as usize);
                let end = content.len().min(begin + bytes_max);
                let (bytes, last) = (content.slice(begin..end), end == content.len());
                Some(SnapshotInput::Piece { meta, offset, bytes, last, to })
            }
            SnapshotOutput::Load => None,
        }
    }

    /// A snapshot may be durable before the entries that it covers: it stands for them.
    fn let_snapshot_win(&mut self) {
        let Some((SnapshotMeta { last, .. }, _)) = &self.snapshot else { return };
        let held = self.entries.get(&last.index).is_some_and(|entry| entry.id == *last);
        if self.base != *last && !held && self.base.index < last.index {
            self.base = *last;
            self.entries.clear();
            self.damaged.clear();
        } else if self.damaged.first().is_some_and(|at| *at <= last.index) {
            self.base = *last;
            self.entries = self.entries.split_off(&last.index.next());
            self.damaged = self.damaged.split_off(&last.index.next());
        }
        self.lost = self.lost.filter(|lost| *lost > last.index);
    }

    /// The last entry of the log.
    pub(crate) fn last(&self) -> LogIndex {
        self.entries.last_key_value().map_or(self.base.index, |(index, _)| *index)
    }

    /// What a server finds when it starts, with at most so many entries in memory.
    pub(crate) fn recover(&mut self, tail: usize) -> Recovered {
        self.let_snapshot_win();
        let all: Vec<&Entry> = self.entries.values().collect();
        let starts = all.iter().scan(None, |before, entry| {
            let new = *before != Some(entry.id.term);
            *before = Some(entry.id.term);
            Some(new.then_some(entry.id))
        });
        let whole = all.iter().rev().take_while(|entry| !self.damaged.contains(&entry.id.index));
        let tail = tail.min(whole.count());
        let memberships = all.iter().filter(|entry| entry.kind == EntryKind::Membership);
        Recovered {
            hard_state: self.hard_state,
            mark: self.mark,
            snapshot: self
                .snapshot
                .as_ref()
                .map(|(meta, bytes)| (meta.clone(), bytes.len() as u64)),
            base: self.base,
            term_starts: starts.flatten().collect(),
            last: all.last().map_or(self.base, |entry| entry.id),
            tail: all[all.len() - tail..].iter().copied().cloned().collect(),
            memberships: memberships.map(|entry| (entry.id.index, entry.data.clone())).collect(),
            damaged: self.damaged.iter().copied().collect(),
            lost: self.lost,
        }
    }
}
