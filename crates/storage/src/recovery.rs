//! Opening a directory: what of the log is whole, what is a torn tail, and what is damage (RAFT-16).
//!
//! A batch is written only after the one before it is durable. So a batch that cannot be read was being
//! written when the node crashed if and only if nothing valid follows it; then nobody was told of it, and it
//! is left out. If anything follows, it once was durable, and acknowledged: opening refuses.

use std::collections::BTreeMap;
use std::io;

use bytes::Bytes;
use quorate_contracts::{Entry, EntryKind, GroupId, LogIndex, Recovered};
use thiserror::Error;

use crate::batch::{self, BadBatch, GroupRecord, Header};
use crate::index::{GroupIndex, Location};
use crate::snapshot::Snapshots;
use crate::{Disk, FileInfo, Identity, Operation, Storage, StorageOptions, Ticket, segment};

/// Why a directory cannot be opened. Nothing was changed.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The files cannot be read.
    #[error("cannot read the data directory: {0}")]
    Io(#[source] io::Error),
    /// A segment between others is not there.
    #[error("segment {file} is missing, though later ones exist")]
    MissingSegment {
        /// Its name.
        file: String,
    },
    /// A segment does not belong here, or its header is damaged.
    #[error("{file}: {what}")]
    BadSegment {
        /// Its name.
        file: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// Something that was durable does not read any more.
    #[error("{file}, byte {byte}: {what}; later batches were written after it was durable")]
    Damaged {
        /// The segment.
        file: String,
        /// Where the batch begins.
        byte: u64,
        /// What is wrong with it.
        what: String,
    },
    /// A snapshot under its finished name is not whole.
    #[error("{file}, byte {byte}: {what}")]
    DamagedSnapshot {
        /// The file.
        file: String,
        /// Where.
        byte: u64,
        /// What is wrong with it.
        what: String,
    },
    /// The log begins later than the newest snapshot ends.
    #[error(
        "group {group}: the log begins after entry {base}, the newest snapshot ends with {covered}"
    )]
    MissingSnapshot {
        /// The group.
        group: GroupId,
        /// Where the log begins.
        base: LogIndex,
        /// Where the newest snapshot ends; 0 if there is none.
        covered: LogIndex,
    },
    /// Entries that the log must hold are nowhere.
    #[error("group {group}: the log begins after entry {base}, but the next one found is {found}")]
    Gap {
        /// The group.
        group: GroupId,
        /// Where the log begins.
        base: LogIndex,
        /// What was found instead of the next entry.
        found: LogIndex,
    },
}

impl<D: Disk> Storage<D> {
    /// Opens a directory: reads all of the log once, checks every byte of it, and hands back where each
    /// group stands.
    pub fn open(
        mut disk: D,
        identity: Identity,
        options: StorageOptions,
    ) -> Result<(Self, BTreeMap<GroupId, Recovered>), OpenError> {
        let files = disk.list().map_err(OpenError::Io)?;
        let mut scan = Scan::default();
        let segments = segment_numbers(&files)?;
        for number in segments.oldest..=segments.newest {
            scan.segment(&disk, &identity, number, segments.newest)?;
        }
        let snapshots = Snapshots::open(&mut disk, &identity, &files)?;
        for group in snapshots.groups() {
            scan.groups.entry(group).or_default();
        }
        scan.adopt_snapshots(&snapshots);
        for number in scan.unborn {
            // It got its name, and the crash came before anything was in it.
            disk.submit(Ticket(0), Operation::Remove { name: segment::name(number) });
        }
        let mut recovered = BTreeMap::new();
        for (group, found) in &mut scan.groups {
            let tail_bytes = options.tail_bytes;
            recovered.insert(*group, found.recovered(*group, &snapshots, tail_bytes)?);
        }
        let groups = scan.groups.into_iter().map(|(group, found)| (group, found.index)).collect();
        let next = scan.next_batch.unwrap_or(1);
        let storage = Self::new(disk, identity, options, groups, segments, next, snapshots);
        Ok((storage, recovered))
    }
}

/// The segments that are there; `newest` is 0 if there are none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Segments {
    pub(crate) oldest: u64,
    pub(crate) newest: u64,
}

