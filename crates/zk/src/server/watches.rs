//! Who watches what, on this server. Watches belong to a connection and end with it; clients set them
//! again on the next server.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::ConnectionId;
use crate::path::{self, ByPath};

/// The kinds of watches.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) enum Table {
    /// One-shot, by getData and exists.
    Data,
    /// One-shot, by getChildren.
    Child,
    /// Stays; data and children.
    Persistent,
    /// Stays; a path and all below it, without news of children.
    Recursive,
}

/// Kinds of events, by the protocol's numbers.
const DELETED: i32 = 2;
const CHILDREN_CHANGED: i32 = 4;

/// The tables that a request to check or remove watches means: 1 children, 2 data, 3 any, 4 persistent, 5 recursive.
fn tables(kind: i32) -> &'static [Table] {
    match kind {
        1 => &[Table::Child],
        2 => &[Table::Data],
        3 => &[Table::Data, Table::Child, Table::Persistent, Table::Recursive],
        4 => &[Table::Persistent],
        5 => &[Table::Recursive],
        _ => &[],
    }
}

/// What a watch costs besides its path, about.
const OVERHEAD: usize = 200;

/// All watches of a server.
#[derive(Debug, Default)]
pub(super) struct Watches {
    by_path: ByPath<Rc<str>, BTreeSet<(Table, ConnectionId)>>,
    by_connection: BTreeMap<ConnectionId, Own>,
    count: usize,
    recursive: usize,
}

/// The watches of one connection, and the memory that they take.
#[derive(Debug, Default)]
struct Own {
    watches: BTreeSet<(Table, Rc<str>)>,
    bytes: usize,
}

impl Watches {
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// How many connections have any, and how many paths are watched.
    pub(super) fn summary(&self) -> (usize, usize) {
        (self.by_connection.len(), self.by_path.len())
    }

    /// Who watches a path itself, and how.
    pub(super) fn at(&self, path: &str) -> impl Iterator<Item = (Table, ConnectionId)> {
        self.by_path.get(path).into_iter().flatten().copied()
    }

    /// The paths that each connection watches, each once.
    pub(super) fn by_connection(
        &self,
    ) -> impl Iterator<Item = (ConnectionId, impl Iterator<Item = Rc<str>>)> {
        self.by_connection.iter().map(|(connection, own)| {
            let paths: BTreeSet<Rc<str>> =
                own.watches.iter().map(|(_, path)| path.clone()).collect();
            (*connection, paths.into_iter())
        })
    }

    /// Who watches each path, each once; paths in order.
    pub(super) fn by_path(&self) -> impl Iterator<Item = (Rc<str>, BTreeSet<ConnectionId>)> {
        let paths: BTreeSet<Rc<str>> = self.by_path.keys().cloned().collect();
        paths.into_iter().map(|path| {
            let watchers = self.at(&path).map(|(_, connection)| connection).collect();
            (path, watchers)
        })
    }

    /// How many watches a connection has.
    pub(super) fn count_of(&self, connection: ConnectionId) -> usize {
        self.by_connection.get(&connection).map_or(0, |own| own.watches.len())
    }

    /// Bytes that a connection's watches take, about.
    pub(super) fn bytes_of(&self, connection: ConnectionId) -> usize {
        self.by_connection.get(&connection).map_or(0, |own| own.bytes)
    }

    pub(super) fn add(&mut self, connection: ConnectionId, table: Table, path: &str) {
        let known = self.by_path.get_key_value(path).map(|(path, _)| path.clone());
        let path = known.unwrap_or_else(|| path.into());
        let watchers = self.by_path.entry(path.clone()).or_default();
        if watchers.insert((table, connection)) {
            self.count += 1;
            self.recursive += usize::from(table == Table::Recursive);
            let own = self.by_connection.entry(connection).or_default();
            own.bytes += path.len() + OVERHEAD;
            own.watches.insert((table, path));
        }
    }

