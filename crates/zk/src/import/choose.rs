//! Which files of ZooKeeper's directories belong together: its newest snapshot, and the logs that lead on from it.
//!
//! ```text
//! snapshot.1a   log.b ... log.19   log.1b ...        hexadecimal: last zxid before the snapshot began, first zxid of
//!                          └ needed ┴ needed          the log; snapshots may end in .gz or .snappy
//! ```

use crate::command::Zxid;

/// What is to be read, in this order.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Files {
    /// Snapshots, the newest first: an older one is there for the case that a newer one is damaged.
    pub snapshots: Vec<(Zxid, String)>,
    /// Logs, the oldest first.
    pub logs: Vec<(Zxid, String)>,
}

/// Sorts the names of a directory's files; other files are left out.
pub fn choose(names: impl IntoIterator<Item = String>) -> Files {
    let mut files = Files::default();
    for name in names {
        if let Some(zxid) = numbered(&name, "snapshot.") {
            files.snapshots.push((zxid, name));
        } else if let Some(zxid) = numbered(&name, "log.") {
            files.logs.push((zxid, name));
        }
    }
    files.snapshots.sort_unstable_by(|a, b| b.cmp(a));
    files.logs.sort_unstable();
    files
}

fn numbered(name: &str, prefix: &str) -> Option<Zxid> {
    let rest = name.strip_prefix(prefix)?;
    let digits = rest.strip_suffix(".gz").or(rest.strip_suffix(".snappy")).unwrap_or(rest);
    i64::from_str_radix(digits, 16).ok().map(Zxid)
}

impl Files {
    /// The logs that may hold transactions after a snapshot's zxid: from the last one that begins at or before the
    /// next transaction.
    pub fn logs_after(&self, snapshot: Zxid) -> &[(Zxid, String)] {
        let later = self.logs.partition_point(|(first, _)| first.0 <= snapshot.0.saturating_add(1));
        &self.logs[later.saturating_sub(1)..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_snapshot_and_the_logs_from_it_on() {
        let names = [
            "log.1",
            "log.100000001",
            "log.100000020",
            "log.200000001",
            "snapshot.0",
            "snapshot.100000020",
            "snapshot.10000000f.gz",
            "currentEpoch",
            "log.zz",
            "snapshot.",
        ];
        let files = choose(names.map(str::to_owned));
        let newest: Vec<i64> = files.snapshots.iter().map(|(zxid, _)| zxid.0).collect();
        assert_eq!(newest, [0x1_0000_0020, 0x1_0000_000f, 0]);
        let logs = |zxid| -> Vec<&str> {
            files.logs_after(Zxid(zxid)).iter().map(|(_, name)| name.as_str()).collect()
        };
        // A log that begins with the snapshot's own zxid holds what follows as well.
        assert_eq!(logs(0x1_0000_0020), ["log.100000020", "log.200000001"]);
        assert_eq!(logs(0x1_0000_000f), ["log.100000001", "log.100000020", "log.200000001"]);
        assert_eq!(logs(0), ["log.1", "log.100000001", "log.100000020", "log.200000001"]);
        assert!(choose([]).logs_after(Zxid(5)).is_empty());
    }
}
