//! What the clients saw: one history for the strict promise, one for the weaker ones, one of the sequential znodes, one of transactions.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use quorate_checker::models::{Kv, Txn, kv, register, txn};
use quorate_checker::{ClientId, History, HistoryOf, Model, Nanos, OpId, Outcome, Position, Step};

/// Sequential znodes below one parent: each gets a number greater than all before. Numbers may be left out.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sequence;

impl Model for Sequence {
    type Input = ();
    type Output = u64;
    type State = Option<u64>;

    fn initial(&self) -> Option<u64> {
        None
    }

    fn step(&self, last: &Option<u64>, (): &(), number: Option<&u64>) -> Step<Option<u64>> {
        match number {
            None => Step::Stays,
            Some(number) if Some(*number) > *last => Step::Moves(Some(*number)),
            Some(_) => Step::Impossible,
        }
    }

    fn describe(&self, (): &(), number: Option<&u64>) -> String {
        number.map_or("create ?".to_owned(), |number| format!("create = {number}"))
    }

    fn describe_state(&self, last: &Option<u64>) -> String {
        last.map_or("none".to_owned(), |last| format!("last {last}"))
    }
}

/// All that was recorded.
#[derive(Default)]
pub(crate) struct Recorded {
    /// Writes, conditional writes, and reads that must be up to date.
    pub(crate) strict: HistoryOf<Kv>,
    /// The same, and reads that may be old.
    pub(crate) all: HistoryOf<Kv>,
    /// Transactions on several keys.
    pub(crate) transactions: HistoryOf<Txn>,
    /// Sequential creates.
    pub(crate) sequence: History<(), u64>,
    /// Acknowledged sequential znodes that were not there in the end.
    pub(crate) lost: Vec<u64>,
    /// Faults that were made.
    pub(crate) faults: u64,
}

impl Recorded {
    /// How many operations there were.
    pub(crate) fn operations(&self) -> usize {
        self.all.operations().len()
            + self.sequence.operations().len()
            + self.transactions.operations().len()
    }

    /// Operations that were answered.
    pub(crate) fn acknowledged(&self) -> usize {
        self.count(Ended::Returned)
    }

    /// Operations of unknown outcome.
    pub(crate) fn unknown(&self) -> usize {
        self.count(Ended::Unknown)
    }

    fn count(&self, ended: Ended) -> usize {
        count(&self.all, ended) + count(&self.sequence, ended) + count(&self.transactions, ended)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Ended {
    Returned,
    Unknown,
}

fn count<I, O>(history: &History<I, O>, ended: Ended) -> usize {
    let is = |outcome: &Outcome<O>| match outcome {
        Outcome::Returned(_) => ended == Ended::Returned,
        Outcome::Unknown => ended == Ended::Unknown,
        Outcome::Refused => false,
    };
    history.operations().iter().filter(|operation| is(&operation.outcome)).count()
}

/// The recorder, shared by the clients. Times are taken while it is held, so that their order is that of the events.
#[derive(Clone)]
pub(crate) struct Recorder {
    recorded: Arc<Mutex<Recorded>>,
    start: Instant,
}

/// An operation whose end is to be told.
pub(crate) struct Open {
    all: OpId,
    strict: Option<OpId>,
}

/// How an operation ended.
pub(crate) enum End<O> {
    Returned(O),
    Refused,
    Unknown,
}

/// Who answered, and where in its order of changes the answer stands, if that is known.
#[derive(Clone, Copy, Default)]
pub(crate) struct By<'a> {
    pub(crate) server: Option<&'a str>,
    pub(crate) position: Option<u64>,
}

impl<'a> From<Option<&'a str>> for By<'a> {
    fn from(server: Option<&'a str>) -> Self {
        Self { server, position: None }
    }
}

impl Recorder {
    pub(crate) fn new() -> Self {
        Self { recorded: Arc::new(Mutex::new(Recorded::default())), start: Instant::now() }
    }

    pub(crate) fn invoke(
        &self,
        client: ClientId,
        key: &str,
        op: register::Input,
        plain: bool,
    ) -> Open {
        let (now, mut recorded) = self.hold();
        let input = kv::Input::new(key, op);
        let strict = (!plain).then(|| recorded.strict.invoke(client, now, input.clone()));
        Open { all: recorded.all.invoke(client, now, input), strict }
    }

    pub(crate) fn end<'a>(&self, open: &Open, end: &End<register::Output>, by: impl Into<By<'a>>) {
        let ((now, mut recorded), by) = (self.hold(), by.into());
        tell(&mut recorded.all, open.all, now, end, by);
        if let Some(strict) = open.strict {
            tell(&mut recorded.strict, strict, now, end, by);
        }
    }

    pub(crate) fn transact(&self, client: ClientId, input: txn::Input) -> OpId {
        let (now, mut recorded) = self.hold();
        recorded.transactions.invoke(client, now, input)
    }

    pub(crate) fn transacted(&self, op: OpId, end: &End<txn::Output>, by: By<'_>) {
        let (now, mut recorded) = self.hold();
        tell(&mut recorded.transactions, op, now, end, by);
    }

    pub(crate) fn create(&self, client: ClientId) -> OpId {
        let (now, mut recorded) = self.hold();
        recorded.sequence.invoke(client, now, ())
    }

    pub(crate) fn created(&self, op: OpId, end: &End<u64>, server: Option<&str>) {
        let (now, mut recorded) = self.hold();
        tell(&mut recorded.sequence, op, now, end, server.into());
    }

    /// A fault, to be seen in the pictures.
    pub(crate) fn note(&self, text: &str) {
        let (now, mut recorded) = self.hold();
        recorded.strict.note(now, text);
        recorded.all.note(now, text);
        recorded.transactions.note(now, text);
    }

    pub(crate) fn with(&self, change: impl FnOnce(&mut Recorded)) {
        change(&mut self.hold().1);
    }

    /// What was recorded; the recorder is empty then.
    pub(crate) fn take(&self) -> Recorded {
        std::mem::take(&mut *self.hold().1)
    }

    fn hold(&self) -> (Nanos, MutexGuard<'_, Recorded>) {
        let recorded = self.recorded.lock().unwrap_or_else(PoisonError::into_inner);
        (Nanos(u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)), recorded)
    }
}

/// Writes down how an operation ended, and who said so.
pub(crate) fn tell<I, O: Clone>(
    history: &mut History<I, O>,
    op: OpId,
    now: Nanos,
    end: &End<O>,
    by: By<'_>,
) {
    match end {
        End::Returned(output) => history.returned(op, now, output.clone()),
        End::Refused => history.refused(op, now),
        End::Unknown => history.unknown(op, now),
    }
    if let Some(server) = by.server {
        history.served_by(op, server);
    }
    if let Some(position) = by.position {
        history.stands_at(op, Position(position));
    }
}

#[cfg(test)]
mod tests {
    use quorate_checker::{Limits, check};

    use super::*;

    /// A number that is not above one that was known before it was asked for is refused.
    #[test]
    fn sequences_count_up_in_real_time() {
        for (numbers, fine) in [([3, 7], true), ([7, 3], false), ([3, 3], false)] {
            let mut history = History::new();
            for (at, number) in (0..).zip(numbers) {
                let op = history.invoke(ClientId(at), Nanos(10 * at), ());
                history.returned(op, Nanos(10 * at + 5), number);
            }
            assert_eq!(check(&Sequence, &history, &Limits::default()).is_linearizable(), fine);
        }
    }
}
