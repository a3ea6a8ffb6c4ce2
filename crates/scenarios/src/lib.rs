//! Every system put into the simulated world, with a workload, faults and a model.
//!
//! | scenario | what it puts into the world |
//! | --- | --- |
//! | [`raft`] | a [`ledger`] of unique values on three to seven servers, under every fault of the world |
//! | [`labs`] | every test of the MIT 6.824 Raft labs, under its own name |
//! | [`zk`] | the coordination service, with clients whose promises are checked |
//! | [`lessons`] | what users of other implementations were hit by |
//! | [`kv`] | the key/value service: Clerks and watchers, under every fault of the world |
//! | [`kv::labs`] | every test of MIT 6.824 lab 3, under its own name |
//!
//! A run is a function of its seed. A failure prints a [`Report`] with the line that replays it, after it was made
//! as small as it gets.

mod judged;
pub mod kv;
pub mod labs;
pub mod ledger;
pub mod lessons;
pub mod raft;
mod report;
mod shrink;
pub mod zk;

pub use quorate_sim::{Situation, Situations, TraceEvent, TraceHash};
pub use report::{Failure, FailureKind, Report, RunOptions, Shrunk, Summary, Test};

pub(crate) use report::guarded;
