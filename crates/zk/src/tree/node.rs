//! Znodes and how they hang together: a slab of nodes, an index of slots by the hash of their paths, and children as a
//! list that runs through the nodes themselves. A node costs its path, its data and about 150 bytes.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

use super::acl::AclId;
use crate::command::{CreateMode, SessionId, Stat, Zxid};
use crate::path;

/// A node's place in the slab.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Slot(pub(crate) u32);

impl Slot {
    const NONE: Self = Self(u32::MAX);

    fn some(self) -> Option<Self> {
        (self != Self::NONE).then_some(self)
    }
}

/// What kind of znode it is, beyond its name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// Stays until it is deleted.
    Persistent,
    /// Goes with its session.
    Ephemeral(SessionId),
    /// Goes once it has had children and has none.
    Container,
    /// Goes once it has no children and its data was not set for so many milliseconds.
    Ttl(i64),
}

impl Kind {
    pub(crate) fn of(mode: CreateMode, session: SessionId) -> Self {
        match mode {
            CreateMode::Ephemeral | CreateMode::EphemeralSequential => Self::Ephemeral(session),
            CreateMode::Container => Self::Container,
            CreateMode::Ttl(ttl) | CreateMode::SequentialTtl(ttl) => Self::Ttl(ttl),
            CreateMode::Persistent | CreateMode::PersistentSequential => Self::Persistent,
        }
    }
}

/// A znode.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) path: Box<str>,
    data: Option<Box<[u8]>>,
    /// Of the data: a change of anything else need not read it all again.
    data_checksum: u32,
    pub(crate) acl: AclId,
    pub(crate) kind: Kind,
    pub(crate) czxid: Zxid,
    pub(crate) mzxid: Zxid,
    pub(crate) pzxid: Zxid,
    pub(crate) ctime: i64,
    pub(crate) mtime: i64,
    pub(crate) version: i32,
    pub(crate) aversion: i32,
    /// Children ever created: the next sequential suffix.
    pub(crate) created: u64,
    pub(crate) children: u32,
    /// Znodes below it.
    pub(crate) descendants: u32,
    parent: Slot,
    first_child: Slot,
    previous_sibling: Slot,
    next_sibling: Slot,
}

impl Node {
    /// A new znode.
    pub(crate) fn new(
        path: &str,
        data: Option<&[u8]>,
        acl: AclId,
        kind: Kind,
        zxid: Zxid,
        time: i64,
    ) -> Self {
        Self {
            path: path.into(),
            data: data.map(Into::into),
            data_checksum: data.map_or(0, crc32c::crc32c),
            acl,
            kind,
            czxid: zxid,
            mzxid: zxid,
            pzxid: zxid,
            ctime: time,
            mtime: time,
            version: 0,
            aversion: 0,
            created: 0,
            children: 0,
            descendants: 0,
            parent: Slot::NONE,
            first_child: Slot::NONE,
            previous_sibling: Slot::NONE,
            next_sibling: Slot::NONE,
        }
    }

    /// Its data; `None` is the protocol's null.
    pub(crate) fn data(&self) -> Option<&[u8]> {
        self.data.as_deref()
    }

    pub(crate) fn set_data(&mut self, data: Option<&[u8]>) {
        self.data = data.map(Into::into);
        self.data_checksum = data.map_or(0, crc32c::crc32c);
    }

    /// What clients see. `cversion` counts creations and deletions of children alike.
    pub(crate) fn stat(&self) -> Stat {
        let ephemeral_owner = match self.kind {
            Kind::Ephemeral(session) => session.0,
            Kind::Persistent | Kind::Container | Kind::Ttl(_) => 0,
        };
        Stat {
            czxid: self.czxid,
            mzxid: self.mzxid,
            ctime: self.ctime,
            mtime: self.mtime,
            version: self.version,
            cversion: (2 * self.created).wrapping_sub(u64::from(self.children)) as i32,
            aversion: self.aversion,
            ephemeral_owner,
            data_length: self.data.as_ref().map_or(0, |data| data.len() as i32),
            num_children: self.children as i32,
            pzxid: self.pzxid,
        }
    }

    /// A hash of everything that is the same on all replicas.
    pub(crate) fn digest(&self) -> u64 {
        let data = self.data.as_ref().map_or(1, |_| 2 + u64::from(self.data_checksum));
        let owner = match self.kind {
            Kind::Persistent => 0,
            Kind::Container => 1,
            Kind::Ephemeral(session) => session.0 as u64,
            // Session ids are positive.
            Kind::Ttl(ttl) => ttl as u64 | 1 << 63,
        };
        let mut hash = u64::from(crc32c::crc32c(self.path.as_bytes()));
        for word in [
            data,
            owner,
            u64::from(self.acl.0),
            self.czxid.0 as u64,
            self.mzxid.0 as u64,
            self.pzxid.0 as u64,
            self.ctime as u64,
            self.mtime as u64,
            self.version as u64,
            self.aversion as u64,
            self.created,
        ] {
            hash = (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
        }
        hash
    }

    /// Bytes of path and data, as ZooKeeper counts its approximate data size.
    pub(crate) fn bytes(&self) -> u64 {
        (self.path.len() + self.data.as_ref().map_or(0, |data| data.len())) as u64
    }
}

/// All znodes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Nodes {
    slots: Vec<Option<Node>>,
    free: Vec<Slot>,
    /// Slots by the hash of their paths, which stand in the nodes alone. Looked up only: no order can leak.
    by_path: HashTable<Slot>,
    /// A hash that withstands names that clients choose to collide.
    hasher: DefaultHashBuilder,
}

