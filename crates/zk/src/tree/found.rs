//! Trees that begin a new cluster with what another one held: imported from ZooKeeper, or restored from a backup (ZK-19).
//!
//! Sessions stay behind, and their ephemerals with them, as if every one had ended with the founding: its clients are
//! told so when they come, and make anew what they need. Every transaction after it is above all that the old cluster
//! gave out, so that no client has seen a later one.

use quorate_contracts::LogIndex;

use super::node::{Kind, Node};
use super::{At, CONFIG, Tree};
use crate::command::{CreateMode, SessionId, Zxid};
use crate::import::{ImportedTree, ImportedZnode, Owner};
use crate::path;

/// Where a new cluster's history begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Founding {
    /// The log index that the state stands for.
    pub index: LogIndex,
    /// The transaction that it stands for: the founding itself.
    pub zxid: Zxid,
}

impl Founding {
    /// A founding above everything up to `seen`: the next epoch, in the way in which ZooKeeper's own zxids grow, whose
    /// upper half counts leaders. What the old cluster does meanwhile stays below it.
    pub fn above(seen: Zxid) -> Self {
        Self { index: LogIndex(1), zxid: Zxid(((seen.0 >> 32) + 1) << 32) }
    }
}

impl Tree {
    /// The tree of a new cluster that goes on with an imported one; an error tells which znode does not belong.
    pub fn found(imported: &ImportedTree, founding: Founding) -> Result<Self, String> {
        if let Some(flaw) = imported.flaw() {
            return Err(flaw);
        }
        let mut tree = Self::empty();
        // The configuration is the old ensemble's: the new one has its own.
        for (path, znode) in imported.znodes.iter().filter(|(path, _)| *path != CONFIG) {
            let kept = !matches!(znode.owner, Owner::Session(_));
            if kept {
                tree.add_imported(path, znode);
            } else if let Some(parent) = path::parent(path) {
                tree.change(parent, |node| node.pzxid = founding.zxid);
            }
        }
        tree.add_system_znodes();
        // ZooKeeper counts in memory, and its files lag behind.
        imported.znodes.keys().for_each(|path| tree.begin_count(path));
        tree.begin(founding);
        Ok(tree)
    }

    /// Ends all sessions and begins a new history: what a restored backup needs.
    pub fn begin_anew(&mut self, founding: Founding) {
        let at = At { zxid: founding.zxid, unix_ms: 0 };
        let sessions: Vec<SessionId> = self.sessions.keys().copied().collect();
        for session in sessions {
            self.end_session(at, session, false, &mut Vec::new());
        }
        self.begin(founding);
    }

    fn begin(&mut self, founding: Founding) {
        self.last_zxid = founding.zxid;
        self.zxid_offset = founding.zxid.0 - founding.index.0 as i64;
    }

    fn add_imported(&mut self, path: &str, znode: &ImportedZnode) {
        let mode = match znode.owner {
            Owner::Nobody | Owner::Session(_) => CreateMode::Persistent,
            Owner::Container => CreateMode::Container,
            Owner::Ttl(ttl) => CreateMode::Ttl(ttl),
        };
        let list = znode.acl.as_ref().expect("a tree without flaws has all its lists");
        let acl = self.acls.intern(list);
        let kind = Kind::of(mode, SessionId(0));
        let stat = &znode.stat;
        let mut node = Node::new(path, znode.data.as_deref(), acl, kind, stat.czxid, stat.ctime);
        (node.mzxid, node.pzxid, node.mtime) = (stat.mzxid, stat.pzxid, stat.mtime);
        (node.version, node.aversion) = (stat.version, stat.aversion);
        node.created = znode.created;
        self.add(node);
    }
}
