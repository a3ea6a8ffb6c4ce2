//! The log against a naive one: a list of entries and a base, with each operation written as the paper says it. Random
//! sequences of operations must leave both the same.

use bytes::Bytes;
use proptest::prelude::*;
use quorate_contracts::{Entry, EntryId, EntryKind, LogIndex, Term};

use crate::log::{Log, Slice, cost};

/// Every entry after the base, in memory for ever.
#[derive(Clone, Debug, Default)]
struct Naive {
    base: EntryId,
    entries: Vec<Entry>,
}

impl Naive {
    fn last(&self) -> EntryId {
        self.entries.last().map_or(self.base, |entry| entry.id)
    }

    fn at(&self, index: u64) -> Option<EntryId> {
        if index == self.base.index.0 {
            return Some(self.base);
        }
        self.entries.iter().map(|entry| entry.id).find(|id| id.index.0 == index)
    }

    fn truncate_from(&mut self, index: LogIndex) {
        self.entries.retain(|entry| entry.id.index < index);
    }

    fn compact(&mut self, base: EntryId) {
        self.base = base;
        self.entries.retain(|entry| entry.id.index > base.index);
    }

    /// Figure 13, steps 6 and 7.
    fn install(&mut self, base: EntryId) {
        if self.at(base.index.0) != Some(base) {
            self.entries.clear();
        }
        self.compact(base);
    }

    fn last_not_above(&self, index: u64, term: u64) -> EntryId {
        let mut ids = self.entries.iter().rev().map(|entry| entry.id);
        ids.find(|id| id.index.0 <= index && id.term.0 <= term).unwrap_or(self.base)
    }

    /// Figure 2, AppendEntries, rules 2 to 4, for a `prev` that is not before the base.
    fn append_entries(&mut self, prev: EntryId, entries: &[Entry]) -> bool {
        if self.at(prev.index.0) != Some(prev) {
            return false;
        }
        for entry in entries {
            if self.at(entry.id.index.0) == Some(entry.id) {
                continue;
            }
            self.truncate_from(entry.id.index);
            self.entries.push(entry.clone());
        }
        true
    }
}

/// One operation; numbers are taken modulo what makes sense.
#[derive(Clone, Debug)]
enum Operation {
    Append { term_step: u64, count: u64 },
    TruncateFrom(u64),
    Compact(u64),
    Install { ahead: u64, other_term: bool },
    Shed { bytes: usize, up_to: u64 },
    AppendEntries { back: u64, wrong_prev: bool, same: u64, new: u64 },
}

fn operation() -> impl Strategy<Value = Operation> {
    use Operation::{Append, AppendEntries, Compact, Install, Shed, TruncateFrom};
    prop_oneof![
        4 => (0..3_u64, 1..6_u64).prop_map(|(term_step, count)| Append { term_step, count }),
        2 => any::<u64>().prop_map(TruncateFrom),
        1 => any::<u64>().prop_map(Compact),
        1 => (0..12_u64, any::<bool>()).prop_map(|(ahead, other_term)| Install { ahead, other_term }),
        1 => (0..600_usize, any::<u64>()).prop_map(|(bytes, up_to)| Shed { bytes, up_to }),
        3 => (any::<u64>(), any::<bool>(), 0..5_u64, 0..5_u64)
            .prop_map(|(back, wrong_prev, same, new)| AppendEntries { back, wrong_prev, same, new }),
    ]
}

fn entry(index: u64, term: u64) -> Entry {
    let data = Bytes::from(format!("{index}@{term}"));
    Entry::new(EntryId::new(LogIndex(index), Term(term)), EntryKind::Command, data)
}

/// Both logs; every operation goes to both.
struct Both {
    real: Log,
    naive: Naive,
    /// Grows with each leader that appends.
    term: u64,
}

