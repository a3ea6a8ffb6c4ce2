//! What clients asked and were told, for the checker (LIN-3, LIN-5): each znode with data is a variable of a map.
//!
//! Every value is written once and every answer says at which zxid it stands, so that all can be decided, and fast.

use quorate_checker::formats::json_lines;
use quorate_checker::models::Kv;
use quorate_checker::models::kv::{Input, Output};
use quorate_checker::models::register;
use quorate_checker::promises::Promise;
use quorate_checker::{ClientId, HistoryOf, Nanos, OpId, Position, Value};
use quorate_contracts::{NodeId, Time};

use super::history::ClientId as Who;
use crate::{Failure, judged};

/// What ZooKeeper promises of reads that are not synced: ZK-5, ZK-6, ZK-7.
const PROMISES: [Promise; 5] = [
    Promise::LinearizableWrites,
    Promise::Fifo,
    Promise::ReadYourWrites,
    Promise::MonotonicReads,
    Promise::SessionOrder,
];

/// Two histories of one run.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Writes, conditional writes, and reads on the heels of a `sync` (ZK-8): linearizable.
    strict: HistoryOf<Kv>,
    /// Writes, and all reads: as good as is promised to each client.
    all: HistoryOf<Kv>,
    now: Nanos,
}

/// An operation under way, in the histories that it is in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Op {
    strict: Option<OpId>,
    all: Option<OpId>,
}

/// Who answered, and at which zxid the answer stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answerer {
    pub(super) server: NodeId,
    pub(super) zxid: i64,
}

impl Seen {
    pub(super) fn clock(&mut self, now: Time) {
        self.now = Nanos(now.as_nanos());
    }

    pub(super) fn sets(&mut self, client: Who, path: &str, value: &str) -> Op {
        self.begin(client, path, register::Input::Write(value.into()), (true, true))
    }

    /// A read; one that began with a `sync` must be up to date.
    pub(super) fn reads(&mut self, client: Who, path: &str, synced: bool) -> Op {
        let counts = path == super::client::COUNTER;
        self.begin(client, path, register::Input::Read, (synced, !counts))
    }

    /// The counter from one version to the next, if it still has it. Several clients may want the same step, of which one gets it; so
    /// this is for the search alone.
    pub(super) fn increments(&mut self, client: Who, version: i32) -> Op {
        let step = register::Input::Cas(counted(version), counted(version + 1));
        self.begin(client, super::client::COUNTER, step, (true, false))
    }

    fn begin(
        &mut self,
        client: Who,
        path: &str,
        op: register::Input,
        (strict, all): (bool, bool),
    ) -> Op {
        let (client, now) = (ClientId(client.0 as u64), self.now);
        let input = Input::new(path, op);
        Op {
            strict: strict.then(|| self.strict.invoke(client, now, input.clone())),
            all: all.then(|| self.all.invoke(client, now, input)),
        }
    }

    pub(super) fn done(&mut self, op: Op, by: Answerer) {
        self.returned(op, &Output::Done, by);
    }

    pub(super) fn swapped(&mut self, op: Op, swapped: bool, by: Answerer) {
        self.returned(op, &Output::Swapped(swapped), by);
    }

    /// Znodes are made empty, and only then written to.
    pub(super) fn found(&mut self, op: Op, value: Value, by: Answerer) {
        let value = if value == Value::from("") { Value::Nil } else { value };
        self.returned(op, &Output::Value(value), by);
    }

    /// It did not happen, or was a read that tells nothing.
    pub(super) fn refused(&mut self, op: Op) {
        let now = self.now;
        self.each(op, |history, id| history.refused(id, now));
    }

    /// It may have happened.
    pub(super) fn unknown(&mut self, op: Op) {
        let now = self.now;
        self.each(op, |history, id| history.unknown(id, now));
    }

    fn returned(&mut self, op: Op, output: &Output, by: Answerer) {
        let (now, server) = (self.now, by.server.to_string());
        self.each(op, |history, id| {
            history.returned(id, now, output.clone());
            history.served_by(id, &server);
            history.stands_at(id, Position(by.zxid.unsigned_abs()));
        });
    }

    fn each(&mut self, op: Op, mut tell: impl FnMut(&mut HistoryOf<Kv>, OpId)) {
        op.strict.into_iter().for_each(|id| tell(&mut self.strict, id));
        op.all.into_iter().for_each(|id| tell(&mut self.all, id));
    }

    /// What must be linearizable, as `quorate check` reads it.
    pub(super) fn lines(&self) -> String {
        json_lines::write(&Kv::default(), &self.strict)
    }

    /// The verdict of the checker.
    pub(super) fn judge(&self) -> Result<(), Failure> {
        judged::linearizable(&Kv::default(), &self.strict)?;
        judged::promised(&Kv::default(), &self.all, &PROMISES)
    }
}

/// The counter's value is its version, and it is made with 0.
pub(super) fn counted(version: i32) -> Value {
    if version == 0 { Value::Nil } else { Value::Int(version.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Who = Who(0);
    const B: Who = Who(1);

    fn by(server: u64, zxid: i64) -> Answerer {
        Answerer { server: NodeId(server), zxid }
    }

    fn written(seen: &mut Seen, value: &str, zxid: i64) {
        let op = seen.sets(A, "/d0", value);
        seen.done(op, by(1, zxid));
    }

    fn read(seen: &mut Seen, client: Who, synced: bool, value: &str, by: Answerer) {
        let op = seen.reads(client, "/d0", synced);
        seen.found(op, value.into(), by);
    }

    fn broken(seen: &Seen) -> Option<String> {
        seen.judge().err().map(|failure| failure.property)
    }

    /// ZK-8, LIN-5: an old value is fine for a plain read, and for none that was synced.
    #[test]
    fn a_synced_read_is_up_to_date() {
        for (synced, expected) in [(false, None), (true, Some("linearizable".to_owned()))] {
            let mut seen = Seen::default();
            written(&mut seen, "old", 5);
            written(&mut seen, "new", 6);
            read(&mut seen, B, synced, "old", by(2, 5));
            assert_eq!(broken(&seen), expected, "synced: {synced}");
        }
    }

    /// ZK-7, LIN-5: backwards at another server; and a server that shows another state than its zxid says.
    #[test]
    fn nobody_goes_back_from_server_to_server() {
        let mut seen = Seen::default();
        written(&mut seen, "old", 5);
        written(&mut seen, "new", 6);
        read(&mut seen, B, false, "new", by(2, 6));
        read(&mut seen, B, false, "old", by(3, 5));
        assert_eq!(broken(&seen).as_deref(), Some("fifo"));
        let mut seen = Seen::default();
        written(&mut seen, "old", 5);
        written(&mut seen, "new", 6);
        read(&mut seen, B, false, "old", by(3, 6));
        assert_eq!(broken(&seen).as_deref(), Some("session-order"));
    }

    /// ZK-3: two clients cannot both take one step of the counter.
    #[test]
    fn one_step_is_taken_once() {
        for (second, fine) in [(false, true), (true, false)] {
            let mut seen = Seen::default();
            let (one, other) = (seen.increments(A, 0), seen.increments(B, 0));
            seen.swapped(one, true, by(1, 5));
            seen.swapped(other, second, by(2, 6));
            assert_eq!(broken(&seen).is_none(), fine);
        }
    }
}
