//! A disk as the protocol sees it: records that become durable in order, and those still on their way
//! when the server crashes, of which any prefix may have made it.
//!
//! It stands in for the storage crate where the protocol is what is tested, at a million events a second.
//! Torn sectors, reordered writes and damage are `disk`'s, under the real storage.
//!
//! Invariant: a record is durable only after all records before it.

use std::collections::{BTreeMap, VecDeque};
use std::io::Cursor;
use std::time::Duration;

use bytes::Bytes;
use quorate_contracts::{
    Entry, EntryId, EntryKind, HardState, LogIndex, NodeId, Random, Record, Recovered,
    SnapshotInput, SnapshotMeta, SnapshotOutput, When, WriteMark,
};

/// How slow a disk is.
#[derive(Clone, Copy, Debug)]
pub struct StoreOptions {
    /// Shortest time of a write and its sync.
    pub sync_min: Duration,
    /// Longest.
    pub sync_max: Duration,
    /// Entries handed back in memory at a restart, at most; the others are read from the disk.
    pub tail_entries: usize,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            sync_min: Duration::from_micros(100),
            sync_max: Duration::from_millis(2),
            tail_entries: 1_000,
        }
    }
}

/// A snapshot file.
#[derive(Clone, Debug, Default)]
struct SnapshotFile {
    meta: SnapshotMeta,
    content: Vec<u8>,
}

/// What became of the records that were on their way at a crash.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct CrashFate {
    /// Made it, though nobody was told.
    pub(crate) kept: usize,
    /// Were lost.
    pub(crate) lost: usize,
}

/// The disk of one server.
#[derive(Debug)]
pub struct MemoryStore {
    pub(crate) options: StoreOptions,
    random: Random,
    hard_state: HardState,
    mark: WriteMark,
    base: EntryId,
    entries: BTreeMap<LogIndex, Entry>,
    /// As in `Recovered`.
    lost: Option<LogIndex>,
    /// Entries that were durable and are damaged or lost, which the server knows: it stands for them all the same, since it
    /// helps nobody to lead without them. Its acknowledgement may be on its way still.
    lacking: BTreeMap<LogIndex, EntryId>,
    /// The same for everything up to here, which a lost snapshot covered.
    lacking_through: LogIndex,
    snapshot: Option<SnapshotFile>,
    /// Being written; lost at a crash.
    unfinished: Option<SnapshotFile>,
    queued: VecDeque<(WriteMark, Record)>,
    /// Records of the write in flight; they are durable when it completes.
    in_flight: VecDeque<(WriteMark, Record)>,
    writing: bool,
}

impl MemoryStore {
    /// An empty disk.
    pub fn new(options: StoreOptions, random: Random) -> Self {
        Self {
            options,
            random,
            hard_state: HardState::default(),
            mark: WriteMark(0),
            base: EntryId::ZERO,
            entries: BTreeMap::new(),
            lost: None,
            lacking: BTreeMap::new(),
            lacking_through: LogIndex::ZERO,
            snapshot: None,
            unfinished: None,
            queued: VecDeque::new(),
            in_flight: VecDeque::new(),
            writing: false,
        }
    }

    /// Queues a record.
    pub fn persist(&mut self, mark: WriteMark, record: Record) {
        self.queued.push_back((mark, record));
    }

    /// Begins to write what is queued, unless a write is in flight. Returns how long it takes.
    pub fn flush(&mut self) -> Option<Duration> {
        if self.writing || self.queued.is_empty() {
            return None;
        }
        self.in_flight = std::mem::take(&mut self.queued);
        self.writing = true;
        Some(self.draw_latency())
    }

    /// The write in flight is durable.
    pub fn complete(&mut self) -> WriteMark {
        assert!(self.writing, "no write is in flight");
        self.writing = false;
        for (mark, record) in std::mem::take(&mut self.in_flight) {
            self.make_durable(mark, record);
        }
        self.mark
    }

    /// Everything queued up to `mark` is durable: the real storage says so.
    pub(crate) fn vouched(&mut self, mark: WriteMark) {
        while self.queued.front().is_some_and(|(sent, _)| *sent <= mark) {
            if let Some((mark, record)) = self.queued.pop_front() {
                self.make_durable(mark, record);
            }
        }
    }

    /// The real storage finished a snapshot.
    pub(crate) fn snapshot_is(&mut self, meta: SnapshotMeta) {
        self.snapshot = Some(SnapshotFile { meta, content: Vec::new() });
    }

