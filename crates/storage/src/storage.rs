//! The running log: queues records, writes them batch by batch, moves on to the next segment, and removes
//! the ones that nobody needs.

use std::collections::BTreeMap;

use bytes::Bytes;
use quorate_contracts::{
    ClusterId, Entry, GroupId, Incarnation, LogIndex, NodeId, Record, SnapshotInput,
    SnapshotOutput, WriteMark,
};

use crate::batch::{self, GroupRecord};
use crate::index::{GroupIndex, Location, select};
use crate::recovery::Segments;
use crate::snapshot::Snapshots;
use crate::{Completion, Disk, Operation, Ticket, segment};

/// Whose data it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Identity {
    /// The cluster.
    pub cluster: ClusterId,
    /// The node.
    pub node: NodeId,
    /// The life of the data directory.
    pub incarnation: Incarnation,
}

/// How the log is laid out.
#[derive(Clone, Copy, Debug)]
pub struct StorageOptions {
    /// Size of a segment; a batch that does not fit goes into the next one.
    pub segment_bytes: u64,
    /// Newest entries handed back at open, over all groups.
    pub tail_bytes: usize,
}

impl Default for StorageOptions {
    fn default() -> Self {
        Self { segment_bytes: 64 << 20, tail_bytes: 32 << 20 }
    }
}

/// What happened.
#[derive(Debug)]
pub enum StorageEvent {
    /// Everything of the group up to the mark is durable.
    Persisted {
        /// The group.
        group: GroupId,
        /// The newest durable mark.
        mark: WriteMark,
    },
    /// Answer to [`Storage::read_log`].
    Read {
        /// The group.
        group: GroupId,
        /// As asked.
        from: LogIndex,
        /// The entries; none if the log does not hold the first one any more.
        entries: Vec<Entry>,
    },
    /// News of a snapshot file.
    Snapshot {
        /// The group.
        group: GroupId,
        /// What happened.
        news: SnapshotInput,
    },
    /// The disk failed. Nothing will become durable any more; a restart finds what is there.
    Failed {
        /// What happened, in words.
        reason: String,
    },
}

/// Work done so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    /// fdatasyncs of the log.
    pub syncs: u64,
    /// Batches written.
    pub batches: u64,
    /// Records written.
    pub records: u64,
    /// Entries written.
    pub entries: u64,
    /// Bytes written to the log.
    pub bytes: u64,
}

/// The log and the snapshots of one node.
#[derive(Debug)]
pub struct Storage<D> {
    pub(crate) disk: D,
    pub(crate) identity: Identity,
    options: StorageOptions,
    pub(crate) groups: BTreeMap<GroupId, GroupIndex>,
    queue: Vec<GroupRecord>,
    /// The segment written to, and where its next batch goes.
    segment: u64,
    offset: u64,
    /// The oldest segment that is still there.
    oldest_segment: u64,
    next_batch: u64,
    next_ticket: u64,
    writing: Writing,
    /// The segment after the current one is being made ready.
    preparing: Option<Ticket>,
    /// It is ready.
    prepared: bool,
    /// The current segment is new: once its first batch is durable, old ones may go.
    removal_due: bool,
    reads: BTreeMap<Ticket, PendingRead>,
    pub(crate) snapshots: Snapshots,
    failed: bool,
    counters: Counters,
}

/// The write of the log that is in flight.
#[derive(Debug)]
enum Writing {
    Nothing,
    /// A batch: what it makes durable.
    Batch {
        ticket: Ticket,
        marks: Vec<(GroupId, WriteMark)>,
    },
    /// The next segment takes its name; the batch follows.
    Segment {
        ticket: Ticket,
    },
}

#[derive(Debug)]
struct PendingRead {
    group: GroupId,
    from: LogIndex,
    to: LogIndex,
    bytes_max: usize,
    segment: u64,
}

impl<D: Disk> Storage<D> {
    /// A storage as recovery found it. It begins a new segment: what a crash left behind the last good
    /// batch is never written over, so that it can never be taken for something newer.
    pub(crate) fn new(
        disk: D,
        identity: Identity,
        options: StorageOptions,
        groups: BTreeMap<GroupId, GroupIndex>,
        segments: Segments,
        next_batch: u64,
        snapshots: Snapshots,
    ) -> Self {
        let mut storage = Self {
            disk,
            identity,
            options,
            groups,
            queue: Vec::new(),
            segment: segments.newest,
            offset: u64::MAX,
            oldest_segment: segments.oldest,
            next_batch,
            next_ticket: 0,
            writing: Writing::Nothing,
            preparing: None,
            prepared: false,
            removal_due: false,
            reads: BTreeMap::new(),
            snapshots,
            failed: false,
            counters: Counters::default(),
        };
        storage.prepare_segment();
        storage
    }

