//! What the log holds back on the disk, and for whose sake.
//!
//! All groups share the segments, so one entry that a group still needs keeps everything that was written since, whoever
//! wrote it. A busy group lets go by itself, since its snapshots come with its own writes. A quiet one would hold the log
//! back for ever: so a group for which more is held than it is worth is told to let go ([`StorageEvent::LetGo`]).
//!
//! It is worth as much as writing the group's snapshot again, and a few segments at least: a group of a large state that
//! nobody writes to is not made to write it out for every few segments of the others' log.
//!
//! A segment is written to in one life of the process only, so a node that dies often leaves segments with little in
//! them. Space at their end where nothing was ever written is given back; nothing that was written is touched, be it
//! a torn batch: whether it was one is not always certain.

use std::collections::BTreeMap;

use quorate_contracts::{GroupId, LogIndex};

use crate::index::GroupIndex;
use crate::{Disk, Operation, Storage, StorageEvent, segment};

/// So many segments may be held for the sake of any group.
const HELD_SEGMENTS: u64 = 4;
/// A segment counts as this part of a full one at least: each is a file to be opened, and to be read at the start.
const SEGMENT_PART: u64 = 16;

/// What a segment takes on the disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Footprint {
    /// Where what was written to it ends.
    pub(crate) written: u64,
    /// Its size.
    pub(crate) bytes: u64,
}

/// The segments before the current one.
#[derive(Debug)]
pub(crate) struct Held {
    footprints: BTreeMap<u64, Footprint>,
}

impl Held {
    pub(crate) fn new(footprints: BTreeMap<u64, Footprint>) -> Self {
        Self { footprints }
    }

    /// A segment is full: the next one is begun.
    pub(crate) fn leave(&mut self, segment: u64, footprint: Footprint) {
        self.footprints.insert(segment, footprint);
    }

    /// The segments before this one went.
    pub(crate) fn remove_before(&mut self, oldest: u64) {
        self.footprints = self.footprints.split_off(&oldest);
    }

    /// The segments that are longer than what is in them, which they are not from here on, and what they are to keep.
    pub(crate) fn trim(&mut self) -> Vec<(u64, u64)> {
        let mut longer = Vec::new();
        for (segment, footprint) in &mut self.footprints {
            if footprint.bytes > footprint.written {
                footprint.bytes = footprint.written;
                longer.push((*segment, footprint.written));
            }
        }
        longer
    }

    /// The oldest segment that may stay if so much may be held before the current one, each counted as `least` at least.
    fn oldest_within(&self, current: u64, bytes_max: u64, least: u64) -> u64 {
        let (mut held, mut oldest) = (0, current);
        for (segment, footprint) in self.footprints.iter().rev() {
            held += footprint.bytes.max(least);
            if held > bytes_max {
                break;
            }
            oldest = *segment;
        }
        oldest
    }
}

impl<D: Disk> Storage<D> {
    /// Gives back the space at the end of segments that will not be written to any more.
    pub(crate) fn trim_segments(&mut self) {
        let longer = self.held.trim();
        if !longer.is_empty() {
            self.space.try_again_soon(self.now);
        }
        for (number, bytes) in longer {
            self.submit(Operation::Trim { name: segment::name(number), bytes });
        }
    }

    /// Tells the groups for which too much of the log is held.
    pub(crate) fn tell_who_holds(&self, out: &mut Vec<StorageEvent>) {
        for (group, index) in self.groups() {
            if let Some(through) = self.holds_through(*group, index) {
                out.push(StorageEvent::LetGo { group: *group, through });
            }
        }
    }

    /// If too much is held for the sake of a group: the last of its entries that should go, so that half as much is.
    fn holds_through(&self, group: GroupId, index: &GroupIndex) -> Option<LogIndex> {
        let segment_bytes = self.options.segment_bytes;
        let within = |bytes_max| {
            self.held.oldest_within(self.segment, bytes_max, segment_bytes / SEGMENT_PART)
        };
        let snapshot_bytes = self.snapshots.newest(group).map_or(0, |(_, bytes)| bytes);
        let worth = (HELD_SEGMENTS * segment_bytes).max(snapshot_bytes);
        if index.oldest_segment()? >= within(worth) {
            return None;
        }
        index.last_before(within(worth / 2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_segments_count_as_a_part_of_a_full_one() {
        let small = Footprint { written: 10, bytes: 10 };
        let held = Held::new((1..=9).map(|segment| (segment, small)).collect());
        assert_eq!(held.oldest_within(10, 100, 10), 1);
        assert_eq!(held.oldest_within(10, 50, 10), 5);
        assert_eq!(held.oldest_within(10, 50, 25), 8);
        assert_eq!(held.oldest_within(10, 5, 10), 10, "the current one stays");
    }

    #[test]
    fn what_was_written_is_never_trimmed() {
        let mut held = Held::new([(1, Footprint { written: 64, bytes: 64 })].into());
        held.leave(2, Footprint { written: 128, bytes: 640 });
        assert_eq!(held.trim(), [(2, 128)]);
        assert_eq!(held.trim(), [], "once is enough");
    }
}
