//! What clients see of a server: stories in bytes, without sockets and without Raft.

mod access;
mod bench;
mod ensemble;
mod full_disk;
mod fuzz;
mod limits;
mod linearizable;
mod order;
mod quota;
mod read_only;
mod reap;
mod sessions;
mod watches;
