//! A map: a variable for each key.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::register::{self, Register};
use super::{Heard, Said, Spoken, parts};
use crate::history::Outcome;
use crate::model::{Access, Model, Step};
use crate::value::Value;

/// A map from keys to values.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Kv {
    /// What a read of a missing key sees: nothing, or an empty text.
    pub missing: Value,
}

/// What is asked of a map.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Input {
    /// Which variable.
    pub key: Arc<str>,
    /// What of it.
    pub op: register::Input,
}

impl Input {
    /// An operation on a key.
    pub fn new(key: &str, op: register::Input) -> Self {
        Self { key: key.into(), op }
    }
}

pub use register::Output;

impl Model for Kv {
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
        let variable = Register { initial: self.missing.clone() };
        parts::step(state, &input.key, &self.missing, |value| {
            variable.step(value, &input.op, output)
        })
    }

    fn key<'a>(&self, input: &'a Input) -> Option<Cow<'a, str>> {
        Some(Cow::Borrowed(&input.key))
    }

    fn observes(&self, input: &Input, output: Option<&Output>) -> bool {
        register::observes(&input.op, output)
    }

    fn describe(&self, input: &Input, output: Option<&Output>) -> String {
        register::describe(("get", "put", &format!(" {}", input.key)), &input.op, output)
    }

    fn describe_state(&self, state: &Self::State) -> String {
        parts::describe(state)
    }

    fn refusal(&self, state: &Self::State, input: &Input, output: Option<&Output>) -> String {
        register::refusal(self.value(state, &input.key), &input.op, output)
    }

    fn access<'a>(&self, input: &'a Input, output: Option<&'a Output>) -> Access<'a> {
        register::access(&input.op, output)
    }

    fn initial_value(&self) -> Option<Value> {
        Some(self.missing.clone())
    }

    fn state_bytes(&self, state: &Self::State) -> usize {
        parts::bytes(state)
    }
}

impl Kv {
    fn value<'a>(&'a self, state: &'a BTreeMap<Arc<str>, Value>, key: &str) -> &'a Value {
        state.get(key).unwrap_or(&self.missing)
    }
}

impl Spoken for Kv {
    fn hear(&self, said: &Said, outcome: Outcome<Value>) -> Result<Heard<Self>, String> {
        let key = said.key.clone().ok_or_else(|| format!("`{}` has no key", said.f))?;
        let (op, outcome) = register::hear(said, outcome)?;
        Ok((Input { key, op }, outcome))
    }

    fn say(&self, input: &Input, output: Option<&Output>) -> (Said, Value) {
        register::say(Some(input.key.clone()), &input.op, output)
    }
}
