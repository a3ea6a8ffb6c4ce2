//! The shared words of Quorate: ids and units, the entries of a log, and the three contracts
//! that every system is written against.
//!
//! | contract | who keeps it | who drives it |
//! | --- | --- | --- |
//! | [`Process`] | one participant of a protocol (Raft, a replica) | `server` in the real world, `sim` in the simulated one |
//! | [`StateMachine`] | what is replicated (the znode tree) | a replica, with committed commands in log order |
//! | [`Service`] | what one server does for the clients connected to it | the replica it stands on |
//!
//! Everything that decides is a plain value behind one of these: no socket, file, thread, clock
//! or random source. Time and seeds are arguments; what must happen comes out as a list.
//!
//! Not here: any protocol, any file format. Only words that two crates must share.

mod gate;
mod histogram;
mod ids;
mod log;
mod machine;
mod process;
mod random;
mod service;
mod time;
mod wire;

pub use gate::Gate;
pub use histogram::Histogram;
pub use ids::{ClusterId, GroupId, Incarnation, NodeId, RequestId};
pub use log::{
    Entry, EntryId, EntryKind, HardState, LogIndex, Record, Recovered, Room, SnapshotMeta, Term,
    WriteMark,
};
pub use machine::{BadSnapshot, NoState, Progress, StateMachine};
pub use process::{Input, Output, Process, SnapshotInput, SnapshotOutput, When};
pub use random::Random;
pub use service::{PROPOSAL_HEADER_BYTES, Proposal, Refusal, Service, ServiceInput, ServiceOutput};
pub use time::Time;
pub use wire::{Malformed, Wire, WireReader, WireWriter};
