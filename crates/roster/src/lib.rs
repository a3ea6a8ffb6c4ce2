//! Who belongs to the cluster. Members belong to the node, not to a service: one small group, `system`, holds the list,
//! and every group of every node follows it.
//!
//! ```text
//!  reconfig, member add ──Change──▶ system group ──▶ Roster, the same on every node
//!                                                        │
//!  each group's leader: Raft's members ◀── next_act ─────┘   learners first, then joint consensus
//! ```
//!
//! As long as nothing was ever changed the list is what the configuration says, and the group holds nothing. Who crashes
//! in the middle goes on afterwards: the list says what is to be, Raft's members say what is, and the rest follows.
//!
//! | file | what it does |
//! | --- | --- |
//! | `list` | members, and the list of them with its version |
//! | `change` | what may be asked, and what comes of it: the state machine |
//! | `registrar` | the service in front of it: proposes, and tells of each new list |
//! | `plan` | the next act of one group's leader towards the list |
//!
//! Not here: sockets and Raft itself; what a service publishes of a member is text to this crate.

mod change;
mod list;
mod plan;
mod registrar;

pub use change::{Change, Edit, NotChanged, Registry, replacement};
pub use list::{List, Member, Roster, RosterVersion};
pub use plan::{Act, Seats, Standing, View, next_act, standing};
pub use registrar::{Registrar, RegistrarReply, RegistrarRequest, Ticket};
