//! The real world: sockets, files, clocks. Everything that decides is in the pure crates; this one drives
//! them, by the rules of `contracts::Process`.
//!
//! | file | what it does |
//! | --- | --- |
//! | `node` | one node: opens its data, listens, and runs until told to stop |
//! | `core` | the loop: drains the inbox, steps the replica, carries out what it wants |
//! | `disk` | files, on threads of their own |
//! | `data_dir` | whose data a directory holds, and the lock on it |
//! | `members` | connections between members |
//! | `clients` | connections of ZooKeeper clients |
//! | `outbox` | bytes on their way out of a socket |
//! | `admin` | HTTP for `quorate status` and for probes |
//! | `config` | the configuration file |
//!
//! One thread runs a node's sockets and its replica, since on few cores hand-offs cost more than they
//! give; the disk has threads of its own.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "this is the real world")]

mod admin;
mod clients;
mod config;
mod core;
mod data_dir;
mod disk;
mod members;
mod node;
mod outbox;

pub use admin::{GroupStatus, NodeStatus};
pub use config::{ConfigError, MemberAddress, ServeConfig};
pub use data_dir::{DataDir, DataDirError, LockError, lock_file, random_u64, write_aside};
pub use disk::RealDisk;
pub use node::{ServeError, raise_open_files, serve};
