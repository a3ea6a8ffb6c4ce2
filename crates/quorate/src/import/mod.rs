//! `quorate import`: a new cluster that goes on where a ZooKeeper ensemble stops (ZK-19), or etcd (KV-8).

mod etcd;
mod files;
mod live;
mod report;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use quorate_contracts::{ClusterId, GroupId, NodeId, StateMachine};
use quorate_server::{FoundError, found, random_u64};
use quorate_zk::command::Zxid;
use quorate_zk::import::{Difference, ImportedTree, compare};
use quorate_zk::tree::{Founding, Tree};
use serde_json::json;

use crate::failure::{Done, Failure, Kind, tell};
use crate::serve::explain_data_dir;
use report::Report;

/// Begin a new cluster with what ZooKeeper or etcd holds
#[derive(Subcommand)]
pub(crate) enum Import {
    /// Read ZooKeeper's files, or a running ensemble, into new data directories
    Zookeeper(Zookeeper),
    /// Read a snapshot of etcd, or of a cluster of ours, into new data directories
    Etcd(etcd::Etcd),
    /// Tell in what two running ensembles differ
    Compare(Compare),
}

/// Read ZooKeeper's files, or a running ensemble, into new data directories
#[derive(Args)]
#[command(after_help = "Examples:
  quorate import zookeeper --from /var/lib/zookeeper --to quorate-data/n1 quorate-data/n2 quorate-data/n3
  quorate up --dir quorate-data
  quorate import zookeeper --from /var/lib/zookeeper --check 10.0.0.1:2181
  quorate import zookeeper --live 10.0.0.1:2181 --auth digest:super:secret --to quorate-data/n1

Stop the ensemble before --from: what it still writes afterwards is not imported. Without --to nothing is written, and
the report tells what would be.")]
pub(crate) struct Zookeeper {
    /// ZooKeeper's dataDir: its newest snapshot, and the logs that follow it
    #[arg(long, value_name = "DIR", required_unless_present = "live", conflicts_with = "live")]
    from: Option<PathBuf>,

    /// ZooKeeper's dataLogDir, if it has one of its own
    #[arg(long, value_name = "DIR", requires = "from")]
    log_from: Option<PathBuf>,

    /// Copy a running ensemble instead, over the client protocol
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',')]
    live: Vec<String>,

    /// The new nodes' data directories, one a node: the first is node 1's
    #[arg(long, value_name = "DATA_DIR", num_args = 1..)]
    to: Vec<PathBuf>,

    /// Compare what was read with a running ensemble
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',')]
    check: Vec<String>,

    /// Whom to be for a running ensemble, as SCHEME:CREDENTIALS
    #[arg(long, value_name = "AUTH")]
    auth: Vec<String>,

    /// New zxids begin above this one too (0x...): where clients have seen later ones than the source holds
    #[arg(long, value_name = "ZXID", value_parser = zxid, default_value = "0x0")]
    zxid_above: Zxid,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Tell in what two running ensembles differ
#[derive(Args)]
#[command(after_help = "Example:
  quorate import compare --source 10.0.0.1:2181 --with 127.0.0.1:2181

Ephemerals, /zookeeper/config and counted quota usage are left out. Exit code 1 if anything differs.")]
pub(crate) struct Compare {
    /// The ensemble that was imported
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',', required = true)]
    source: Vec<String>,

    /// The one to compare with it
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',', required = true)]
    with: Vec<String>,

    /// Whom to be for both, as SCHEME:CREDENTIALS
    #[arg(long, value_name = "AUTH")]
    auth: Vec<String>,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

