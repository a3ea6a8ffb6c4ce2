//! The real world: sockets, files, clocks. Everything that decides is in the pure crates; this one drives
//! them, by the rules of `contracts::Process`.
//!
//! | file | what it does |
//! | --- | --- |
//! | `node` | one node: opens its data, listens, and runs until told to stop |
//! | `host` | the loop: drains the inbox, steps the groups, one log write and one packet a member a round |
//! | `group` | one Raft group as the loop hosts it, whatever its service is |
//! | `zookeeper` | the coordination group's side of that: its clients and what people ask of it |
//! | `etcd` | the key/value group's side: etcd's API over gRPC and HTTP |
//! | `registry`, `following` | who belongs to the cluster: the system group's side, and how the node follows it |
//! | `calls` | calls between members, hosted beside the groups |
//! | `idle` | groups that hold nothing, to measure what a group costs |
//! | `inbox`, `deadlines` | what has arrived; who is due |
//! | `disk` | files, on threads of their own |
//! | `data_dir` | whose data a directory holds, and the lock on it |
//! | `found`, `recover`, `offline` | directories made or mended while no node runs on them |
//! | `members` | connections between members |
//! | `clients` | connections of ZooKeeper clients |
//! | `channel`, `tls` | the bytes of a connection, plain or through TLS; certificates |
//! | `service` | a word to the service manager: listening, winding up |
//! | `outbox` | bytes on their way out of a socket |
//! | `admin` | HTTP for `quorate status` and for probes |
//! | `dashboard` | pages for people, and the player of simulated runs |
//! | `config` | the configuration file, and ZooKeeper's |
//!
//! One thread runs a node's sockets and its groups, since on few cores hand-offs cost more than they
//! give; the disk has threads of its own.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "this is the real world")]

mod admin;
mod calls;
mod channel;
mod clients;
mod config;
mod dashboard;
mod data_dir;
mod deadlines;
mod disk;
mod etcd;
mod following;
mod found;
mod group;
mod host;
mod idle;
mod inbox;
mod members;
mod node;
mod offline;
mod outbox;
mod recover;
mod registry;
mod service;
mod tls;
mod zookeeper;

pub use admin::{
    ClusterStatus, GroupStatus, KvStatus, MemberListed, NodeStatus, RoomName, stranger,
};
pub use config::zoo_cfg::ZooCfg;
pub use config::{ConfigError, MemberAddress, ServeConfig};
pub use dashboard::{dashboard_file, player_page};
pub use data_dir::{DataDir, DataDirError, LockError, lock_file, random_u64, write_aside};
pub use disk::RealDisk;
pub use found::{FoundError, found};
pub use node::{ServeError, Stop, raise_open_files, serve};
pub use offline::OfflineError;
pub use quorate_storage::SnapshotFile;
pub use recover::{GroupStanding, RecoverError, Recovery, Survivor};
pub use tls::inspect::{CertificateUse, Validity};
pub use tls::renewal::CertificateStatus;
pub use tls::{ClientCertificate, ClientTls, MemberTls, TlsError};
