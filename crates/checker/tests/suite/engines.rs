//! The two engines against each other where brute force is too slow, and on histories that are long.

use quorate_checker::models::register::{Input, Output};
use quorate_checker::models::{Kv, Register};
use quorate_checker::{
    Answer, ClientId, Engine, History, HistoryOf, Limits, Model, Nanos, Step, Value, check,
};

use crate::generate::{Dice, history, well_behaved};
use crate::models::{GrowingText, UniqueRegister};

/// The same object, of which the checker is told no more than it must be.
struct Plain<M>(M);

impl<M: Model> Model for Plain<M> {
    type Input = M::Input;
    type Output = M::Output;
    type State = M::State;
    fn initial(&self) -> M::State {
        self.0.initial()
    }
    fn step(&self, s: &M::State, i: &M::Input, o: Option<&M::Output>) -> Step<M::State> {
        self.0.step(s, i, o)
    }
    fn describe(&self, i: &M::Input, o: Option<&M::Output>) -> String {
        self.0.describe(i, o)
    }
    fn describe_state(&self, s: &M::State) -> String {
        self.0.describe_state(s)
    }
}

fn engines_agree<M: crate::generate::Invented>(model: M, again: M) {
    let plain = Plain(again);
    let mut chained = 0;
    for seed in 0..3000 {
        let mut dice = Dice::new(seed);
        let history = history(&model, &mut dice, 5 + seed % 4);
        let (one, other) = (
            check(&model, &history, &Limits::default()),
            check(&plain, &history, &Limits::steps(2_000_000)),
        );
        chained += u32::from(one.parts[0].engine == Engine::Chains);
        assert!(other.answer == one.answer || other.answer == Answer::Unknown, "seed {seed}");
    }
    // Now and then the same letter is drawn twice, or a value is swapped for itself.
    assert!(chained > 1500, "only {chained} were decided by chains");
}

/// LIN-2: chains and the search, which is told nothing of reads and values, come to the same answers.
#[test]
fn chains_and_search_agree() {
    engines_agree(UniqueRegister, UniqueRegister);
    engines_agree(GrowingText, GrowingText);
}

/// LIN-2: the search takes a number of steps that grows with the history, not faster. (Time and memory of a million operations are measured by `.ci/million`.)
#[test]
fn a_long_well_behaved_history_takes_few_steps() {
    let history = well_behaved(100_000, 20, 100, false);
    let verdict = check(&Kv::default(), &history, &Limits::default());
    assert!(verdict.is_linearizable());
    assert!(verdict.parts.iter().all(|part| part.engine == Engine::Search));
    assert!(verdict.steps < 30 * 100_000, "{} steps", verdict.steps);
    let unique = check(&Kv::default(), &well_behaved(100_000, 20, 100, true), &Limits::default());
    assert!(unique.is_linearizable() && unique.steps == 0, "{} steps", unique.steps);
}

/// LIN-2: a limit gives "unknown", never a guess.
#[test]
fn limits_give_unknown() {
    let history = well_behaved(2000, 20, 1, false);
    for limits in [
        Limits::steps(100),
        Limits { expired: &|| true, ..Limits::default() },
        Limits { bytes_max: 1000, ..Limits::default() },
    ] {
        assert_eq!(check(&Kv::default(), &history, &limits).answer, Answer::Unknown);
    }
    assert!(check(&Kv::default(), &history, &Limits::default()).is_linearizable());
}

/// Against timeouts: 40 writes of which nobody knows, and reads of some of them.
#[test]
fn many_timeouts_are_no_trouble() {
    let mut history: HistoryOf<Register> = History::new();
    let mut now = 0;
    for round in 0..40_i64 {
        now += 10;
        history.invoke(
            ClientId(100 + round as u64),
            Nanos(now),
            Input::Write(Value::Int(round % 5)),
        );
        let read = history.invoke(ClientId(1), Nanos(now + 1), Input::Read);
        let cas = Input::Cas(Value::Int(9), Value::Int(8));
        let failed = history.invoke(ClientId(2), Nanos(now + 2), cas);
        history.returned(failed, Nanos(now + 3), Output::Swapped(false));
        history.returned(read, Nanos(now + 4), Output::Value(Value::Int(round % 5)));
    }
    let verdict = check(&Register::default(), &history, &Limits::default());
    assert!(verdict.is_linearizable());
    let read = history.invoke(ClientId(1), Nanos(now + 5), Input::Read);
    history.returned(read, Nanos(now + 6), Output::Value(Value::Int(7)));
    let verdict = check(&Register::default(), &history, &Limits::default());
    assert_eq!(verdict.answer, Answer::NotLinearizable, "nobody wrote 7");
}
