//! What is done to a cluster, whatever it speaks: clients at work, faults meanwhile, and a look at the end.

use std::sync::Arc;
use std::time::Duration;

use quorate_contracts::Random;

use super::faults::Faults;
use super::record::{Recorded, Recorder};
use super::{Api, etcd, zookeeper};
use crate::failure::{Failure, Kind};

/// Clients rest a random time below this between operations: a cluster under full load is another test.
pub(super) const REST_MAX_US: u64 = 4000;

/// What to do.
pub(super) struct Workload {
    pub(super) api: Api,
    pub(super) servers: Vec<String>,
    pub(super) clients: u64,
    pub(super) keys: u64,
    pub(super) duration: Duration,
    pub(super) seed: u64,
}

impl Workload {
    pub(super) fn run(&self, faults: Option<Faults>) -> Result<Recorded, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| unreachable(&error))?;
        let recorder = Recorder::new();
        let faults = faults.map(|faults| faults.begin(recorder.clone(), self.duration));
        let done = runtime.block_on(self.work(&recorder));
        // Whatever happened, no node is left paused or dead.
        let made = faults.map(|faults| faults.finish()).transpose();
        let place = done?;
        let made = made?.unwrap_or(0);
        runtime.block_on(self.look_at_the_end(&place, &recorder))?;
        recorder.with(|recorded| recorded.faults = made);
        Ok(recorder.take())
    }

    async fn work(&self, recorder: &Recorder) -> Result<Arc<str>, Failure> {
        match self.api {
            Api::Zookeeper => zookeeper::work(self, recorder).await,
            Api::Etcd => etcd::work(self, recorder).await,
        }
    }

    async fn look_at_the_end(&self, place: &str, recorder: &Recorder) -> Result<(), Failure> {
        match self.api {
            Api::Zookeeper => zookeeper::look_at_the_end(self, place, recorder).await,
            Api::Etcd => etcd::look_at_the_end(self, place, recorder).await,
        }
    }

    /// The dice of one client.
    pub(super) fn dice(&self, client: u64) -> Random {
        Random::new(self.seed).derive(&format!("client {client}"))
    }

    /// Where everything is written to: a place of this run alone.
    pub(super) fn place(&self, before: &str) -> String {
        format!("{before}quorate-verify-{}", std::process::id())
    }
}

pub(super) fn unreachable(cause: &impl std::fmt::Display) -> Failure {
    Failure::new(
        Kind::Unreachable,
        "verify the cluster",
        cause,
        "are the servers running? --servers names them",
    )
}
