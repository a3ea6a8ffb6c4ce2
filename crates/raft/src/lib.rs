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
//! | 5.2, 5.4.1: elections; thesis 9.6: pre-vote; 6.4.1: a live leader is protected | `candidate` |
//! | 5.3: replication, the receiver's side; Figure 13: InstallSnapshot | `follower` |
//! | 5.3: replication, the leader's side; thesis 10.2.1: pipelining | `replication` |
//! | 5.4.2 (Figure 8): the commit rule; thesis 6.2: a leader without a majority steps down | `leader` |
//! | `nextIndex`, `matchIndex`, the window of what is on its way | `progress` |
//! | 6, thesis 4: changes of members by joint consensus, learners | `change` |
//! | 6: members, majorities | `membership` |
//! | thesis 6.4: reads without a log entry, by a round or by a lease | `read_index`, `rounds` |
//! | thesis 3.10: leadership on request | `transfer` |
//! | the log, its terms, what of it is in memory | `log` |
//! | "persisted before responding to RPCs" | `durability` |
//! | 7: snapshots, taken and sent | `taking`, `sending` |
//! | not in the paper: many groups in a process, idle ones sleep | `hibernate` |
//! | FAST '18: what a member's disk lost comes back from a leader; where nobody has it, the member says so | `mending` |
//! | not in the paper: what goes on while a disk is full | `room` |
//!
//! **Durability is in the types.** Every write has a mark that only grows; a message that vouches for something
//! leaves once its mark is durable, and a server counts itself only then. A leader's own disk works
//! while its appends travel.
//!
//! **Conflicts** are told by a hint (an entry's index and term) rather than by the paper's conflict term and
//! first index: each side skips what cannot agree, so that a round trip skips a whole term.
//!
//! **Everything that only a leader holds ends with the role**: a transfer, a change that somebody waits for, reads that
//! wait for a round are parts of `Leader`.
//!
//! **An acknowledgement is a promise of its time.** A disk may lose later what it vouched for. Safety then rests on the vote: who
//! lacks something it acknowledged, and knows it, gives none until a leader's log stands for it, and who lacks only data votes by
//! ids. So what was committed stays whatever a late acknowledgement makes a leader count; that it does not count any once it
//! was told of the loss is for durability: nothing is committed that fewer than a majority hold, as far as the leader can know.
//!
//! `tests/scripts/*.txt` tell each situation worth knowing as a story. `tests/golden/chance.rs` draws stories at random.
//!
//! Left out: changes of one server at a time without a joint membership (thesis, 4.1: joint consensus does the same
//! with one rule); promotion of learners without being asked; witnesses, priorities, quorums of other sizes; applying entries before
//! the own disk has them is left to the driver's pace. A server that is removed while it is away is not told so: it asks for
//! pre-votes, in vain, until it is switched off.

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
mod mending;
mod message;
mod node;
mod progress;
mod read_index;
mod replica;
mod replication;
mod room;
mod rounds;
mod sending;
mod taking;
mod transfer;
mod wire;
pub use change::{ChangeOutcome, Members};
pub use config::{Config, Lease, Limits, Timing};
pub use membership::Membership;
pub use mending::Missing;
pub use message::{Attempt, Body, Message};
pub use node::{Raft, Reply, Request, RoleName};
pub use progress::FollowerView;
pub use replica::{Replica, ReplicaMessage, ReplicaReply, ReplicaRequest, Status};
pub use transfer::TransferOutcome;
