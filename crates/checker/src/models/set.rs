//! A set: add, remove, contains, and a look at all members.

use std::borrow::Cow;
use std::collections::BTreeSet;

use super::{Heard, Said, Spoken, heard, said, unknown_name};
use crate::history::Outcome;
use crate::model::{Model, Step};
use crate::value::Value;

/// A set, empty at first.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Set {
    /// Whether nobody reads all members at once: then every member is a part of its own, and much more can be decided.
    pub by_member: bool,
}

/// What is asked of a set.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Input {
    /// Put it in.
    Add(Value),
    /// Take it out.
    Remove(Value),
    /// Is it in?
    Contains(Value),
    /// What is in?
    Read,
}

/// What is answered.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Output {
    /// It is done.
    Done,
    /// To add and remove: whether it changed the set. To contains: whether it is in.
    Told(bool),
    /// These are in.
    Members(BTreeSet<Value>),
}

impl Model for Set {
    type Input = Input;
    type Output = Output;
    type State = BTreeSet<Value>;

    fn initial(&self) -> Self::State {
        BTreeSet::new()
    }

    fn step(
        &self,
        state: &Self::State,
        input: &Input,
        output: Option<&Output>,
    ) -> Step<Self::State> {
        let mut next = state.clone();
        let truth = match input {
            Input::Add(value) => Output::Told(next.insert(value.clone())),
            Input::Remove(value) => Output::Told(next.remove(value)),
            Input::Contains(value) => Output::Told(state.contains(value)),
            Input::Read => Output::Members(state.clone()),
        };
        let changes = matches!(input, Input::Add(_) | Input::Remove(_));
        let fits = match output {
            None => true,
            Some(Output::Done) => changes,
            Some(told) => *told == truth,
        };
        match (fits, next == *state) {
            (false, _) => Step::Impossible,
            (true, true) => Step::Stays,
            (true, false) => Step::Moves(next),
        }
    }

    fn observes(&self, input: &Input, output: Option<&Output>) -> bool {
        matches!(input, Input::Contains(_) | Input::Read) || output == Some(&Output::Told(false))
    }

    fn key<'a>(&self, input: &'a Input) -> Option<Cow<'a, str>> {
        match input {
            Input::Add(value) | Input::Remove(value) | Input::Contains(value) => {
                self.by_member.then(|| Cow::Owned(value.to_string()))
            }
            Input::Read => None,
        }
    }

    fn describe(&self, input: &Input, output: Option<&Output>) -> String {
        let told = match output {
            None => " ?".to_owned(),
            Some(Output::Done) => String::new(),
            Some(Output::Told(yes)) => format!(" = {}", if *yes { "yes" } else { "no" }),
            Some(Output::Members(members)) => format!(" = {}", self.describe_state(members)),
        };
        match input {
            Input::Add(value) => format!("add {value}{told}"),
            Input::Remove(value) => format!("remove {value}{told}"),
            Input::Contains(value) => format!("contains {value}{told}"),
            Input::Read => format!("read{told}"),
        }
    }

    fn describe_state(&self, state: &Self::State) -> String {
        let members: Vec<_> = state.iter().map(Value::to_string).collect();
        format!("{{{}}}", members.join(" "))
    }

    fn state_bytes(&self, state: &Self::State) -> usize {
        state.iter().map(Value::bytes).sum::<usize>() + size_of::<Self::State>()
    }
}

impl Spoken for Set {
    fn hear(&self, said: &Said, outcome: Outcome<Value>) -> Result<Heard<Self>, String> {
        let value = said.value.clone();
        let told = |value| match value {
            Value::Bool(yes) => Ok(Output::Told(yes)),
            other => Err(format!("`contains` is answered by true or false, not {other}")),
        };
        let changed =
            |value| Ok(if let Value::Bool(yes) = value { Output::Told(yes) } else { Output::Done });
        let members = |value: Value| match value.as_list() {
            Some(members) => Ok(Output::Members(members.iter().cloned().collect())),
            None if value == Value::Nil => Ok(Output::Members(BTreeSet::new())),
            None => Err(format!("`read` is answered by a list of members, not {value}")),
        };
        Ok(match &*said.f {
            "add" => (Input::Add(value), heard(outcome, changed)?),
            "remove" => (Input::Remove(value), heard(outcome, changed)?),
            "contains" => (Input::Contains(value), heard(outcome, told)?),
            "read" => (Input::Read, heard(outcome, members)?),
            other => return Err(unknown_name("set", other, "add, remove, contains, read")),
        })
    }

    fn say(&self, input: &Input, output: Option<&Output>) -> (Said, Value) {
        let (f, value) = match input {
            Input::Add(value) => ("add", value.clone()),
            Input::Remove(value) => ("remove", value.clone()),
            Input::Contains(value) => ("contains", value.clone()),
            Input::Read => ("read", Value::Nil),
        };
        let result = match output {
            Some(Output::Told(yes)) => Value::Bool(*yes),
            Some(Output::Members(members)) => members.iter().cloned().collect::<Vec<_>>().into(),
            Some(Output::Done) | None => Value::Nil,
        };
        (said(f, None, value), result)
    }
}
