//! What an object does if its operations come one after the other: its sequential specification.
//!
//! The checker asks nothing else of an object. Built-in ones are in [`models`](crate::models); a user's own implements
//! [`Model`].

use std::borrow::Cow;
use std::hash::Hash;

use crate::value::Value;

/// A sequential specification.
///
/// Deterministic: a state, an input and an output leave one possible next state. Where an object may choose, let the
/// state be the set of states it may be in.
///
/// ```
/// use quorate_checker::{ClientId, History, Limits, Model, Nanos, Step, check};
///
/// /// A counter that can only be increased; each call tells the new count.
/// struct Counter;
///
/// impl Model for Counter {
///     type Input = u64;
///     type Output = u64;
///     type State = u64;
///     fn initial(&self) -> u64 { 0 }
///     fn step(&self, count: &u64, add: &u64, told: Option<&u64>) -> Step<u64> {
///         let new = count + add;
///         if told.is_none_or(|told| *told == new) { Step::Moves(new) } else { Step::Impossible }
///     }
///     fn describe(&self, add: &u64, told: Option<&u64>) -> String { format!("+{add} -> {told:?}") }
///     fn describe_state(&self, count: &u64) -> String { count.to_string() }
/// }
///
/// let mut history = History::new();
/// let one = history.invoke(ClientId(1), Nanos(0), 1);
/// let two = history.invoke(ClientId(2), Nanos(1), 2);
/// history.returned(one, Nanos(2), 3); // the other came first
/// history.returned(two, Nanos(3), 2);
/// assert!(check(&Counter, &history, &Limits::default()).is_linearizable());
/// ```
pub trait Model {
    /// What is asked. Equal inputs must have equal effects.
    type Input: Clone + Eq + Hash;
    /// What is answered.
    type Output: Clone + Eq + Hash;
    /// What the object remembers.
    type State: Clone + Eq + Hash;

    /// The state before the first operation.
    fn initial(&self) -> Self::State;

    /// Whether the operation can come next, and what it does. Without an output (it is not known) every answer is
    /// possible, and only the effect counts.
    fn step(
        &self,
        state: &Self::State,
        input: &Self::Input,
        output: Option<&Self::Output>,
    ) -> Step<Self::State>;

    /// Whether an operation with this input and output changes nothing *in every state in which it can come*: a
    /// read, a failed compare-and-set. (A write of the value that is there does not count: elsewhere it would change
    /// something.) The search is much faster if it knows; `false` is never wrong.
    fn observes(&self, _input: &Self::Input, _output: Option<&Self::Output>) -> bool {
        false
    }

    /// The part of the object that the operation concerns, if the object falls into parts that know nothing of each
    /// other: a history is linearizable if and only if each part is (Herlihy & Wing, locality). `None` for
    /// *any* operation means that the object is one piece.
    fn key<'a>(&self, _input: &'a Self::Input) -> Option<Cow<'a, str>> {
        None
    }

    /// The operation in a few words, as on a bar of the picture: `write 1`, `read 2`. Without an output the
    /// result is not known.
    fn describe(&self, input: &Self::Input, output: Option<&Self::Output>) -> String;

    /// The state in a few words.
    fn describe_state(&self, state: &Self::State) -> String;

    /// Why an operation cannot come next in a state, in words.
    fn refusal(
        &self,
        state: &Self::State,
        input: &Self::Input,
        output: Option<&Self::Output>,
    ) -> String {
        format!("{} is impossible at {}", self.describe(input, output), self.describe_state(state))
    }

    /// The operation as an access to one variable, where it is one: it opens a polynomial way to decide histories in
    /// which every written value is unique.
    fn access<'a>(&self, _input: &'a Self::Input, _output: Option<&'a Self::Output>) -> Access<'a> {
        Access::Other
    }

    /// The value of each such variable before the first operation.
    fn initial_value(&self) -> Option<Value> {
        None
    }

    /// About how many bytes a state takes: the search stays below its memory limit by this.
    fn state_bytes(&self, _state: &Self::State) -> usize {
        size_of::<Self::State>()
    }
}

/// What an operation does to a state.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step<S> {
    /// It cannot come next with this output.
    Impossible,
    /// It can, and changes nothing.
    Stays,
    /// It can, and leads to this state.
    Moves(S),
}

/// What an operation does to one variable (see [`Model::access`]).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access<'a> {
    /// It saw this value and changed nothing.
    Reads(&'a Value),
    /// Whatever was there, this value is there after it.
    Writes(&'a Value),
    /// The first was there, the second is there after it. (If the output is not known: or nothing happened.)
    Swaps(&'a Value, &'a Value),
    /// This was appended to what was there.
    Appends(&'a Value),
    /// It changed nothing, and nothing is known of what it saw.
    Nothing,
    /// Something else.
    Other,
}
