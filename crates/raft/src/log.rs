//! The log as Raft sees it: every entry's term, and the newest entries in memory.
//!
//! ```text
//!        base             first_in_memory            last
//!   ......|..... on disk only ....|...... in memory ...|
//!         in the snapshot
//! ```
//!
//! Invariants: `base <= last`; `term_starts` knows the term of every index in `(base, last]`; the
//! entries in memory are contiguous and end at `last`.
//!
//! Not here: the disk. What is not in memory is asked for with `Output::ReadLog`.

use std::collections::VecDeque;

use quorate_contracts::{Entry, EntryId, LogIndex, Term};

/// What an entry costs in memory besides its data, roughly.
const ENTRY_OVERHEAD_BYTES: usize = 64;

/// A server's log.
#[derive(Debug)]
pub(crate) struct Log {
    base: EntryId,
    last: EntryId,
    /// The first entry of each run of one term.
    term_starts: VecDeque<EntryId>,
    memory: VecDeque<Entry>,
    memory_bytes: usize,
}

/// Entries asked of the log.
pub(crate) enum Slice {
    /// Here they are; empty if there are none.
    Entries(Vec<Entry>),
    /// The first one is on disk only.
    OnDisk,
    /// The first one is in the snapshot.
    Compacted,
}

impl Log {
    /// A log as it was recovered.
    pub(crate) fn new(
        base: EntryId,
        last: EntryId,
        term_starts: Vec<EntryId>,
        tail: Vec<Entry>,
    ) -> Self {
        if let Some(end) = tail.last() {
            assert_eq!(end.id, last, "the recovered tail must end where the log does");
        }
        let memory_bytes = tail.iter().map(cost).sum();
        Self { base, last, term_starts: term_starts.into(), memory: tail.into(), memory_bytes }
    }

    /// The log begins after this entry.
    pub(crate) fn base(&self) -> EntryId {
        self.base
    }

    /// The last entry; `base` if there is none.
    pub(crate) fn last(&self) -> EntryId {
        self.last
    }

    /// Bytes that the entries in memory take, roughly.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }

    /// Term of the entry at `index`, if it is in the log or is its base.
    pub(crate) fn term_at(&self, index: LogIndex) -> Option<Term> {
        if index == self.base.index {
            return Some(self.base.term);
        }
        if index < self.base.index || index > self.last.index {
            return None;
        }
        let after = self.term_starts.partition_point(|start| start.index <= index);
        Some(self.term_starts[after - 1].term)
    }

    /// The first entry of each run of one term, the oldest first.
    pub(crate) fn term_starts(&self) -> &VecDeque<EntryId> {
        &self.term_starts
    }

    /// Whether the log holds this very entry, or begins right after it.
    pub(crate) fn holds(&self, id: EntryId) -> bool {
        self.term_at(id.index) == Some(id.term)
    }

    /// Last entry at or before `index` whose term is at most `term`; the base if there is none.
    /// Both sides of a conflict use it, so that each round trip skips a whole term (RAFT-10).
    pub(crate) fn last_not_above(&self, index: LogIndex, term: Term) -> EntryId {
        let mut candidate = self.last.index.min(index);
        for start in self.term_starts.iter().rev() {
            if start.index > candidate {
                continue;
            }
            if start.term <= term {
                return EntryId::new(candidate, start.term);
            }
            candidate = LogIndex(start.index.0 - 1);
        }
        self.base
    }

    /// Adds an entry right after the last one.
    pub(crate) fn append(&mut self, entry: Entry) {
        assert_eq!(entry.id.index, self.last.index.next(), "entries are appended without a gap");
        assert!(
            entry.id.term >= self.last.term,
            "terms never decrease along a log: {} after {}",
            entry.id,
            self.last
        );
        if self.last == self.base || entry.id.term != self.last.term {
            self.term_starts.push_back(entry.id);
        }
        self.last = entry.id;
        self.memory_bytes += cost(&entry);
        self.memory.push_back(entry);
    }

    /// Removes the entries from `index` on.
    pub(crate) fn truncate_from(&mut self, index: LogIndex) {
        assert!(index > self.base.index, "{index} is in the snapshot, up to {}", self.base);
        while self.last.index >= index {
            let Some(entry) = self.memory.pop_back() else { break };
            self.memory_bytes -= cost(&entry);
            self.last.index = LogIndex(entry.id.index.0 - 1);
        }
        let keep = self.term_starts.partition_point(|start| start.index < index);
        self.term_starts.truncate(keep);
        let end = LogIndex(index.0 - 1);
        self.last = match self.term_starts.back() {
            Some(start) => EntryId::new(end, start.term),
            None => self.base,
        };
    }

    /// The log begins after `base`, which it holds.
    pub(crate) fn compact(&mut self, base: EntryId) {
        assert!(self.holds(base), "the log {}..{} lacks {base}", self.base, self.last);
        while self.memory.front().is_some_and(|entry| entry.id.index <= base.index) {
            self.pop_memory_front();
        }
        let after = self.term_starts.partition_point(|start| start.index <= base.index);
        let current = after.checked_sub(1).map(|i| self.term_starts[i].term);
        self.term_starts.drain(..after);
        let next_starts_a_run =
            self.term_starts.front().is_some_and(|start| start.index == base.index.next());
        if let (Some(term), true, false) =
            (current, self.last.index > base.index, next_starts_a_run)
        {
            self.term_starts.push_front(EntryId::new(base.index.next(), term));
        }
        self.base = base;
        if self.last.index <= base.index {
            self.last = base;
        }
    }

    /// A snapshot replaces everything up to `base`; what follows is kept only if the log holds
    /// that very entry (Figure 13, step 6).
    pub(crate) fn install(&mut self, base: EntryId) {
        if self.holds(base) {
            self.compact(base);
        } else {
            *self = Self::new(base, base, Vec::new(), Vec::new());
        }
    }