impl Nodes {
    pub(crate) fn len(&self) -> usize {
        self.by_path.len()
    }

    /// How many slots there are, free or not.
    pub(crate) fn slots(&self) -> u32 {
        self.slots.len() as u32
    }

    pub(crate) fn find(&self, path: &str) -> Option<Slot> {
        let is_it = |slot: &Slot| self.at(*slot).is_some_and(|node| &*node.path == path);
        self.by_path.find(self.hasher.hash_one(path), is_it).copied()
    }

    pub(crate) fn at(&self, slot: Slot) -> Option<&Node> {
        self.slots.get(slot.0 as usize)?.as_ref()
    }

    pub(crate) fn node(&self, slot: Slot) -> &Node {
        self.at(slot).expect("a slot in the index is taken")
    }

    pub(crate) fn node_mut(&mut self, slot: Slot) -> &mut Node {
        self.slots[slot.0 as usize].as_mut().expect("a slot in the index is taken")
    }

    pub(crate) fn get(&self, path: &str) -> Option<&Node> {
        self.find(path).map(|slot| self.node(slot))
    }

    /// The slot that the next node gets.
    pub(crate) fn next_slot(&self) -> Slot {
        self.free.last().copied().unwrap_or(Slot(self.slots.len() as u32))
    }

    /// Adds a node; its parent, if it has one, must be there.
    pub(crate) fn insert(&mut self, node: Node) -> Slot {
        let slot = self.next_slot();
        let hash = self.hasher.hash_one(&*node.path);
        let parent = path::parent(&node.path).and_then(|parent| self.find(parent));
        if self.free.pop().is_some() {
            self.slots[slot.0 as usize] = Some(node);
        } else {
            self.slots.push(Some(node));
        }
        let Self { slots, by_path, hasher, .. } = self;
        by_path.insert_unique(hash, slot, |slot| {
            slots[slot.0 as usize].as_ref().map_or(0, |node| hasher.hash_one(&*node.path))
        });
        if let Some(parent) = parent {
            self.link(slot, parent);
        }
        slot
    }

    fn link(&mut self, slot: Slot, parent: Slot) {
        let up = self.node_mut(parent);
        let first = std::mem::replace(&mut up.first_child, slot);
        up.children += 1;
        if let Some(first) = first.some() {
            self.node_mut(first).previous_sibling = slot;
        }
        let node = self.node_mut(slot);
        (node.parent, node.next_sibling) = (parent, first);
        self.count_above(parent, |descendants| descendants + 1);
    }

    fn count_above(&mut self, lowest: Slot, change: impl Fn(u32) -> u32) {
        let mut above = lowest.some();
        while let Some(slot) = above {
            let node = self.node_mut(slot);
            node.descendants = change(node.descendants);
            above = node.parent.some();
        }
    }

    /// Removes a node without children.
    pub(crate) fn remove(&mut self, slot: Slot) -> Node {
        let node = self.slots[slot.0 as usize].take().expect("a node is removed once");
        assert_eq!(node.children, 0, "{} has children", node.path);
        let hash = self.hasher.hash_one(&*node.path);
        if let Ok(entry) = self.by_path.find_entry(hash, |known| *known == slot) {
            entry.remove();
        }
        self.free.push(slot);
        if let Some(previous) = node.previous_sibling.some() {
            self.node_mut(previous).next_sibling = node.next_sibling;
        } else if let Some(parent) = node.parent.some() {
            self.node_mut(parent).first_child = node.next_sibling;
        }
        if let Some(next) = node.next_sibling.some() {
            self.node_mut(next).previous_sibling = node.previous_sibling;
        }
        if let Some(parent) = node.parent.some() {
            self.node_mut(parent).children -= 1;
            self.count_above(parent, |descendants| descendants - 1);
        }
        node
    }

    /// The children of a node, the newest first.
    pub(crate) fn children(&self, slot: Slot) -> impl Iterator<Item = &Node> {
        self.siblings_since(self.node(slot).first_child)
    }

    /// Those of them that are older than this one.
    pub(crate) fn older_siblings(&self, slot: Slot) -> impl Iterator<Item = &Node> {
        self.siblings_since(self.node(slot).next_sibling)
    }

    fn siblings_since(&self, mut next: Slot) -> impl Iterator<Item = &Node> {
        std::iter::from_fn(move || {
            let node = self.node(next.some()?);
            next = node.next_sibling;
            Some(node)
        })
    }
}
