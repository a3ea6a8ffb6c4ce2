//! One variable: read, write, compare-and-set, append, delete.

use super::{Heard, Said, Spoken, heard, said, unknown_name};
use crate::history::Outcome;
use crate::model::{Access, Model, Step};
use crate::value::Value;

/// One variable.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Register {
    /// What is there before the first write, and after a delete.
    pub initial: Value,
}

/// What is asked of a variable.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Input {
    /// What is there?
    Read,
    /// Put this there.
    Write(Value),
    /// Put the second there if the first is there.
    Cas(Value, Value),
    /// Put this behind what is there (see [`Value::appended`]).
    Append(Value),
    /// Put the initial value there.
    Delete,
}

/// What is answered.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Output {
    /// This is there.
    Value(Value),
    /// It is done.
    Done,
    /// Whether the expected value was there, and so the new one is there.
    Swapped(bool),
}

impl Model for Register {
    type Input = Input;
    type Output = Output;
    type State = Value;

    fn initial(&self) -> Value {
        self.initial.clone()
    }

    fn step(&self, state: &Value, input: &Input, output: Option<&Output>) -> Step<Value> {
        let moves_to = |next: &Value| {
            if next == state { Step::Stays } else { Step::Moves(next.clone()) }
        };
        let only_if = |possible| if possible { Step::Stays } else { Step::Impossible };
        match (input, output) {
            (Input::Read, None) => Step::Stays,
            (Input::Read, Some(Output::Value(seen))) => only_if(seen == state),
            (Input::Write(value), None | Some(Output::Done)) => moves_to(value),
            (Input::Append(more), None | Some(Output::Done)) => moves_to(&state.appended(more)),
            (Input::Delete, None | Some(Output::Done)) => moves_to(&self.initial),
            (Input::Cas(from, to), Some(Output::Swapped(true))) if from == state => moves_to(to),
            (Input::Cas(from, _), Some(Output::Swapped(false))) => only_if(from != state),
            (Input::Cas(from, to), None) if from == state => moves_to(to),
            (Input::Cas(..), None) => Step::Stays,
            _ => Step::Impossible,
        }
    }

    fn observes(&self, input: &Input, output: Option<&Output>) -> bool {
        observes(input, output)
    }

    fn describe(&self, input: &Input, output: Option<&Output>) -> String {
        describe(("read", "write", ""), input, output)
    }

    fn describe_state(&self, state: &Value) -> String {
        state.to_string()
    }

    fn refusal(&self, state: &Value, input: &Input, output: Option<&Output>) -> String {
        refusal(state, input, output)
    }

    fn access<'a>(&self, input: &'a Input, output: Option<&'a Output>) -> Access<'a> {
        access(input, output)
    }

    fn initial_value(&self) -> Option<Value> {
        Some(self.initial.clone())
    }

    fn state_bytes(&self, state: &Value) -> usize {
        state.bytes()
    }
}

pub(super) fn observes(input: &Input, output: Option<&Output>) -> bool {
    matches!((input, output), (Input::Read, _) | (Input::Cas(..), Some(Output::Swapped(false))))
}

pub(super) fn access<'a>(input: &'a Input, output: Option<&'a Output>) -> Access<'a> {
    match (input, output) {
        (Input::Read, Some(Output::Value(seen))) => Access::Reads(seen),
        (Input::Read, None) => Access::Nothing,
        (Input::Write(value), None | Some(Output::Done)) => Access::Writes(value),
        (Input::Append(more), None | Some(Output::Done)) => Access::Appends(more),
        (Input::Cas(from, to), None | Some(Output::Swapped(true))) => Access::Swaps(from, to),
        _ => Access::Other,
    }
}

/// `read` and `write` go by other names elsewhere; ` x` is the name of the variable, if it has one.
pub(super) fn describe(
    (read, write, name): (&str, &str, &str),
    input: &Input,
    output: Option<&Output>,
) -> String {
    let unless_true = match output {
        Some(Output::Swapped(false)) => " failed",
        Some(_) => "",
        None => " ?",
    };
    match (input, output) {
        (Input::Read, Some(Output::Value(seen))) => format!("{read}{name} = {seen}"),
        (Input::Read, _) => format!("{read}{name} ?"),
        (Input::Write(value), _) => format!("{write}{name} {value}{unless_true}"),
        (Input::Append(more), _) => format!("append{name} {more}{unless_true}"),
        (Input::Delete, _) => format!("delete{name}{unless_true}"),
        (Input::Cas(from, to), _) => format!("cas{name} {from}→{to}{unless_true}"),
    }
}

pub(super) fn refusal(state: &Value, input: &Input, output: Option<&Output>) -> String {
    match (input, output) {
        (Input::Read, Some(Output::Value(seen))) => format!("it saw {seen}, there is {state}"),
        (Input::Cas(from, _), Some(Output::Swapped(true))) => {
            format!("it found {from}, there is {state}")
        }
        (Input::Cas(from, _), _) => format!("it did not find {from}, but it is there"),
        _ => "its answer is not one to this question".to_owned(),
    }
}

impl Spoken for Register {
    fn hear(&self, said: &Said, outcome: Outcome<Value>) -> Result<Heard<Self>, String> {
        hear(said, outcome)
    }

    fn say(&self, input: &Input, output: Option<&Output>) -> (Said, Value) {
        say(None, input, output)
    }
}

pub(super) fn hear(
    operation: &Said,
    outcome: Outcome<Value>,
) -> Result<(Input, Outcome<Output>), String> {
    let value = operation.value.clone();
    let done = |outcome| heard(outcome, |_| Ok(Output::Done));
    Ok(match &*operation.f {
        "read" | "get" => (Input::Read, heard(outcome, |seen| Ok(Output::Value(seen)))?),
        "write" | "put" | "set" => (Input::Write(value), done(outcome)?),
        "append" => (Input::Append(value), done(outcome)?),
        "delete" | "del" => (Input::Delete, done(outcome)?),
        "cas" => {
            let Some([from, to]) = value.as_list() else {
                return Err(format!("`cas` needs [from to], not {value}"));
            };
            let swapped = |value| Ok(Output::Swapped(value != Value::Bool(false)));
            (Input::Cas(from.clone(), to.clone()), heard(outcome, swapped)?)
        }
        other => return Err(unknown_name("register", other, "read, write, cas, append, delete")),
    })
}

pub(super) fn say(
    key: Option<std::sync::Arc<str>>,
    input: &Input,
    output: Option<&Output>,
) -> (Said, Value) {
    let (f, value) = match input {
        Input::Read => ("read", Value::Nil),
        Input::Write(value) => ("write", value.clone()),
        Input::Append(more) => ("append", more.clone()),
        Input::Delete => ("delete", Value::Nil),
        Input::Cas(from, to) => ("cas", vec![from.clone(), to.clone()].into()),
    };
    let result = match output {
        Some(Output::Value(seen)) => seen.clone(),
        Some(Output::Swapped(swapped)) => Value::Bool(*swapped),
        Some(Output::Done) | None => Value::Nil,
    };
    (said(f, key, value), result)
}
