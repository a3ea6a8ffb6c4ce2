//! The running log: queues records, writes them batch by batch, moves on to the next segment, and removes
//! the ones that nobody needs.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use quorate_contracts::{
    ClusterId, Entry, GroupId, Incarnation, LogIndex, NodeId, Record, Room, SnapshotInput,
    SnapshotOutput, Time, WriteMark,
};

use crate::batch::{self, GroupRecord, Kind};
use crate::held::{Footprint, Held};
use crate::index::{GroupIndex, Location, select};
use crate::recovery::entries_in;
use crate::snapshot::Snapshots;
use crate::space::{NextSegment, RESERVE, Space};
use crate::walk::{Damage, Extent};
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

/// How the log is laid out, and how it is paced.
#[derive(Clone, Copy, Debug)]
pub struct StorageOptions {
    /// Size of a segment; a batch that does not fit goes into the next one, which is larger if it must be.
    pub segment_bytes: u64,
    /// One batch, roughly; what is queued beyond it goes with the next one. A larger record is a batch alone.
    pub batch_bytes: usize,
    /// Newest entries handed back at open, over all groups.
    pub tail_bytes: usize,
    /// After this long without a write, the log notes that its last batch was durable.
    pub idle: Duration,
    /// Snapshots are written this fast at most, so that they leave the disk to the log.
    pub snapshot_bytes_per_second: u64,
    /// Kept for term and vote (and what else a node needs to go on) in a file of its own, for when no space is left for
    /// a segment; 0: nothing is. Also the measure of how early the node stops to take entries.
    pub reserve_bytes: u64,
    /// A disk with less free space than this is full: no segment is made ready that would leave less.
    pub free_bytes_min: u64,
    /// No other member can send again what is damaged: a log that is not whole is refused before anything is touched.
    pub alone: bool,
}

impl Default for StorageOptions {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            batch_bytes: 8 << 20,
            tail_bytes: 32 << 20,
            idle: Duration::from_millis(100),
            snapshot_bytes_per_second: 64 << 20,
            reserve_bytes: 8 << 20,
            free_bytes_min: 0,
            alone: false,
        }
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
    /// From here on there is so much room for the log. It is looked for again and again, ever more patiently.
    Room {
        /// How much.
        room: Room,
        /// Why the next segment cannot be made, though there may still be room without it.
        lack: Option<String>,
    },
    /// More of the log is held for the sake of a group than it is worth: its entries up to this one should go, if need be
    /// after a snapshot. Told again with each new segment, as long as it is so.
    LetGo {
        /// The group.
        group: GroupId,
        /// The last of them.
        through: LogIndex,
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
    pub(crate) options: StorageOptions,
    groups: BTreeMap<GroupId, GroupIndex>,
    queue: VecDeque<(GroupId, WriteMark, Record)>,
    /// The segment written to, where its next batch goes, and its size.
    pub(crate) segment: u64,
    offset: u64,
    segment_bytes: u64,
    /// Where what was written to it ends: behind `offset` there may be a mark.
    written: u64,
    /// The segments before it.
    pub(crate) held: Held,
    /// The oldest segment that is still there, and the oldest that the current one's header names.
    oldest_segment: u64,
    oldest_segment_needed: u64,
    next_batch: u64,
    next_ticket: u64,
    writing: Writing,
    pub(crate) next_segment: NextSegment,
    pub(crate) space: Space,
    /// When to note that the last batch was durable; nothing if that is known.
    mark_at: Option<Time>,
    reads: BTreeMap<Ticket, PendingRead>,
    pub(crate) snapshots: Snapshots,
    /// As of the last flush.
    pub(crate) now: Time,
    failed: bool,
    /// What was found damaged at the start.
    damage: Vec<Damage>,
    counters: Counters,
}

