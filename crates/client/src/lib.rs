//! The Rust client library. Today: a blocking connection to a ZooKeeper-speaking server, one request at a
//! time, which is what a command line needs.
//!
//! Left out so far: reconnection to another server within a session, pipelining, recipes.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "a client has sockets")]

mod connection;
mod error;

pub use connection::{Connection, WatchEvent};
pub use error::ClientError;
pub use quorate_zk::command::{AclEntry, CreateMode, Identity, Stat};