    /// The real storage started and found this: what was vouched for, perhaps more of what was queued, and
    /// nothing else; or it says what is damaged.
    pub(crate) fn found(&mut self, found: &Recovered) {
        assert!(found.mark >= self.mark, "{} was vouched for, not found", self.mark);
        self.vouched(found.mark);
        self.queued.clear();
        let covered = |file: &SnapshotFile| file.meta.last.index;
        let before = self.snapshot.take().as_ref().map_or(LogIndex::ZERO, covered);
        if let Some((meta, _)) = &found.snapshot {
            self.snapshot_is(meta.clone());
        }
        if self.snapshot.as_ref().map_or(LogIndex::ZERO, covered) < before {
            self.lacking_through = self.lacking_through.max(before);
        }
        // Of damaged entries the disk holds nothing that would count.
        let is_whole = |id: &EntryId| !found.damaged.contains(&id.index);
        let ids: Vec<EntryId> = ids_of(found).into_iter().filter(is_whole).collect();
        let expected = self.entries.values().map(|entry| entry.id).filter(is_whole);
        let expected: Vec<EntryId> = expected.filter(|id| id.index > found.base.index).collect();
        if found.lost.is_none() && found.base == self.base && expected != ids {
            let same = expected.iter().zip(&ids).take_while(|(a, b)| a == b).count();
            panic!(
                "log found is not the one written: after {same} entries behind {}, {} to {:?}, not {} to {:?}",
                found.base,
                ids.len(),
                ids.last(),
                expected.len(),
                expected.last()
            );
        }
        assert_eq!(found.hard_state, self.hard_state, "term and vote found");
        let mut held = std::mem::take(&mut self.entries);
        (self.base, self.mark) = (found.base, found.mark);
        for id in ids {
            let known = held.remove(&id.index).filter(|entry| entry.id == id);
            let unknown = || Entry::new(id, EntryKind::Command, Bytes::new());
            self.entries.insert(id.index, known.unwrap_or_else(unknown));
        }
        self.lacking.extend(held.into_iter().map(|(index, entry)| (index, entry.id)));
    }

    /// How long a write takes.
    pub fn draw_latency(&mut self) -> Duration {
        let (low, high) = (self.options.sync_min.as_nanos(), self.options.sync_max.as_nanos());
        Duration::from_nanos(self.random.between(low as u64, high as u64))
    }

    /// The newest durable mark.
    pub fn mark(&self) -> WriteMark {
        self.mark
    }

    /// Term and vote on the disk.
    pub fn hard_state(&self) -> HardState {
        self.hard_state
    }

    /// Whether this entry is on the disk, or covered by what is.
    pub fn holds(&self, id: EntryId) -> bool {
        id.index <= self.base.index
            || self.snapshot.as_ref().is_some_and(|file| id.index <= file.meta.last.index)
            || self.entries.get(&id.index).is_some_and(|entry| entry.id == id)
    }

    /// Whether this entry is on the disk, or was, and the server knows that it is not: either way it helps nobody to lead
    /// without it.
    pub(crate) fn stands_for(&self, id: EntryId) -> bool {
        self.holds(id)
            || id.index <= self.lacking_through
            || self.lacking.get(&id.index) == Some(&id)
    }

    /// Whether this entry is on the disk, or will be by the time that something marked `when` may leave.
    pub(crate) fn holds_by(&self, id: EntryId, when: When) -> bool {
        if self.holds(id) {
            return true;
        }
        let When::Durable(mark) = when else { return false };
        let waiting = self.in_flight.iter().chain(&self.queued);
        waiting.take_while(|(sent, _)| *sent <= mark).any(|(_, record)| {
            let covered = record.base.is_some_and(|base| id.index <= base.index);
            covered || record.entries.iter().any(|entry| entry.id == id)
        })
    }

    /// About how many bytes term, vote and log take: what the labs call the size of Raft's state.
    pub fn state_bytes(&self) -> usize {
        const HARD_STATE: usize = 16;
        const ENTRY: usize = 8 + 8 + 1 + 4 + 4;
        HARD_STATE + self.entries.values().map(|entry| ENTRY + entry.data.len()).sum::<usize>()
    }

    /// Entries from `from` to `to`, at least one if it is there, up to a size.
    pub fn read_log(&self, from: LogIndex, to: LogIndex, bytes_max: usize) -> Vec<Entry> {
        let mut bytes = 0;
        let wanted = self.entries.range(from..=to.max(from)).map(|(_, entry)| entry);
        let fitting = wanted.take_while(|entry| {
            let first = bytes == 0;
            bytes += entry.data.len() + 1;
            first || bytes <= bytes_max
        });
        fitting.cloned().collect()
    }

    /// Work on a snapshot file; the answer, if there is one, comes after a write's time.
    pub fn snapshot(&mut self, work: SnapshotOutput) -> Option<SnapshotInput> {
        match work {
            SnapshotOutput::Begin { meta } => {
                self.unfinished = Some(SnapshotFile { meta, content: Vec::new() });
                None
            }
            SnapshotOutput::Write { offset, bytes } => {
                let file = self.unfinished.as_mut()?;
                assert_eq!(offset, file.content.len() as u64, "snapshot pieces come in order");
                file.content.extend_from_slice(&bytes);
                Some(SnapshotInput::Written { end: file.content.len() as u64 })
            }
            SnapshotOutput::Finish => {
                let file = self.unfinished.take()?;
                let (meta, bytes) = (file.meta.clone(), file.content.len() as u64);
                self.snapshot = Some(file);
                Some(SnapshotInput::Finished { meta, bytes })
            }
            SnapshotOutput::Read { offset, bytes_max, to } => {
                self.read_piece(offset, bytes_max, to)
            }
            SnapshotOutput::Load => self.snapshot.as_ref().map(|file| SnapshotInput::Loaded {
                meta: file.meta.clone(),
                reader: Box::new(Cursor::new(file.content.clone())),
            }),
        }
    }

