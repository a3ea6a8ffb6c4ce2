//! Znodes that go by themselves: containers that are empty again, and znodes whose time to live is over (ZK-2).
//!
//! The tree knows at any time which ones could go; the leader proposes to remove them, and apply looks again. So a
//! child that comes in between keeps its parent, and every server removes the same.

use std::collections::BTreeSet;

use super::node::{Kind, Node, Slot};
use super::{At, Tree};
use crate::command::{Event, Zxid};

/// Who could go. Follows from the znodes, and so is no part of digest or snapshot.
#[derive(Debug, Default)]
pub(super) struct Reapable {
    /// Containers that had children and have none.
    spent: BTreeSet<Slot>,
    /// Childless znodes with a time to live, by when it is over (milliseconds since 1970).
    due: BTreeSet<(i64, Slot)>,
}

/// When a znode's time to live is over; none for others, or while it has children.
fn due(node: &Node) -> Option<i64> {
    match node.kind {
        Kind::Ttl(ttl) if node.children == 0 => Some(node.mtime.saturating_add(ttl)),
        _ => None,
    }
}

fn is_spent(node: &Node) -> bool {
    node.kind == Kind::Container && node.children == 0 && node.created > 0
}

impl Tree {
    /// A znode is about to change, or to go.
    pub(super) fn unmark_reapable(&mut self, slot: Slot) {
        let node = self.nodes.node(slot);
        if is_spent(node) {
            self.reapable.spent.remove(&slot);
        }
        if let Some(due) = due(node) {
            self.reapable.due.remove(&(due, slot));
        }
    }

    /// A znode has come, or has changed.
    pub(super) fn mark_reapable(&mut self, slot: Slot) {
        let node = self.nodes.node(slot);
        if is_spent(node) {
            self.reapable.spent.insert(slot);
        }
        if let Some(due) = due(node) {
            self.reapable.due.insert((due, slot));
        }
    }

    /// Znodes that could go at this time of day, at most `limit` of each kind.
    pub fn reapable(&self, unix_ms: i64, limit: usize) -> Vec<(&str, Zxid)> {
        let due = self.reapable.due.iter().take_while(|(due, _)| *due < unix_ms);
        let slots =
            self.reapable.spent.iter().take(limit).chain(due.map(|(_, slot)| slot).take(limit));
        slots.map(|slot| self.nodes.node(*slot)).map(|node| (&*node.path, node.czxid)).collect()
    }

    /// Removes a znode if it still could go; says whether.
    pub(super) fn reap(
        &mut self,
        at: At,
        path: &str,
        czxid: Zxid,
        events: &mut Vec<Event>,
    ) -> bool {
        let may_go = self.nodes.get(path).is_some_and(|node| {
            node.czxid == czxid && (is_spent(node) || due(node).is_some_and(|due| due < at.unix_ms))
        });
        if may_go {
            self.perform_delete(at, path, events);
        }
        may_go
    }
}
