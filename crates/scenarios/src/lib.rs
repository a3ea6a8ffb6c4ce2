//! Every system put into the simulated world, with a workload, faults and a model.
//!
//! | scenario | what it puts into the world |
//! | --- | --- |
//! | [`raft`] | a [`ledger`] of unique values on three to seven servers, under every fault of the world |
//!
//! A run is a function of its seed. A failure prints a [`Report`] with the line that replays it.

pub mod ledger;
pub mod raft;
mod report;

pub use quorate_sim::TraceHash;
pub use report::{Failure, FailureKind, Report, Summary};
