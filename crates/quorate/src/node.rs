//! `quorate node`: single nodes of a local cluster.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};

use crate::cluster::{ClusterFile, ask_admin, ask_status, is_alive};
use crate::failure::{Done, Failure, Kind, tell};
use crate::up::{NotStarted, did_not_start, start};

/// Work on single nodes of a cluster that `quorate up` made
#[derive(Subcommand)]
pub(crate) enum Node {
    /// Start a node that was killed, in the background, and return once it serves
    Start(Start),
    /// Have a node lead the coordination service
    Lead(Lead),
}

/// Have a node lead the coordination service
#[derive(Args)]
#[command(after_help = "Example:\n  quorate node lead --dir quorate-data --id 2")]
pub(crate) struct Lead {
    /// The cluster's directory
    #[arg(long, value_name = "DIR", default_value = "quorate-data")]
    dir: PathBuf,

    /// Which node
    #[arg(long, value_name = "ID")]
    id: u64,
}

/// Start a node that was killed, in the background, and return once it serves
#[derive(Args)]
#[command(after_help = "Example:\n  quorate node start --dir quorate-data --id 2")]
pub(crate) struct Start {
    /// The cluster's directory
    #[arg(long, value_name = "DIR", default_value = "quorate-data")]
    dir: PathBuf,

    /// Which node
    #[arg(long, value_name = "ID")]
    id: u64,
}

const PATIENCE: Duration = Duration::from_secs(60);

impl Node {
    pub(crate) fn run(self) -> Result<Done, Failure> {
        match self {
            Self::Start(start) => start.run(),
            Self::Lead(lead) => lead.run(),
        }
    }
}

impl Lead {
    /// Any node that answers passes it on to the leader.
    fn run(self) -> Result<Done, Failure> {
        let what = format!("have node {} lead", self.id);
        let request = format!("POST /lead/{}", self.id);
        let cluster = ClusterFile::read(&self.dir)?;
        let asked = cluster
            .nodes
            .iter()
            .find_map(|node| ask_admin(node.admin, &request, Duration::from_secs(6)).ok());
        match asked {
            Some((true, body)) => {
                tell(&text_of(&body, "done"));
                Ok(Done::Yes)
            }
            Some((false, body)) => {
                let help = "`quorate status` shows who leads";
                Err(Failure::new(Kind::Refused, what, text_of(&body, "error"), help))
            }
            None => {
                let help = "is the cluster running? start it with `quorate up`";
                Err(Failure::new(Kind::Unreachable, what, "no node answers", help))
            }
        }
    }
}

/// A text in a JSON object, or all of it if it is not there.
fn text_of(body: &str, key: &str) -> String {
    let json: Option<serde_json::Value> = serde_json::from_str(body).ok();
    let text = json.as_ref().and_then(|json| json[key].as_str());
    text.unwrap_or(body).to_string()
}

impl Start {
    fn run(self) -> Result<Done, Failure> {
        let what = format!("start node {}", self.id);
        let directory = self.dir.canonicalize().map_err(|error| {
            Failure::new(Kind::Data, &what, error, "give the cluster's directory with --dir")
        })?;
        let mut cluster = ClusterFile::read(&directory)?;
        let up = cluster.up_pid.filter(|pid| is_alive(*pid));
        let Some(entry) = cluster.nodes.iter_mut().find(|node| node.id == self.id) else {
            let cause = format!("the cluster in {} has no such node", directory.display());
            return Err(Failure::new(Kind::Usage, &what, cause, "`quorate status` lists them"));
        };
        if is_alive(entry.pid)
            && ask_status(entry.admin).is_ok_and(|status| status.pid == entry.pid)
        {
            let cause = format!("it runs, as process {}", entry.pid);
            return Err(Failure::new(Kind::Data, &what, cause, "nothing needs to be done"));
        }
        let mut child = start(&directory, self.id, Some(up.unwrap_or(0)))?;
        let pid = child.id();
        let end = Instant::now() + PATIENCE;
        while !ask_status(entry.admin).is_ok_and(|status| status.serving && status.pid == pid) {
            if let Ok(Some(status)) = child.try_wait() {
                return Err(did_not_start(&directory, self.id, NotStarted::Ended(status)));
            }
            if Instant::now() > end {
                return Err(did_not_start(&directory, self.id, NotStarted::Late));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        entry.pid = pid;
        tell(&format!("node {} serves {}, as process {pid}", self.id, entry.zookeeper));
        // Another node may have been started meanwhile: only this entry is replaced.
        let mut newest = ClusterFile::read(&directory)?;
        newest.nodes.iter_mut().filter(|node| node.id == self.id).for_each(|node| node.pid = pid);
        newest.write(&directory)?;
        Ok(Done::Yes)
    }
}
