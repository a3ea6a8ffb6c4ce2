//! `quorate serve` and `quorate format`: one node in production.

use std::path::{Path, PathBuf};

use clap::Args;
use quorate_contracts::{ClusterId, NodeId};
use quorate_server::{
    ConfigError, DataDir, DataDirError, ServeConfig, ServeError, Stop, ZooCfg, raise_open_files,
    random_u64,
};
use tokio::signal::unix::{SignalKind, signal};

use crate::failure::{Done, Failure, Kind, tell};

/// Run one node until it is told to stop: SIGTERM hands over first, SIGINT stops at once
#[derive(Args)]
#[command(after_help = "Examples:
  quorate serve --config /etc/quorate/serve.toml
  quorate serve --zoo-cfg /etc/zookeeper/conf/zoo.cfg    a ZooKeeper's own file, read as it is")]
pub(crate) struct Serve {
    /// Configuration file (TOML; docs/configuration.md lists the keys)
    #[arg(long, value_name = "FILE", required_unless_present = "zoo_cfg")]
    config: Option<PathBuf>,

    /// Instead of it, a ZooKeeper's zoo.cfg; what has no effect here is warned about
    #[arg(long, value_name = "FILE", conflicts_with = "config")]
    zoo_cfg: Option<PathBuf>,

    /// This node is new to a cluster that runs: it waits until it is added (`join` of the configuration)
    #[arg(long)]
    join: bool,

    /// End with the process of this id (used by `quorate up`)
    #[arg(long, value_name = "PID", hide = true)]
    die_with: Option<u32>,

    /// Each sync of the log takes longer by the milliseconds in this file (used by `quorate up --playground`)
    #[arg(long, value_name = "FILE", hide = true)]
    disk_delay_file: Option<PathBuf>,
}

/// Make a data directory for one node, once
#[derive(Args)]
#[command(
    after_help = "Example:\n  quorate format --dir /var/lib/quorate --cluster 5f3a09c1 --node 2\n\nGive every node of a cluster the same --cluster; leave it out for the first one, which draws it."
)]
pub(crate) struct Format {
    /// The directory
    #[arg(long, value_name = "DIR", required_unless_present = "zoo_cfg")]
    dir: Option<PathBuf>,

    /// The cluster's id, in hexadecimal; drawn and printed if left out
    #[arg(long, value_name = "HEX")]
    cluster: Option<String>,

    /// The node's id
    #[arg(long, value_name = "ID", required_unless_present = "zoo_cfg")]
    node: Option<u64>,

    /// Take directory and id from a ZooKeeper's zoo.cfg (dataDir, myid)
    #[arg(long, value_name = "FILE", conflicts_with_all = ["dir", "node"])]
    zoo_cfg: Option<PathBuf>,
}

impl Serve {
    pub(crate) fn run(self) -> Result<Done, Failure> {
        let mut config = match (&self.config, &self.zoo_cfg) {
            (_, Some(path)) => read_zoo_cfg(path)?,
            (path, None) => read_config(path.as_deref().unwrap_or(Path::new("")))?,
        };
        config.join |= self.join;
        config.disk_delay_file.clone_from(&self.disk_delay_file);
        raise_open_files();
        let parent = self.die_with;
        if let Some(parent) = parent {
            end_with(parent);
        }
        let span = tracing::info_span!("node", n = config.node);
        let _entered = span.enter();
        quorate_server::serve(&config, stop(parent)).map_err(|error| explain(&config, error))?;
        Ok(Done::Yes)
    }
}

impl Format {
    pub(crate) fn run(self) -> Result<Done, Failure> {
        let (dir, node) = match &self.zoo_cfg {
            Some(path) => {
                let config = read_zoo_cfg(path)?;
                (config.data_dir, config.node)
            }
            None => (self.dir.clone().unwrap_or_default(), self.node.unwrap_or_default()),
        };
        let what = format!("make {} a data directory", dir.display());
        let cluster = self.cluster(&what)?;
        DataDir::format(&dir, ClusterId(cluster), NodeId(node))
            .map_err(|error| explain_data_dir(&what, error))?;
        tell(&format!("{} is node {node} of cluster {cluster:x}", dir.display()));
        Ok(Done::Yes)
    }