    fn read_piece(&self, offset: u64, bytes_max: usize, to: NodeId) -> Option<SnapshotInput> {
        let file = self.snapshot.as_ref()?;
        let start = usize::try_from(offset).ok()?.min(file.content.len());
        let end = start.saturating_add(bytes_max).min(file.content.len());
        Some(SnapshotInput::Piece {
            meta: file.meta.clone(),
            offset,
            bytes: Bytes::copy_from_slice(&file.content[start..end]),
            last: end == file.content.len(),
            to,
        })
    }

    /// The server dies: of the write in flight, any prefix of the records may have made it.
    pub(crate) fn crash(&mut self) -> CrashFate {
        let kept = self.random.below(self.in_flight.len() as u64 + 1) as usize;
        let lost = self.in_flight.len() + self.queued.len() - kept;
        for (mark, record) in std::mem::take(&mut self.in_flight).into_iter().take(kept) {
            self.make_durable(mark, record);
        }
        self.queued.clear();
        self.writing = false;
        self.unfinished = None;
        CrashFate { kept, lost }
    }

    /// What a restart finds. The log gives way to a newer snapshot that it does not lead up to.
    pub fn recover(&mut self) -> Recovered {
        if let Some(last) = self.snapshot.as_ref().map(|file| file.meta.last)
            && !self.log_holds(last)
        {
            self.entries.clear();
            self.base = last;
        }
        let all: Vec<&Entry> = self.entries.values().collect();
        let mut term_starts: Vec<EntryId> = Vec::new();
        for entry in &all {
            if term_starts.last().is_none_or(|start| start.term != entry.id.term) {
                term_starts.push(entry.id);
            }
        }
        let tail = all.len().saturating_sub(self.options.tail_entries);
        let memberships = all.iter().filter(|entry| entry.kind == EntryKind::Membership);
        Recovered {
            hard_state: self.hard_state,
            mark: self.mark,
            snapshot: self.snapshot.as_ref().map(|f| (f.meta.clone(), f.content.len() as u64)),
            base: self.base,
            term_starts,
            last: all.last().map_or(self.base, |entry| entry.id),
            tail: all[tail..].iter().copied().cloned().collect(),
            memberships: memberships.map(|entry| (entry.id.index, entry.data.clone())).collect(),
            damaged: Vec::new(),
            lost: self.lost,
        }
    }

    /// The newest entries are gone, though they were durable. Whether the disk knows it is up to the scenario.
    pub(crate) fn forget(&mut self, entries: usize, noticed: bool) {
        let first = self.entries.keys().rev().take(entries).last().copied();
        let Some(first) = first else { return };
        let gone = self.entries.split_off(&first);
        if noticed {
            self.lost = self.lost.max(gone.last_key_value().map(|(index, _)| *index));
        }
    }

    fn log_holds(&self, id: EntryId) -> bool {
        id == self.base || self.entries.get(&id.index).is_some_and(|entry| entry.id == id)
    }

    fn make_durable(&mut self, mark: WriteMark, record: Record) {
        assert!(mark > self.mark, "marks only grow: {mark} after {}", self.mark);
        self.mark = mark;
        self.hard_state = record.hard_state.unwrap_or(self.hard_state);
        if let Some(base) = record.base {
            self.entries = self.entries.split_off(&base.index.next());
            self.lacking = self.lacking.split_off(&base.index.next());
            self.base = base;
        }
        if let Some(from) = record.truncate_from {
            self.entries.split_off(&from);
            self.lacking.split_off(&from);
        }
        self.lost = if record.confirmed { None } else { self.lost.max(record.lost) };
        for entry in record.entries {
            self.lacking.remove(&entry.id.index);
            self.entries.insert(entry.id.index, entry);
        }
        if record.confirmed {
            let last = self.entries.last_key_value().map_or(self.base.index, |(index, _)| *index);
            self.lacking.split_off(&last.next());
            self.lacking_through = LogIndex::ZERO;
        }
    }
}

/// The entries of the log that was found.
fn ids_of(found: &Recovered) -> Vec<EntryId> {
    let ends = found.term_starts.iter().skip(1).map(|start| start.index.0);
    let ends = ends.chain([found.last.index.0 + 1]);
    let runs = found.term_starts.iter().zip(ends);
    let ids = |(start, end): (&EntryId, u64)| {
        let term = start.term;
        (start.index.0..end).map(move |index| EntryId::new(LogIndex(index), term))
    };
    runs.flat_map(ids).collect()
}
