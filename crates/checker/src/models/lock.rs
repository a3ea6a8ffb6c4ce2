//! A lock with fencing tokens, and what it protects.
//!
//! Who gets the lock gets a token, greater than all before. What the lock protects accepts the use of a token unless it has seen a
//! greater one: so a holder that was paused and lost the lock without knowing it does no harm.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Heard, Said, Spoken, heard, parts, said, unknown_name};
use crate::history::{ClientId, Outcome};
use crate::model::{Model, Step};
use crate::value::Value;

/// Locks by name, free at first.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Lock {
    /// Whether a holder may lose the lock without releasing it, as with a session or lease that expires. The tokens must
    /// then still grow, and no use of an older token may be accepted after that of a newer one.
    pub may_expire: bool,
}

/// What is asked.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Input {
    /// Which lock.
    pub name: Arc<str>,
    /// Who asks.
    pub client: ClientId,
    /// What.
    pub ask: Ask,
}

/// What is asked of a lock.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Ask {
    /// Give me the lock.
    Acquire,
    /// Take it back.
    Release,
    /// Do something to what the lock protects, with this token.
    Use(i64),
}

/// What is answered.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Output {
    /// The lock is yours; the token, if there are tokens.
    Granted(Option<i64>),
    /// Somebody else has it.
    Busy,
    /// It is done.
    Done,
    /// A greater token has been seen.
    Rejected,
}

/// What is remembered of one lock.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Held {
    holder: Option<ClientId>,
    granted: Option<i64>,
    used: Option<i64>,
}

impl Lock {
    fn step_one(&self, held: Held, input: &Input, output: Option<&Output>) -> Option<Held> {
        let is_free = held.holder.is_none() || self.may_expire;
        match (input.ask, output) {
            (Ask::Acquire, None) => {
                Some(if is_free { Held { holder: Some(input.client), ..held } } else { held })
            }
            (Ask::Acquire, Some(Output::Granted(token))) => {
                let grows = token.is_none() || *token > held.granted;
                let granted = (*token).max(held.granted);
                (is_free && grows).then_some(Held { holder: Some(input.client), granted, ..held })
            }
            (Ask::Acquire, Some(Output::Busy)) => held.holder.is_some().then_some(held),
            (Ask::Acquire, Some(Output::Done | Output::Rejected)) => None,
            (Ask::Release, answer) => {
                let holds = held.holder == Some(input.client);
                let released = if holds { Held { holder: None, ..held } } else { held };
                match answer {
                    None => Some(released),
                    Some(Output::Done) => (holds || self.may_expire).then_some(released),
                    Some(Output::Rejected) => (!holds).then_some(held),
                    Some(_) => None,
                }
            }
            (Ask::Use(token), answer) => {
                let is_newest = held.used.is_none_or(|used| used <= token);
                let used = if is_newest { Held { used: Some(token), ..held } } else { held };
                match answer {
                    None => Some(used),
                    Some(Output::Done) => is_newest.then_some(used),
                    Some(Output::Rejected) => (!is_newest).then_some(held),
                    Some(_) => None,
                }
            }
        }
    }
}

impl Model for Lock {
    type Input = Input;
    type Output = Output;
    type State = BTreeMap<Arc<str>, Held>;

    fn initial(&self) -> Self::State {
        BTreeMap::new()
    }

    fn step(
        &self,
        state: &Self::State,
        input: &Input,
        output: Option<&Output>,
    ) -> Step<Self::State> {
        parts::step(state, &input.name, &Held::default(), |held| {
            match self.step_one(*held, input, output) {
                None => Step::Impossible,
                Some(next) if next == *held => Step::Stays,
                Some(next) => Step::Moves(next),
            }
        })
    }

    fn observes(&self, _: &Input, output: Option<&Output>) -> bool {
        matches!(output, Some(Output::Busy | Output::Rejected))
    }

    fn key<'a>(&self, input: &'a Input) -> Option<Cow<'a, str>> {
        Some(Cow::Borrowed(&input.name))
    }

    fn describe(&self, input: &Input, output: Option<&Output>) -> String {
        let asked = match input.ask {
            Ask::Acquire => format!("acquire {}", input.name),
            Ask::Release => format!("release {}", input.name),
            Ask::Use(token) => format!("use {} with {token}", input.name),
        };
        match output {
            None => format!("{asked} ?"),
            Some(Output::Granted(Some(token))) => format!("{asked} = {token}"),
            Some(Output::Granted(None) | Output::Done) => asked,
            Some(Output::Busy) => format!("{asked} busy"),
            Some(Output::Rejected) => format!("{asked} rejected"),
        }
    }

    fn describe_state(&self, state: &Self::State) -> String {
        let locks = state.iter().map(|(name, held)| match (held.holder, held.granted) {
            (None, _) => format!("{name} free"),
            (Some(holder), None) => format!("{name} held by {holder}"),
            (Some(holder), Some(token)) => format!("{name} held by {holder}, token {token}"),
        });
        let locks: Vec<_> = locks.collect();
        if locks.is_empty() { "free".to_owned() } else { locks.join("; ") }
    }
}

impl Spoken for Lock {
    /// Understood without its client; [`Lock::asked_by`] adds it.
    fn hear(&self, said: &Said, outcome: Outcome<Value>) -> Result<Heard<Self>, String> {
        let granted = |value| match value {
            Value::Bool(false) => Ok(Output::Busy),
            Value::Int(token) => Ok(Output::Granted(Some(token))),
            _ => Ok(Output::Granted(None)),
        };
        let accepted =
            |value| Ok(if value == Value::Bool(false) { Output::Rejected } else { Output::Done });
        let (ask, outcome) = match (&*said.f, &said.value) {
            ("acquire", _) => (Ask::Acquire, heard(outcome, granted)?),
            ("release", _) => (Ask::Release, heard(outcome, accepted)?),
            ("use", Value::Int(token)) => (Ask::Use(*token), heard(outcome, accepted)?),
            ("use", other) => return Err(format!("`use` needs a token, not {other}")),
            (other, _) => return Err(unknown_name("lock", other, "acquire, release, use")),
        };
        let name = said.key.clone().unwrap_or_else(|| "lock".into());
        Ok((Input { name, client: ClientId(0), ask }, outcome))
    }

    fn say(&self, input: &Input, output: Option<&Output>) -> (Said, Value) {
        let (f, value) = match input.ask {
            Ask::Acquire => ("acquire", Value::Nil),
            Ask::Release => ("release", Value::Nil),
            Ask::Use(token) => ("use", Value::Int(token)),
        };
        let result = match output {
            Some(Output::Granted(Some(token))) => Value::Int(*token),
            Some(Output::Busy | Output::Rejected) => Value::Bool(false),
            _ => Value::Nil,
        };
        (said(f, Some(input.name.clone()), value), result)
    }

    fn asked_by(&self, client: ClientId, input: &mut Input) {
        input.client = client;
    }
}
