//! What the clients asked and were told, in batches that can be judged alone and forgotten.
//!
//! Linearizability is local: a history is linearizable if for each object what happened to it is (Herlihy & Wing 1990,
//! Theorem 1). So the clients take new keys every second, and a second's operations are a batch. It is judged once no
//! operation in it is open any more; and once more a while later, when its keys were read a last time: what a
//! node lost when it died meanwhile would be missed then. Afterwards it is forgotten, so that memory is bounded however
//! long the playground runs.
//!
//! An operation whose outcome is unknown may take effect at any later time: on this batch's keys, and on no others.
//!
//! Not here: a clock, clients, and the check itself.

use std::collections::BTreeMap;

use quorate_checker::models::{Kv, kv, register};
use quorate_checker::{ClientId, HistoryOf, Nanos, OpId, Outcome};

use crate::verify::record::{End, tell};

/// A batch has this length ...
pub(super) const BATCH: Nanos = Nanos(1_000_000_000);
/// ... and its keys are read a last time so many batches later.
pub(super) const LATER: u64 = 10;
/// Batches that are remembered. If the last reads cannot be had for so long, they are done without.
const BATCHES_MAX: usize = 60;

/// Which batch: the seconds since the beginning.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(super) struct Number(pub(super) u64);

impl Number {
    /// The batch that is filled at a time.
    pub(super) fn at(now: Nanos) -> Self {
        Self(now.0 / BATCH.0)
    }
}

/// An operation whose end is to be told.
#[derive(Clone, Copy)]
pub(super) struct Open(Number, OpId);

#[derive(Default)]
struct Batch {
    history: HistoryOf<Kv>,
    open: usize,
    judged: bool,
}

/// The batches that are not forgotten.
#[derive(Default)]
pub(super) struct Batches(BTreeMap<Number, Batch>);

impl Batches {
    /// A client asks.
    pub(super) fn invoke(
        &mut self,
        to: Number,
        client: ClientId,
        now: Nanos,
        key: &str,
        op: register::Input,
    ) -> Open {
        let batch = self.0.entry(to).or_default();
        batch.open += 1;
        Open(to, batch.history.invoke(client, now, kv::Input::new(key, op)))
    }

    /// And is told, or gives up. Nothing if the batch is forgotten.
    pub(super) fn end(&mut self, open: Open, now: Nanos, end: &End<register::Output>) {
        let Open(number, op) = open;
        if let Some(batch) = self.0.get_mut(&number) {
            batch.open -= 1;
            tell(&mut batch.history, op, now, end, None::<&str>.into());
        }
    }

    /// Batches that are to be judged for the first time.
    pub(super) fn ripe(&mut self, now: Nanos) -> Vec<(Number, HistoryOf<Kv>)> {
        let now = Number::at(now);
        let is_ripe =
            |number: &Number, batch: &Batch| *number < now && batch.open == 0 && !batch.judged;
        let ripe = self.0.iter_mut().filter(|(number, batch)| is_ripe(number, batch));
        ripe.map(|(number, batch)| {
            batch.judged = true;
            (*number, batch.history.clone())
        })
        .collect()
    }

    /// The oldest batch whose keys are to be read a last time.
    pub(super) fn due(&self, now: Nanos) -> Option<Number> {
        let (number, batch) = self.0.first_key_value()?;
        let is_due = number.0 + LATER < Number::at(now).0 && batch.judged;
        is_due.then_some(*number)
    }

    /// Whether its last reads need not be waited for any longer.
    pub(super) fn is_late(&self) -> bool {
        self.0.len() > BATCHES_MAX
    }

    /// Forgets it; what is left of it is to be judged a last time.
    pub(super) fn forget(&mut self, number: Number) -> HistoryOf<Kv> {
        self.0.remove(&number).unwrap_or_default().history
    }
}

/// Operations that happened or may have happened, and how many of them are of unknown outcome.
pub(super) fn counted(history: &HistoryOf<Kv>) -> (u64, u64) {
    let mut counted = (0, 0);
    for operation in history.operations() {
        match operation.outcome {
            Outcome::Returned(_) => counted.0 += 1,
            Outcome::Unknown => counted = (counted.0 + 1, counted.1 + 1),
            Outcome::Refused => {}
        }
    }
    counted
}

#[cfg(test)]
mod tests {
    use quorate_checker::models::register::{Input, Output};

    use super::*;

    fn second(s: u64) -> Nanos {
        Nanos(s * BATCH.0)
    }

    fn write(batches: &mut Batches, number: u64) -> Open {
        let now = second(number);
        batches.invoke(Number::at(now), ClientId(1), now, "r0", Input::Write(1.into()))
    }

    fn numbers(ripe: &[(Number, HistoryOf<Kv>)]) -> Vec<u64> {
        ripe.iter().map(|(number, _)| number.0).collect()
    }

    /// Batch 0 waits for an operation that takes long, batch 1 does not; each is judged once, read again later, forgotten.
    #[test]
    fn a_batch_is_judged_when_it_is_full_and_nothing_in_it_is_open() {
        let mut batches = Batches::default();
        let slow = write(&mut batches, 0);
        let quick = write(&mut batches, 1);
        batches.end(quick, second(1), &End::Returned(Output::Done));
        assert!(batches.ripe(second(1)).is_empty(), "batch 1 is not full");
        assert_eq!(numbers(&batches.ripe(second(2))), [1]);
        batches.end(slow, second(3), &End::Unknown);
        let ripe = batches.ripe(second(3));
        assert_eq!(numbers(&ripe), [0], "batch 1 was judged");
        assert_eq!(counted(&ripe[0].1), (1, 1));
        assert_eq!(batches.due(second(10)), None);
        assert_eq!(batches.due(second(11)), Some(Number(0)));
        assert_eq!(batches.forget(Number(0)).operations().len(), 1);
        assert_eq!(batches.due(second(11)), None);
    }

    #[test]
    fn the_end_of_an_operation_of_a_forgotten_batch_is_no_matter() {
        let mut batches = Batches::default();
        let open = write(&mut batches, 0);
        batches.forget(Number(0));
        batches.end(open, second(9), &End::Returned(Output::Done));
        assert!(batches.ripe(second(9)).is_empty());
    }

    /// Without the last reads for a minute a batch is given up: memory is bounded.
    #[test]
    fn batches_do_not_heap_up() {
        let mut batches = Batches::default();
        for number in 0..=BATCHES_MAX as u64 {
            assert!(!batches.is_late());
            write(&mut batches, number);
        }
        assert!(batches.is_late());
    }
}