    /// Queues a record; it is written with the next batch.
    pub fn persist(&mut self, group: GroupId, mark: WriteMark, record: Record) {
        self.queue.push(GroupRecord { group, mark, record });
    }

    /// The end of a batch of work: begins to write what is queued, unless a write is in flight; then it
    /// follows that one. There is no timer: a lone record is written at once.
    pub fn flush(&mut self) {
        if self.failed || self.queue.is_empty() || !matches!(self.writing, Writing::Nothing) {
            return;
        }
        let bytes: usize = self.queue.iter().map(GroupRecord::bytes_at_most).sum();
        if self.offset.saturating_add(bytes as u64) > self.options.segment_bytes {
            self.begin_segment();
        } else {
            self.write_batch(Vec::new());
        }
    }

    /// Reads entries back; answered with [`StorageEvent::Read`], at once if there is nothing to
    /// read.
    pub fn read_log(
        &mut self,
        group: GroupId,
        from: LogIndex,
        to: LogIndex,
        bytes_max: usize,
        out: &mut Vec<StorageEvent>,
    ) {
        let found = self.groups.get(&group).and_then(|index| index.find(from));
        let Some((last, location)) = found else {
            out.push(StorageEvent::Read { group, from, entries: Vec::new() });
            return;
        };
        let name = segment::name(location.segment);
        let (offset, length) = (location.offset, location.bytes as usize);
        let ticket = self.submit(Operation::Read { name, offset, length });
        let (to, segment) = (to.min(last), location.segment);
        self.reads.insert(ticket, PendingRead { group, from, to, bytes_max, segment });
    }

    /// Work on a group's snapshot files.
    pub fn snapshot(&mut self, group: GroupId, work: SnapshotOutput, out: &mut Vec<StorageEvent>) {
        self.snapshot_work(group, work, out);
    }

    /// The disk completed an operation.
    pub fn complete(&mut self, completion: Completion, out: &mut Vec<StorageEvent>) {
        if self.failed {
            return;
        }
        let Completion { ticket, result } = completion;
        if self.preparing == Some(ticket) {
            // Without space for the next segment nothing is lost, and space may come back.
            (self.preparing, self.prepared) = (None, result.is_ok());
            return;
        }
        match (result, &self.writing) {
            (Ok(bytes), _) => self.completed(ticket, bytes, out),
            (Err(_), Writing::Segment { ticket: rename }) if *rename == ticket => {
                self.writing = Writing::Nothing;
                self.segment -= 1;
            }
            (Err(error), _) => self.fail(format!("the disk failed: {error}"), out),
        }
    }

    /// The disk under it.
    pub fn disk_mut(&mut self) -> &mut D {
        &mut self.disk
    }

    /// Work done so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Whether the disk failed.
    pub fn has_failed(&self) -> bool {
        self.failed
    }

    fn completed(&mut self, ticket: Ticket, bytes: Bytes, out: &mut Vec<StorageEvent>) {
        match &mut self.writing {
            Writing::Batch { ticket: batch, marks } if *batch == ticket => {
                let marks = std::mem::take(marks);
                self.writing = Writing::Nothing;
                out.extend(
                    marks.into_iter().map(|(group, mark)| StorageEvent::Persisted { group, mark }),
                );
                if std::mem::take(&mut self.removal_due) {
                    self.remove_old_segments();
                }
                return self.flush();
            }
            Writing::Segment { ticket: rename } if *rename == ticket => {
                self.writing = Writing::Nothing;
                return self.open_segment();
            }
            _ => {}
        }
        if let Some(read) = self.reads.remove(&ticket) {
            self.read_completed(&read, bytes, out);
        } else {
            self.snapshot_completed(ticket, bytes, out);
        }
    }

    /// Never tried again: after a failed sync the kernel may have dropped the pages, and another one
    /// would succeed without the data (ATC '20, "Can Applications Recover from fsync Failures?").
    pub(crate) fn fail(&mut self, reason: String, out: &mut Vec<StorageEvent>) {
        self.failed = true;
        out.push(StorageEvent::Failed { reason });
    }

    pub(crate) fn submit(&mut self, operation: Operation) -> Ticket {
        self.next_ticket += 1;
        let ticket = Ticket(self.next_ticket);
        self.disk.submit(ticket, operation);
        ticket
    }

