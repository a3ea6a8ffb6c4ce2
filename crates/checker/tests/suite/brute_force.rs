//! LIN-2: never a wrong answer. Beside the checker stands one that tries every order, with no cleverness at all.

use quorate_checker::models::{Kv, Lock, Queue, Register, Set, Txn};
use quorate_checker::{Answer, HistoryOf, Limits, Model, Operation, Outcome, Step, check};

use crate::generate::{Dice, Invented, history};
use crate::models::{GrowingText, UniqueRegister};

/// Random histories of each model.
const HISTORIES: u64 = 100_000;

/// Whether some order of the operations works: every one that may come next is tried, and those without an answer may
/// be left out.
fn has_order<M: Model>(
    model: &M,
    state: &M::State,
    left: &mut Vec<&Operation<M::Input, M::Output>>,
) -> bool {
    if left.iter().all(|operation| operation.outcome.output().is_none()) {
        return true;
    }
    (0..left.len()).any(|i| {
        let operation = left[i];
        let is_first = !left.iter().any(|other| other.precedes(operation));
        if !is_first {
            return false;
        }
        let next = match model.step(state, &operation.input, operation.outcome.output()) {
            Step::Impossible => return false,
            Step::Stays => state.clone(),
            Step::Moves(next) => next,
        };
        left.remove(i);
        let found = has_order(model, &next, left);
        left.insert(i, operation);
        found
    })
}

fn by_force<M: Model>(model: &M, history: &HistoryOf<M>) -> Answer {
    let happened = history.operations().iter().filter(|o| o.outcome != Outcome::Refused);
    let found = has_order(model, &model.initial(), &mut happened.collect());
    if found { Answer::Linearizable } else { Answer::NotLinearizable }
}

fn agree<M: Invented>(name: &str, model: &M) {
    let mut yes = 0;
    for seed in 0..HISTORIES {
        let mut dice = Dice::new(seed);
        let operations = 2 + dice.below(5);
        let history = history(model, &mut dice, operations);
        let expected = by_force(model, &history);
        let verdict = check(model, &history, &Limits::default());
        yes += u64::from(expected == Answer::Linearizable);
        assert_eq!(verdict.answer, expected, "{name}, seed {seed}: {}", told(model, &history));
        for (_, breach) in verdict.breaches() {
            let core =
                breach.core.as_ref().unwrap_or_else(|| panic!("{name}, seed {seed}: no core"));
            assert!(core.len() <= operations as usize);
        }
    }
    // The generator makes both kinds, else the comparison says little.
    assert!(yes > HISTORIES / 20 && yes < HISTORIES / 20 * 19, "{name}: {yes} are linearizable");
}

fn told<M: Model>(model: &M, history: &HistoryOf<M>) -> String {
    let words = history.operations().iter().map(|o| {
        let unknown = if o.outcome == Outcome::Unknown { " (unknown)" } else { "" };
        format!(
            "{:?}..{:?} {} {}{unknown}",
            o.called,
            o.ended,
            o.client,
            model.describe(&o.input, o.outcome.output())
        )
    });
    format!("\n{}", words.collect::<Vec<_>>().join("\n"))
}

#[test]
fn registers_agree() {
    agree("register", &Register::default());
}

#[test]
fn registers_with_unique_values_agree() {
    agree("unique register", &UniqueRegister);
}

#[test]
fn growing_texts_agree() {
    agree("growing text", &GrowingText);
}

#[test]
fn maps_agree() {
    agree("kv", &Kv::default());
}

#[test]
fn queues_agree() {
    agree("queue", &Queue);
}

#[test]
fn sets_agree() {
    agree("set", &Set { by_member: false });
    agree("set by member", &Set { by_member: true });
}

#[test]
fn locks_agree() {
    agree("lock", &Lock { may_expire: false });
    agree("lock that expires", &Lock { may_expire: true });
}

#[test]
fn transactions_agree() {
    agree("txn", &Txn);
}
