//! `quorate bench`: loads on running servers, ours or anybody's who speaks the same protocols, and what they measure.

mod channel;
mod create;
mod failover;
mod groups;
mod kv;
mod kv_writer;
mod load;
mod sessions;
mod watch;
mod zk;

use std::future::Future;
use std::io;

use clap::Subcommand;

use crate::failure::{Done, Failure, Kind};

/// Measure a running cluster
#[derive(Subcommand)]
pub(crate) enum Bench {
    /// setData and getData, on any ZooKeeper-speaking server
    Zk(zk::Zk),
    /// Put and Range, on any server that speaks etcd's API
    Kv(kv::Kv),
    /// How soon thousands of watchers hear of a change, on any server that speaks etcd's API
    Watch(watch::Watch),
    /// Creates many znodes or keys: how fast, and the memory that each takes
    #[command(subcommand)]
    Create(create::Create),
    /// The longest time without a write while servers die, and whether anything acknowledged is lost
    Failover(failover::Failover),
    /// A reconnection storm of thousands of sessions after a leader's death
    Sessions(sessions::Sessions),
    /// What Raft groups cost that nobody uses, in a cluster started for it
    Groups(groups::Groups),
}

impl Bench {
    pub(crate) fn run(self) -> Result<Done, Failure> {
        match self {
            Self::Zk(load) => load.run(),
            Self::Kv(load) => load.run(),
            Self::Watch(watch) => watch.run(),
            Self::Create(create) => create.run(),
            Self::Failover(failover) => failover.run(),
            Self::Sessions(sessions) => sessions.run(),
            Self::Groups(groups) => groups.run(),
        }
    }
}

/// Runs a load to its end, on this thread.
fn block_on<T>(load: impl Future<Output = io::Result<T>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| failed(&error))?;
    tokio::task::LocalSet::new().block_on(&runtime, load).map_err(|error| failed(&error))
}

fn failed(cause: &dyn std::fmt::Display) -> Failure {
    Failure::new(
        Kind::Unreachable,
        "run the load",
        cause,
        "are the servers running? --servers names them",
    )
}