    /// Entries from `from` on, up to `to` inclusive, stopping before they exceed `bytes_max`; but
    /// at least one.
    pub(crate) fn slice(&self, from: LogIndex, to: LogIndex, bytes_max: usize) -> Slice {
        if from <= self.base.index {
            return Slice::Compacted;
        }
        let first = self.first_in_memory();
        if from > self.last.index || from > to {
            return Slice::Entries(Vec::new());
        }
        if from < first {
            return Slice::OnDisk;
        }
        let skip = (from.0 - first.0) as usize;
        let take = (to.0 - from.0 + 1) as usize;
        let mut bytes = 0;
        let fitting = self.memory.iter().skip(skip).take(take).take_while(|entry| {
            let first = bytes == 0;
            bytes += cost(entry);
            first || bytes <= bytes_max
        });
        Slice::Entries(fitting.cloned().collect())
    }

    /// The entry at `index`, if it is in memory.
    pub(crate) fn in_memory(&self, index: LogIndex) -> Option<&Entry> {
        let offset = index.0.checked_sub(self.first_in_memory().0)?;
        self.memory.get(usize::try_from(offset).ok()?)
    }

    /// Drops the oldest entries from memory until at most `bytes_max` are left, but none after
    /// `up_to`: those are not durable or not applied yet.
    pub(crate) fn shed(&mut self, bytes_max: usize, up_to: LogIndex) {
        while self.memory_bytes > bytes_max
            && self.memory.front().is_some_and(|entry| entry.id.index <= up_to)
        {
            self.pop_memory_front();
        }
    }

    /// The first index in memory; one past the last if nothing is.
    fn first_in_memory(&self) -> LogIndex {
        LogIndex(self.last.index.0 + 1 - self.memory.len() as u64)
    }

    fn pop_memory_front(&mut self) {
        if let Some(entry) = self.memory.pop_front() {
            self.memory_bytes -= cost(&entry);
        }
    }
}

/// What an entry takes in memory, roughly.
pub(crate) fn cost(entry: &Entry) -> usize {
    entry.data.len() + ENTRY_OVERHEAD_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use quorate_contracts::EntryKind;

    /// A log with one entry for each term given.
    fn log(terms: &[u64]) -> Log {
        let mut log = Log::new(EntryId::ZERO, EntryId::ZERO, Vec::new(), Vec::new());
        extend(&mut log, terms);
        log
    }

    fn extend(log: &mut Log, terms: &[u64]) {
        for term in terms {
            let id = EntryId::new(log.last().index.next(), Term(*term));
            log.append(Entry::new(id, EntryKind::Command, Bytes::from_static(b"x")));
        }
    }

    fn terms(log: &Log) -> Vec<u64> {
        (log.base().index.0 + 1..=log.last().index.0)
            .map(|i| log.term_at(LogIndex(i)).expect("inside the log").0)
            .collect()
    }

    #[test]
    fn every_index_knows_its_term() {
        let mut log = log(&[1, 1, 2, 4, 4]);
        assert_eq!(terms(&log), [1, 1, 2, 4, 4]);
        assert_eq!(log.term_at(LogIndex(6)), None);
        log.truncate_from(LogIndex(4));
        assert_eq!((terms(&log), log.last().to_string()), (vec![1, 1, 2], "3@2".into()));
        extend(&mut log, &[5]);
        log.compact(EntryId::new(LogIndex(1), Term(1)));
        assert_eq!(terms(&log), [1, 2, 5]);
        log.truncate_from(LogIndex(2));
        assert_eq!((log.last(), log.base()), (log.base(), log.last()));
        extend(&mut log, &[6]);
        assert_eq!(terms(&log), [6]);
    }

    /// Figure 13, step 6: entries after the snapshot stay if they follow it.
    #[test]
    fn a_snapshot_keeps_the_suffix_that_follows_it_and_nothing_else() {
        let mut matching = log(&[1, 1, 2, 2]);
        matching.install(EntryId::new(LogIndex(3), Term(2)));
        assert_eq!(terms(&matching), [2]);
        let mut conflicting = log(&[1, 1, 1, 1]);
        conflicting.install(EntryId::new(LogIndex(3), Term(2)));
        assert_eq!(
            (conflicting.last(), conflicting.base().to_string()),
            (conflicting.base(), "3@2".into())
        );
    }

    #[test]
    fn what_was_shed_is_on_disk() {
        let mut log = log(&[1, 1, 1, 2]);
        log.shed(2 * cost(log.in_memory(LogIndex(1)).expect("in memory")), LogIndex(4));
        assert!(matches!(log.slice(LogIndex(2), LogIndex(4), 1_000), Slice::OnDisk));
        let Slice::Entries(entries) = log.slice(LogIndex(3), LogIndex(4), 1) else { panic!() };
        assert_eq!(entries.len(), 1, "at least one entry, however small the limit");
        assert_eq!(terms(&log), [1, 1, 1, 2]);
        log.truncate_from(LogIndex(2));
        assert_eq!((terms(&log), log.memory_bytes()), (vec![1], 0));
    }

    /// RAFT-10: where two logs may agree, found a term at a time.
    #[test]
    fn the_hint_skips_whole_terms() {
        let log = log(&[1, 1, 2, 2, 2, 5]);
        let hint = |index, term| log.last_not_above(LogIndex(index), Term(term)).to_string();
        assert_eq!(hint(9, 4), "5@2");
        assert_eq!(hint(4, 2), "4@2");
        assert_eq!(hint(4, 1), "2@1");
        assert_eq!(hint(4, 0), "0@0");
    }
}
