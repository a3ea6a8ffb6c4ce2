//! What the checker says of what clients were told, as a failure like any other.

use quorate_checker::models::{Kv, Txn};
use quorate_checker::promises::{Broken, Kept, Promise, keeps, serializable};
use quorate_checker::{Answer, HistoryOf, Limits, Model, check};

use crate::Failure;

/// Steps of the model that the check of one run may take, so that a seed comes to the same answer everywhere. Beyond, the
/// history counts for nothing: unique values, which most scenarios write, take no steps at all.
const STEPS_MAX: u64 = 5_000_000;

/// LIN-1, LIN-3: one order of all operations explains what clients were told.
pub(crate) fn linearizable<M: Model>(model: &M, history: &HistoryOf<M>) -> Result<(), Failure> {
    let verdict = check(model, history, &Limits::steps(STEPS_MAX));
    if verdict.answer != Answer::NotLinearizable {
        return Ok(());
    }
    let why = verdict.breaches().map(|(part, breach)| match &part.key {
        Some(key) => format!("{key}: {}", breach.why),
        None => breach.why.clone(),
    });
    Err(Failure::safety("linearizable", why.collect::<Vec<_>>().join("; ")))
}

/// LIN-5: what is promised to each client. Values are unique in these histories, so that it can be said.
pub(crate) fn promised(
    model: &Kv,
    history: &HistoryOf<Kv>,
    promises: &[Promise],
) -> Result<(), Failure> {
    for promise in promises {
        let what = match keeps(model, history, *promise) {
            Kept::Yes => continue,
            Kept::Unknown(why) => format!("cannot be said: {why}"),
            Kept::No(broken) => in_words(&broken),
        };
        return Err(Failure::safety(promise.name(), what));
    }
    Ok(())
}

/// LIN-5: transactions on several keys could have come one after the other, in an order that respects real time.
pub(crate) fn strictly_serializable(history: &HistoryOf<Txn>) -> Result<(), Failure> {
    let promise = Promise::StrictSerializable;
    match serializable(history, promise, &Limits::steps(STEPS_MAX)) {
        Kept::Yes | Kept::Unknown(_) => Ok(()),
        Kept::No(broken) => Err(Failure::safety(promise.name(), in_words(&broken))),
    }
}

fn in_words(broken: &[Broken]) -> String {
    let ways: Vec<_> = broken.iter().map(|way| format!("{}: {}", way.kind, way.why)).collect();
    ways.join("; ")
}
