//! What is on its way to the disk, what has arrived there, and what therefore may leave (RAFT-15).
//!
//! Invariants: marks only grow; `index` is never beyond an entry that a later write replaced.

use std::collections::VecDeque;

use quorate_contracts::{Entry, EntryId, LogIndex, Output, Record, When, WriteMark};

use crate::node::{Outputs, Raft};

/// The writes of one server.
#[derive(Debug)]
pub(crate) struct Durability {
    /// Newest mark given out.
    mark: WriteMark,
    /// Newest mark that the disk vouched for.
    durable: WriteMark,
    /// The write that carries the hard state.
    hard_state_mark: WriteMark,
    /// The hard state changed since.
    hard_state_unsaved: bool,
    /// Highest durable index.
    index: LogIndex,
    /// Writes on their way: once `mark` is durable, the log is durable up to the index.
    in_flight: VecDeque<(WriteMark, LogIndex)>,
    /// Highest index that was handed to the disk.
    written: LogIndex,
}

impl Durability {
    /// Everything that was recovered is durable, as far as it is whole.
    pub(crate) fn new(mark: WriteMark, whole: LogIndex, last: LogIndex) -> Self {
        Self {
            mark,
            durable: mark,
            hard_state_mark: mark,
            hard_state_unsaved: false,
            index: whole,
            in_flight: VecDeque::new(),
            written: last,
        }
    }

    /// Highest durable index.
    pub(crate) fn index(&self) -> LogIndex {
        self.index
    }

    /// Highest index that was handed to the disk.
    pub(crate) fn written(&self) -> LogIndex {
        self.written
    }

    /// Newest mark given out.
    pub(crate) fn mark(&self) -> WriteMark {
        self.mark
    }

    /// Whether the disk vouched for this mark.
    pub(crate) fn is_durable(&self, mark: WriteMark) -> bool {
        mark <= self.durable
    }

    /// Term or vote changed: to be written with the next record, before the step ends.
    pub(crate) fn hard_state_changed(&mut self) {
        self.hard_state_unsaved = true;
    }

    /// The disk vouches for everything up to `mark`.
    pub(crate) fn persisted(&mut self, mark: WriteMark) {
        assert!(
            mark <= self.mark,
            "the disk vouches for {mark}, but only {} was written",
            self.mark
        );
        self.durable = self.durable.max(mark);
        while self.in_flight.front().is_some_and(|(sent, _)| *sent <= mark) {
            if let Some((_, index)) = self.in_flight.pop_front() {
                self.index = self.index.max(index);
            }
        }
    }

    /// The log ends at `last` from here on, until something is appended: older completions no
    /// longer vouch for what comes after it.
    pub(crate) fn cut(&mut self, last: LogIndex) {
        self.index = self.index.min(last);
        self.written = self.written.min(last);
        for (_, index) in &mut self.in_flight {
            *index = (*index).min(last);
        }
    }

    /// The newest write mends the entry at `first`; once it is durable, the log is up to `whole`, and not before.
    pub(crate) fn mended(&mut self, first: LogIndex, whole: LogIndex) {
        let before = first.prev().unwrap_or_default();
        self.index = self.index.min(before);
        for (_, index) in &mut self.in_flight {
            *index = (*index).min(before);
        }
        self.in_flight.push_back((self.mark, whole));
    }

    /// A durable snapshot stands for everything up to `last`.
    pub(crate) fn installed(&mut self, last: LogIndex) {
        self.index = self.index.max(last);
        self.written = self.written.max(last);
    }

    fn when(&self, mark: WriteMark) -> When {
        if self.is_durable(mark) { When::Now } else { When::Durable(mark) }
    }
}

impl Raft {
    /// Writes one record: what is given, and the hard state if it changed.
    pub(crate) fn persist(&mut self, mut record: Record, out: &mut Outputs) {
        let durability = &mut self.durability;
        if durability.hard_state_unsaved {
            record.hard_state = Some(self.hard_state);
        }
        if record.is_empty() {
            return;
        }
        durability.mark = durability.mark.next();
        if record.hard_state.is_some() {
            durability.hard_state_unsaved = false;
            durability.hard_state_mark = durability.mark;
        }
        if let Some(Entry { id: EntryId { index, .. }, .. }) = record.entries.last() {
            durability.written = durability.written.max(*index);
            durability.in_flight.push_back((durability.mark, *index));
        }
        out.push(Output::Persist { mark: durability.mark, record });
    }

    /// At the end of each step: no change of term or vote stays in memory only.
    pub(crate) fn flush_hard_state(&mut self, out: &mut Outputs) {
        if self.durability.hard_state_unsaved {
            self.persist(Record::default(), out);
        }
    }

    /// When a message that speaks of this term may leave.
    pub(crate) fn when_term_is_durable(&mut self, out: &mut Outputs) -> When {
        self.flush_hard_state(out);
        self.durability.when(self.durability.hard_state_mark)
    }

    /// When a message may leave that vouches for the log up to `index`.
    pub(crate) fn when_log_is_durable(&mut self, index: LogIndex, out: &mut Outputs) -> When {
        let when = self.when_term_is_durable(out);
        if index <= self.durability.index {
            when
        } else {
            self.durability.when(self.durability.mark)
        }
    }
}