/// The segments that are there, without a gap.
fn segment_numbers(files: &[FileInfo]) -> Result<Segments, OpenError> {
    let mut numbers: Vec<u64> =
        files.iter().filter_map(|file| segment::number(&file.name)).collect();
    numbers.sort_unstable();
    let (Some(first), Some(last)) = (numbers.first().copied(), numbers.last().copied()) else {
        return Ok(Segments { oldest: 1, newest: 0 });
    };
    for (expected, found) in (first..).zip(&numbers) {
        if expected != *found {
            return Err(OpenError::MissingSegment { file: segment::name(expected) });
        }
    }
    Ok(Segments { oldest: first, newest: last })
}

/// What was read so far.
#[derive(Debug, Default)]
struct Scan {
    groups: BTreeMap<GroupId, Found>,
    /// Number of the batch that comes next.
    next_batch: Option<u64>,
    /// A batch that did not read: fine if the next segment begins with that number, or if
    /// nothing follows.
    torn: Option<OpenError>,
    /// Segments without a header.
    unborn: Vec<u64>,
}

/// A group: where its entries are, and what they are.
#[derive(Debug, Default)]
struct Found {
    index: GroupIndex,
    entries: BTreeMap<LogIndex, Entry>,
}

impl Scan {
    fn segment<D: Disk>(
        &mut self,
        disk: &D,
        identity: &Identity,
        number: u64,
        newest: u64,
    ) -> Result<(), OpenError> {
        let name = segment::name(number);
        let length = usize::MAX >> 1;
        let bytes = Bytes::from(disk.read_at(&name, 0, length).map_err(OpenError::Io)?);
        let head = bytes.get(..segment::HEADER_BYTES as usize).unwrap_or(&[]);
        let first_batch = match segment::read_header(head, identity, number) {
            Ok(first_batch) => first_batch,
            // Header and first batch are one write: a crash may have cut it.
            Err(_) if number == newest && nothing_valid(&bytes, identity, number) => {
                self.unborn.push(number);
                return Ok(());
            }
            Err(what) => return Err(OpenError::BadSegment { file: name, what }),
        };
        match self.next_batch {
            Some(expected) if expected != first_batch => {
                let what = "it does not continue the segment before it";
                return Err(self.torn.take().unwrap_or(OpenError::BadSegment { file: name, what }));
            }
            _ => self.torn = None,
        }
        self.next_batch = Some(first_batch);
        self.batches(&bytes, identity, number)
    }