/// The write of the log that is in flight.
#[derive(Debug)]
enum Writing {
    Nothing,
    /// A batch: what it makes durable. If it began a segment, older ones may go then.
    Batch {
        ticket: Ticket,
        marks: BTreeMap<GroupId, WriteMark>,
        begins_segment: bool,
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
    location: Location,
}

impl<D: Disk> Storage<D> {
    /// A storage as recovery found it. It begins a new segment: what a crash left behind the last good
    /// batch is never written over, so that it can never be taken for something newer.
    pub(crate) fn new(
        disk: D,
        identity: Identity,
        options: StorageOptions,
        groups: BTreeMap<GroupId, GroupIndex>,
        extent: Extent,
        snapshots: Snapshots,
        damage: Vec<Damage>,
    ) -> Self {
        let mut storage = Self {
            disk,
            identity,
            options,
            groups,
            queue: VecDeque::new(),
            segment: extent.newest,
            offset: 0,
            segment_bytes: 0,
            written: 0,
            held: Held::new(extent.footprints),
            oldest_segment: extent.oldest,
            oldest_segment_needed: extent.oldest,
            next_batch: extent.next_batch,
            next_ticket: 0,
            writing: Writing::Nothing,
            next_segment: NextSegment::Missing,
            space: Space::new(extent.reserve_bytes, &options),
            mark_at: None,
            reads: BTreeMap::new(),
            snapshots,
            now: Time::ZERO,
            failed: false,
            damage,
            counters: Counters::default(),
        };
        let next = segment::prepared_name(extent.newest + 1);
        for name in extent.leftovers.into_iter().filter(|name| *name != next) {
            storage.submit(Operation::Remove { name });
        }
        storage.look_for_room();
        storage
    }

    /// Queues a record; it is written with the next batch.
    pub fn persist(&mut self, group: GroupId, mark: WriteMark, record: Record) {
        self.queue.push_back((group, mark, record));
    }

    /// The end of a batch of work: begins to write what is queued, unless a write is in flight; then it
    /// follows that one. A lone record never waits for a timer.
    pub fn flush(&mut self, now: Time, out: &mut Vec<StorageEvent>) {
        self.now = self.now.max(now);
        if self.failed {
            return;
        }
        self.release_snapshot_news(out);
        self.look_for_room();
        self.write();
        self.tell_room(out);
    }

    /// When to call [`flush`](Self::flush) even if nothing was queued.
    pub fn deadline(&self) -> Option<Time> {
        if self.failed {
            return None;
        }
        // A write that is under way, or waits for its segment, ends the idleness: nothing can be done at that time.
        let idle = matches!(self.writing, Writing::Nothing) && self.queue.is_empty();
        let mark = self.mark_at.filter(|_| idle);
        [self.room_deadline(), mark, self.snapshots.deadline()].into_iter().flatten().min()
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
        let to = to.min(last);
        self.reads.insert(ticket, PendingRead { group, from, to, bytes_max, location });
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
        if self.is_for_room(ticket) {
            return self.room_completed(ticket, result, out);
        }
        match result {
            Ok(bytes) => self.completed(ticket, bytes, out),
            Err(error) if self.snapshot_failed(ticket, &error, out) => {}
            Err(error) => self.fail(format!("the disk failed: {error}"), out),
        }
    }

    /// The disk under it, to be looked at.
    pub fn disk(&self) -> &D {
        &self.disk
    }

    /// The disk under it.
    pub fn disk_mut(&mut self) -> &mut D {
        &mut self.disk
    }

