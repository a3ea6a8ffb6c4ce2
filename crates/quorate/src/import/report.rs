//! What an import tells when it is done.

use std::path::PathBuf;

use quorate_zk::command::Zxid;
use quorate_zk::import::{Difference, Summary};
use serde_json::json;

use crate::failure::tell;

/// More differences than this are counted only.
const DIFFERENCES_SHOWN: usize = 20;

/// An import, told.
#[derive(Debug, Default)]
pub(super) struct Report {
    /// What was read, one line a file.
    pub(super) lines: Vec<String>,
    pub(super) summary: Summary,
    /// In what a running ensemble differs from it, if one was asked.
    pub(super) differences: Option<Vec<Difference>>,
    pub(super) founded: Option<Founded>,
}

/// A new cluster.
#[derive(Debug)]
pub(crate) struct Founded {
    pub(crate) cluster: u64,
    pub(crate) zxid: Zxid,
    pub(crate) directories: Vec<PathBuf>,
    /// Znodes that it begins with.
    pub(crate) kept: usize,
}

impl Report {
    pub(super) fn of(lines: Vec<String>) -> Self {
        Self { lines, ..Self::default() }
    }

    pub(super) fn print(&self, as_json: bool) {
        tell(&if as_json { self.json().to_string() } else { self.text() });
    }

    fn text(&self) -> String {
        let s = &self.summary;
        let mut lines = self.lines.clone();
        lines.push(format!(
            "found     {} znodes with {} bytes, {} sessions, last zxid 0x{:x}",
            s.znodes, s.data_bytes, s.sessions, s.last_zxid.0
        ));
        lines.push(format!(
            "          {} containers, {} with a time to live, {} with lists of their own, {} quotas",
            s.containers, s.ttl, s.restricted, s.quotas
        ));
        lines.push(format!(
            "dropped   {} ephemerals, with their sessions, and what /zookeeper/config says of the ensemble",
            s.ephemerals
        ));
        if let Some(differences) = &self.differences {
            lines.push(format!("checked   {} differences", differences.len()));
            let shown = differences.iter().take(DIFFERENCES_SHOWN);
            lines.extend(shown.map(|difference| format!("          {difference}")));
        }
        lines.extend(self.founded.as_ref().map(Founded::text));
        lines.join("\n")
    }

    fn json(&self) -> serde_json::Value {
        let s = &self.summary;
        let told = |differences: &Vec<Difference>| -> Vec<String> {
            differences.iter().map(Difference::to_string).collect()
        };
        json!({
            "read": self.lines, "znodes": s.znodes, "data_bytes": s.data_bytes, "sessions": s.sessions,
            "last_zxid": format!("0x{:x}", s.last_zxid.0), "containers": s.containers, "ttl": s.ttl,
            "restricted": s.restricted, "quotas": s.quotas, "ephemerals_dropped": s.ephemerals,
            "differences": self.differences.as_ref().map(told),
            "founded": self.founded.as_ref().map(Founded::json),
        })
    }
}

impl Founded {
    /// As the last lines of a report.
    pub(crate) fn text(&self) -> String {
        let directories: Vec<String> =
            self.directories.iter().map(|path| path.display().to_string()).collect();
        format!(
            "founded   cluster {:x} at zxid 0x{:x} with {} znodes in {}",
            self.cluster,
            self.zxid.0,
            self.kept,
            directories.join(", ")
        )
    }

    /// For a program.
    pub(crate) fn json(&self) -> serde_json::Value {
        json!({
            "cluster": format!("{:x}", self.cluster), "zxid": format!("0x{:x}", self.zxid.0),
            "znodes": self.kept, "directories": self.directories,
        })
    }
}
