//! What clients see of a server: stories in bytes, without sockets and without Raft.

mod access;
mod bench;
mod order;
mod quota;
mod reap;
mod sessions;
mod snapshot;
mod watches;