impl Both {
    fn carry_out(&mut self, operation: &Operation) {
        let (base, last) = (self.naive.base.index.0, self.naive.last().index.0);
        match *operation {
            Operation::Append { term_step, count } => {
                self.term += term_step;
                for index in last + 1..=last + count {
                    self.real.append(entry(index, self.term));
                    self.naive.entries.push(entry(index, self.term));
                }
            }
            Operation::TruncateFrom(number) => {
                let from = LogIndex(base + 1 + number % (last - base + 1));
                self.real.truncate_from(from);
                self.naive.truncate_from(from);
            }
            Operation::Compact(number) => {
                let to = self.naive.at(base + number % (last - base + 1)).expect("it is there");
                self.real.compact(to);
                self.naive.compact(to);
            }
            Operation::Install { ahead, other_term } => self.install(base + 1 + ahead, other_term),
            Operation::Shed { bytes, up_to } => {
                self.real.shed(bytes, LogIndex(base + up_to % (last - base + 1)));
            }
            Operation::AppendEntries { back, wrong_prev, same, new } => {
                let prev = self.naive.at(base + back % (last - base + 1)).expect("it is there");
                self.append_entries(prev, wrong_prev, same, new);
            }
        }
    }

    fn install(&mut self, index: u64, other_term: bool) {
        let held = self.naive.at(index).filter(|_| !other_term);
        let id = held.unwrap_or_else(|| {
            self.term += 1;
            EntryId::new(LogIndex(index), Term(self.term))
        });
        self.real.install(id);
        self.naive.install(id);
    }

    /// What a follower does with a leader's message: entries that it has after `prev`, then new ones of a later term.
    fn append_entries(&mut self, prev: EntryId, wrong_prev: bool, same: u64, new: u64) {
        self.term += 1;
        let known = self.naive.entries.iter().filter(|entry| entry.id.index > prev.index);
        let mut entries: Vec<Entry> = known.take(same as usize).cloned().collect();
        let next = prev.index.0 + entries.len() as u64 + 1;
        entries.extend((next..next + new).map(|index| entry(index, self.term)));
        let prev = if wrong_prev { EntryId::new(prev.index, Term(self.term)) } else { prev };
        let took = self.naive.append_entries(prev, &entries);
        assert_eq!(took, self.real.holds(prev), "{prev} in {:?}", self.naive);
        if !took {
            return;
        }
        let first_new = entries.iter().position(|entry| !self.real.holds(entry.id));
        for entry in first_new.map_or(&[][..], |at| &entries[at..]) {
            if entry.id.index <= self.real.last().index {
                self.real.truncate_from(entry.id.index);
            }
            self.real.append(entry.clone());
        }
    }

    fn compare(&self) {
        let (real, naive) = (&self.real, &self.naive);
        assert_eq!((real.base(), real.last()), (naive.base, naive.last()));
        for index in 0..naive.last().index.0 + 3 {
            let term = naive.at(index).map(|id| id.term);
            assert_eq!(real.term_at(LogIndex(index)), term, "the term at {index} of {naive:?}");
            for term in [0, self.term / 2, self.term] {
                let hint = real.last_not_above(LogIndex(index), Term(term));
                assert_eq!(hint, naive.last_not_above(index, term), "{index}, {term} of {naive:?}");
            }
            self.compare_slice(index);
        }
        let kept: usize = (1..=naive.last().index.0)
            .filter_map(|index| real.in_memory(LogIndex(index)))
            .map(cost)
            .sum();
        assert_eq!(real.memory_bytes(), kept, "what is in memory is what is counted");
    }

    /// What is in memory is what the naive log has there.
    fn compare_slice(&self, from: u64) {
        let (real, naive) = (&self.real, &self.naive);
        let expected: Vec<&Entry> = naive.entries.iter().filter(|e| e.id.index.0 >= from).collect();
        match real.slice(LogIndex(from), real.last().index, usize::MAX) {
            Slice::Compacted => assert!(from <= naive.base.index.0, "{from} of {naive:?}"),
            Slice::OnDisk => assert!(real.in_memory(LogIndex(from)).is_none(), "{from}"),
            Slice::Entries(entries) => {
                assert_eq!(entries.iter().collect::<Vec<_>>(), expected, "from {from}");
            }
        }
    }
}

proptest! {
    /// RAFT-9, RAFT-12, RAFT-18: whatever happens to a log, it is what the paper's simple list would be.
    #[test]
    fn the_log_is_what_a_naive_one_would_be(operations in prop::collection::vec(operation(), 1..60)) {
        let real = Log::new(EntryId::ZERO, EntryId::ZERO, Vec::new(), Vec::new());
        let mut both = Both { real, naive: Naive::default(), term: 1 };
        for operation in &operations {
            both.carry_out(operation);
            both.compare();
        }
    }
}