    fn cluster(&self, what: &str) -> Result<u64, Failure> {
        match &self.cluster {
            Some(text) => u64::from_str_radix(text, 16).map_err(|error| {
                let help = "--cluster takes up to 16 hexadecimal digits";
                Failure::new(Kind::Usage, what, error, help)
            }),
            None => random_u64()
                .map_err(|error| Failure::new(Kind::Data, what, error, "is /dev/urandom there?")),
        }
    }
}

/// Reads a ZooKeeper's configuration, and warns about what is different.
pub(crate) fn read_zoo_cfg(path: &Path) -> Result<ServeConfig, Failure> {
    let ZooCfg { config, warnings } = ZooCfg::read(path).map_err(|error| {
        let what = format!("use the configuration {}", path.display());
        let help = "docs/configuration.md, \"A zoo.cfg\", says what is read";
        Failure::new(Kind::Config, what, error, help)
    })?;
    warnings.iter().for_each(|warning| tracing::warn!("{}: {warning}", path.display()));
    Ok(config)
}

pub(crate) fn read_config(path: &Path) -> Result<ServeConfig, Failure> {
    ServeConfig::read(path).map_err(|error| {
        let what = format!("use the configuration {}", path.display());
        Failure::new(Kind::Config, what, error, "docs/configuration.md lists the keys")
    })
}

/// The kernel ends this process when its parent dies, even of -9. The parent may be dead already; and a
/// node that `quorate node start` started has another parent, which ends at once: it looks for itself.
fn end_with(parent: u32) {
    if rustix::process::getppid()
        .is_none_or(|pid| pid.as_raw_nonzero().get().unsigned_abs() != parent)
    {
        return;
    }
    let signal = rustix::process::Signal::KILL;
    if let Err(error) = rustix::process::set_parent_process_death_signal(Some(signal)) {
        tracing::warn!(%error, "cannot ask to end with the parent");
    }
}

/// Returns when the process is told to stop, or when the one that it lives for is gone.
async fn stop(parent: Option<u32>) -> Stop {
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    let orphaned = async {
        let Some(parent) = parent else { return std::future::pending().await };
        while crate::cluster::is_alive(parent) {
            tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        }
    };
    let stop = tokio::select! {
        _ = terminate.recv() => Stop::InOrder,
        _ = interrupt.recv() => Stop::AtOnce,
        () = orphaned => Stop::AtOnce,
    };
    tracing::info!(?stop, "stopping");
    stop
}

fn explain(config: &ServeConfig, error: ServeError) -> Failure {
    let what = format!("run node {}", config.node);
    match error {
        ServeError::Config(error @ ConfigError::Unreadable { .. }) => {
            Failure::new(Kind::Config, what, error, "give the path with --config")
        }
        ServeError::Config(error) => {
            Failure::new(Kind::Config, what, error, "docs/configuration.md lists the keys")
        }
        ServeError::DataDir(error) => explain_data_dir(&what, error),
        ServeError::Open { .. } => {
            let help = "nothing was changed; `quorate log verify` names file and byte; see \
                        docs/storage.md, \"A damaged segment\"";
            Failure::new(Kind::Data, what, error, help)
        }
        ServeError::Listen { .. } => {
            let help = "is another process using the port? choose another in the configuration, or \
                        `quorate up --port-offset K`";
            Failure::new(Kind::Unreachable, what, error, help)
        }
        ServeError::DiskFailed(reason) => {
            let help = "the node stopped, since nothing more could be made durable; look at the \
                        disk, then start it again";
            Failure::new(Kind::Data, what, reason, help)
        }
        ServeError::Io(error) => {
            Failure::new(Kind::Data, what, error, "look at the disk and at limits")
        }
    }
}

pub(crate) fn explain_data_dir(what: &str, error: DataDirError) -> Failure {
    let help = match &error {
        DataDirError::NotFormatted { .. } => {
            "make it one with `quorate format`, once; if it was one before, its data is gone: remove \
             the node from the cluster and add it again"
        }
        DataDirError::InUse { .. } => "stop that process first, or use another directory",
        DataDirError::Foreign { .. } => "check `node` and `data_dir` in the configuration",
        DataDirError::Exists { .. } => "it is not made anew; use another directory",
        DataDirError::Version { .. } => "use a build that reads this format",
        DataDirError::Io { .. } => "is the directory there and writable, and is there space?",
        DataDirError::Unreadable { .. } => "restore the file from a backup of this very node",
    };
    let kind = match &error {
        DataDirError::NotFormatted { .. } | DataDirError::Foreign { .. } => Kind::Config,
        _ => Kind::Data,
    };
    Failure::new(kind, what, error, help)
}
