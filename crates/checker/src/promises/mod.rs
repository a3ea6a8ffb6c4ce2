//! Promises weaker than linearizability (LIN-5), and serializability of transactions: by cycles in what must come before what.
//!
//! | promise | who makes it |
//! | --- | --- |
//! | [`Promise::LinearizableWrites`] | ZooKeeper: writes are, reads may be old |
//! | [`Promise::ReadYourWrites`] | a client sees what it wrote, or newer |
//! | [`Promise::MonotonicReads`] | a client never sees older than it saw |
//! | [`Promise::Fifo`] | ZooKeeper: a client's operations take effect in the order in which it asked |
//! | [`Promise::SessionOrder`] | the two before the last, where a client has moved between servers; and across keys, where answers say where they stand (`positions`) |
//! | [`Promise::Serializable`], [`Promise::StrictSerializable`] | databases (`transactions`) |
//!
//! Each promise says that some things come before others. If that goes round in a circle, it was broken, and the circle says how.
//! One needs to know which write a read saw: values must be written once each, else the answer is unknown. A value that nobody wrote
//! breaks `LinearizableWrites`.

mod graph;
mod positions;
mod sessions;
mod transactions;

pub use sessions::keeps;
pub use transactions::serializable;

use std::fmt;

use crate::history::OpId;

/// A promise about what clients see.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Promise {
    /// Writes take effect in an order that respects real time; nothing is seen before it is written. Reads may be old.
    LinearizableWrites,
    /// A client's read sees its own last acknowledged write, or a newer one.
    ReadYourWrites,
    /// A client's read sees nothing older than its reads before.
    MonotonicReads,
    /// A client's operations on a key take effect in the order in which it asked, whether it waited for answers or not.
    Fifo,
    /// What a client wrote and saw at one server is not undone at another: reads after a move are monotonic and see its writes.
    /// Where answers have a [`Position`](crate::Position), across all keys: a client is never told of an earlier one, and a read
    /// shows the state there.
    SessionOrder,
    /// Transactions could have come one after the other.
    Serializable,
    /// And in an order that respects real time.
    StrictSerializable,
}

impl Promise {
    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::LinearizableWrites => "linearizable-writes",
            Self::ReadYourWrites => "read-your-writes",
            Self::MonotonicReads => "monotonic-reads",
            Self::Fifo => "fifo",
            Self::SessionOrder => "session-order",
            Self::Serializable => "serializable",
            Self::StrictSerializable => "strict-serializable",
        }
    }
}

impl fmt::Display for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What became of a promise.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Kept {
    /// It was kept.
    Yes,
    /// It was broken, each time in this way.
    No(Vec<Broken>),
    /// It cannot be said, for this reason.
    Unknown(String),
}

/// One way in which a promise was broken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Broken {
    /// What this kind of thing is called: `G1c`, `stale read`.
    pub kind: &'static str,
    /// The key, if it concerns one.
    pub key: Option<String>,
    /// The operations involved.
    pub operations: Vec<OpId>,
    /// What happened, in words.
    pub why: String,
}
