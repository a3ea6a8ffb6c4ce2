//! `quorate doctor`: looks at a configuration and its machine before they fail, and says in words what is wrong and how to mend it.
//!
//! | file | what it looks at |
//! | --- | --- |
//! | `configuration` | the file, its directory, who may reach what |
//! | `disk` | where the log is: how fast it makes things durable, what room it has |
//! | `ports` | ours or somebody else's; whether the other members answer |
//! | `limits` | files that the process may open, and other bounds of the kernel |
//! | `certificates` | that they read, fit, hold, and are trusted |
//! | `clocks` | the time of day here and at the other members |
//!
//! It writes one scratch file, beside the log, and removes it. Not here: whether the cluster is well (`quorate status`).

mod certificates;
mod clocks;
mod configuration;
mod disk;
mod limits;
mod ports;

use std::path::{Path, PathBuf};

use clap::Args;
use quorate_server::{NodeStatus, ServeConfig};
use serde::Serialize;

use crate::cluster::{ClusterFile, ask_status, local_config, local_entry, node_config};
use crate::failure::{Done, Failure, Kind, tell};
use crate::serve::{read_config, read_zoo_cfg};

/// Say what is wrong with a configuration and its machine, and how to mend it; exits with 1 if something is
#[derive(Args)]
#[command(after_help = "Examples:
  quorate doctor --config /etc/quorate/serve.toml
  quorate doctor                      the cluster of `quorate up` here, or whether one could be started")]
pub(crate) struct Doctor {
    /// Configuration file of a node
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Instead of it, a ZooKeeper's zoo.cfg
    #[arg(long, value_name = "FILE", conflicts_with = "config")]
    zoo_cfg: Option<PathBuf>,

    /// Or the directory of a cluster that `quorate up` made
    #[arg(long, value_name = "DIR", default_value = "quorate-data", conflicts_with_all = ["config", "zoo_cfg"])]
    dir: PathBuf,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// How much a finding matters.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    /// As it should be.
    Ok,
    /// It works, and somebody should know.
    Warn,
    /// It will not work.
    Bad,
}

/// One thing that was looked at.
#[derive(Clone, Debug, Serialize)]
struct Finding {
    level: Level,
    topic: &'static str,
    what: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    mend: Option<String>,
}

/// What was found so far, about one topic at a time.
#[derive(Debug)]
struct Findings {
    topic: &'static str,
    all: Vec<Finding>,
}

impl Findings {
    fn about(topic: &'static str) -> Self {
        Self { topic, all: Vec::new() }
    }

    fn ok(&mut self, what: impl Into<String>) {
        self.all.push(Finding {
            level: Level::Ok,
            topic: self.topic,
            what: what.into(),
            mend: None,
        });
    }

    fn warn(&mut self, what: impl Into<String>, mend: impl Into<String>) {
        self.wrong(Level::Warn, what.into(), mend.into());
    }

    fn bad(&mut self, what: impl Into<String>, mend: impl Into<String>) {
        self.wrong(Level::Bad, what.into(), mend.into());
    }

    fn wrong(&mut self, level: Level, what: String, mend: String) {
        self.all.push(Finding { level, topic: self.topic, what, mend: Some(mend) });
    }
}

impl Doctor {
    pub(crate) fn run(self) -> Result<Done, Failure> {
        let findings: Vec<Finding> = self.configs()?.iter().flat_map(examine).collect();
        let healthy = findings.iter().all(|finding| finding.level != Level::Bad);
        if self.json {
            tell(&serde_json::json!({ "healthy": healthy, "findings": findings }).to_string());
        } else {
            tell(&in_words(&findings));
        }
        Ok(if healthy { Done::Yes } else { Done::No })
    }

    /// What to look at: one file, or every node of a local cluster, or the cluster that `up` would make.
    fn configs(&self) -> Result<Vec<ServeConfig>, Failure> {
        match (&self.config, &self.zoo_cfg) {
            (Some(path), _) => Ok(vec![read_config(path)?]),
            (None, Some(path)) => Ok(vec![read_zoo_cfg(path)?]),
            (None, None) if ClusterFile::path(&self.dir).exists() => {
                let cluster = ClusterFile::read(&self.dir)?;
                cluster
                    .nodes
                    .iter()
                    .map(|node| read_config(&node_config(&self.dir, node.id)))
                    .collect()
            }
            (None, None) => would_be(&self.dir),
        }
    }
}