    /// Writes what is queued as one batch at the current position, behind `head` (a segment's
    /// header).
    fn write_batch(&mut self, head: Vec<u8>) {
        let records = std::mem::take(&mut self.queue);
        let seed = segment::seed(&self.identity, self.segment);
        let encoded = batch::encode(&records, self.next_batch, seed);
        let location = Location {
            segment: self.segment,
            offset: self.offset + head.len() as u64,
            bytes: encoded.len() as u64,
        };
        self.next_batch += 1;
        let mut marks: BTreeMap<GroupId, WriteMark> = BTreeMap::new();
        for GroupRecord { group, mark, record } in &records {
            self.groups.entry(*group).or_default().take(*mark, record, location);
            marks.insert(*group, *mark);
            self.counters.entries += record.entries.len() as u64;
        }
        let data = if head.is_empty() { encoded } else { [&head[..], &encoded].concat().into() };
        self.counters.records += records.len() as u64;
        self.counters.batches += 1;
        self.counters.syncs += 1;
        self.counters.bytes += data.len() as u64;
        let (name, offset) = (segment::name(self.segment), self.offset);
        self.offset += data.len() as u64;
        let ticket = self.submit(Operation::Write { name, offset, data, sync: true });
        self.writing = Writing::Batch { ticket, marks: marks.into_iter().collect() };
    }

    /// The current segment is full: the one that was made ready takes its place.
    fn begin_segment(&mut self) {
        if !self.prepared && self.preparing.is_none() {
            self.prepare_segment();
        }
        // Operations on one file are carried out in order: the file is there when it is renamed.
        self.segment += 1;
        let to = segment::name(self.segment);
        let from = segment::PREPARED_NAME.to_string();
        let ticket = self.submit(Operation::Rename { from, to });
        self.writing = Writing::Segment { ticket };
    }

    /// The new segment has its name: it begins with its header and the state of every group, so that no
    /// older segment is needed for them.
    fn open_segment(&mut self) {
        self.offset = 0;
        let header = segment::header(&self.identity, self.segment, self.next_batch);
        let states = self.groups.iter().map(|(group, index)| GroupRecord {
            group: *group,
            mark: index.mark,
            record: index.state(),
        });
        let states: Vec<GroupRecord> = states.collect();
        self.queue.splice(0..0, states);
        self.write_batch(header.to_vec());
        self.removal_due = true;
        self.prepared = false;
        self.prepare_segment();
    }

    fn prepare_segment(&mut self) {
        let name = segment::PREPARED_NAME.to_string();
        let bytes = self.options.segment_bytes;
        let ticket = self.submit(Operation::Create { name, bytes });
        self.preparing = Some(ticket);
    }

    /// Removes the segments before the oldest entry that a group still needs. The current segment
    /// holds every group's state, durably.
    fn remove_old_segments(&mut self) {
        let needed = self.groups.values().filter_map(GroupIndex::oldest_segment).min();
        let keep = needed.unwrap_or(self.segment).min(self.segment);
        for number in self.oldest_segment..keep {
            let name = segment::name(number);
            self.submit(Operation::Remove { name });
        }
        self.oldest_segment = self.oldest_segment.max(keep);
    }

    fn read_completed(&mut self, read: &PendingRead, bytes: Bytes, out: &mut Vec<StorageEvent>) {
        let seed = segment::seed(&self.identity, read.segment);
        let header = batch::Header::read(&bytes, seed);
        let records = header.and_then(|header| batch::decode(&bytes, &header, seed).ok());
        let Some(records) = records else {
            let name = segment::name(read.segment);
            let reason = format!("{name}: entry {} no longer reads as it was written", read.from);
            return self.fail(reason, out);
        };
        // The record that covers the entry is the last one of the group in the batch to do so.
        let covering = records.into_iter().rev().find(|record| {
            let covers = |entry: &Entry| entry.id.index == read.from;
            record.group == read.group && record.record.entries.iter().any(covers)
        });
        let entries = covering.map_or(Vec::new(), |r| r.record.entries);
        let entries = select(entries, read.from, read.to, read.bytes_max);
        let (group, from) = (read.group, read.from);
        out.push(StorageEvent::Read { group, from, entries });
    }
}

impl GroupRecord {
    /// An upper bound of its size in a batch.
    fn bytes_at_most(&self) -> usize {
        let entries = &self.record.entries;
        128 + entries.iter().map(|entry| 32 + entry.data.len()).sum::<usize>()
    }
}
