//! Which key has which newest version: a B+ tree that knows how many live keys are in each of its parts, so that counting
//! a range does not walk it.
//!
//! A leaf is a sorted list of version numbers, four bytes a key; the keys themselves are in `versions`. Deleted keys
//! stay until compaction, as tombstones, and are not counted.
//!
//! Invariants: keys ascend from left to right; no key of a child is before its `from`, except in the first child; each
//! `live` is the number of live keys below it.

use std::ops::ControlFlow;

use super::versions::{VersionId, Versions};
use crate::{KeyRange, RangeEnd};

const LEAF_MAX: usize = 128;
const CHILDREN_MAX: usize = 64;

/// The newest version of every key.
#[derive(Debug)]
pub(crate) struct Index {
    root: Node,
}

#[derive(Debug)]
enum Node {
    Leaf(Vec<VersionId>),
    Inner(Vec<Child>),
}

#[derive(Debug)]
struct Child {
    from: Box<[u8]>,
    live: u64,
    node: Node,
}

/// In which order a range is walked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Order {
    Ascending,
    Descending,
}

/// A walk over a range of keys.
#[derive(Clone, Copy)]
pub(crate) struct Walk<'a> {
    pub(crate) range: KeyRange<'a>,
    pub(crate) order: Order,
    /// Leave out deleted keys.
    pub(crate) live_only: bool,
}

impl Default for Index {
    fn default() -> Self {
        Self { root: Node::Leaf(Vec::new()) }
    }
}

impl Index {
    /// An index of these newest versions, in the order of their keys: what a restart builds at once.
    pub(crate) fn build(versions: &Versions, newest: &[VersionId]) -> Self {
        let leaf = |ids: &[VersionId]| Child {
            from: versions.key(ids[0]).into(),
            live: count_live(ids),
            node: Node::Leaf(ids.to_vec()),
        };
        let mut level: Vec<Child> = newest.chunks(LEAF_MAX * 3 / 4).map(leaf).collect();
        while level.len() > 1 {
            level = parents(level);
        }
        Self { root: level.pop().map_or(Node::Leaf(Vec::new()), |root| root.node) }
    }

    /// The newest version of a key: a tombstone if it was deleted.
    pub(crate) fn get(&self, versions: &Versions, key: &[u8]) -> Option<VersionId> {
        let mut node = &self.root;
        loop {
            match node {
                Node::Inner(children) => node = &children[child_of(children, key)].node,
                Node::Leaf(ids) => return find(ids, versions, key).ok().map(|at| ids[at]),
            }
        }
    }

    /// Makes `id` the newest version of its key; gives the one before.
    pub(crate) fn set(&mut self, versions: &Versions, id: VersionId) -> Option<VersionId> {
        let (replaced, split) = self.root.set(versions, versions.key(id), id);
        if let Some(right) = split {
            let left = std::mem::replace(&mut self.root, Node::Inner(Vec::with_capacity(2)));
            let left = Child { from: Box::default(), live: left.live(), node: left };
            self.root = Node::Inner(vec![left, right]);
        }
        replaced
    }

    /// Forgets a key.
    pub(crate) fn remove(&mut self, versions: &Versions, key: &[u8]) -> Option<VersionId> {
        let removed = self.root.remove(versions, key);
        while let Node::Inner(children) = &mut self.root {
            match children.len() {
                0 => self.root = Node::Leaf(Vec::new()),
                1 => self.root = children.remove(0).node,
                _ => break,
            }
        }
        removed
    }

    /// How many live keys are in a range.
    pub(crate) fn count(&self, versions: &Versions, range: KeyRange<'_>) -> u64 {
        let before = |key| self.root.live_before(versions, key);
        match range.end {
            RangeEnd::Single => {
                u64::from(self.get(versions, range.start).is_some_and(VersionId::is_live))
            }
            RangeEnd::Before(end) => before(end).saturating_sub(before(range.start)),
            RangeEnd::Unbounded => self.root.live() - before(range.start),
        }
    }

    /// Visits the newest versions of the keys in a range, until `visit` breaks.
    pub(crate) fn walk(
        &self,
        versions: &Versions,
        walk: Walk<'_>,
        visit: &mut dyn FnMut(VersionId) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        match walk.range.end {
            RangeEnd::Before(end) if end <= walk.range.start => ControlFlow::Continue(()),
            // Most ranges are one key, and looking it up is less than half the work of walking.
            RangeEnd::Single => {
                let found = self.get(versions, walk.range.start);
                let wanted = found.filter(|id| id.is_live() || !walk.live_only);
                wanted.map_or(ControlFlow::Continue(()), visit)
            }
            _ => self.root.walk(versions, &walk, visit),
        }
    }
}

impl Node {
    fn live(&self) -> u64 {
        match self {
            Self::Leaf(ids) => count_live(ids),
            Self::Inner(children) => children.iter().map(|child| child.live).sum(),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Leaf(ids) => ids.len(),
            Self::Inner(children) => children.len(),
        }
    }

