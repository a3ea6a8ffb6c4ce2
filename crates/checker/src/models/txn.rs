//! Transactions on several keys of a map. As a model they are linearizable if they are strictly serializable.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Heard, Said, Spoken, heard, parts, said, unknown_name};
use crate::history::Outcome;
use crate::model::{Model, Step};
use crate::value::Value;

/// A map whose operations are transactions.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Txn;

/// A transaction: its operations, in order.
pub type Input = Vec<Micro>;

/// What its reads saw, in order.
pub type Output = Vec<Value>;

/// One operation of a transaction.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Micro {
    /// What is there?
    Read(Arc<str>),
    /// Put this there.
    Write(Arc<str>, Value),
    /// Put this at the end of the list that is there.
    Append(Arc<str>, Value),
}

impl Micro {
    /// The key it concerns.
    pub fn key(&self) -> &Arc<str> {
        match self {
            Self::Read(key) | Self::Write(key, _) | Self::Append(key, _) => key,
        }
    }
}

/// A list with one more element. What was there is nothing or a list.
pub(crate) fn with_element(list: &Value, element: &Value) -> Value {
    let before = list.as_list().unwrap_or_default();
    before.iter().chain([element]).cloned().collect::<Vec<_>>().into()
}

impl Model for Txn {
    type Input = Input;
    type Output = Output;
    type State = BTreeMap<Arc<str>, Value>;

    fn initial(&self) -> Self::State {
        BTreeMap::new()
    }

    fn step(
        &self,
        state: &Self::State,
        input: &Input,
        output: Option<&Output>,
    ) -> Step<Self::State> {
        let mut next = state.clone();
        let mut seen = Vec::new();
        for micro in input {
            let there = next.get(micro.key()).unwrap_or(&Value::Nil);
            match micro {
                Micro::Read(_) => seen.push(there.clone()),
                Micro::Write(key, value) => drop(next.insert(key.clone(), value.clone())),
                Micro::Append(key, element) => {
                    let longer = with_element(there, element);
                    next.insert(key.clone(), longer);
                }
            }
        }
        match output {
            Some(output) if *output != seen => Step::Impossible,
            _ if next == *state => Step::Stays,
            _ => Step::Moves(next),
        }
    }

    fn observes(&self, input: &Input, _: Option<&Output>) -> bool {
        input.iter().all(|micro| matches!(micro, Micro::Read(_)))
    }

    fn describe(&self, input: &Input, output: Option<&Output>) -> String {
        let mut seen = output.into_iter().flatten();
        let words = input.iter().map(|micro| match micro {
            Micro::Read(key) => {
                format!("{key} = {}", seen.next().map_or("?".to_owned(), Value::to_string))
            }
            Micro::Write(key, value) => format!("{key} := {value}"),
            Micro::Append(key, element) => format!("{key} += {element}"),
        });
        words.collect::<Vec<_>>().join(", ")
    }

    fn describe_state(&self, state: &Self::State) -> String {
        parts::describe(state)
    }

    fn state_bytes(&self, state: &Self::State) -> usize {
        parts::bytes(state)
    }
}

impl Spoken for Txn {
    fn hear(&self, said: &Said, outcome: Outcome<Value>) -> Result<Heard<Self>, String> {
        if &*said.f != "txn" {
            return Err(unknown_name("txn", &said.f, "txn"));
        }
        let micros: Vec<_> = micros(&said.value)?.into_iter().map(|(micro, _)| micro).collect();
        let outcome = heard(outcome, |value| reads(&micros, &value))?;
        Ok((micros, outcome))
    }

    fn say(&self, input: &Input, output: Option<&Output>) -> (Said, Value) {
        let list = |f: &str, key: &Arc<str>, value: &Value| -> Value {
            vec![f.into(), Value::Text(key.clone()), value.clone()].into()
        };
        let all = |seen: Option<&Output>| -> Value {
            let mut seen = seen.into_iter().flatten();
            let micros = input.iter().map(|micro| match micro {
                Micro::Read(key) => list("r", key, seen.next().unwrap_or(&Value::Nil)),
                Micro::Write(key, value) => list("w", key, value),
                Micro::Append(key, element) => list("append", key, element),
            });
            micros.collect::<Vec<_>>().into()
        };
        (said("txn", None, all(None)), output.map_or(Value::Nil, |output| all(Some(output))))
    }
}

/// The operations, each with its third element.
fn micros(value: &Value) -> Result<Vec<(Micro, Value)>, String> {
    let shape = || format!("a transaction is a list of [f key value], not {value}");
    let list = value.as_list().ok_or_else(shape)?;
    list.iter()
        .map(|micro| {
            let Some([f, key, value]) = micro.as_list() else { return Err(shape()) };
            let (key, value) = (key.as_key(), value.clone());
            let micro = match f.as_text() {
                Some("r") => Micro::Read(key),
                Some("w") => Micro::Write(key, value.clone()),
                Some("append") => Micro::Append(key, value.clone()),
                _ => return Err(format!("a transaction has r, w and append, not {f}")),
            };
            Ok((micro, value))
        })
        .collect()
}

fn reads(asked: &[Micro], answered: &Value) -> Result<Output, String> {
    let answered = micros(answered)?;
    let same_shape = answered.len() == asked.len()
        && answered.iter().zip(asked).all(|((answered, _), asked)| answered == asked);
    if !same_shape {
        return Err("the answer has other operations than the question".to_owned());
    }
    let reads = answered.into_iter().filter(|(micro, _)| matches!(micro, Micro::Read(_)));
    Ok(reads.map(|(_, seen)| seen).collect())
}