fn zxid(text: &str) -> Result<Zxid, String> {
    let read = match text.strip_prefix("0x") {
        Some(digits) => i64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    read.ok().filter(|zxid| *zxid >= 0).map(Zxid).ok_or("not a zxid; write it like 0x1a".to_owned())
}

impl Import {
    pub(crate) fn run(self) -> Result<Done, Failure> {
        match self {
            Self::Zookeeper(zookeeper) => zookeeper.run(),
            Self::Etcd(etcd) => etcd.run(),
            Self::Compare(compare) => compare.run(),
        }
    }
}

impl Zookeeper {
    fn run(self) -> Result<Done, Failure> {
        let (mut tree, mut report) = self.read()?;
        if let Some(flaw) = tree.flaw() {
            let help = "are these the newest files of one server, snapshots and logs?";
            return Err(Failure::new(Kind::BadInput, "import this tree", flaw, help));
        }
        report.summary = tree.summary();
        if !self.check.is_empty() {
            let running = live::read(&self.check, &self.auth)?;
            report.differences = Some(compare(&running, &tree));
        }
        tree.last_zxid = tree.last_zxid.max(self.zxid_above);
        if !self.to.is_empty() {
            report.founded = Some(self.found(&tree)?);
        }
        report.print(self.json);
        let same = report.differences.is_none_or(|differences| differences.is_empty());
        Ok(if same { Done::Yes } else { Done::No })
    }

    fn read(&self) -> Result<(ImportedTree, Report), Failure> {
        match &self.from {
            Some(directory) => files::read(directory, self.log_from.as_deref()),
            None => {
                let tree = live::read(&self.live, &self.auth)?;
                Ok((tree, Report::of(vec![format!("copied    {}", self.live.join(","))])))
            }
        }
    }

    fn found(&self, imported: &ImportedTree) -> Result<report::Founded, Failure> {
        let founding = Founding::above(imported.last_zxid);
        let mut tree = Tree::found(imported, founding).map_err(|flaw| {
            Failure::new(Kind::BadInput, "import this tree", flaw, "nothing was written")
        })?;
        found_cluster(&self.to, &mut tree, founding)
    }
}

/// Makes new data directories that begin with `tree`: of nodes 1, 2, ... of a cluster with a new id.
pub(crate) fn found_cluster(
    directories: &[PathBuf],
    tree: &mut Tree,
    founding: Founding,
) -> Result<report::Founded, Failure> {
    let cluster = found_group(directories, GroupId::COORDINATION, tree)?.0;
    let kept = tree.znodes();
    Ok(report::Founded { cluster, zxid: founding.zxid, directories: directories.to_vec(), kept })
}

fn found_group(
    directories: &[PathBuf],
    group: GroupId,
    state: &mut impl StateMachine,
) -> Result<ClusterId, Failure> {
    let what = "found a cluster";
    let cluster = random_u64()
        .map_err(|error| Failure::new(Kind::Data, what, error, "is /dev/urandom there?"))?;
    let numbered: Vec<(NodeId, PathBuf)> = (1..).map(NodeId).zip(directories.to_vec()).collect();
    found(ClusterId(cluster), &numbered, group, state).map_err(explain_found)?;
    Ok(ClusterId(cluster))
}

fn explain_found(error: FoundError) -> Failure {
    let what = "found a cluster";
    match error {
        FoundError::DataDir(error) => explain_data_dir(what, error),
        error => {
            let help = "is there space? remove what was begun, and try again";
            Failure::new(Kind::Data, what, error, help)
        }
    }
}

impl Compare {
    fn run(self) -> Result<Done, Failure> {
        let source = live::read(&self.source, &self.auth)?;
        let found = live::read(&self.with, &self.auth)?;
        let differences = compare(&source, &found);
        if self.json {
            let told: Vec<String> = differences.iter().map(Difference::to_string).collect();
            tell(&json!({"znodes": source.znodes.len(), "differences": told}).to_string());
        } else {
            differences.iter().for_each(|difference| tell(&difference.to_string()));
            tell(&format!("{} znodes, {} differences", source.znodes.len(), differences.len()));
        }
        Ok(if differences.is_empty() { Done::Yes } else { Done::No })
    }
}

/// ZooKeeper keeps its files one folder deeper; both folders may be named.
fn version_2(directory: &Path) -> PathBuf {
    let below = directory.join("version-2");
    if below.is_dir() { below } else { directory.to_path_buf() }
}
