//! Carries out what was planned. Nothing here can fail.

use super::node::{Kind, Node};
use super::plan::{Planned, next_version};
use super::quota::Usage;
use super::{At, Tree};
use crate::command::{AclList, Event, OpReply};
use crate::path;

impl Tree {
    pub(super) fn perform(
        &mut self,
        at: At,
        planned: Planned<'_>,
        events: &mut Vec<Event>,
    ) -> OpReply {
        match planned {
            Planned::Create { path, data, acl, kind } => {
                let id = self.acls.intern(&acl);
                let node = Node::new(&path, data, id, kind, at.zxid, at.unix_ms);
                let stat = node.stat();
                self.add(node);
                events.push(Event::Created { path: path.clone(), acl });
                self.child_changed(at, &path, true, events);
                let bytes = data.map_or(0, <[u8]>::len) as i64;
                self.count_quota(&path, Usage { count: 1, bytes });
                self.begin_count(&path);
                OpReply::Created { path, stat }
            }
            Planned::Delete { path } => {
                self.perform_delete(at, path, events);
                OpReply::Nothing
            }
            Planned::SetData { path, data } => {
                let before = self.nodes.node(self.slot(path)).stat().data_length;
                let stat = self.change(path, |node| {
                    node.set_data(data);
                    node.version = next_version(node.version);
                    (node.mzxid, node.mtime) = (at.zxid, at.unix_ms);
                });
                let bytes = i64::from(stat.data_length) - i64::from(before);
                self.count_quota(path, Usage { count: 0, bytes });
                let acl = self.acl_of(path);
                events.push(Event::DataChanged { path: path.to_string(), acl });
                OpReply::Stat(stat)
            }
            Planned::SetAcl { path, acl } => {
                let new = self.acls.intern(&acl);
                let old = self.nodes.node(self.slot(path)).acl;
                let stat = self.change(path, |node| {
                    node.acl = new;
                    node.aversion = next_version(node.aversion);
                });
                self.acls.release(old);
                OpReply::Stat(stat)
            }
            Planned::Check => OpReply::Nothing,
        }
    }

    /// Adds a znode, and everything that is counted of it.
    pub(super) fn add(&mut self, node: Node) {
        let slot = self.nodes.next_slot();
        self.set_aside(slot);
        if let Kind::Ephemeral(session) = node.kind {
            self.ephemerals += 1;
            if let Some(session) = self.sessions.get_mut(&session) {
                session.ephemerals.insert((&*node.path).into());
            }
        }
        self.digest = self.digest.wrapping_add(node.digest());
        self.bytes += node.bytes();
        let parent = path::parent(&node.path).and_then(|parent| self.nodes.find(parent));
        if let Some(parent) = parent {
            self.set_aside(parent);
            self.unmark_reapable(parent);
        }
        self.quotas.added(&node.path);
        let slot = self.nodes.insert(node);
        self.mark_reapable(slot);
        parent.into_iter().for_each(|parent| self.mark_reapable(parent));
    }

    pub(super) fn perform_delete(&mut self, at: At, path: &str, events: &mut Vec<Event>) {
        let slot = self.slot(path);
        self.set_aside(slot);
        self.unmark_reapable(slot);
        let parent = path::parent(path).and_then(|parent| self.nodes.find(parent));
        if let Some(parent) = parent {
            self.set_aside(parent);
            self.unmark_reapable(parent);
        }
        let node = self.nodes.remove(slot);
        parent.into_iter().for_each(|parent| self.mark_reapable(parent));
        if let Kind::Ephemeral(session) = node.kind {
            self.ephemerals -= 1;
            if let Some(session) = self.sessions.get_mut(&session) {
                session.ephemerals.remove(&*node.path);
            }
        }
        self.digest = self.digest.wrapping_sub(node.digest());
        self.bytes -= node.bytes();
        let acl = self.acls.list(node.acl).clone();
        events.push(Event::Deleted { path: path.to_string(), acl });
        self.child_changed(at, path, false, events);
        self.quotas.removed(path);
        let bytes = -i64::from(node.stat().data_length);
        self.count_quota(path, Usage { count: -1, bytes });
        self.acls.release(node.acl);
    }

    /// The parent of `path` gained or lost a child. Its version and mzxid stay.
    fn child_changed(&mut self, at: At, path: &str, created: bool, events: &mut Vec<Event>) {
        let Some(parent) = path::parent(path) else { return };
        self.change(parent, |node| {
            node.created += u64::from(created);
            node.pzxid = at.zxid;
        });
        let acl = self.acl_of(parent);
        events.push(Event::ChildrenChanged { path: parent.to_string(), acl });
    }

    fn acl_of(&self, path: &str) -> AclList {
        self.acls.list(self.nodes.node(self.slot(path)).acl).clone()
    }

    /// Changes a znode, and everything that is counted of it.
    pub(super) fn change(
        &mut self,
        path: &str,
        change: impl FnOnce(&mut Node),
    ) -> crate::command::Stat {
        let slot = self.slot(path);
        self.set_aside(slot);
        self.unmark_reapable(slot);
        let node = self.nodes.node_mut(slot);
        let (digest, bytes) = (node.digest(), node.bytes());
        change(node);
        let (new_digest, new_bytes, stat) = (node.digest(), node.bytes(), node.stat());
        self.digest = self.digest.wrapping_sub(digest).wrapping_add(new_digest);
        self.bytes = self.bytes + new_bytes - bytes;
        self.mark_reapable(slot);
        stat
    }
}
