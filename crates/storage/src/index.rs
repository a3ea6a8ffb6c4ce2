//! One group's log as the disk has it: which entries there are, and where.
//!
//! ```text
//!    base        anchor                 last
//!  ...|.............|......known..........|
//!  snapshot   never described
//! ```
//!
//! Invariants: `base <= anchor <= last`; `term_starts` knows the term of every index in `(anchor, last]`. The
//! two differ only while recovery reads segments that begin in the middle of a log.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use quorate_contracts::{
    Entry, EntryId, EntryKind, GroupId, HardState, LogIndex, Record, WriteMark,
};

use crate::batch::GroupRecord;

/// Where a batch is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Location {
    pub(crate) segment: u64,
    pub(crate) offset: u64,
    /// As many bytes as the batch takes, or a few more.
    pub(crate) bytes: u64,
}

/// One group as the log has it.
#[derive(Clone, Debug, Default)]
pub(crate) struct GroupIndex {
    pub(crate) hard_state: HardState,
    pub(crate) mark: WriteMark,
    pub(crate) base: EntryId,
    anchor: EntryId,
    pub(crate) last: EntryId,
    /// The first entry of each run of one term.
    pub(crate) term_starts: Vec<EntryId>,
    /// By first index: the last index that is valid there, and where.
    runs: BTreeMap<LogIndex, (LogIndex, Location)>,
    /// Membership entries.
    pub(crate) memberships: BTreeMap<LogIndex, Bytes>,
    /// Entries whose headers are good and whose data is not.
    pub(crate) damaged: BTreeSet<LogIndex>,
    /// Up to where entries may have been lost with their headers.
    pub(crate) lost: Option<LogIndex>,
}

impl GroupIndex {
    /// What to write for a record of Raft's: with term and vote, and the entry that it follows.
    pub(crate) fn describe(&self, group: GroupId, mark: WriteMark, record: Record) -> GroupRecord {
        let Record { hard_state, base, truncate_from, entries, confirmed, lost } = record;
        let first = entries.first().map(|entry| entry.id.index);
        let appended = first.filter(|first| *first > self.last.index);
        let after = truncate_from.or(appended).map(|from| self.before(from, base));
        let hard_state = hard_state.unwrap_or(self.hard_state);
        // Said again with every record: one that goes on after the last entry left here shows that nothing else is
        // missing, to whoever does not know what was lost before.
        let lost = if confirmed { Some(None) } else { self.lost.max(lost).map(Some) };
        GroupRecord { group, mark, hard_state, base, after, lost, entries }
    }

    /// The entry before `from`, once the log begins after `base`.
    fn before(&self, from: LogIndex, base: Option<EntryId>) -> EntryId {
        let index = from.prev().unwrap_or_default();
        match base {
            Some(base) if base.index >= index => base,
            _ => self.id_at(index).unwrap_or_else(|| {
                panic!("entries from {from} on do not follow the log {}..{}", self.base, self.last)
            }),
        }
    }

    /// Its state, for the head of a segment and for marks.
    pub(crate) fn state(&self, group: GroupId) -> GroupRecord {
        GroupRecord {
            group,
            mark: self.mark,
            hard_state: self.hard_state,
            base: Some(self.base),
            after: Some(self.last),
            lost: self.lost.map(Some),
            entries: Vec::new(),
        }
    }

    /// Takes up a record that a batch at `location` holds.
    pub(crate) fn take(&mut self, record: &GroupRecord, location: Location) {
        self.take_state(record);
        if let Some(base) = record.base {
            self.rebase(base);
        }
        if let Some(after) = record.after {
            self.cut_after(after);
        }
        let (Some(first), Some(last)) = (record.entries.first(), record.entries.last()) else {
            return;
        };
        if record.after.is_none() {
            self.make_room(first.id.index, last.id.index);
        }
        self.runs.insert(first.id.index, (last.id.index, location));
        for entry in &record.entries {
            self.take_entry(entry);
        }
    }

    /// Takes up what a record says besides the log.
    pub(crate) fn take_state(&mut self, record: &GroupRecord) {
        self.mark = self.mark.max(record.mark);
        self.hard_state = record.hard_state;
        self.lost = record.lost.unwrap_or(self.lost);
    }

    /// Whether a record shows that nothing before it is missing here.
    pub(crate) fn is_followed_by(&self, record: &GroupRecord) -> bool {
        record.after.is_some_and(|after| record.base == Some(after) || self.holds(after))
    }

