//! A queue, first in, first out.

use std::collections::VecDeque;

use super::{Heard, Said, Spoken, heard, said, unknown_name};
use crate::history::Outcome;
use crate::model::{Model, Step};
use crate::value::Value;

/// A queue, empty at first.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Queue;

/// What is asked of a queue.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Input {
    /// Put this at the end.
    Enqueue(Value),
    /// Take what is first.
    Dequeue,
}

/// What is answered.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Output {
    /// It is in.
    Done,
    /// This was first; `None`: the queue was empty.
    Taken(Option<Value>),
}

impl Model for Queue {
    type Input = Input;
    type Output = Output;
    type State = VecDeque<Value>;

    fn initial(&self) -> Self::State {
        VecDeque::new()
    }

    fn step(
        &self,
        state: &Self::State,
        input: &Input,
        output: Option<&Output>,
    ) -> Step<Self::State> {
        let mut next = state.clone();
        match (input, output) {
            (Input::Enqueue(value), None | Some(Output::Done)) => next.push_back(value.clone()),
            (Input::Dequeue, None | Some(Output::Taken(_))) => {
                let first = next.pop_front();
                if output.is_some_and(|output| *output != Output::Taken(first.clone())) {
                    return Step::Impossible;
                }
                if first.is_none() {
                    return Step::Stays;
                }
            }
            _ => return Step::Impossible,
        }
        Step::Moves(next)
    }

    fn observes(&self, _: &Input, output: Option<&Output>) -> bool {
        output == Some(&Output::Taken(None))
    }

    fn describe(&self, input: &Input, output: Option<&Output>) -> String {
        match (input, output) {
            (Input::Enqueue(value), Some(_)) => format!("enqueue {value}"),
            (Input::Enqueue(value), None) => format!("enqueue {value} ?"),
            (Input::Dequeue, Some(Output::Taken(Some(value)))) => format!("dequeue = {value}"),
            (Input::Dequeue, Some(_)) => "dequeue = empty".to_owned(),
            (Input::Dequeue, None) => "dequeue ?".to_owned(),
        }
    }

    fn describe_state(&self, state: &Self::State) -> String {
        let values: Vec<_> = state.iter().map(Value::to_string).collect();
        if values.is_empty() { "empty".to_owned() } else { values.join(" ") }
    }

    fn refusal(&self, state: &Self::State, input: &Input, output: Option<&Output>) -> String {
        let first = state.front().map_or("nothing".to_owned(), Value::to_string);
        format!("{}, but {first} is first", self.describe(input, output))
    }

    fn state_bytes(&self, state: &Self::State) -> usize {
        state.iter().map(Value::bytes).sum::<usize>() + size_of::<Self::State>()
    }
}

impl Spoken for Queue {
    fn hear(&self, said: &Said, outcome: Outcome<Value>) -> Result<Heard<Self>, String> {
        let taken = |value| Ok(Output::Taken(Some(value).filter(|value| *value != Value::Nil)));
        Ok(match &*said.f {
            "enqueue" => {
                (Input::Enqueue(said.value.clone()), heard(outcome, |_| Ok(Output::Done))?)
            }
            "dequeue" => (Input::Dequeue, heard(outcome, taken)?),
            other => return Err(unknown_name("queue", other, "enqueue, dequeue")),
        })
    }

    fn say(&self, input: &Input, output: Option<&Output>) -> (Said, Value) {
        let said = match input {
            Input::Enqueue(value) => said("enqueue", None, value.clone()),
            Input::Dequeue => said("dequeue", None, Value::Nil),
        };
        let result = match output {
            Some(Output::Taken(Some(value))) => value.clone(),
            _ => Value::Nil,
        };
        (said, result)
    }
}
