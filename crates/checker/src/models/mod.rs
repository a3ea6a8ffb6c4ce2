//! The objects that the checker knows. Each is a sequential specification ([`Model`]) and knows how histories
//! speak of it ([`Spoken`]).
//!
//! | model | operations as histories name them | falls into parts |
//! | --- | --- | --- |
//! | [`Register`] | `read`, `write`, `cas`, `append`, `delete` | - |
//! | [`Kv`] | the same with a key; also called `get`, `put` | by key |
//! | [`Set`] | `add`, `remove`, `contains`, `read` (all members) | by member, unless somebody reads all |
//! | [`Queue`] | `enqueue`, `dequeue` | - |
//! | [`Lock`] | `acquire`, `release`, `use` (of what the lock protects, with a fencing token) | by name |
//! | [`Txn`] | `txn`: reads, writes and appends of several keys at once | - |

pub mod kv;
pub mod lock;
mod parts;
pub mod queue;
pub mod register;
pub mod set;
pub mod txn;

pub use kv::Kv;
pub use lock::Lock;
pub use queue::Queue;
pub use register::Register;
pub use set::Set;
pub use txn::Txn;

use std::sync::Arc;

use crate::history::{ClientId, Outcome};
use crate::model::Model;
use crate::value::Value;

/// What was asked, as a history says it: `cas`, of key `x`, with `[1 2]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Said {
    /// The operation's name.
    pub f: Arc<str>,
    /// The key, if it concerns one.
    pub key: Option<Arc<str>>,
    /// Its argument.
    pub value: Value,
}

/// An input and what came of it.
pub type Heard<M> = (<M as Model>::Input, Outcome<<M as Model>::Output>);

/// A model whose operations have names in histories.
pub trait Spoken: Model {
    /// Understands an operation and its end.
    ///
    /// # Errors
    /// What is wrong with it, in words that complete "line 7: ...".
    fn hear(&self, said: &Said, outcome: Outcome<Value>) -> Result<Heard<Self>, String>;

    /// Adds who asked, if that makes a difference to the model.
    fn asked_by(&self, _client: ClientId, _input: &mut Self::Input) {}

    /// Says an operation, and its result if there is one.
    fn say(&self, input: &Self::Input, output: Option<&Self::Output>) -> (Said, Value);
}

/// An outcome with its output in a model's own words.
fn heard<O>(
    outcome: Outcome<Value>,
    words: impl FnOnce(Value) -> Result<O, String>,
) -> Result<Outcome<O>, String> {
    Ok(match outcome {
        Outcome::Returned(value) => Outcome::Returned(words(value)?),
        Outcome::Refused => Outcome::Refused,
        Outcome::Unknown => Outcome::Unknown,
    })
}

fn unknown_name(model: &str, f: &str, known: &str) -> String {
    format!("the {model} model has no operation `{f}`; it has {known}")
}

fn said(f: &str, key: Option<Arc<str>>, value: Value) -> Said {
    Said { f: f.into(), key, value }
}