    /// A batch before this record is lost, and what it did to the log is not known: the log stays behind.
    pub(crate) fn fall_behind(&mut self, record: &GroupRecord) {
        self.take_state(record);
        if let Some(base) = record.base {
            if self.holds(base) {
                self.rebase(base);
            } else {
                self.restart_after(base);
            }
        }
        // Copies of entries that the log held say nothing of how far it reached.
        let last = record.after.map(|after| record.entries.last().map_or(after, |entry| entry.id));
        self.lost = self.lost.max(last.map(|id| id.index));
    }

    fn take_entry(&mut self, entry: &Entry) {
        self.damaged.remove(&entry.id.index);
        if entry.kind == EntryKind::Membership {
            // The segment's bytes are not to be kept for the sake of a few.
            self.memberships.insert(entry.id.index, Bytes::copy_from_slice(&entry.data));
        }
        if entry.id.index > self.last.index {
            if self.last == self.anchor || entry.id.term != self.last.term {
                self.term_starts.push(entry.id);
            }
            self.last = entry.id;
        }
    }

    /// The log begins after `base`; what lies beyond is kept.
    pub(crate) fn rebase(&mut self, base: EntryId) {
        let next = base.index.next();
        if self.last.index <= base.index {
            return self.restart_after(base);
        }
        if base.index > self.anchor.index {
            let after = self.term_starts.partition_point(|start| start.index <= base.index);
            let current = after.checked_sub(1).map(|i| self.term_starts[i].term);
            self.term_starts.drain(..after);
            if let Some(term) = current
                && self.term_starts.first().is_none_or(|start| start.index != next)
            {
                self.term_starts.insert(0, EntryId::new(next, term));
            }
            self.anchor = base;
        }
        self.base = base;
        self.runs.retain(|_, (last, _)| *last > base.index);
        self.memberships = self.memberships.split_off(&next);
        self.damaged = self.damaged.split_off(&next);
    }

    /// Nothing of the log is kept: it begins after `base`.
    pub(crate) fn restart_after(&mut self, base: EntryId) {
        self.base = base;
        self.go_on_after(base);
    }

    /// Nothing is known of the entries up to `anchor`, which is the last one.
    pub(crate) fn go_on_after(&mut self, anchor: EntryId) {
        self.runs.clear();
        self.term_starts.clear();
        self.memberships.clear();
        self.damaged.clear();
        (self.anchor, self.last) = (anchor, anchor);
    }

    /// What is behind `last` is removed.
    fn cut_after(&mut self, last: EntryId) {
        if last.index > self.last.index || last.index <= self.anchor.index {
            return self.go_on_after(last);
        }
        let next = last.index.next();
        self.runs.split_off(&next);
        if let Some((_, (end, _))) = self.runs.iter_mut().next_back() {
            *end = (*end).min(last.index);
        }
        let keep = self.term_starts.partition_point(|start| start.index <= last.index);
        self.term_starts.truncate(keep);
        self.memberships.split_off(&next);
        self.damaged.split_off(&next);
        self.last = last;
    }

    /// Whole copies of `[from, to]` are elsewhere from here on.
    fn make_room(&mut self, from: LogIndex, to: LogIndex) {
        let overlap =
            |(first, (last, _)): &(LogIndex, (LogIndex, Location))| *first <= to && *last >= from;
        let old: Vec<_> = self.runs.iter().map(|(f, r)| (*f, *r)).filter(overlap).collect();
        for (first, (last, location)) in old {
            self.runs.remove(&first);
            if let Some(end) = from.prev().filter(|end| *end >= first) {
                self.runs.insert(first, (end, location));
            }
            if last > to {
                self.runs.insert(to.next(), (last, location));
            }
        }
    }

    /// The id of the entry at `index`, if it is known.
    pub(crate) fn id_at(&self, index: LogIndex) -> Option<EntryId> {
        if let Some(id) =
            [self.base, self.anchor, self.last].into_iter().find(|id| id.index == index)
        {
            return Some(id);
        }
        if index < self.anchor.index || index > self.last.index {
            return None;
        }
        let after = self.term_starts.partition_point(|start| start.index <= index);
        Some(EntryId::new(index, self.term_starts[after - 1].term))
    }

    /// Whether everything that was vouched for is there.
    pub(crate) fn is_whole(&self) -> bool {
        self.damaged.is_empty() && self.lost.is_none()
    }

