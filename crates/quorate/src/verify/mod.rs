//! `quorate verify`: a workload against a running cluster, faults if wanted, and a verdict on what the clients saw.

pub(crate) mod etcd;
mod faults;
pub(crate) mod grpc;
mod judge;
pub(crate) mod record;
mod workload;
mod zookeeper;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};

use crate::failure::{Done, Failure, Kind, say};
use crate::servers::Servers;
use faults::Faults;
use workload::Workload;

/// Check a running cluster: clients write and read, and what they saw must be explainable; exits with 0, 1 or 2
#[derive(Args)]
#[command(after_help = "Examples:
  quorate verify --seconds 20                     the cluster of `quorate up`, undisturbed
  quorate verify --seconds 60 --faults local      the same, while its nodes are killed and paused
  quorate verify --servers zk1:2181,zk2:2181      any ZooKeeper; it writes below /quorate-verify-* only
  quorate verify --api etcd                       etcd's API of the cluster of `quorate up`
  quorate verify --api etcd --servers e1:2379     any etcd; it writes keys that begin with quorate-verify- only

Checked of ZooKeeper: reads after `sync`, writes and conditional writes are linearizable; sequential znodes count up; and what is
promised of plain reads (linearizable writes, FIFO, read your writes, monotonic reads, also from server to server).
Checked of etcd: reads, puts and compare-and-swap are linearizable; each answer shows the state of the revision that it tells;
transactions on several keys are strictly serializable; serializable reads are old at most.
Exit codes: 0 all kept, 1 a promise was broken, 2 undecided, 69 no server answers.")]
pub(crate) struct Verify {
    #[command(flatten)]
    servers: Servers,

    /// What the servers speak
    #[arg(long, value_name = "API", default_value = "zookeeper")]
    api: Api,

    /// How long to write and read
    #[arg(long, value_name = "S", default_value_t = 10)]
    seconds: u64,

    /// Clients, each with a session of its own
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=1000))]
    clients: u64,

    /// Znodes or keys that they write and read
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=10000))]
    keys: u64,

    /// Kill and pause nodes meanwhile, one at a time
    #[arg(long, value_name = "WHOSE", default_value = "none")]
    faults: WhoseFaults,

    /// Directory of the local cluster, for --faults local
    #[arg(long, value_name = "DIR", default_value = "quorate-data")]
    dir: PathBuf,

    /// Chooses who does what; the timing is the machine's
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,

    /// Undecided if the check takes longer than so many seconds
    #[arg(long, value_name = "S", default_value_t = 60)]
    timeout: u64,

    /// Write a picture of the registers' history
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,

    /// Keep the registers' history as JSON lines, for `quorate check`
    #[arg(long, value_name = "FILE")]
    history: Option<PathBuf>,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What a cluster speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Api {
    /// ZooKeeper's protocol
    Zookeeper,
    /// etcd's key/value API
    Etcd,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum WhoseFaults {
    /// Nobody's
    None,
    /// Those of the local cluster in --dir: kill -9 and start again, pause and go on
    Local,
}

impl Verify {
    pub(crate) fn run(&self) -> Result<Done, Failure> {
        let faults = match self.faults {
            WhoseFaults::None => None,
            WhoseFaults::Local => Some(Faults::prepare(&self.dir, self.seed)?),
        };
        let workload = Workload {
            api: self.api,
            servers: match self.api {
                Api::Zookeeper => self.servers.zookeeper(),
                Api::Etcd => self.servers.etcd(),
            },
            clients: self.clients,
            keys: self.keys,
            duration: Duration::from_secs(self.seconds),
            seed: self.seed,
        };
        say(&format!(
            "{} clients, {} keys, {} s{}",
            self.clients,
            self.keys,
            self.seconds,
            if faults.is_some() { ", with faults" } else { "" }
        ));
        let began = Instant::now();
        let recorded = workload.run(faults)?;
        if recorded.acknowledged() == 0 {
            return Err(Failure::new(
                Kind::Unreachable,
                "verify the cluster",
                "no operation was answered",
                "are the servers running? --servers names them",
            ));
        }
        judge::judge(self, &recorded, began.elapsed())
    }
}
