//! Remote procedure calls between members, as two pure values: a [`Caller`] and a [`Callee`]. They speak in
//! messages that may be lost, doubled, delayed and reordered; a driver carries these over the members'
//! connections, which are framed, checksummed and closed to strangers.
//!
//! | spec | here |
//! | --- | --- |
//! | RPC-1, RPC-6: what became of a call; deadlines, cancellation, bounds | `caller` |
//! | RPC-2: at least once, for calls declared idempotent | `caller`, [`Repeat`] |
//! | RPC-3: at most once, with kept replies | `callee` |
//!
//! **At most once, also when the callee restarts.** What was run before a restart is forgotten by it, so a call names the
//! life of the process that it is for, and any other one refuses it. A caller that does not know the life
//! asks with life 0, which is never run. So a call that was never sent with a life has not happened, for certain.
//!
//! Not here: exactly once (RPC-4), which needs a duplicate table in replicated state; sockets, clocks, what calls mean.

mod callee;
mod caller;
mod message;

pub use callee::{Callee, Taken, Ticket};
pub use caller::{CallId, Caller, Done, Failure, Repeat};
pub use message::{Answer, Call, CallerId, Life, Message, Outcome, Sequence, Verdict};

/// Calls of one caller to one callee that are not settled yet; both sides keep to it.
pub const CALLS_MAX: usize = 64;
/// The largest body of a call or an answer, in bytes.
pub const BODY_BYTES_MAX: usize = 1 << 20;
