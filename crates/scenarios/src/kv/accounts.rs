//! What Clerks saw of the accounts, as transactions for the checker (LIN-5, KV-4): a look at all of them, and transfers between two, must be
//! strictly serializable.
//!
//! An account stands for the revision that wrote it: amounts may be alike, revisions never are. A transfer that took place found what it
//! compared with; one that did not says nothing.

use quorate_checker::models::Txn;
use quorate_checker::models::txn::{Input, Micro, Output};
use quorate_checker::{ClientId, History, HistoryOf, Interval, Nanos, Outcome, Value};
use quorate_contracts::Time;
use quorate_etcd::messages::mvccpb::KeyValue;

use super::clients::Who;
use crate::{Failure, judged};

/// The accounts that a transfer is between, each with the revision that wrote it last; 0 if none did.
pub(crate) type Between = [(String, i64); 2];

/// Looks and transfers that are over.
#[derive(Default)]
pub(crate) struct Accounts {
    over: Vec<Interval<Input, Output>>,
}

/// Whose transaction it was, and when.
#[derive(Clone, Copy)]
pub(crate) struct Span {
    pub(crate) who: Who,
    pub(crate) asked: Time,
    pub(crate) told: Time,
}

impl Accounts {
    /// All accounts were seen at once.
    pub(crate) fn looked(&mut self, span: Span, names: &[String], found: &[KeyValue]) {
        let revision = |name: &String| {
            let account = found.iter().find(|kv| kv.key == name.as_bytes());
            revision(account.map_or(0, |kv| kv.mod_revision))
        };
        let reads = names.iter().map(|name| Micro::Read(name.as_str().into())).collect();
        self.push(span, reads, names.iter().map(revision).collect());
    }

    /// Money was moved at this revision.
    pub(crate) fn transferred(&mut self, span: Span, between: &Between, at: i64) {
        let reads = between.iter().map(|(name, _)| Micro::Read(name.as_str().into()));
        let writes =
            between.iter().map(|(name, _)| Micro::Write(name.as_str().into(), revision(at)));
        let found = between.iter().map(|(_, found)| revision(*found)).collect();
        self.push(span, reads.chain(writes).collect(), found);
    }

    fn push(&mut self, span: Span, input: Input, found: Output) {
        self.over.push(Interval {
            client: ClientId(span.who as u64),
            input,
            outcome: Outcome::Returned(found),
            called: Nanos(span.asked.as_nanos()),
            ended: Some(Nanos(span.told.as_nanos())),
            server: None,
            position: None,
        });
    }

    /// They could have come one after the other.
    pub(crate) fn judge(&self) -> Result<(), Failure> {
        let history: HistoryOf<Txn> = History::from_intervals(self.over.clone());
        judged::strictly_serializable(&history)
    }
}

fn revision(number: i64) -> Value {
    if number == 0 { Value::Nil } else { Value::Int(number) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn span(who: Who, asked_ms: u64, told_ms: u64) -> Span {
        let at = |ms| Time::ZERO + Duration::from_millis(ms);
        Span { who, asked: at(asked_ms), told: at(told_ms) }
    }

    fn account(name: &str, mod_revision: i64) -> KeyValue {
        KeyValue { key: name.to_owned().into(), mod_revision, ..Default::default() }
    }

    /// LIN-5: half a transfer is seen, or one that was told of is not.
    #[test]
    fn half_a_transfer_and_an_old_look_are_found() {
        let names = ["a", "b"].map(str::to_owned);
        let looks = [
            (vec![account("a", 5), account("b", 5)], true),
            (vec![account("a", 5)], false),
            (vec![], false),
        ];
        for (found, fine) in looks {
            let mut accounts = Accounts::default();
            let between = [("a".to_owned(), 0), ("b".to_owned(), 0)];
            accounts.transferred(span(1, 0, 10), &between, 5);
            accounts.looked(span(2, 20, 30), &names, &found);
            assert_eq!(accounts.judge().is_ok(), fine, "{found:?}");
        }
    }
}
