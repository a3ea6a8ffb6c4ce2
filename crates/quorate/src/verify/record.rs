//! What the clients saw: one history for the strict promise, one for the weaker ones, one of the sequential znodes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use quorate_checker::models::{kv, register};
use quorate_checker::{ClientId, History, HistoryOf, Model, Nanos, OpId, Step};

use quorate_checker::models::Kv;

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
    /// Writes, conditional writes, and reads after `sync`.
    pub(crate) strict: HistoryOf<Kv>,
    /// The same, and plain reads.
    pub(crate) all: HistoryOf<Kv>,
    /// Sequential creates.
    pub(crate) sequence: History<(), u64>,
    /// Acknowledged sequential znodes that were not there in the end.
    pub(crate) lost: Vec<u64>,
    /// Faults that were made.
    pub(crate) faults: u64,
}

impl Recorded {
    /// Operations that were answered.
    pub(crate) fn acknowledged(&self) -> usize {
        let all = self.all.operations().iter().filter(|o| o.outcome.output().is_some()).count();
        all + self.sequence.operations().iter().filter(|o| o.outcome.output().is_some()).count()
    }

    /// Operations of unknown outcome.
    pub(crate) fn unknown(&self) -> usize {
        let is_unknown =
            |outcome: &quorate_checker::Outcome<_>| *outcome == quorate_checker::Outcome::Unknown;
        self.all.operations().iter().filter(|o| is_unknown(&o.outcome)).count()
    }
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

    pub(crate) fn end(&self, open: &Open, end: &End<register::Output>, server: Option<&str>) {
        let (now, mut recorded) = self.hold();
        tell(&mut recorded.all, open.all, now, end, server);
        if let Some(strict) = open.strict {
            tell(&mut recorded.strict, strict, now, end, server);
        }
    }

    pub(crate) fn create(&self, client: ClientId) -> OpId {
        let (now, mut recorded) = self.hold();
        recorded.sequence.invoke(client, now, ())
    }

    pub(crate) fn created(&self, op: OpId, end: &End<u64>, server: Option<&str>) {
        let (now, mut recorded) = self.hold();
        tell(&mut recorded.sequence, op, now, end, server);
    }

    /// A fault, to be seen in the pictures.
    pub(crate) fn note(&self, text: &str) {
        let (now, mut recorded) = self.hold();
        recorded.strict.note(now, text);
        recorded.all.note(now, text);
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

fn tell<I, O: Clone>(
    history: &mut History<I, O>,
    op: OpId,
    now: Nanos,
    end: &End<O>,
    server: Option<&str>,
) {
    match end {
        End::Returned(output) => history.returned(op, now, output.clone()),
        End::Refused => history.refused(op, now),
        End::Unknown => history.unknown(op, now),
    }
    if let Some(server) = server {
        history.served_by(op, server);
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