    /// Whether the log holds this very entry, or begins right after it.
    pub(crate) fn holds(&self, id: EntryId) -> bool {
        self.id_at(id.index) == Some(id)
    }

    /// The entries between the base and this one were never described: a segment is missing.
    pub(crate) fn anchor(&self) -> EntryId {
        self.anchor
    }

    /// Where the entry at `index` is, and the last index of the same run that is valid there.
    pub(crate) fn find(&self, index: LogIndex) -> Option<(LogIndex, Location)> {
        let (_, (last, location)) = self.runs.range(..=index).next_back()?;
        (*last >= index && index > self.base.index).then_some((*last, *location))
    }

    /// The run that ends at `index` or holds it: its first index, and where it is.
    pub(crate) fn run_before(&self, index: LogIndex) -> Option<(LogIndex, Location)> {
        let (first, (_, location)) = self.runs.range(..=index).next_back()?;
        Some(((*first).max(self.base.index.next()), *location))
    }

    /// The last of the entries still needed that are in a segment before this one.
    pub(crate) fn last_before(&self, segment: u64) -> Option<LogIndex> {
        let older = self.runs.values().filter(|(_, location)| location.segment < segment);
        older.map(|(last, _)| *last).max()
    }

    /// The oldest segment that holds an entry still needed.
    pub(crate) fn oldest_segment(&self) -> Option<u64> {
        self.runs.values().map(|(_, location)| location.segment).min()
    }
}

/// The entries of a record that lie in `[from, to]`, without a gap, up to a size but at least one.
pub(crate) fn select(
    entries: Vec<Entry>,
    from: LogIndex,
    to: LogIndex,
    bytes_max: usize,
) -> Vec<Entry> {
    let (mut bytes, mut next) = (0, from);
    let wanted = entries.into_iter().filter(|entry| (from..=to).contains(&entry.id.index));
    let fitting = wanted.take_while(|entry| {
        let (first, follows) = (bytes == 0, entry.id.index == next);
        bytes += entry.data.len() + 1;
        next = next.next();
        follows && (first || bytes <= bytes_max)
    });
    fitting.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_contracts::Term;

    const GROUP: GroupId = GroupId(1);
    const SOMEWHERE: Location = Location { segment: 1, offset: 64, bytes: 64 };

    fn entries(range: std::ops::RangeInclusive<u64>) -> Vec<Entry> {
        let entry = |index| {
            let id = EntryId::new(LogIndex(index), Term(1));
            Entry::new(id, EntryKind::Command, Bytes::from_static(b"x"))
        };
        range.map(entry).collect()
    }

    fn append(index: &GroupIndex, range: std::ops::RangeInclusive<u64>) -> GroupRecord {
        let record = Record { entries: entries(range), ..Record::default() };
        index.describe(GROUP, WriteMark(1), record)
    }

    /// RAFT-16: behind a lost batch there are only whole copies of older entries. They do not tell how far the log had
    /// reached: it may have been further.
    #[test]
    fn copies_do_not_tell_what_was_lost() {
        let mut index = GroupIndex::default();
        index.take(&append(&index, 1..=3), SOMEWHERE);
        let mut ahead = index.clone();
        ahead.take(&append(&ahead, 4..=9), SOMEWHERE);
        let copies = append(&ahead, 2..=3);
        assert_eq!(copies.after, None);
        index.fall_behind(&copies);
        assert_eq!((index.last.index, index.lost), (LogIndex(3), None), "not told");
        index.fall_behind(&append(&ahead, 10..=12));
        assert_eq!(index.lost, Some(LogIndex(12)));
    }

    /// RAFT-16: a node that lost entries goes on writing, and dies. What it had lost is told by each of the records since,
    /// so that one of them is enough; until a leader's log stands for it.
    #[test]
    fn what_is_lost_is_told_until_it_is_back() {
        let mut index = GroupIndex::default();
        index.take(&append(&index, 1..=3), SOMEWHERE);
        index.lost = Some(LogIndex(9));
        let first = append(&index, 4..=5);
        let mut found = GroupIndex::default();
        found.take(&append(&found, 1..=3), SOMEWHERE);
        found.take(&first, SOMEWHERE);
        assert_eq!(found.lost, Some(LogIndex(9)));
        let confirmed = Record { confirmed: true, ..Record::default() };
        found.take(&index.describe(GROUP, WriteMark(2), confirmed), SOMEWHERE);
        assert_eq!(found.lost, None);
    }
}