/// The nodes that `quorate up` would start here.
fn would_be(directory: &Path) -> Result<Vec<ServeConfig>, Failure> {
    let entries: Option<Vec<_>> = (1..=3).map(|id| local_entry(id, 0, false)).collect();
    let entries = entries.ok_or_else(|| {
        Failure::new(Kind::Usage, "look at a cluster here", "no such ports", "give --config")
    })?;
    let base = ServeConfig::default();
    Ok(entries.iter().map(|entry| local_config(&base, directory, entry, &entries)).collect())
}

fn examine(config: &ServeConfig) -> Vec<Finding> {
    let checks = [
        configuration::examine,
        disk::examine,
        ports::examine,
        limits::examine,
        certificates::examine,
        clocks::examine,
    ];
    checks.iter().flat_map(|check| check(config).all).collect()
}

/// The node's own process, if it runs: not another one that has its number and its port.
fn running(config: &ServeConfig) -> Option<NodeStatus> {
    let lock = std::fs::read_to_string(config.data_dir.join("lock")).ok()?;
    let status = ask_status(config.own_address()?.admin).ok()?;
    (status.id == config.node && status.pid.to_string() == lock.trim()).then_some(status)
}

fn in_words(findings: &[Finding]) -> String {
    let mut text = String::new();
    for Finding { level, topic, what, mend } in findings {
        let mark = match level {
            Level::Ok => "ok",
            Level::Warn => "WARN",
            Level::Bad => "BAD",
        };
        text += &format!("{mark:<5}{topic:<14}{what}\n");
        if let Some(mend) = mend {
            text += &format!("{:19}mend: {mend}\n", "");
        }
    }
    let count = |level| findings.iter().filter(|finding| finding.level == level).count();
    text + &format!("{} wrong, {} to know of", count(Level::Bad), count(Level::Warn))
}

/// What the tests of the checks look at.
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_followed_by_how_to_mend_it() {
        let mut findings = Findings::about("disk");
        findings.ok("fast");
        findings.bad("full", "make room");
        let text = in_words(&findings.all);
        let told = "ok   disk          fast\nBAD  disk          full\n                   mend: make room\n1 wrong, 0 to know of";
        assert_eq!(text, told);
    }

    fn level_of(findings: &Findings, word: &str) -> Option<Level> {
        findings.all.iter().find(|finding| finding.what.contains(word)).map(|found| found.level)
    }

    /// Each mistake is found under its own words.
    #[test]
    fn mistakes_of_a_configuration_are_told() {
        let directory = std::env::temp_dir().join("quorate-doctor-nowhere");
        let config = would_be(&directory).unwrap().remove(0);
        let found = configuration::examine(&config);
        assert_eq!(level_of(&found, "and will be made"), Some(Level::Ok), "{found:?}");
        let mut twice = config.clone();
        twice.members[1].id = 1;
        assert_eq!(level_of(&configuration::examine(&twice), "twice"), Some(Level::Bad));
        let mut two = config.clone();
        two.members.pop();
        assert_eq!(level_of(&configuration::examine(&two), "2 voting members"), Some(Level::Warn));
        let mut open = config;
        open.members[0].member = "0.0.0.0:7400".to_string();
        assert_eq!(level_of(&configuration::examine(&open), "beyond loopback"), Some(Level::Bad));
    }

    #[test]
    fn a_port_of_somebody_else_is_told_from_a_free_one() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut config = would_be(Path::new("/nonexistent")).unwrap().remove(0);
        config.members[0].zookeeper = taken.local_addr().unwrap();
        let address = config.members[0].zookeeper.to_string();
        let found = ports::examine(&config);
        assert_eq!(level_of(&found, &address), Some(Level::Bad), "{found:?}");
    }

    #[test]
    fn a_missing_certificate_is_named() {
        let mut config = would_be(Path::new("/nonexistent")).unwrap().remove(0);
        let file = |name: &str| PathBuf::from("/nonexistent").join(name);
        config.member_tls = Some(quorate_server::MemberTls {
            certificate: file("member.pem"),
            key: file("member.key"),
            ca: file("ca.pem"),
        });
        let found = certificates::examine(&config);
        assert_eq!(level_of(&found, "member.pem"), Some(Level::Bad), "{found:?}");
    }
}
