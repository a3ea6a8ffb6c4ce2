//! Which model a history is about, if nobody says.

use crate::history::History;
use crate::models::Said;
use crate::value::Value;

/// A model, by the name it has on the command line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Guess {
    /// One variable.
    Register,
    /// A map; this is what a read of a missing key sees.
    Kv(Value),
    /// A queue.
    Queue,
    /// A set; whether nobody reads all members.
    Set(bool),
    /// A lock.
    Lock,
    /// Transactions.
    Txn,
}

/// Guesses by the names of the operations. An empty history is one of a register.
pub fn guess_model(history: &History<Said, Value>) -> Guess {
    let has = |names: &[&str]| {
        history.operations().iter().any(|operation| names.contains(&&*operation.input.f))
    };
    if has(&["txn"]) {
        Guess::Txn
    } else if has(&["enqueue", "dequeue"]) {
        Guess::Queue
    } else if has(&["acquire", "release"]) {
        Guess::Lock
    } else if has(&["add", "remove", "contains"]) {
        Guess::Set(!has(&["read"]))
    } else if history.operations().iter().any(|operation| operation.input.key.is_some()) {
        Guess::Kv(missing(history))
    } else {
        Guess::Register
    }
}

/// What a read of a missing key sees: an empty text if anybody ever saw one that nobody wrote.
fn missing(history: &History<Said, Value>) -> Value {
    let empty = Value::from("");
    let operations = history.operations();
    let writes = |name: &str| matches!(name, "write" | "put" | "set");
    let written = operations.iter().any(|o| writes(&o.input.f) && o.input.value == empty);
    let seen = operations.iter().any(|o| o.outcome.output() == Some(&empty));
    let nil = operations
        .iter()
        .any(|o| matches!(&*o.input.f, "get" | "read") && o.outcome.output() == Some(&Value::Nil));
    if seen && !written && !nil { empty } else { Value::Nil }
}