    /// What was replaced, and the right half if the node had to be split.
    fn set(
        &mut self,
        versions: &Versions,
        key: &[u8],
        id: VersionId,
    ) -> (Option<VersionId>, Option<Child>) {
        match self {
            Self::Leaf(ids) => match find(ids, versions, key) {
                Ok(at) => (Some(std::mem::replace(&mut ids[at], id)), None),
                Err(at) => (None, insert_in_leaf(ids, at, id, versions)),
            },
            Self::Inner(children) => {
                let at = child_of(children, key);
                let child = &mut children[at];
                let (replaced, split) = child.node.set(versions, key, id);
                child.live += u64::from(id.is_live());
                child.live -= u64::from(replaced.is_some_and(VersionId::is_live));
                (replaced, split.and_then(|right| insert_child(children, at, right)))
            }
        }
    }

    fn remove(&mut self, versions: &Versions, key: &[u8]) -> Option<VersionId> {
        match self {
            Self::Leaf(ids) => find(ids, versions, key).ok().map(|at| ids.remove(at)),
            Self::Inner(children) => {
                let at = child_of(children, key);
                let removed = children[at].node.remove(versions, key)?;
                children[at].live -= u64::from(removed.is_live());
                tidy_up(children, at);
                Some(removed)
            }
        }
    }

    fn live_before(&self, versions: &Versions, key: &[u8]) -> u64 {
        match self {
            Self::Leaf(ids) => {
                count_live(&ids[..ids.partition_point(|id| versions.key(*id) < key)])
            }
            Self::Inner(children) => {
                let at = child_of(children, key);
                let before: u64 = children[..at].iter().map(|child| child.live).sum();
                before + children[at].node.live_before(versions, key)
            }
        }
    }

    fn walk(
        &self,
        versions: &Versions,
        walk: &Walk<'_>,
        visit: &mut dyn FnMut(VersionId) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        match self {
            Self::Leaf(ids) => {
                let from = ids.partition_point(|id| versions.key(*id) < walk.range.start);
                let to = ids.partition_point(|id| !walk.range.ends_before(versions.key(*id)));
                let wanted = |id: &&VersionId| id.is_live() || !walk.live_only;
                in_order(&ids[from..to.max(from)], walk.order)
                    .filter(wanted)
                    .try_for_each(|id| visit(*id))
            }
            Self::Inner(children) => {
                let from = child_of(children, walk.range.start);
                let to = children.partition_point(|child| !walk.range.ends_before(&child.from));
                let wanted = |child: &&Child| child.live > 0 || !walk.live_only;
                in_order(&children[from..to.max(from + 1)], walk.order)
                    .filter(wanted)
                    .try_for_each(|child| child.node.walk(versions, walk, visit))
            }
        }
    }
}

/// The next level of an index that is built from below.
fn parents(children: Vec<Child>) -> Vec<Child> {
    let mut children = children.into_iter();
    let mut parents = Vec::new();
    while let Some(first) = children.next() {
        let from = first.from.clone();
        let mut under = vec![first];
        under.extend(children.by_ref().take(CHILDREN_MAX * 3 / 4 - 1));
        let live = under.iter().map(|child| child.live).sum();
        parents.push(Child { from, live, node: Node::Inner(under) });
    }
    parents
}

fn in_order<T>(items: &[T], order: Order) -> impl Iterator<Item = &T> {
    let (forward, backward) = match order {
        Order::Ascending => (Some(items.iter()), None),
        Order::Descending => (None, Some(items.iter().rev())),
    };
    forward.into_iter().flatten().chain(backward.into_iter().flatten())
}

fn count_live(ids: &[VersionId]) -> u64 {
    ids.iter().filter(|id| id.is_live()).count() as u64
}

fn find(ids: &[VersionId], versions: &Versions, key: &[u8]) -> Result<usize, usize> {
    ids.binary_search_by(|id| versions.key(*id).cmp(key))
}

/// The child in which a key is, or would be.
fn child_of(children: &[Child], key: &[u8]) -> usize {
    children.partition_point(|child| *child.from <= *key).saturating_sub(1)
}

/// Where to split a full node when something is inserted at `at`: keys that come in ascending order leave full nodes behind.
fn split_point(len: usize, at: usize) -> usize {
    if at == len { len } else { len / 2 }
}

fn insert_in_leaf(
    ids: &mut Vec<VersionId>,
    at: usize,
    id: VersionId,
    versions: &Versions,
) -> Option<Child> {
    if ids.len() < LEAF_MAX {
        ids.insert(at, id);
        return None;
    }
    let middle = split_point(ids.len(), at);
    let mut right = ids.split_off(middle);
    if at < middle {
        ids.insert(at, id)
    } else {
        right.insert(at - middle, id)
    }
    Some(Child {
        from: versions.key(right[0]).into(),
        live: count_live(&right),
        node: Node::Leaf(right),
    })
}

