//! What the service reads, between two applies.

use std::ops::Bound;

use quorate_contracts::LogIndex;

use super::{Node, Session, Tree, masked, permits, perms};
use crate::command::{AclEntry, ErrorCode, Identity, SessionId, Stat, Zxid};

/// A znode, to be read.
#[derive(Clone, Copy, Debug)]
pub struct Znode<'t> {
    tree: &'t Tree,
    node: &'t Node,
}

impl<'t> Znode<'t> {
    /// Its data; `None` is the protocol's null.
    pub fn data(&self) -> Option<&'t [u8]> {
        self.node.data()
    }

    /// Its Stat.
    pub fn stat(&self) -> Stat {
        self.node.stat()
    }

    /// Its access control list.
    pub fn acl(&self) -> &'t [AclEntry] {
        self.tree.acl(self.node.acl)
    }

    /// The list as somebody with these identities may see it; without READ or ADMIN, not at all.
    pub fn acl_for(&self, identities: &[Identity]) -> Result<Vec<AclEntry>, ErrorCode> {
        if permits(self.acl(), identities, perms::ADMIN) {
            Ok(self.acl().to_vec())
        } else if permits(self.acl(), identities, perms::READ) {
            Ok(masked(self.acl()))
        } else {
            Err(ErrorCode::NoAuth)
        }
    }

    /// The names of its children, the newest first.
    pub fn children(&self) -> impl Iterator<Item = &'t str> + use<'t> {
        let tree = self.tree;
        let slot = tree.slot(&self.node.path);
        tree.nodes.children(slot).map(|child| crate::path::name(&child.path))
    }

    /// The same, from behind a child on; `None` if there is no such child (any more).
    pub fn children_after(&self, name: &str) -> Option<impl Iterator<Item = &'t str> + use<'t>> {
        let tree = self.tree;
        let child = match &*self.node.path {
            "/" => format!("/{name}"),
            path => format!("{path}/{name}"),
        };
        tree.nodes.get(&child).filter(|_| !name.contains('/'))?;
        let older = tree.nodes.older_siblings(tree.slot(&child));
        Some(older.map(|child| crate::path::name(&child.path)))
    }

    /// How many znodes lie below it.
    pub fn descendants(&self) -> usize {
        self.node.descendants as usize
    }
}

impl Tree {
    /// The znode at `path`.
    pub fn znode(&self, path: &str) -> Option<Znode<'_>> {
        // ZooKeeper takes an empty path for the root.
        let path = if path.is_empty() { "/" } else { path };
        self.nodes.get(path).map(|node| Znode { tree: self, node })
    }

    /// The znode at `path`, if it is there and may be read.
    pub fn readable(&self, path: &str, identities: &[Identity]) -> Result<Znode<'_>, ErrorCode> {
        let znode = self.znode(path).ok_or(ErrorCode::NoNode)?;
        if permits(znode.acl(), identities, perms::READ) {
            Ok(znode)
        } else {
            Err(ErrorCode::NoAuth)
        }
    }

    /// The last transaction applied.
    pub fn last_zxid(&self) -> Zxid {
        self.last_zxid
    }

    /// The transaction that an entry of the log is.
    pub fn zxid_at(&self, index: LogIndex) -> Zxid {
        Zxid(index.0 as i64 + self.zxid_offset)
    }

    /// A session.
    pub fn session(&self, id: SessionId) -> Option<&Session> {
        self.sessions.get(&id)
    }

    /// All sessions, by id.
    pub fn sessions(&self) -> impl ExactSizeIterator<Item = (SessionId, &Session)> {
        self.sessions.iter().map(|(id, session)| (*id, session))
    }

    /// The ephemeral znodes of a session below a prefix.
    pub fn ephemerals_of(&self, id: SessionId, prefix: &str) -> Vec<&str> {
        let from = (Bound::Included(prefix), Bound::Unbounded);
        self.sessions.get(&id).map_or(Vec::new(), |session| {
            let below = session.ephemerals.range::<str, _>(from);
            below.map(|path| &**path).take_while(|path| path.starts_with(prefix)).collect()
        })
    }

    /// How many znodes there are.
    pub fn znodes(&self) -> usize {
        self.nodes.len()
    }

    /// How many of them are ephemeral.
    pub fn ephemerals(&self) -> u64 {
        self.ephemerals
    }

    /// Bytes of all paths and data.
    pub fn data_bytes(&self) -> u64 {
        self.bytes
    }
}
