//! Where the entries of a group are on disk, batch by batch.

use std::collections::BTreeMap;

use quorate_contracts::{Entry, EntryId, HardState, LogIndex, Record, WriteMark};

/// Where a batch is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Location {
    pub(crate) segment: u64,
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
}

/// One group as the log has it.
#[derive(Clone, Debug, Default)]
pub(crate) struct GroupIndex {
    pub(crate) hard_state: HardState,
    pub(crate) mark: WriteMark,
    pub(crate) base: EntryId,
    pub(crate) last: EntryId,
    /// By first index: the last index that is valid there, and where.
    runs: BTreeMap<LogIndex, (LogIndex, Location)>,
}

impl GroupIndex {
    /// Takes up what a batch at `location` says.
    pub(crate) fn take(&mut self, mark: WriteMark, record: &Record, location: Location) {
        self.mark = self.mark.max(mark);
        if let Some(hard_state) = record.hard_state {
            self.hard_state = hard_state;
        }
        if let Some(base) = record.base {
            self.rebase(base);
        }
        if let Some(from) = record.truncate_from {
            self.truncate_from(from);
        }
        if let (Some(first), Some(last)) = (record.entries.first(), record.entries.last()) {
            self.runs.insert(first.id.index, (last.id.index, location));
            self.last = last.id;
        }
    }

    /// The log begins after `base`. Whether the old log led up to it is for the caller to know; here
    /// what lies beyond is kept if it follows without a gap.
    pub(crate) fn rebase(&mut self, base: EntryId) {
        self.base = base;
        self.runs.retain(|_, (last, _)| *last > base.index);
        if self.last.index <= base.index {
            self.last = base;
            self.runs.clear();
        }
    }

    /// Nothing of the log is kept: it begins after `base`.
    pub(crate) fn restart_after(&mut self, base: EntryId) {
        self.runs.clear();
        (self.base, self.last) = (base, base);
    }

    pub(crate) fn truncate_from(&mut self, from: LogIndex) {
        self.runs.split_off(&from);
        let end = LogIndex(from.0 - 1);
        if let Some((_, (last, _))) = self.runs.iter_mut().next_back() {
            *last = (*last).min(end);
        }
    }

    /// Where the entry at `index` is, and the last index of the same run that is valid there.
    pub(crate) fn find(&self, index: LogIndex) -> Option<(LogIndex, Location)> {
        let (_, (last, location)) = self.runs.range(..=index).next_back()?;
        (*last >= index && index > self.base.index).then_some((*last, *location))
    }

    /// The oldest segment that holds an entry still needed.
    pub(crate) fn oldest_segment(&self) -> Option<u64> {
        self.runs.values().map(|(_, location)| location.segment).min()
    }

    /// Its state, for the head of a segment.
    pub(crate) fn state(&self) -> Record {
        Record { hard_state: Some(self.hard_state), base: Some(self.base), ..Record::default() }
    }
}

/// The entries of a record that lie in `[from, to]`, up to a size but at least one.
pub(crate) fn select(
    entries: Vec<Entry>,
    from: LogIndex,
    to: LogIndex,
    bytes_max: usize,
) -> Vec<Entry> {
    let mut bytes = 0;
    let wanted = entries.into_iter().filter(|entry| (from..=to).contains(&entry.id.index));
    let fitting = wanted.take_while(|entry| {
        let first = bytes == 0;
        bytes += entry.data.len() + 1;
        first || bytes <= bytes_max
    });
    fitting.collect()
}