    /// Whoever is to be told of this event, each once. One-shot watches that it fires are gone.
    pub(super) fn fire(&mut self, kind: i32, at: &str) -> BTreeSet<ConnectionId> {
        let mut told = BTreeSet::new();
        if self.count == 0 {
            return told;
        }
        let fires = |table: Table| match table {
            Table::Data => kind != CHILDREN_CHANGED,
            Table::Child => kind == CHILDREN_CHANGED || kind == DELETED,
            Table::Persistent => true,
            Table::Recursive => kind != CHILDREN_CHANGED,
        };
        let watchers: Vec<(Table, ConnectionId)> = self
            .by_path
            .get(at)
            .map_or(Vec::new(), |all| all.iter().filter(|(t, _)| fires(*t)).copied().collect());
        for (table, connection) in watchers {
            told.insert(connection);
            if matches!(table, Table::Data | Table::Child) {
                self.drop_one(connection, table, at);
            }
        }
        if self.recursive > 0 && kind != CHILDREN_CHANGED {
            self.fire_recursive(at, &mut told);
        }
        told
    }

    fn fire_recursive(&self, at: &str, told: &mut BTreeSet<ConnectionId>) {
        let mut above = path::parent(at);
        while let Some(ancestor) = above {
            let watchers = self.by_path.get(ancestor).into_iter().flatten();
            told.extend(watchers.filter(|(t, _)| *t == Table::Recursive).map(|(_, c)| *c));
            above = path::parent(ancestor);
        }
    }

    /// Removes watches that a client no longer wants. Returns whether there were any.
    pub(super) fn remove(&mut self, connection: ConnectionId, path: &str, kind: i32) -> bool {
        let tables = tables(kind).iter();
        tables.filter(|table| self.drop_one(connection, **table, path)).count() > 0
    }

    /// Whether a client has such a watch.
    pub(super) fn has(&self, connection: ConnectionId, path: &str, kind: i32) -> bool {
        let watchers = self.by_path.get(path);
        let has = |table: &Table| watchers.is_some_and(|all| all.contains(&(*table, connection)));
        tables(kind).iter().any(has)
    }

    /// A connection is gone.
    pub(super) fn forget(&mut self, connection: ConnectionId) {
        for (table, path) in self.by_connection.remove(&connection).unwrap_or_default().watches {
            self.drop_by_path(connection, table, &path);
        }
    }

    fn drop_one(&mut self, connection: ConnectionId, table: Table, path: &str) -> bool {
        if let Entry::Occupied(mut own) = self.by_connection.entry(connection)
            && own.get_mut().watches.remove(&(table, path.into()))
        {
            own.get_mut().bytes -= path.len() + OVERHEAD;
            if own.get().watches.is_empty() {
                own.remove();
            }
        }
        self.drop_by_path(connection, table, path)
    }

    fn drop_by_path(&mut self, connection: ConnectionId, table: Table, path: &str) -> bool {
        let Some(watchers) = self.by_path.get_mut(path) else { return false };
        let was_there = watchers.remove(&(table, connection));
        if was_there {
            self.count -= 1;
            self.recursive -= usize::from(table == Table::Recursive);
        }
        if watchers.is_empty() {
            self.by_path.remove(path);
        }
        was_there
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: ConnectionId = ConnectionId(1);
    const B: ConnectionId = ConnectionId(2);

    /// ZK-12: one-shot watches fire once; a delete tells a connection once, however it watches.
    #[test]
    fn one_event_a_connection() {
        let mut watches = Watches::default();
        watches.add(A, Table::Data, "/x");
        watches.add(A, Table::Child, "/x");
        watches.add(B, Table::Child, "/x");
        assert_eq!(watches.fire(3, "/x"), BTreeSet::from([A]));
        assert_eq!(watches.fire(2, "/x"), BTreeSet::from([A, B]));
        assert_eq!((watches.fire(2, "/x"), watches.len()), (BTreeSet::new(), 0));
    }

    /// ZK-12: persistent watches stay; recursive ones see all below, but no news of children.
    #[test]
    fn persistent_watches_stay() {
        let mut watches = Watches::default();
        watches.add(A, Table::Persistent, "/x");
        watches.add(B, Table::Recursive, "/x");
        for _ in 0..2 {
            assert_eq!(watches.fire(4, "/x"), BTreeSet::from([A]));
            assert_eq!(watches.fire(1, "/x/y/z"), BTreeSet::from([B]));
            assert_eq!(watches.fire(3, "/x"), BTreeSet::from([A, B]));
        }
        assert!(watches.remove(B, "/x", 3) && !watches.remove(B, "/x", 3));
        watches.forget(A);
        assert_eq!(watches.len(), 0);
    }
}