    fn batches(
        &mut self,
        bytes: &Bytes,
        identity: &Identity,
        number: u64,
    ) -> Result<(), OpenError> {
        let seed = segment::seed(identity, number);
        let mut at = segment::HEADER_BYTES as usize;
        while at < bytes.len() {
            let expected = self.next_batch.unwrap_or(1);
            let rest = bytes.slice(at..);
            match read_batch(&rest, expected, seed) {
                Ok((length, records)) => {
                    let (segment, offset) = (number, at as u64);
                    self.take(records, Location { segment, offset, bytes: length });
                    self.next_batch = Some(expected + 1);
                    at += length as usize;
                }
                Err(None) if rest.iter().all(|byte| *byte == 0) => return Ok(()),
                Err(what) => {
                    let file = segment::name(number);
                    let what = what.unwrap_or_else(|| "no batch begins here".to_string());
                    let error = OpenError::Damaged { file, byte: at as u64, what };
                    if later_batch(&rest, expected, seed) {
                        return Err(error);
                    }
                    self.torn = Some(error);
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn take(&mut self, records: Vec<GroupRecord>, location: Location) {
        for GroupRecord { group, mark, record } in records {
            let found = self.groups.entry(group).or_default();
            found.index.take(mark, &record, location);
            if let Some(base) = record.base {
                found.entries = found.entries.split_off(&base.index.next());
            }
            if let Some(from) = record.truncate_from {
                found.entries.split_off(&from);
            }
            found.entries.extend(record.entries.into_iter().map(|entry| (entry.id.index, entry)));
        }
    }

    /// A snapshot that the log does not lead up to replaces it: the node crashed between the two.
    fn adopt_snapshots(&mut self, snapshots: &Snapshots) {
        for (group, found) in &mut self.groups {
            let Some((meta, _)) = snapshots.newest(*group) else { continue };
            let held = found.entries.get(&meta.last.index).is_some_and(|e| e.id == meta.last)
                || found.index.base == meta.last;
            if !held && found.index.base.index <= meta.last.index {
                found.entries.clear();
                found.index.restart_after(meta.last);
            }
        }
    }
}

impl Found {
    fn recovered(
        &mut self,
        group: GroupId,
        snapshots: &Snapshots,
        tail_bytes: usize,
    ) -> Result<Recovered, OpenError> {
        let base = self.index.base;
        let snapshot = snapshots.newest(group);
        let covered = snapshot.as_ref().map_or(LogIndex::ZERO, |(meta, _)| meta.last.index);
        if base.index > covered {
            return Err(OpenError::MissingSnapshot { group, base: base.index, covered });
        }
        let mut expected = base.index;
        let mut term_starts = Vec::new();
        let mut memberships = Vec::new();
        let mut previous = None;
        for entry in self.entries.values() {
            expected = expected.next();
            if entry.id.index != expected {
                let (base, found) = (LogIndex(expected.0 - 1), entry.id.index);
                return Err(OpenError::Gap { group, base, found });
            }
            if previous != Some(entry.id.term) {
                term_starts.push(entry.id);
            }
            previous = Some(entry.id.term);
            if entry.kind == EntryKind::Membership {
                memberships.push((entry.id.index, entry.data.clone()));
            }
        }
        let last = self.entries.values().next_back().map_or(base, |entry| entry.id);
        self.index.last = last;
        let mut bytes = 0;
        let mut tail: Vec<Entry> = std::mem::take(&mut self.entries)
            .into_values()
            .rev()
            .take_while(|entry| {
                bytes += entry.data.len() + 64;
                bytes <= tail_bytes
            })
            // The segments' bytes are not to be kept for the sake of a few entries.
            .map(|entry| Entry { data: Bytes::copy_from_slice(&entry.data), ..entry })
            .collect();
        tail.reverse();
        let (hard_state, mark) = (self.index.hard_state, self.index.mark);
        Ok(Recovered { hard_state, mark, snapshot, base, term_starts, last, tail, memberships })
    }
}

/// The batch at the head of `bytes`, or what is wrong with it (`None`: there is not even a header).
fn read_batch(
    bytes: &Bytes,
    expected: u64,
    seed: u32,
) -> Result<(u64, Vec<GroupRecord>), Option<String>> {
    let header = Header::read(bytes, seed).ok_or(None)?;
    if header.number != expected {
        return Err(Some(format!("batch {} where {expected} is due", header.number)));
    }
    match batch::decode(bytes, &header, seed) {
        Ok(records) => Ok((header.batch_bytes(), records)),
        Err(BadBatch::Unreadable(what)) => Err(Some(format!("batch {expected}: {what}"))),
        Err(BadBatch::BadBody(group, id)) => {
            Err(Some(format!("entry {id} of group {group} fails its checksum")))
        }
    }
}

/// Whether a whole batch later than `expected` stands anywhere in `bytes`.
fn later_batch(bytes: &Bytes, expected: u64, seed: u32) -> bool {
    (1..bytes.len().saturating_sub(batch::HEADER_BYTES)).any(|at| {
        if !batch::begins_like_one(&bytes[at..]) {
            return false;
        }
        let rest = bytes.slice(at..);
        Header::read(&rest, seed).is_some_and(|header| {
            header.number > expected && batch::decode(&rest, &header, seed).is_ok()
        })
    })
}

/// Whether a segment whose header does not read holds no whole batch either.
fn nothing_valid(bytes: &Bytes, identity: &Identity, number: u64) -> bool {
    let seed = segment::seed(identity, number);
    let start = bytes.len().min(segment::HEADER_BYTES as usize);
    let rest = bytes.slice(start..);
    match Header::read(&rest, seed) {
        Some(header) => {
            batch::decode(&rest, &header, seed).is_err() && !later_batch(&rest, 0, seed)
        }
        None => !later_batch(&rest, 0, seed),
    }
}
