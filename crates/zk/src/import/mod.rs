//! What ZooKeeper leaves on disk, read into a tree of ours (ZK-19): snapshots, also fuzzy ones, and the transaction
//! logs replayed over them.
//!
//! | module | what it is |
//! | --- | --- |
//! | `snapshot` | a snapshot file (`snapshot.ZXID`) |
//! | `log` | a transaction log (`log.ZXID`): its records, and where it ends |
//! | `replay` | one transaction carried out as ZooKeeper replays it |
//! | `adler` | the checksum of both |
//! | `choose` | which files of a directory belong together |
//! | `compare` | in what two trees differ |
//!
//! Everything takes bytes and trusts none of them: lengths are checked before memory is taken, and a damaged file is
//! refused with the byte where it stops making sense, never read in part.
//!
//! **Fuzzy snapshots.** ZooKeeper writes a snapshot while transactions go on, so the file may hold effects of
//! transactions later than the zxid in its name. Replaying every transaction after that zxid repairs it, since
//! transactions carry results (the version after, the parent's count after), not changes: what was applied twice is the
//! same as once.
//!
//! Not here: files, directories, compression, and copying from a running server over the client protocol; those hand
//! an [`ImportedTree`] over just the same.

mod adler;
mod choose;
mod compare;
mod log;
mod replay;
mod snapshot;

use std::collections::{BTreeMap, BTreeSet};

use thiserror::Error;

pub use choose::{Files, choose};
pub use compare::{Difference, compare};
pub use log::{LogRead, read_log};
pub use snapshot::read_snapshot;

use crate::command::{AclList, SessionId, Stat, Zxid};
use crate::path;

/// A file does not make sense from a byte on.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("byte {at}: {what}")]
pub struct BadFile {
    /// Where, from the start of the (uncompressed) file.
    pub at: u64,
    /// What is wrong.
    pub what: String,
}

/// Whose a znode is: ZooKeeper keeps all of this in `ephemeralOwner`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Owner {
    /// Nobody's: a persistent znode.
    #[default]
    Nobody,
    /// A session's: an ephemeral.
    Session(SessionId),
    /// A container.
    Container,
    /// Goes when it was not changed for this many milliseconds and has no children.
    Ttl(i64),
}

impl Owner {
    /// Reads ZooKeeper's number: `EphemeralType`.
    pub(crate) fn from_number(number: i64) -> Self {
        const TTL_MARK: u64 = 0xff_0000;
        match number {
            0 => Self::Nobody,
            i64::MIN => Self::Container,
            number if (number as u64) >> 40 == TTL_MARK => Self::Ttl(number & 0xff_ffff_ffff),
            session => Self::Session(SessionId(session)),
        }
    }
}

/// A znode that comes from elsewhere.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ImportedZnode {
    /// Its data; `None` is the protocol's null.
    pub data: Option<Vec<u8>>,
    /// Its access control list; `None` if the snapshot names one that it does not hold, which happens in a fuzzy
    /// one until the log is replayed.
    pub acl: Option<AclList>,
    /// Whose it is.
    pub owner: Owner,
    /// Transactions, times and versions. `cversion`, lengths and counts follow from the rest and are 0 here.
    pub stat: Stat,
    /// Children ever created: the next sequential suffix.
    pub created: u64,
}

/// A tree that comes from elsewhere.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ImportedTree {
    /// Every znode by path: a parent stands before its children.
    pub znodes: BTreeMap<String, ImportedZnode>,
    /// Sessions and their timeouts in milliseconds.
    pub sessions: BTreeMap<SessionId, i32>,
    /// The highest transaction seen.
    pub last_zxid: Zxid,
    /// The ephemerals of each session.
    ephemerals: BTreeMap<SessionId, BTreeSet<String>>,
}

impl ImportedTree {
    /// Adds a znode, or puts it in the place of the one there.
    pub fn insert(&mut self, path: String, znode: ImportedZnode) {
        for zxid in [znode.stat.czxid, znode.stat.mzxid, znode.stat.pzxid] {
            self.last_zxid = self.last_zxid.max(zxid);
        }
        if let Owner::Session(session) = znode.owner {
            self.ephemerals.entry(session).or_default().insert(path.clone());
        }
        self.znodes.insert(path, znode);
    }

    fn remove(&mut self, path: &str) {
        let removed = self.znodes.remove(path);
        if let Some(Owner::Session(session)) = removed.map(|znode| znode.owner)
            && let Some(paths) = self.ephemerals.get_mut(&session)
        {
            paths.remove(path);
        }
    }

    /// Counts what there is.
    pub fn summary(&self) -> Summary {
        let mut summary = Summary::default();
        for (path, znode) in &self.znodes {
            summary.znodes += 1;
            summary.data_bytes += znode.data.as_ref().map_or(0, |data| data.len() as u64);
            match znode.owner {
                Owner::Nobody => {}
                Owner::Session(_) => summary.ephemerals += 1,
                Owner::Container => summary.containers += 1,
                Owner::Ttl(_) => summary.ttl += 1,
            }
            if path.starts_with(QUOTA_ROOT) && path.ends_with(QUOTA_LEAF) {
                summary.quotas += 1;
            }
            if let Some(list) = &znode.acl {
                summary.restricted += u64::from(!compare::is_open(list));
            }
        }
        summary.sessions = self.sessions.len() as u64;
        summary.last_zxid = self.last_zxid;
        summary
    }

    /// The first znode whose parent is missing or whose list is unknown: the files do not belong together.
    pub fn flaw(&self) -> Option<String> {
        self.znodes.iter().find_map(|(path, znode)| {
            let orphan = path::parent(path).is_some_and(|parent| !self.znodes.contains_key(parent));
            if orphan {
                Some(format!("{path} has no parent"))
            } else if znode.acl.is_none() {
                Some(format!("the access control list of {path} is in none of the files"))
            } else {
                None
            }
        })
    }
}

const QUOTA_ROOT: &str = "/zookeeper/quota/";
const QUOTA_LEAF: &str = "/zookeeper_limits";

/// What a tree holds, in numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Summary {
    /// Znodes, the system's own included.
    pub znodes: u64,
    /// Bytes of their data.
    pub data_bytes: u64,
    /// Ephemeral ones among them.
    pub ephemerals: u64,
    /// Containers among them.
    pub containers: u64,
    /// Those with a time to live.
    pub ttl: u64,
    /// Those whose list is not "everybody may do everything".
    pub restricted: u64,
    /// Quotas set.
    pub quotas: u64,
    /// Sessions.
    pub sessions: u64,
    /// The highest transaction.
    pub last_zxid: Zxid,
}

#[cfg(test)]
mod tests;