/// Puts the right half of the child at `at` behind it. The right half of the node is given if it had to be split too.
fn insert_child(children: &mut Vec<Child>, at: usize, child: Child) -> Option<Child> {
    children[at].live -= child.live;
    if children.len() < CHILDREN_MAX {
        children.insert(at + 1, child);
        return None;
    }
    let middle = split_point(children.len(), at + 1);
    let mut right = children.split_off(middle);
    if at + 1 < middle {
        children.insert(at + 1, child)
    } else {
        right.insert(at + 1 - middle, child)
    }
    let live = right.iter().map(|child| child.live).sum();
    Some(Child { from: right[0].from.clone(), live, node: Node::Inner(right) })
}

/// Something went from the child at `at`: an empty child goes, a small one joins its neighbour.
fn tidy_up(children: &mut Vec<Child>, at: usize) {
    if children[at].node.len() == 0 {
        children.remove(at);
        return;
    }
    let left = at.min(children.len().saturating_sub(2));
    let Some([a, b]) = children.get_mut(left..left + 2) else { return };
    let joined = match (&mut a.node, &mut b.node) {
        (Node::Leaf(a), Node::Leaf(b)) if a.len() + b.len() <= LEAF_MAX / 2 => {
            a.append(b);
            true
        }
        (Node::Inner(a), Node::Inner(b)) if a.len() + b.len() <= CHILDREN_MAX / 2 => {
            a.append(b);
            true
        }
        _ => false,
    };
    if joined {
        a.live += b.live;
        children.remove(left + 1);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use quorate_contracts::Random;

    use super::*;
    use crate::store::versions::{Position, Version};
    use crate::{LeaseId, Revision};

    /// An index, and what a map of the standard library says.
    #[derive(Default)]
    struct Pair {
        versions: Versions,
        index: Index,
        map: BTreeMap<Vec<u8>, VersionId>,
        revision: i64,
    }

    impl Pair {
        fn set(&mut self, key: &[u8], live: bool) {
            self.revision += 1;
            let at = Position { revision: Revision(self.revision), sub: 0 };
            let version = u64::from(live);
            let created = Revision(if live { self.revision } else { 0 });
            let id = self.versions.add(&Version {
                key,
                value: &[],
                at,
                created,
                version,
                lease: LeaseId::NONE,
            });
            let replaced = self.index.set(&self.versions, id);
            assert_eq!(replaced, self.map.insert(key.to_vec(), id));
            replaced.into_iter().for_each(|old| self.versions.drop_version(old));
        }

        fn remove(&mut self, key: &[u8]) {
            let removed = self.index.remove(&self.versions, key);
            assert_eq!(removed, self.map.remove(key));
            removed.into_iter().for_each(|old| self.versions.drop_version(old));
        }

        fn compare(&self, start: &[u8], end: &[u8]) {
            let range = KeyRange::of(start, end);
            let expected: Vec<VersionId> =
                self.map.iter().filter(|(key, _)| range.contains(key)).map(|(_, id)| *id).collect();
            for (order, live_only) in [(Order::Ascending, false), (Order::Descending, true)] {
                let mut expected = expected.clone();
                expected.retain(|id| id.is_live() || !live_only);
                if order == Order::Descending {
                    expected.reverse();
                }
                let mut found = Vec::new();
                let _ =
                    self.index.walk(&self.versions, Walk { range, order, live_only }, &mut |id| {
                        found.push(id);
                        ControlFlow::Continue(())
                    });
                assert_eq!(found, expected);
            }
            let live = expected.iter().filter(|id| id.is_live()).count() as u64;
            assert_eq!(self.index.count(&self.versions, range), live);
        }
    }

    fn key(number: u64) -> Vec<u8> {
        format!("{number:05}").into_bytes()
    }

    /// KV-1: the index is a map that counts, however its nodes were split, emptied and joined.
    #[test]
    fn the_index_is_a_map_that_counts() {
        for (seed, removes) in [(1, 10), (2, 60), (3, 45)] {
            let mut random = Random::new(seed);
            let mut pair = Pair::default();
            for step in 0..40_000 {
                let key = key(random.below(12_000));
                match random.below(100) {
                    roll if roll < removes => pair.remove(&key),
                    roll => pair.set(&key, roll < 90),
                }
                if step % 1_000 == 0 {
                    pair.compare(
                        &super::tests::key(random.below(12_000)),
                        &super::tests::key(random.below(12_000)),
                    );
                    pair.compare(&[0], &[0]);
                }
            }
            (0..12_000).for_each(|number| pair.remove(&super::tests::key(number)));
            pair.compare(&[0], &[0]);
        }
    }

    /// KV-6: an index that is built at once is the one that grew.
    #[test]
    fn an_index_is_built_at_once() {
        for keys in [0, 1, 95, 96, 97, 5_000, 20_000] {
            let mut pair = Pair::default();
            (0..keys).for_each(|number| pair.set(&key(number), number % 7 != 0));
            let newest: Vec<VersionId> = pair.map.values().copied().collect();
            pair.index = Index::build(&pair.versions, &newest);
            pair.compare(&key(keys / 3), &key(keys / 2));
            pair.compare(&[0], &[0]);
            (0..keys).step_by(3).for_each(|number| pair.set(&key(number), true));
            (0..keys).step_by(5).for_each(|number| pair.remove(&key(number)));
            pair.compare(&[0], &[0]);
        }
    }
}
