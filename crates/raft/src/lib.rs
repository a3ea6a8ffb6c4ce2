//! Raft (Ongaro and Ousterhout, 2014, extended version; Ongaro's thesis, 2014), as a pure process.
//!
//! [`Raft`] is one server of one group; [`Replica`] is Raft with the state machine that its log drives and the
//! service in front of it. Both are `contracts::Process`: one `step`, one list of outputs, a deadline
//! with its reason. They own no disk, network, clock or random source. A driver in production (`server`) and
//! one in the simulator (`sim`) run the same code.
//!
//! | paper | here |
//! | --- | --- |
//! | Figure 2: state, rules for all servers | `node` |
//! | 5.2, 5.4.1: elections; thesis 9.6: pre-vote | `candidate` |
//! | 5.3: replication, the receiver's side; Figure 13: InstallSnapshot | `follower` |
//! | 5.3, 5.4.2 (Figure 8), 7: replication and commit, the leader's side | `leader` |
//! | `nextIndex`, `matchIndex`; thesis 10.2.1: pipelining | `progress` |
//! | 6: members, majorities | `membership` |
//! | the log, its terms, what of it is in memory | `log` |
//! | "persisted before responding to RPCs" | `durability` |
//! | 7: snapshots, taken | `taking` |
//! | thesis 6.2: a leader without a majority steps down; 6.4.1: a live leader is protected | `leader`, `candidate` |
//!
//! **Durability is in the types.** Every write has a mark that only grows; a message that vouches for something
//! leaves once its mark is durable, and a server counts itself only then. A leader's own disk works
//! while its appends travel.
//!
//! **Conflicts** are told by a hint (an entry's index and term) rather than by the paper's conflict term and
//! first index: each side skips what cannot agree, so that a round trip skips a whole term.
//!
//! Left out so far: changes of members while running (the log and the majorities know them, nothing proposes
//! them), learners, leadership transfer on request, reads by ReadIndex or lease (heartbeats carry and return the round
//! that they need).

mod candidate;
mod change;
mod config;
mod durability;
mod follower;
mod hibernate;
mod leader;
mod log;
#[cfg(test)]
mod log_model;
mod membership;
mod message;
mod node;
mod progress;
mod read_index;
mod replica;
mod replication;
mod rounds;
mod sending;
mod taking;
mod transfer;
mod wire;
pub use change::{ChangeOutcome, Members};
pub use config::{Config, Lease, Limits, Timing};
pub use membership::Membership;
pub use message::{Attempt, Body, Message};
pub use node::{Raft, Reply, Request, RoleName};
pub use replica::{Replica, ReplicaMessage, ReplicaReply, ReplicaRequest, Status};
pub use transfer::TransferOutcome;