    /// What was found damaged at the start. What it cost a group, if anything, is in its `Recovered`.
    pub fn damage(&self) -> &[Damage] {
        &self.damage
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
            Writing::Batch { ticket: batch, marks, begins_segment } if *batch == ticket => {
                let marks = std::mem::take(marks);
                let begins_segment = *begins_segment;
                self.writing = Writing::Nothing;
                out.extend(
                    marks.into_iter().map(|(group, mark)| StorageEvent::Persisted { group, mark }),
                );
                if begins_segment {
                    self.remove_old_segments();
                    self.trim_segments();
                    self.tell_who_holds(out);
                }
                self.mark_at = Some(self.now + self.options.idle);
                self.write();
                return self.tell_room(out);
            }
            Writing::Segment { ticket: rename } if *rename == ticket => {
                self.writing = Writing::Nothing;
                return self.open_segment();
            }
            _ => {}
        }
        if let Some(read) = self.reads.remove(&ticket) {
            self.read_completed(&read, &bytes, out);
        } else {
            self.snapshot_completed(ticket, &bytes, out);
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

    /// Begins whatever write is due and possible.
    pub(crate) fn write(&mut self) {
        if self.failed || !matches!(self.writing, Writing::Nothing) {
            return;
        }
        if self.queue.is_empty() {
            return if self.frees_by_moving_on() {
                self.begin_segment(0)
            } else {
                self.write_mark()
            };
        }
        let records = self.queue.iter().take(self.batch_records());
        let bytes: usize = records.map(|(_, _, record)| bytes_at_most(record)).sum();
        if self.offset + batch_bytes_at_most(0, bytes) > self.segment_bytes {
            self.begin_segment(bytes);
        } else {
            self.write_batch(None, Vec::new());
        }
    }

    /// How many of the queued records go with the next batch.
    fn batch_records(&self) -> usize {
        let mut bytes = 0;
        let fit = self.queue.iter().take_while(|(_, _, record)| {
            let first = bytes == 0;
            bytes += bytes_at_most(record);
            first || bytes <= self.options.batch_bytes
        });
        fit.count()
    }

    /// Writes what is queued as one batch at the current position, behind a segment's header and the states
    /// of all groups, if it begins one.
    fn write_batch(&mut self, header: Option<Bytes>, states: Vec<GroupRecord>) {
        let begins_segment = header.is_some();
        let head = header.unwrap_or_default();
        let count = self.batch_records();
        let records_bytes: usize =
            self.queue.iter().take(count).map(|(_, _, record)| bytes_at_most(record)).sum();
        let location = Location {
            segment: self.segment,
            offset: self.offset + head.len() as u64,
            bytes: batch_bytes_at_most(states.len(), records_bytes),
        };
        let mut records = states;
        let mut marks = BTreeMap::new();
        for (group, mark, record) in self.queue.drain(..count) {
            let index = self.groups.entry(group).or_default();
            let record = index.describe(group, mark, record);
            index.take(&record, location);
            marks.insert(group, mark);
            self.counters.records += 1;
            self.counters.entries += record.entries.len() as u64;
            records.push(record);
        }
        let seed = segment::seed(&self.identity, self.segment);
        let encoded = batch::encode(Kind::Batch, &records, self.next_batch, seed);
        self.next_batch += 1;
        self.mark_at = None;
        let data = if head.is_empty() { encoded } else { [&head[..], &encoded].concat().into() };
        let ticket = self.write_at_end(data);
        self.counters.batches += 1;
        self.writing = Writing::Batch { ticket, marks, begins_segment };
    }

    /// Durably, at the current position, which moves on.
    fn write_at_end(&mut self, data: Bytes) -> Ticket {
        self.counters.syncs += 1;
        self.counters.bytes += data.len() as u64;
        let (name, offset) = (segment::name(self.segment), self.offset);
        self.offset += data.len() as u64;
        self.written = self.written.max(self.offset);
        self.submit(Operation::Write { name, offset, data, sync: true })
    }

    /// Notes that the last batch was durable, once the log was idle for a while. The next batch takes the mark's
    /// place.
    fn write_mark(&mut self) {
        if self.mark_at.is_none_or(|at| at > self.now) {
            return;
        }
        self.mark_at = None;
        let (seed, states) = (segment::seed(&self.identity, self.segment), self.states());
        let mark = batch::encode(Kind::Mark, &states, self.next_batch, seed);
        let offset = self.offset;
        if offset + mark.len() as u64 > self.segment_bytes {
            // The header of the next segment says the same.
            return self.begin_segment(0);
        }
        self.write_at_end(mark);
        self.offset = offset;
    }

    /// The current segment is full: the one that was made ready takes its place, once there is one.
    fn begin_segment(&mut self, batch_bytes: usize) {
        let needed = self.segment_bytes_needed(batch_bytes);
        match self.next_segment {
            NextSegment::Ready { bytes } if bytes >= needed => {
                self.name_segment(segment::prepared_name(self.segment + 1), bytes);
            }
            NextSegment::Ready { .. } => self.prepare_segment(needed),
            NextSegment::Missing if self.space.may_use_reserve(needed, &self.options) => {
                self.space.use_reserve();
                self.name_segment(RESERVE.to_string(), self.options.reserve_bytes);
            }
            NextSegment::Preparing { .. } | NextSegment::Missing => {}
        }
    }

    /// What a segment takes that begins with these bytes of records, behind the states of all groups.
    pub(crate) fn segment_bytes_needed(&self, batch_bytes: usize) -> u64 {
        segment::HEADER_BYTES + batch_bytes_at_most(self.groups.len(), batch_bytes)
    }

    /// This file becomes the next segment.
    fn name_segment(&mut self, from: String, bytes: u64) {
        let to = segment::name(self.segment + 1);
        let ticket = self.submit(Operation::Rename { from, to });
        self.next_segment = NextSegment::Missing;
        // Before the first batch of this life there is none that could be left.
        if self.segment_bytes > 0 {
            let left = Footprint { written: self.written, bytes: self.segment_bytes };
            self.held.leave(self.segment, left);
        }
        (self.segment, self.segment_bytes, self.written) = (self.segment + 1, bytes, 0);
        self.writing = Writing::Segment { ticket };
    }

    /// The new segment has its name: it begins with its header and the state of every group, so that no
    /// older segment is needed for them.
    fn open_segment(&mut self) {
        self.offset = 0;
        let oldest = self.oldest_needed();
        let (number, first_batch) = (self.segment, self.next_batch);
        let header = segment::Header { number, first_batch, oldest }.encode(&self.identity);
        let states = self.states();
        self.oldest_segment_needed = oldest;
        self.write_batch(Some(header), states);
        self.look_for_room();
    }

    /// The oldest segment with an entry that somebody needs. While anything of a group is lost, everything is kept: if no
    /// other member can send it again, somebody may want to look.
    fn oldest_needed(&self) -> u64 {
        if self.groups.values().any(|group| group.lost.is_some()) {
            return self.oldest_segment;
        }
        let needed = self.groups.values().filter_map(GroupIndex::oldest_segment).min();
        needed.unwrap_or(self.segment).max(self.oldest_segment)
    }

    /// Whether a file is just becoming the next segment.
    pub(crate) fn is_naming_segment(&self) -> bool {
        matches!(self.writing, Writing::Segment { .. })
    }

    /// Whether segments could go that only the header of the next one may let go.
    pub(crate) fn holds_back_segments(&self) -> bool {
        self.oldest_needed() > self.oldest_segment_needed
    }

    /// Bytes of the current segment that nothing was written to and nothing that is queued needs.
    pub(crate) fn segment_bytes_left(&self) -> u64 {
        let queued: usize = self.queue.iter().map(|(_, _, record)| bytes_at_most(record)).sum();
        self.segment_bytes.saturating_sub(self.offset).saturating_sub(queued as u64)
    }

    pub(crate) fn groups(&self) -> &BTreeMap<GroupId, GroupIndex> {
        &self.groups
    }

    fn states(&self) -> Vec<GroupRecord> {
        self.groups.iter().map(|(group, index)| index.state(*group)).collect()
    }

    /// Removes the segments before the oldest that the header of the current one, which is durable, says is
    /// needed: if a crash brings some of them back, that header says what they are.
    fn remove_old_segments(&mut self) {
        for number in self.oldest_segment..self.oldest_segment_needed {
            let name = segment::name(number);
            self.submit(Operation::Remove { name });
        }
        if self.oldest_segment < self.oldest_segment_needed {
            self.space.try_again_soon(self.now);
        }
        self.oldest_segment = self.oldest_segment_needed;
        self.held.remove_before(self.oldest_segment);
    }

    fn read_completed(&mut self, read: &PendingRead, bytes: &Bytes, out: &mut Vec<StorageEvent>) {
        let PendingRead { group, from, to, bytes_max, location } = *read;
        let seed = segment::seed(&self.identity, location.segment);
        let known = self.groups.get(&group).is_some_and(|index| index.damaged.contains(&from));
        let entries = entries_in(bytes, seed, group, from).unwrap_or_default();
        let entries = select(entries, from, to, bytes_max);
        if entries.first().is_none_or(|entry| entry.id.index != from) && !known {
            let name = segment::name(location.segment);
            let reason = format!(
                "{name}, byte {}: entry {from} no longer reads as it was written",
                location.offset
            );
            return self.fail(reason, out);
        }
        out.push(StorageEvent::Read { group, from, entries });
    }
}

/// More than a record takes besides its entries.
const RECORD_BYTES_MAX: usize = 128;

/// An upper bound of a record's size in a batch.
fn bytes_at_most(record: &Record) -> usize {
    let entries = record.entries.iter().map(|entry| 32 + entry.data.len());
    RECORD_BYTES_MAX + entries.sum::<usize>()
}

/// An upper bound of a batch's size.
fn batch_bytes_at_most(states: usize, records_bytes: usize) -> u64 {
    batch::padded((batch::HEADER_BYTES + states * RECORD_BYTES_MAX + records_bytes) as u64)
}
