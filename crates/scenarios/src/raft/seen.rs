//! What clients asked and were told, as a history for the checker (LIN-3): the newest value of the ledger is one variable, which
//! every write overwrites and every read looks at (RAFT-21). No value is written twice, so that the check needs no search and
//! costs next to nothing beside the run.

use std::collections::BTreeMap;

use quorate_checker::formats::json_lines;
use quorate_checker::models::Register;
use quorate_checker::models::register::{Input, Output};
use quorate_checker::{ClientId, HistoryOf, Nanos, OpId, Value};
use quorate_contracts::{NodeId, Time};

use crate::{Failure, judged};

/// Operations, and those that were not answered yet. The clients of a server are one client, which does not wait.
#[derive(Default)]
pub(super) struct Seen {
    history: HistoryOf<Register>,
    writes: BTreeMap<u64, OpId>,
    reads: BTreeMap<u64, OpId>,
}

impl Seen {
    pub(super) fn writes(&mut self, now: Time, node: NodeId, value: u64) {
        let input = Input::Write(told(value));
        self.writes.insert(value, self.history.invoke(ClientId(node.0), nanos(now), input));
    }

    pub(super) fn written(&mut self, now: Time, value: u64) {
        if let Some(op) = self.writes.remove(&value) {
            self.history.returned(op, nanos(now), Output::Done);
        }
    }

    pub(super) fn write_refused(&mut self, now: Time, value: u64) {
        if let Some(op) = self.writes.remove(&value) {
            self.history.refused(op, nanos(now));
        }
    }

    pub(super) fn reads(&mut self, now: Time, node: NodeId, read: u64) {
        let op = self.history.invoke(ClientId(node.0), nanos(now), Input::Read);
        self.reads.insert(read, op);
    }

    pub(super) fn read(&mut self, now: Time, read: u64, newest: Option<u64>) {
        if let Some(op) = self.reads.remove(&read) {
            let seen = newest.map_or(Value::Nil, told);
            self.history.returned(op, nanos(now), Output::Value(seen));
        }
    }

    pub(super) fn read_refused(&mut self, now: Time, read: u64) {
        if let Some(op) = self.reads.remove(&read) {
            self.history.refused(op, nanos(now));
        }
    }

    /// The history, as `quorate check` reads it.
    pub(super) fn lines(&self) -> String {
        json_lines::write(&Register::default(), &self.history)
    }

    /// Writes and reads are linearizable.
    pub(super) fn judge(&self) -> Result<(), Failure> {
        judged::linearizable(&Register::default(), &self.history)
    }
}

fn nanos(time: Time) -> Nanos {
    Nanos(time.as_nanos())
}

fn told(value: u64) -> Value {
    Value::Int(value as i64)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// RAFT-21, LIN-3: a read that began after a write was told of, and does not see it, is found; one that overlaps it is fine.
    #[test]
    fn an_old_read_is_found() {
        for (asked_ms, fine) in [(1, true), (30, false)] {
            let at = |ms| Time::ZERO + Duration::from_millis(ms);
            let mut seen = Seen::default();
            seen.writes(at(0), NodeId(1), 7);
            if asked_ms == 1 {
                seen.reads(at(1), NodeId(2), 1);
            }
            seen.written(at(20), 7);
            if asked_ms == 30 {
                seen.reads(at(30), NodeId(2), 1);
            }
            seen.read(at(40), 1, None);
            assert_eq!(seen.judge().is_ok(), fine, "asked at {asked_ms} ms");
        }
    }

    /// What was refused may come back under the same value; what was never answered may have happened.
    #[test]
    fn refused_and_unknown_writes_are_told_apart() {
        let mut seen = Seen::default();
        let (now, node) = (Time::ZERO, NodeId(1));
        seen.writes(now, node, 7);
        seen.write_refused(now, 7);
        seen.reads(now, node, 1);
        seen.read(now, 1, Some(7));
        assert_eq!(seen.judge().expect_err("nobody wrote it").property, "linearizable");
        seen.writes(now, node, 8);
        let mut seen = Seen::default();
        seen.writes(now, node, 8);
        seen.reads(now, node, 1);
        seen.read(now, 1, Some(8));
        seen.judge().expect("it may have happened");
    }
}
